/* Pools: memory, order, look-up. */
#include "proto/pb_schema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "proto/pb_build.h"

#define MAX_FIELD_NUMBER 536870911u
#define MAX_FIELDS 65000u

struct type_info {
    const char *name;
    enum pb_wire wire;
};

static const struct type_info types[] = {
    [PB_DOUBLE] = {"double", PB_WIRE_64},      [PB_FLOAT] = {"float", PB_WIRE_32},
    [PB_INT64] = {"int64", PB_WIRE_VARINT},    [PB_UINT64] = {"uint64", PB_WIRE_VARINT},
    [PB_INT32] = {"int32", PB_WIRE_VARINT},    [PB_FIXED64] = {"fixed64", PB_WIRE_64},
    [PB_FIXED32] = {"fixed32", PB_WIRE_32},    [PB_BOOL] = {"bool", PB_WIRE_VARINT},
    [PB_STRING] = {"string", PB_WIRE_BYTES},   [PB_GROUP] = {"group", PB_WIRE_BYTES},
    [PB_MESSAGE] = {"message", PB_WIRE_BYTES}, [PB_BYTES] = {"bytes", PB_WIRE_BYTES},
    [PB_UINT32] = {"uint32", PB_WIRE_VARINT},  [PB_ENUM] = {"enum", PB_WIRE_VARINT},
    [PB_SFIXED32] = {"sfixed32", PB_WIRE_32},  [PB_SFIXED64] = {"sfixed64", PB_WIRE_64},
    [PB_SINT32] = {"sint32", PB_WIRE_VARINT},  [PB_SINT64] = {"sint64", PB_WIRE_VARINT},
};

enum pb_wire pb_type_wire(enum pb_type type)
{
    return types[type].wire;
}

bool pb_type_is_packable(enum pb_type type)
{
    return types[type].wire != PB_WIRE_BYTES;
}

const char *pb_type_name(enum pb_type type)
{
    return types[type].name;
}

enum pb_type pb_type_by_name(const char *name)
{
    for (int type = PB_DOUBLE; type <= PB_SINT64; type++) {
        bool is_scalar = type != PB_GROUP && type != PB_MESSAGE && type != PB_ENUM;
        if (is_scalar && strcmp(types[type].name, name) == 0) {
            return (enum pb_type)type;
        }
    }
    return (enum pb_type)0;
}

struct pb_pool *pb_build_pool(void)
{
    struct pb_pool *pool = xcalloc(1, sizeof(*pool));
    pool->refs = 1;
    return pool;
}

struct pb_message *pb_build_message(struct pb_pool *pool, const char *full_name)
{
    struct pb_message *message = xcalloc(1, sizeof(*message));
    message->full_name = xstrdup(full_name);
    pool->message_count++;
    pool->messages = xrealloc(pool->messages, pool->message_count * sizeof(*pool->messages));
    pool->messages[pool->message_count - 1] = message;
    return message;
}

struct pb_enum *pb_build_enum(struct pb_pool *pool, const char *full_name)
{
    struct pb_enum *enumeration = xcalloc(1, sizeof(*enumeration));
    enumeration->full_name = xstrdup(full_name);
    pool->enum_count++;
    pool->enums = xrealloc(pool->enums, pool->enum_count * sizeof(*pool->enums));
    pool->enums[pool->enum_count - 1] = enumeration;
    return enumeration;
}

/* lowerCamelCase as protoc does it: '_' goes, the letter behind it is raised. */
static char *camel_case(const char *name)
{
    char *out = xmalloc(strlen(name) + 1);
    size_t len = 0;
    bool raise = false;
    for (; *name != '\0'; name++) {
        if (*name == '_') {
            raise = true;
        } else {
            out[len++] = (char)(raise ? toupper((unsigned char)*name) : *name);
            raise = false;
        }
    }
    out[len] = '\0';
    return out;
}

struct pb_field *pb_build_field(struct pb_message *message, const char *name, const char *json_name)
{
    message->count++;
    message->fields = xrealloc(message->fields, message->count * sizeof(*message->fields));
    struct pb_field *field = &message->fields[message->count - 1];
    memset(field, 0, sizeof(*field));
    field->name = xstrdup(name);
    field->json_name = json_name == NULL || *json_name == '\0' ? camel_case(name) : xstrdup(json_name);
    field->oneof = -1;
    return field;
}

static int by_field_number(const void *left, const void *right)
{
    const struct pb_field *a = left;
    const struct pb_field *b = right;
    return (a->number > b->number) - (a->number < b->number);
}

static int by_message_name(const void *left, const void *right)
{
    const struct pb_message *const *a = left;
    const struct pb_message *const *b = right;
    return strcmp((*a)->full_name, (*b)->full_name);
}

static int by_enum_name(const void *left, const void *right)
{
    const struct pb_enum *const *a = left;
    const struct pb_enum *const *b = right;
    return strcmp((*a)->full_name, (*b)->full_name);
}

static int check_names(const struct pb_message *message, struct err *err)
{
    for (unsigned i = 0; i < message->count; i++) {
        for (unsigned j = i + 1; j < message->count; j++) {
            if (strcmp(message->fields[i].name, message->fields[j].name) == 0) {
                return err_set(err, ERR_INVALID, "%s: two fields are called '%s'", message->full_name,
                               message->fields[i].name);
            }
        }
    }
    return 0;
}

