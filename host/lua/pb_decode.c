/* Decoder of pb_codec.h. A table that collects a repeated field stays on the stack while its
 * elements follow one another, so the usual case looks its name up once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "crypto/encode.h"
#include "lua/pb_codec.h"
#include "lua/pb_path.h"
#include "proto/pb_wire.h"

#define MAX_EXACT_INTEGER INT64_C(9007199254740992) /* compared as integers: doubles round */

struct decoder {
    lua_State *L;
    const struct pb_codec *codec;
    int names;
    int mark;
    struct buf *scratch;
    struct err *err;
    bool is_exact; /* so far encoding would give these bytes again */
    struct pb_path path;
};

/* One message being read into the table at this stack index. */
struct scope {
    const struct pb_message *message;
    const unsigned char *at;
    const unsigned char *end;
    int table;
    int depth;
    uint64_t seen;               /* bit per field index below 64 */
    uint32_t last_number;        /* of the field before */
    const struct pb_field *open; /* its collecting table is on top of the stack */
    size_t open_count;
};

static int decode_message(struct decoder *dec, const struct pb_message *message, const unsigned char *at,
                          const unsigned char *end, int depth);

static int fail(struct decoder *dec, const char *reason)
{
    return err_set(dec->err, ERR_INVALID, "%s", reason);
}

static void push_name(struct decoder *dec, unsigned slot)
{
    lua_rawgeti(dec->L, dec->names, (int)slot);
}

static void push_int64(struct decoder *dec, int64_t value)
{
    char text[24];
    if (!dec->codec->int64_strings && value >= -MAX_EXACT_INTEGER && value <= MAX_EXACT_INTEGER) {
        lua_pushnumber(dec->L, (lua_Number)value);
        return;
    }
    int len = snprintf(text, sizeof(text), "%lld", (long long)value);
    lua_pushlstring(dec->L, text, (size_t)len);
}

static void push_uint64(struct decoder *dec, uint64_t value)
{
    char text[24];
    if (!dec->codec->int64_strings && value <= (uint64_t)MAX_EXACT_INTEGER) {
        lua_pushnumber(dec->L, (lua_Number)value);
        return;
    }
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    lua_pushlstring(dec->L, text, (size_t)len);
}

static void push_enum(struct decoder *dec, const struct pb_field *field, int32_t number)
{
    const struct pb_enum_value *value =
        dec->codec->enum_numbers ? NULL : pb_enum_by_number(field->enumeration, number);
    if (value == NULL) {
        lua_pushnumber(dec->L, number);
    } else {
        push_name(dec, value->slot);
    }
}

static int push_float(struct decoder *dec, double value)
{
    if (dec->codec->finite && !isfinite(value)) {
        return fail(dec, "not a finite number");
    }
    lua_pushnumber(dec->L, value);
    return 0;
}

/* Numbers, booleans and enums from their raw bits. */
static int push_number(struct decoder *dec, const struct pb_field *field, uint64_t bits)
{
    float single;
    double number;
    uint32_t half = (uint32_t)bits;
    switch (field->type) {
    case PB_DOUBLE:
        memcpy(&number, &bits, 8);
        return push_float(dec, number);
    case PB_FLOAT:
        memcpy(&single, &half, 4);
        return push_float(dec, single);
    case PB_INT64:
    case PB_SFIXED64:
        push_int64(dec, (int64_t)bits);
        return 0;
    case PB_SINT64:
        push_int64(dec, pb_unzigzag(bits));
        return 0;
    case PB_UINT64:
    case PB_FIXED64:
        push_uint64(dec, bits);
        return 0;
    case PB_BOOL:
        lua_pushboolean(dec->L, bits != 0);
        return 0;
    case PB_ENUM:
        push_enum(dec, field, (int32_t)half);
        return 0;
    case PB_SINT32:
        lua_pushnumber(dec->L, (lua_Number)(int32_t)pb_unzigzag(half));
        return 0;
    case PB_UINT32:
    case PB_FIXED32:
        lua_pushnumber(dec->L, (lua_Number)half);
        return 0;
    default:
        lua_pushnumber(dec->L, (lua_Number)(int32_t)half);
        return 0;
    }
}

static int push_bytes(struct decoder *dec, const struct pb_field *field, const char *data, size_t len)
{
    if (field->type == PB_STRING) {
        if (!utf8_is_valid(data, len, NULL)) {
            return fail(dec, "not valid UTF-8");
        }
    } else if (dec->codec->base64_bytes) {
        buf_clear(dec->scratch);
        encode_base64(dec->scratch, data, len, ENCODE_BASE64);
        data = dec->scratch->data;
        len = dec->scratch->len;
    }
    lua_pushlstring(dec->L, data, len);
    return 0;
}

