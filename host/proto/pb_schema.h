/* Protobuf message schemas at run time: from a FileDescriptorSet, or from a list of fields. Knows
 * names, numbers and types; bytes are read and written elsewhere. A pool is immutable once built;
 * one thread at a time counts references. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Numbers as in descriptor.proto. */
enum pb_type {
    PB_DOUBLE = 1,
    PB_FLOAT = 2,
    PB_INT64 = 3,
    PB_UINT64 = 4,
    PB_INT32 = 5,
    PB_FIXED64 = 6,
    PB_FIXED32 = 7,
    PB_BOOL = 8,
    PB_STRING = 9,
    PB_GROUP = 10, /* refused: proto2 only */
    PB_MESSAGE = 11,
    PB_BYTES = 12,
    PB_UINT32 = 13,
    PB_ENUM = 14,
    PB_SFIXED32 = 15,
    PB_SFIXED64 = 16,
    PB_SINT32 = 17,
    PB_SINT64 = 18,
};

enum pb_wire { PB_WIRE_VARINT = 0, PB_WIRE_64 = 1, PB_WIRE_BYTES = 2, PB_WIRE_32 = 5 };

struct pb_message;

struct pb_enum_value {
    char *name;
    int32_t number;
    unsigned slot; /* as of fields */
};

struct pb_enum {
    char *full_name;
    struct pb_enum_value *values; /* sorted by number; of equal numbers the first declared comes first */
    unsigned count;
};

struct pb_field {
    char *name;      /* snake_case as declared */
    char *json_name; /* lowerCamelCase */
    uint32_t number;
    enum pb_type type;
    bool is_repeated;  /* maps included */
    bool is_map;       /* message is then the entry: field 0 the key, field 1 the value */
    bool is_packed;    /* how it is written; both forms are read */
    bool has_presence; /* absent differs from zero: messages, oneof members, proto3 optional */
    int oneof;         /* index in the message's oneofs, -1 */
    unsigned slot;     /* 1-based number of this name within the pool, fields and enum values together */
    unsigned index;    /* in message->fields */
    struct pb_message *message;
    struct pb_enum *enumeration;
};

#define PB_MAX_ONEOFS 32 /* of one message */
#define PB_DIRECT 64     /* fields with smaller numbers are found by index */

struct pb_message {
    char *full_name;
    struct pb_field *fields; /* sorted by number */
    unsigned count;
    char **oneofs;
    unsigned oneof_count;
    bool is_map_entry;
    uint16_t by_number[PB_DIRECT]; /* index + 1 in fields; 0: none */
};

struct pb_pool {
    unsigned refs;
    struct pb_message **messages; /* sorted by full name */
    unsigned message_count;
    struct pb_enum **enums; /* sorted by full name */
    unsigned enum_count;
    unsigned slot_count; /* slots are 1..slot_count */
};

/* All files of a serialized FileDescriptorSet (protoc --include_imports --descriptor_set_out). */
struct pb_pool *pb_pool_from_set(const void *data, size_t len, struct err *err);

/* One message from a list of fields. */
struct pb_field_spec {
    const char *name;
    uint32_t number;
    const char *type; /* scalar type name, as in a .proto file */
    bool is_repeated;
    bool is_map; /* map<string, type> */
};
struct pb_pool *pb_pool_from_fields(const char *full_name, const struct pb_field_spec *specs, size_t count,
                                    struct err *err);

struct pb_pool *pb_pool_ref(struct pb_pool *pool);
void pb_pool_unref(struct pb_pool *pool); /* NULL is fine */

const struct pb_message *pb_pool_find(const struct pb_pool *pool, const char *full_name);   /* or NULL */
const struct pb_field *pb_message_field(const struct pb_message *message, uint32_t number); /* or NULL */
const struct pb_enum_value *pb_enum_by_number(const struct pb_enum *enumeration, int32_t number);
const struct pb_enum_value *pb_enum_by_name(const struct pb_enum *enumeration, const char *name, size_t len);

enum pb_wire pb_type_wire(enum pb_type type);
bool pb_type_is_packable(enum pb_type type);
const char *pb_type_name(enum pb_type type); /* "int32" */
/* 0 when the name is not a scalar type. */
enum pb_type pb_type_by_name(const char *name);
