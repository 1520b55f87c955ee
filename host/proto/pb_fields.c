/* A pool with one message, from a list of fields: scripts bring their messages in this form. */
#include <stdio.h>
#include <string.h>

#include "proto/pb_build.h"

#define MAX_NAME 100

/* Protobuf identifiers; anything else could not be written in a .proto file. */
static bool is_identifier(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t len = strlen(name);
    return len > 0 && len <= MAX_NAME && strspn(name, letters) == len && !(*name >= '0' && *name <= '9');
}

static int add_field(struct pb_pool *pool, unsigned message_at, const struct pb_field_spec *spec,
                     struct err *err)
{
    if (!is_identifier(spec->name)) {
        return err_set(err, ERR_INVALID, "%.80s: field name '%.100s' is not an identifier",
                       pool->messages[message_at]->full_name, spec->name);
    }
    enum pb_type type = pb_type_by_name(spec->type);
    if (type == 0) {
        return err_set(err, ERR_INVALID, "%.80s.%s: unknown type '%.40s'",
                       pool->messages[message_at]->full_name, spec->name, spec->type);
    }
    struct pb_message *entry = NULL;
    if (spec->is_map) {
        char entry_name[2 * MAX_NAME + 20];
        snprintf(entry_name, sizeof(entry_name), "%.100s.%sEntry", pool->messages[message_at]->full_name,
                 spec->name);
        entry = pb_build_message(pool, entry_name);
        entry->is_map_entry = true;
        struct pb_field *key = pb_build_field(entry, "key", NULL);
        key->number = 1;
        key->type = PB_STRING;
        struct pb_field *value = pb_build_field(entry, "value", NULL);
        value->number = 2;
        value->type = type;
    }
    struct pb_field *field = pb_build_field(pool->messages[message_at], spec->name, NULL);
    field->number = spec->number;
    field->type = entry != NULL ? PB_MESSAGE : type;
    field->is_map = entry != NULL;
    field->is_repeated = spec->is_repeated || entry != NULL;
    field->is_packed = field->is_repeated && pb_type_is_packable(field->type);
    field->message = entry;
    return 0;
}

struct pb_pool *pb_pool_from_fields(const char *full_name, const struct pb_field_spec *specs, size_t count,
                                    struct err *err)
{
    struct pb_pool *pool = pb_build_pool();
    (void)pb_build_message(pool, full_name);
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        status = add_field(pool, 0, &specs[i], err);
    }
    if (status == 0) {
        status = pb_build_finish(pool, err);
    }
    if (status != 0) {
        pb_pool_unref(pool);
        return NULL;
    }
    return pool;
}