/* Whether a varint between these places takes more bytes than it needs. */
static bool is_padded(const unsigned char *start, const unsigned char *end)
{
    return end - start > 1 && end[-1] == 0;
}

/* Whether the encoder writes a number of this field as these bits. A yes must be right, a no may be wrong. */
static bool is_written_as(const struct pb_field *field, uint64_t bits)
{
    switch (field->type) {
    case PB_INT64:
    case PB_UINT64:
    case PB_SINT64:
    case PB_SFIXED64:
    case PB_FIXED64:
        break;
    case PB_BOOL:
        if (bits > 1) {
            return false;
        }
        break;
    case PB_DOUBLE:
        if ((bits & INT64_MAX) > UINT64_C(0x7FF0000000000000)) {
            return false; /* NaN: Lua has one only */
        }
        break;
    case PB_FLOAT:
        return false;
    default:
        if (bits > INT32_MAX) {
            return false;
        }
        break;
    }
    return bits != 0 || field->has_presence;
}

/* Notes what a value read from `start` says about exactness. */
static void note_number(struct decoder *dec, const struct scope *scope, const struct pb_field *field,
                        const unsigned char *start, uint64_t bits)
{
    bool is_varint = pb_type_wire(field->type) == PB_WIRE_VARINT;
    if ((is_varint && is_padded(start, scope->at)) || !is_written_as(field, bits)) {
        dec->is_exact = false;
    }
}

/* Pushes one value of the field. */
static int push_value(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    const unsigned char *begin = scope->at;
    uint64_t bits;
    const unsigned char *start;
    size_t len;
    switch (pb_type_wire(field->type)) {
    case PB_WIRE_VARINT:
        if (!pb_read_varint(&scope->at, scope->end, &bits)) {
            return fail(dec, "malformed varint");
        }
        note_number(dec, scope, field, begin, bits);
        return push_number(dec, field, bits);
    case PB_WIRE_64:
    case PB_WIRE_32:
        if (!pb_read_fixed(&scope->at, scope->end, pb_type_wire(field->type) == PB_WIRE_64 ? 8 : 4, &bits)) {
            return fail(dec, "the bytes end too early");
        }
        note_number(dec, scope, field, begin, bits);
        return push_number(dec, field, bits);
    default:
        break;
    }
    if (!pb_read_bytes(&scope->at, scope->end, &start, &len)) {
        return fail(dec, "the bytes end too early");
    }
    if (is_padded(begin, start)) {
        dec->is_exact = false;
    }
    if (field->type != PB_MESSAGE) {
        if (len == 0 && !field->has_presence) {
            dec->is_exact = false;
        }
        return push_bytes(dec, field, (const char *)start, len);
    }
    lua_createtable(dec->L, 0, (int)field->message->count);
    return decode_message(dec, field->message, start, start + len, scope->depth + 1);
}

static void close_collection(struct decoder *dec, struct scope *scope)
{
    if (scope->open != NULL) {
        lua_pop(dec->L, 1);
        scope->open = NULL;
    }
}

/* Puts the table that collects this field on top of the stack, where it stays while it is open. */
static void open_collection(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    lua_State *L = dec->L;
    if (scope->open == field) {
        return;
    }
    close_collection(dec, scope);
    push_name(dec, field->slot);
    lua_rawget(L, scope->table);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        push_name(dec, field->slot);
        lua_newtable(L);
        if (!field->is_map) {
            lua_pushvalue(L, dec->mark);
            lua_setmetatable(L, -2);
        }
        lua_pushvalue(L, -1);
        lua_insert(L, -3);
        lua_rawset(L, scope->table);
    }
    scope->open = field;
    scope->open_count = field->is_map ? 0 : lua_objlen(L, -1);
}

static int decode_packed(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    struct scope inner = *scope;
    const unsigned char *start;
    size_t len;
    if (!pb_read_bytes(&scope->at, scope->end, &start, &len)) {
        return fail(dec, "the bytes end too early");
    }
    inner.at = start;
    inner.end = start + len;
    while (inner.at < inner.end) {
        int status = push_value(dec, &inner, field);
        if (status != 0) {
            return status;
        }
        lua_rawseti(dec->L, -2, (int)++scope->open_count);
    }
    return 0;
}

