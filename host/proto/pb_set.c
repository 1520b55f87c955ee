/* A pool from a FileDescriptorSet. protobuf-c's generated code reads the set itself; its structs do
 * not leave this file. Types are named before they are all known, so references are resolved in a
 * second pass. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <google/protobuf/descriptor.pb-c.h>

#include "base/xmem.h"
#include "proto/pb_build.h"

#define MAX_NESTING 32
#define MAX_FULL_NAME 512

typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;

/* A field whose type is a name. */
struct reference {
    struct pb_message *message;
    uint32_t number;
    const char *type_name; /* borrowed from the unpacked set */
};

struct loader {
    struct pb_pool *pool;
    struct reference *references;
    size_t count;
    bool is_proto3; /* of the file being read */
    struct err *err;
};

static int full_name(struct loader *loader, char *out, const char *scope, const char *name)
{
    if (name == NULL || *name == '\0') {
        return err_set(loader->err, ERR_INVALID, "a definition in '%.100s' has no name", scope);
    }
    const char *dot = *scope == '\0' ? "" : ".";
    if ((size_t)snprintf(out, MAX_FULL_NAME, "%s%s%s", scope, dot, name) >= MAX_FULL_NAME) {
        return err_set(loader->err, ERR_LIMIT, "the name of '%.100s' is too long", name);
    }
    return 0;
}

static int load_enum(struct loader *loader, const char *scope, const enum_proto *source)
{
    char name[MAX_FULL_NAME];
    int status = full_name(loader, name, scope, source->name);
    if (status != 0) {
        return status;
    }
    struct pb_enum *target = pb_build_enum(loader->pool, name);
    target->values = xcalloc(source->n_value + 1, sizeof(*target->values));
    for (size_t i = 0; i < source->n_value; i++) {
        if (source->value[i]->name == NULL) {
            return err_set(loader->err, ERR_INVALID, "%.100s: a value has no name", name);
        }
        struct pb_enum_value *value = &target->values[target->count++];
        value->name = xstrdup(source->value[i]->name);
        value->number = source->value[i]->number;
    }
    return 0;
}

static void refer(struct loader *loader, struct pb_message *message, const struct pb_field *field,
                  const char *type_name)
{
    loader->count++;
    loader->references = xrealloc(loader->references, loader->count * sizeof(*loader->references));
    loader->references[loader->count - 1] =
        (struct reference){message, field->number, type_name == NULL ? "" : type_name};
}

static int load_field(struct loader *loader, struct pb_message *message, const field_proto *source)
{
    int type = (int)source->type; /* the numbers of enum pb_type are those of descriptor.proto */
    if (source->name == NULL || type < PB_DOUBLE || type > PB_SINT64) {
        return err_set(loader->err, ERR_INVALID, "%.100s: a field has no name or no type",
                       message->full_name);
    }
    if (type == PB_GROUP) {
        return err_set(loader->err, ERR_INVALID, "%.100s.%s: groups are not supported", message->full_name,
                       source->name);
    }
    struct pb_field *field = pb_build_field(message, source->name, source->json_name);
    field->number = (uint32_t)source->number;
    field->type = (enum pb_type)type;
    field->is_repeated = source->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED;
    bool is_optional = source->has_proto3_optional && source->proto3_optional;
    if (source->has_oneof_index && !is_optional) {
        if (source->oneof_index < 0 || (unsigned)source->oneof_index >= message->oneof_count) {
            return err_set(loader->err, ERR_INVALID, "%.100s.%s: unknown oneof", message->full_name,
                           source->name);
        }
        field->oneof = source->oneof_index;
    }
    field->has_presence = !field->is_repeated && (!loader->is_proto3 || is_optional || field->oneof >= 0 ||
                                                  field->type == PB_MESSAGE);
    bool packed = loader->is_proto3;
    if (source->options != NULL && source->options->has_packed) {
        packed = source->options->packed;
    }
    field->is_packed = field->is_repeated && packed && pb_type_is_packable(field->type);
    if (field->type == PB_MESSAGE || field->type == PB_ENUM) {
        refer(loader, message, field, source->type_name);
    }
    return 0;
}

static int load_oneofs(struct loader *loader, struct pb_message *message, const message_proto *source)
{
    if (source->n_oneof_decl > PB_MAX_ONEOFS) {
        return err_set(loader->err, ERR_LIMIT, "%.100s has more than %d oneofs", message->full_name,
                       PB_MAX_ONEOFS);
    }
    message->oneofs = xcalloc(source->n_oneof_decl + 1, sizeof(*message->oneofs));
    for (size_t i = 0; i < source->n_oneof_decl; i++) {
        const char *name = source->oneof_decl[i]->name;
        message->oneofs[message->oneof_count++] = xstrdup(name == NULL ? "" : name);
    }
    return 0;
}