static int finish_message(struct pb_pool *pool, struct pb_message *message, struct err *err)
{
    if (message->count > MAX_FIELDS) {
        return err_set(err, ERR_LIMIT, "%s has too many fields", message->full_name);
    }
    if (message->count > 0) {
        qsort(message->fields, message->count, sizeof(*message->fields), by_field_number);
    }
    for (unsigned i = 0; i < message->count; i++) {
        struct pb_field *field = &message->fields[i];
        if (field->number == 0 || field->number > MAX_FIELD_NUMBER ||
            (field->number >= 19000 && field->number <= 19999)) {
            return err_set(err, ERR_INVALID, "%s.%s: field number %u is not allowed", message->full_name,
                           field->name, field->number);
        }
        if (i > 0 && field->number == message->fields[i - 1].number) {
            return err_set(err, ERR_INVALID, "%s: fields '%s' and '%s' have the same number %u",
                           message->full_name, message->fields[i - 1].name, field->name, field->number);
        }
        field->index = i;
        field->slot = ++pool->slot_count;
        if (field->number < PB_DIRECT) {
            message->by_number[field->number] = (uint16_t)(i + 1);
        }
    }
    return check_names(message, err);
}

/* Insertion sort: it is stable, and enums are short and mostly sorted. */
static void finish_enum(struct pb_pool *pool, struct pb_enum *enumeration)
{
    for (unsigned i = 1; i < enumeration->count; i++) {
        struct pb_enum_value value = enumeration->values[i];
        unsigned at = i;
        while (at > 0 && enumeration->values[at - 1].number > value.number) {
            enumeration->values[at] = enumeration->values[at - 1];
            at--;
        }
        enumeration->values[at] = value;
    }
    for (unsigned i = 0; i < enumeration->count; i++) {
        enumeration->values[i].slot = ++pool->slot_count;
    }
}

int pb_build_finish(struct pb_pool *pool, struct err *err)
{
    if (pool->message_count > 1) {
        qsort(pool->messages, pool->message_count, sizeof(*pool->messages), by_message_name);
    }
    if (pool->enum_count > 1) {
        qsort(pool->enums, pool->enum_count, sizeof(*pool->enums), by_enum_name);
    }
    for (unsigned i = 0; i < pool->message_count; i++) {
        if (i > 0 && strcmp(pool->messages[i - 1]->full_name, pool->messages[i]->full_name) == 0) {
            return err_set(err, ERR_INVALID, "message %s is defined twice", pool->messages[i]->full_name);
        }
        int status = finish_message(pool, pool->messages[i], err);
        if (status != 0) {
            return status;
        }
    }
    for (unsigned i = 0; i < pool->enum_count; i++) {
        finish_enum(pool, pool->enums[i]);
    }
    return 0;
}

static void free_message(struct pb_message *message)
{
    for (unsigned i = 0; i < message->count; i++) {
        free(message->fields[i].name);
        free(message->fields[i].json_name);
    }
    for (unsigned i = 0; i < message->oneof_count; i++) {
        free(message->oneofs[i]);
    }
    free(message->oneofs);
    free(message->fields);
    free(message->full_name);
    free(message);
}

static void free_enum(struct pb_enum *enumeration)
{
    for (unsigned i = 0; i < enumeration->count; i++) {
        free(enumeration->values[i].name);
    }
    free(enumeration->values);
    free(enumeration->full_name);
    free(enumeration);
}

struct pb_pool *pb_pool_ref(struct pb_pool *pool)
{
    pool->refs++;
    return pool;
}

void pb_pool_unref(struct pb_pool *pool)
{
    if (pool == NULL || --pool->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < pool->message_count; i++) {
        free_message(pool->messages[i]);
    }
    for (unsigned i = 0; i < pool->enum_count; i++) {
        free_enum(pool->enums[i]);
    }
    free(pool->messages);
    free(pool->enums);
    free(pool);
}

const struct pb_message *pb_pool_find(const struct pb_pool *pool, const char *full_name)
{
    unsigned low = 0;
    unsigned high = pool->message_count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = strcmp(full_name, pool->messages[middle]->full_name);
        if (order == 0) {
            return pool->messages[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const struct pb_field *pb_message_field(const struct pb_message *message, uint32_t number)
{
    if (number < PB_DIRECT) {
        unsigned at = message->by_number[number];
        return at == 0 ? NULL : &message->fields[at - 1];
    }
    unsigned low = 0;
    unsigned high = message->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (message->fields[middle].number == number) {
            return &message->fields[middle];
        }
        if (message->fields[middle].number > number) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const struct pb_enum_value *pb_enum_by_number(const struct pb_enum *enumeration, int32_t number)
{
    unsigned low = 0;
    unsigned high = enumeration->count;
    while (low < high) { /* the first of equal numbers */
        unsigned middle = low + (high - low) / 2;
        if (enumeration->values[middle].number >= number) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    bool found = low < enumeration->count && enumeration->values[low].number == number;
    return found ? &enumeration->values[low] : NULL;
}

const struct pb_enum_value *pb_enum_by_name(const struct pb_enum *enumeration, const char *name, size_t len)
{
    for (unsigned i = 0; i < enumeration->count; i++) {
        const char *own = enumeration->values[i].name;
        if (strlen(own) == len && memcmp(own, name, len) == 0) {
            return &enumeration->values[i];
        }
    }
    return NULL;
}