static int decode_repeated(struct decoder *dec, struct scope *scope, const struct pb_field *field,
                           unsigned wire)
{
    open_collection(dec, scope, field);
    if (wire == PB_WIRE_BYTES && pb_type_is_packable(field->type)) {
        return decode_packed(dec, scope, field);
    }
    int status = push_value(dec, scope, field);
    if (status == 0) {
        lua_rawseti(dec->L, -2, (int)++scope->open_count);
    }
    return status;
}

/* Pushes the zero value of a field; nothing (and false) for messages. */
static bool push_zero(struct decoder *dec, const struct pb_field *field)
{
    if (field->type == PB_MESSAGE) {
        return false;
    }
    if (field->type == PB_STRING || field->type == PB_BYTES) {
        lua_pushlstring(dec->L, "", 0);
    } else {
        (void)push_number(dec, field, 0);
    }
    return true;
}

/* Reads a map entry and sets it in the map on top of the stack. */
static int decode_entry(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    lua_State *L = dec->L;
    struct scope entry = {.message = field->message, .depth = scope->depth + 1};
    const unsigned char *start;
    size_t len;
    open_collection(dec, scope, field);
    if (!pb_read_bytes(&scope->at, scope->end, &start, &len)) {
        return fail(dec, "the bytes end too early");
    }
    if (entry.depth > PB_CODEC_DEPTH || !lua_checkstack(L, 16)) {
        return fail(dec, "nested too deeply");
    }
    entry.at = start;
    entry.end = start + len;
    lua_pushnil(L);
    lua_pushnil(L);
    int key = lua_gettop(L) - 1;
    while (entry.at < entry.end) {
        uint64_t tag;
        if (!pb_read_varint(&entry.at, entry.end, &tag)) {
            return fail(dec, "malformed map entry");
        }
        const struct pb_field *part =
            tag >> 3 > 2 ? NULL : pb_message_field(field->message, (uint32_t)(tag >> 3));
        if (part == NULL || (tag & 7) != pb_type_wire(part->type)) {
            if (tag >> 3 == 0 || !pb_skip(&entry.at, entry.end, (unsigned)(tag & 7))) {
                return fail(dec, "malformed map entry");
            }
            continue;
        }
        int status = push_value(dec, &entry, part);
        if (status != 0) {
            return status;
        }
        lua_replace(L, part->index == 0 ? key : key + 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (lua_isnil(L, key + (int)i)) {
            if (!push_zero(dec, &field->message->fields[i])) {
                lua_newtable(L);
                int status =
                    decode_message(dec, field->message->fields[i].message, start, start, entry.depth);
                if (status != 0) {
                    return status;
                }
            }
            lua_replace(L, key + (int)i);
        }
    }
    lua_rawset(L, -3);
    return 0;
}

static void clear_oneof(struct decoder *dec, struct scope *scope, const struct pb_field *chosen)
{
    for (unsigned i = 0; i < scope->message->count; i++) {
        const struct pb_field *field = &scope->message->fields[i];
        if (field != chosen && field->oneof == chosen->oneof) {
            push_name(dec, field->slot);
            lua_pushnil(dec->L);
            lua_rawset(dec->L, scope->table);
        }
    }
}

/* A message field that occurs again adds to what the first one set (protobuf's merge). */
static int merge_message(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    lua_State *L = dec->L;
    const unsigned char *start;
    size_t len;
    if (!pb_read_bytes(&scope->at, scope->end, &start, &len)) {
        return fail(dec, "the bytes end too early");
    }
    push_name(dec, field->slot);
    lua_rawget(L, scope->table);
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L); /* another member of its oneof came between */
    }
    return decode_message(dec, field->message, start, start + len, scope->depth + 1);
}

static int decode_single(struct decoder *dec, struct scope *scope, const struct pb_field *field)
{
    bool again = field->index >= 64 || (scope->seen >> field->index & 1) != 0;
    push_name(dec, field->slot);
    int status =
        again && field->type == PB_MESSAGE ? merge_message(dec, scope, field) : push_value(dec, scope, field);
    if (status != 0) {
        return status;
    }
    lua_rawset(dec->L, scope->table);
    if (field->oneof >= 0) {
        clear_oneof(dec, scope, field);
    }
    return 0;
}

static void fill_defaults(struct decoder *dec, struct scope *scope)
{
    lua_State *L = dec->L;
    for (unsigned i = 0; i < scope->message->count; i++) {
        const struct pb_field *field = &scope->message->fields[i];
        if ((i < 64 && (scope->seen >> i & 1) != 0) || (field->has_presence && !field->is_repeated)) {
            continue;
        }
        push_name(dec, field->slot);
        lua_pushvalue(L, -1);
        lua_rawget(L, scope->table);
        bool is_absent = lua_isnil(L, -1);
        lua_pop(L, 1);
        if (!is_absent) {
            lua_pop(L, 1);
            continue;
        }
        if (field->is_repeated) {
            lua_newtable(L);
            if (!field->is_map) {
                lua_pushvalue(L, dec->mark);
                lua_setmetatable(L, -2);
            }
        } else if (!push_zero(dec, field)) {
            lua_pop(L, 1);
            continue;
        }
        lua_rawset(L, scope->table);
    }
}