static int load_message(struct loader *loader, const char *scope, const message_proto *source, int depth)
{
    char name[MAX_FULL_NAME];
    int status = full_name(loader, name, scope, source->name);
    if (status == 0 && depth > MAX_NESTING) {
        status = err_set(loader->err, ERR_LIMIT, "%.100s is nested too deeply", name);
    }
    if (status != 0) {
        return status;
    }
    struct pb_message *target = pb_build_message(loader->pool, name);
    target->is_map_entry = source->options != NULL && source->options->map_entry;
    status = load_oneofs(loader, target, source);
    for (size_t i = 0; i < source->n_field && status == 0; i++) {
        status = load_field(loader, target, source->field[i]);
    }
    for (size_t i = 0; i < source->n_enum_type && status == 0; i++) {
        status = load_enum(loader, name, source->enum_type[i]);
    }
    for (size_t i = 0; i < source->n_nested_type && status == 0; i++) {
        status = load_message(loader, name, source->nested_type[i], depth + 1);
    }
    return status;
}

static int load_file(struct loader *loader, const file_proto *source)
{
    const char *scope = source->package == NULL ? "" : source->package;
    int status = 0;
    loader->is_proto3 = source->syntax != NULL && strcmp(source->syntax, "proto3") == 0;
    for (size_t i = 0; i < source->n_enum_type && status == 0; i++) {
        status = load_enum(loader, scope, source->enum_type[i]);
    }
    for (size_t i = 0; i < source->n_message_type && status == 0; i++) {
        status = load_message(loader, scope, source->message_type[i], 1);
    }
    return status;
}

static struct pb_enum *find_enum(const struct pb_pool *pool, const char *name)
{
    for (unsigned i = 0; i < pool->enum_count; i++) {
        if (strcmp(pool->enums[i]->full_name, name) == 0) {
            return pool->enums[i];
        }
    }
    return NULL;
}

/* The codec relies on entries having exactly a key and a value. */
static bool is_sound_entry(const struct pb_message *entry)
{
    return entry->count == 2 && entry->fields[0].number == 1 && entry->fields[1].number == 2 &&
           !entry->fields[0].is_repeated && !entry->fields[1].is_repeated &&
           entry->fields[0].type != PB_MESSAGE && entry->fields[0].type != PB_BYTES;
}

static int resolve(struct loader *loader, const struct reference *reference)
{
    struct pb_field *field = (struct pb_field *)pb_message_field(reference->message, reference->number);
    const char *name = reference->type_name + (*reference->type_name == '.');
    if (field->type == PB_ENUM) {
        field->enumeration = find_enum(loader->pool, name);
    } else {
        field->message = (struct pb_message *)pb_pool_find(loader->pool, name);
    }
    if (field->enumeration == NULL && field->message == NULL) {
        return err_set(loader->err, ERR_INVALID, "%.80s.%.40s: type '%.80s' is not in the set",
                       reference->message->full_name, field->name, name);
    }
    if (field->message != NULL && field->message->is_map_entry) {
        if (!field->is_repeated || !is_sound_entry(field->message)) {
            return err_set(loader->err, ERR_INVALID, "%.80s.%.40s: malformed map",
                           reference->message->full_name, field->name);
        }
        field->is_map = true;
    }
    return 0;
}

struct pb_pool *pb_pool_from_set(const void *data, size_t len, struct err *err)
{
    Google__Protobuf__FileDescriptorSet *set = google__protobuf__file_descriptor_set__unpack(NULL, len, data);
    if (set == NULL) {
        (void)err_set(err, ERR_INVALID, "these bytes are not a FileDescriptorSet");
        return NULL;
    }
    struct loader loader = {.pool = pb_build_pool(), .err = err};
    int status = 0;
    for (size_t i = 0; i < set->n_file && status == 0; i++) {
        status = load_file(&loader, set->file[i]);
    }
    if (status == 0) {
        status = pb_build_finish(loader.pool, err);
    }
    for (size_t i = 0; i < loader.count && status == 0; i++) {
        status = resolve(&loader, &loader.references[i]);
    }
    free(loader.references);
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    if (status != 0) {
        pb_pool_unref(loader.pool);
        return NULL;
    }
    return loader.pool;
}