static int decode_field(struct decoder *dec, struct scope *scope, const struct pb_field *field, unsigned wire)
{
    bool is_packed = field->is_repeated && wire == PB_WIRE_BYTES && pb_type_is_packable(field->type);
    int status;
    size_t index = 0;
    if (wire != pb_type_wire(field->type) && !is_packed) {
        status = fail(dec, "wrong wire type");
    } else if (field->is_map) {
        status = decode_entry(dec, scope, field);
    } else if (field->is_repeated) {
        status = decode_repeated(dec, scope, field, wire);
        index = scope->open_count + 1;
    } else {
        status = decode_single(dec, scope, field);
    }
    if (status != 0) {
        pb_path_prepend(&dec->path, dec->codec->json_names ? field->json_name : field->name, index);
    }
    if (field->index < 64) {
        scope->seen |= (uint64_t)1 << field->index;
    }
    return status;
}

/* Reads into the table on top of the stack and leaves it there. */
static int decode_message(struct decoder *dec, const struct pb_message *message, const unsigned char *at,
                          const unsigned char *end, int depth)
{
    struct scope scope = {.message = message, .at = at, .end = end, .depth = depth};
    scope.table = lua_gettop(dec->L);
    if (depth > PB_CODEC_DEPTH || !lua_checkstack(dec->L, 16)) {
        return fail(dec, "nested too deeply");
    }
    while (scope.at < end) {
        uint64_t tag;
        const unsigned char *begin = scope.at;
        if (!pb_read_varint(&scope.at, end, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) {
            return fail(dec, "malformed field tag");
        }
        unsigned wire = (unsigned)(tag & 7);
        const struct pb_field *field = pb_message_field(message, (uint32_t)(tag >> 3));
        if (field == NULL) {
            if (!pb_skip(&scope.at, end, wire)) {
                return fail(dec, "malformed unknown field");
            }
            dec->is_exact = false;
            continue;
        }
        /* Lists, maps and oneofs are left to the encoder: nobody has asked about messages with such. */
        if (is_padded(begin, scope.at) || field->number <= scope.last_number || field->is_repeated ||
            field->is_map || field->oneof >= 0) {
            dec->is_exact = false;
        }
        scope.last_number = field->number;
        int status = decode_field(dec, &scope, field, wire);
        if (status != 0) {
            return status;
        }
    }
    close_collection(dec, &scope);
    if (dec->codec->defaults) {
        fill_defaults(dec, &scope);
    }
    return 0;
}

void pb_codec_push_names(lua_State *L, const struct pb_pool *pool, bool json_names)
{
    lua_createtable(L, (int)pool->slot_count, 0);
    for (unsigned i = 0; i < pool->message_count; i++) {
        const struct pb_message *message = pool->messages[i];
        for (unsigned j = 0; j < message->count; j++) {
            const struct pb_field *field = &message->fields[j];
            lua_pushstring(L, json_names ? field->json_name : field->name);
            lua_rawseti(L, -2, (int)field->slot);
        }
    }
    for (unsigned i = 0; i < pool->enum_count; i++) {
        for (unsigned j = 0; j < pool->enums[i]->count; j++) {
            lua_pushstring(L, pool->enums[i]->values[j].name);
            lua_rawseti(L, -2, (int)pool->enums[i]->values[j].slot);
        }
    }
}

int pb_decode(lua_State *L, const struct pb_codec *codec, int names, int mark, const char *data, size_t len,
              struct buf *scratch, bool *is_exact, struct err *err)
{
    struct decoder dec = {.L = L,
                          .codec = codec,
                          .names = names,
                          .mark = mark,
                          .scratch = scratch,
                          .err = err,
                          .is_exact = true};
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 20)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    const unsigned char *at = (const unsigned char *)(data == NULL ? "" : data); /* an empty buf */
    lua_createtable(L, 0, (int)codec->root->count);
    int status = decode_message(&dec, codec->root, at, at + len, 1);
    if (status != 0) {
        lua_settop(L, top);
        pb_path_finish(&dec.path, err);
    }
    if (is_exact != NULL) {
        *is_exact = status == 0 && dec.is_exact;
    }
    return status;
}
