/* Encoder of pb_codec.h. A nested message is written behind one reserved length byte and moved only
 * when its length needs more. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "crypto/encode.h"
#include "lua/pb_codec.h"
#include "lua/pb_path.h"
#include "lua/sorted_keys.h"
#include "proto/pb_wire.h"

#define DEFAULT_MAX_BYTES ((size_t)256 << 20)
#define MAX_EXACT_INTEGER 9007199254740992.0

struct encoder {
    lua_State *L;
    const struct pb_codec *codec;
    int names;
    struct buf *out;
    size_t max_len;
    struct err *err;
    struct pb_path path;
};

static int encode_message(struct encoder *enc, const struct pb_message *message, int depth);

static int fail(struct encoder *enc, const char *reason)
{
    return err_set(enc->err, ERR_INVALID, "%s", reason);
}

static int fail_type(struct encoder *enc, const char *expected)
{
    return err_set(enc->err, ERR_INVALID, "%s expected, got %s", expected,
                   lua_typename(enc->L, lua_type(enc->L, -1)));
}

static const char *name_of(const struct encoder *enc, const struct pb_field *field)
{
    return enc->codec->json_names ? field->json_name : field->name;
}

static void put_tag(struct encoder *enc, const struct pb_field *field, enum pb_wire wire)
{
    pb_write_varint(enc->out, (uint64_t)field->number << 3 | wire);
}

/* Writes the length of what was written behind the byte at `start`, into that byte or over more. */
static void close_length(struct buf *out, size_t start)
{
    size_t len = out->len - start - 1;
    if (len < 0x80) {
        out->data[start] = (char)len;
        return;
    }
    size_t extra = 0;
    for (size_t rest = len >> 7; rest > 0; rest >>= 7) {
        extra++;
    }
    (void)buf_reserve(out, extra);
    memmove(out->data + start + 1 + extra, out->data + start + 1, len);
    out->len = start;
    pb_write_varint(out, len);
    out->len += len;
}

/* A whole number in a range; decimal strings count, too (64-bit values beyond 2^53 come as such).
 */
static int take_int64(struct encoder *enc, int64_t min, int64_t max, int64_t *value)
{
    lua_State *L = enc->L;
    if (lua_type(L, -1) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        if (!num_parse_i64(text, len, value)) {
            return fail(enc, "a whole number or its decimal text expected");
        }
    } else if (lua_type(L, -1) == LUA_TNUMBER) {
        double number = lua_tonumber(L, -1);
        if (number != floor(number) || fabs(number) > MAX_EXACT_INTEGER) {
            return fail(enc, "a whole number expected (beyond 2^53 as decimal text)");
        }
        *value = (int64_t)number;
    } else {
        return fail_type(enc, "number");
    }
    return *value < min || *value > max ? fail(enc, "out of range") : 0;
}

static int take_uint64(struct encoder *enc, uint64_t *value)
{
    lua_State *L = enc->L;
    if (lua_type(L, -1) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        return num_parse_u64(text, len, value) ? 0 : fail(enc, "a whole number or its decimal text expected");
    }
    int64_t number = 0;
    int status = take_int64(enc, 0, INT64_MAX, &number);
    *value = (uint64_t)number;
    return status;
}

static int take_enum(struct encoder *enc, const struct pb_field *field, int64_t *number)
{
    lua_State *L = enc->L;
    if (lua_type(L, -1) != LUA_TSTRING) {
        return take_int64(enc, INT32_MIN, INT32_MAX, number);
    }
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const struct pb_enum_value *value = pb_enum_by_name(field->enumeration, text, len);
    if (value == NULL) {
        return err_set(enc->err, ERR_INVALID, "'%.60s' is not a value of %s", text,
                       field->enumeration->full_name);
    }
    *number = value->number;
    return 0;
}

static int take_float(struct encoder *enc, const struct pb_field *field, uint64_t *bits)
{
    if (lua_type(enc->L, -1) != LUA_TNUMBER) {
        return fail_type(enc, "number");
    }
    double number = lua_tonumber(enc->L, -1);
    if (enc->codec->finite && !isfinite(number)) {
        return fail(enc, "not a finite number");
    }
    if (field->type == PB_DOUBLE) {
        memcpy(bits, &number, 8);
        return 0;
    }
    float single = (float)number;
    uint32_t single_bits;
    memcpy(&single_bits, &single, 4);
    *bits = single_bits;
    return 0;
}

/* The number, boolean or enum on top of the stack as the bits that go on the wire. */
static int take_number(struct encoder *enc, const struct pb_field *field, uint64_t *bits)
{
    int64_t value = 0;
    int status;
    switch (field->type) {
    case PB_DOUBLE:
    case PB_FLOAT:
        return take_float(enc, field, bits);
    case PB_UINT64:
    case PB_FIXED64:
        return take_uint64(enc, bits);
    case PB_BOOL:
        if (!lua_isboolean(enc->L, -1)) {
            return fail_type(enc, "boolean");
        }
        *bits = (uint64_t)lua_toboolean(enc->L, -1);
        return 0;
    case PB_ENUM:
        status = take_enum(enc, field, &value);
        break;
    case PB_UINT32:
    case PB_FIXED32:
        status = take_int64(enc, 0, UINT32_MAX, &value);
        break;
    case PB_INT64:
    case PB_SINT64:
    case PB_SFIXED64:
        status = take_int64(enc, INT64_MIN, INT64_MAX, &value);
        break;
    default:
        status = take_int64(enc, INT32_MIN, INT32_MAX, &value);
        break;
    }
    bool is_zigzag = field->type == PB_SINT32 || field->type == PB_SINT64;
    *bits = is_zigzag ? pb_zigzag(value) : (uint64_t)value;
    return status;
}

static void put_number(struct encoder *enc, const struct pb_field *field, uint64_t bits)
{
    switch (pb_type_wire(field->type)) {
    case PB_WIRE_64:
        pb_write_fixed(enc->out, bits, 8);
        break;
    case PB_WIRE_32:
        pb_write_fixed(enc->out, bits, 4);
        break;
    default:
        pb_write_varint(enc->out, bits);
        break;
    }
}

/* The string or bytes on top of the stack, with tag. An implicit empty one is not written. */
static int encode_bytes(struct encoder *enc, const struct pb_field *field, bool keep_zero)
{
    size_t len;
    if (lua_type(enc->L, -1) != LUA_TSTRING) {
        return fail_type(enc, "string");
    }
    const char *data = lua_tolstring(enc->L, -1, &len);
    if (len == 0 && !keep_zero) {
        return 0;
    }
    if (len > enc->max_len || enc->out->len > enc->max_len - len) {
        return err_set(enc->err, ERR_LIMIT, "the message is too long");
    }
    put_tag(enc, field, PB_WIRE_BYTES);
    if (field->type == PB_STRING) {
        if (!utf8_is_valid(data, len, NULL)) {
            return fail(enc, "not valid UTF-8");
        }
    } else if (enc->codec->base64_bytes) {
        size_t bad_at;
        size_t start = enc->out->len;
        buf_append_byte(enc->out, 0);
        if (!encode_unbase64(enc->out, data, len, ENCODE_BASE64, &bad_at)) {
            return fail(enc, "not base64");
        }
        close_length(enc->out, start);
        return 0;
    }
    pb_write_varint(enc->out, len);
    buf_append(enc->out, data, len);
    return 0;
}

/* The value on top of the stack with its tag. keep_zero: write it even if it is the zero value. */
static int encode_value(struct encoder *enc, const struct pb_field *field, bool keep_zero, int depth)
{
    uint64_t bits = 0;
    int status;
    if (field->type == PB_MESSAGE) {
        if (!lua_istable(enc->L, -1)) {
            return fail_type(enc, "table");
        }
        put_tag(enc, field, PB_WIRE_BYTES);
        size_t start = enc->out->len;
        buf_append_byte(enc->out, 0);
        status = encode_message(enc, field->message, depth + 1);
        close_length(enc->out, start);
        return status;
    }
    if (pb_type_wire(field->type) == PB_WIRE_BYTES) {
        return encode_bytes(enc, field, keep_zero);
    }
    status = take_number(enc, field, &bits);
    if (status == 0 && (bits != 0 || keep_zero)) {
        put_tag(enc, field, pb_type_wire(field->type));
        put_number(enc, field, bits);
    }
    return status;
}

/* stack: ..., array */
static int encode_repeated(struct encoder *enc, const struct pb_field *field, int depth, size_t *index)
{
    lua_State *L = enc->L;
    if (!lua_istable(L, -1)) {
        return fail_type(enc, "array");
    }
    size_t count = lua_objlen(L, -1);
    size_t start = enc->out->len;
    bool is_packed = field->is_packed && count > 0;
    if (is_packed) {
        put_tag(enc, field, PB_WIRE_BYTES);
        start = enc->out->len;
        buf_append_byte(enc->out, 0);
    }
    for (size_t i = 1; i <= count; i++) {
        uint64_t bits = 0;
        lua_rawgeti(L, -1, (int)i);
        int status = is_packed ? take_number(enc, field, &bits) : encode_value(enc, field, true, depth);
        lua_pop(L, 1);
        if (status != 0) {
            *index = i;
            return status;
        }
        if (is_packed) {
            put_number(enc, field, bits);
        }
    }
    if (is_packed) {
        close_length(enc->out, start);
    }
    return 0;
}

/* stack: ..., value; writes the entry { key, value }. */
static int encode_entry(struct encoder *enc, const struct pb_field *field, const struct sorted_keys *keys,
                        size_t i, int depth)
{
    lua_State *L = enc->L;
    put_tag(enc, field, PB_WIRE_BYTES);
    size_t start = enc->out->len;
    buf_append_byte(enc->out, 0);
    sorted_keys_push(keys, i, L);
    int status = encode_value(enc, &field->message->fields[0], true, depth);
    lua_pop(L, 1);
    if (status == 0) {
        status = encode_value(enc, &field->message->fields[1], true, depth);
    }
    close_length(enc->out, start);
    return status;
}

/* stack: ..., map. Boolean keys do not sort with sorted_keys; false comes before true. */
static int encode_bool_map(struct encoder *enc, const struct pb_field *field, int depth)
{
    lua_State *L = enc->L;
    for (int key = 0; key <= 1; key++) {
        lua_pushboolean(L, key);
        lua_rawget(L, -2);
        int status = 0;
        if (!lua_isnil(L, -1)) {
            put_tag(enc, field, PB_WIRE_BYTES);
            size_t start = enc->out->len;
            buf_append_byte(enc->out, 0);
            put_tag(enc, &field->message->fields[0], PB_WIRE_VARINT);
            pb_write_varint(enc->out, (uint64_t)key);
            status = encode_value(enc, &field->message->fields[1], true, depth);
            close_length(enc->out, start);
        }
        lua_pop(L, 1);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* stack: ..., map */
static int encode_map(struct encoder *enc, const struct pb_field *field, int depth)
{
    lua_State *L = enc->L;
    struct sorted_keys keys;
    int bad_type;
    if (!lua_istable(L, -1)) {
        return fail_type(enc, "table");
    }
    if (depth >= PB_CODEC_DEPTH) {
        return fail(enc, "nested too deeply");
    }
    if (field->message->fields[0].type == PB_BOOL) {
        return encode_bool_map(enc, field, depth + 1);
    }
    int table = lua_gettop(L);
    if (sorted_keys_init(&keys, L, table, SORTED_BY_BYTES, &bad_type) != 0) {
        return err_set(enc->err, ERR_INVALID, "a map key is a %s", lua_typename(L, bad_type));
    }
    int status = 0;
    for (size_t i = 0; i < keys.count && status == 0; i++) {
        sorted_keys_push(&keys, i, L);
        lua_rawget(L, table);
        status = encode_entry(enc, field, &keys, i, depth + 1);
        lua_pop(L, 1);
        if (status != 0 && keys.items[i].text != NULL) {
            pb_path_prepend(&enc->path, keys.items[i].text, 0);
        }
    }
    sorted_keys_deinit(&keys);
    return status;
}

/* stack: ..., value, not nil */
static int encode_field(struct encoder *enc, const struct pb_field *field, int depth)
{
    int status;
    size_t index = 0;
    if (field->is_map) {
        status = encode_map(enc, field, depth);
    } else if (field->is_repeated) {
        status = encode_repeated(enc, field, depth, &index);
    } else {
        status = encode_value(enc, field, field->has_presence, depth);
    }
    if (status != 0) {
        pb_path_prepend(&enc->path, name_of(enc, field), index);
    }
    return status;
}

/* Fails with the name of a key that no field has. stack: ..., table */
static int fail_unknown(struct encoder *enc, const struct pb_message *message)
{
    lua_State *L = enc->L;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        bool known = false;
        for (unsigned i = 0; i < message->count && key != NULL && !known; i++) {
            known = strcmp(name_of(enc, &message->fields[i]), key) == 0;
        }
        if (!known) {
            int status = key == NULL ? fail(enc, "a key is not a field name")
                                     : err_set(enc->err, ERR_INVALID, "%s has no field '%.60s'",
                                               message->full_name, key);
            lua_pop(L, 1);
            return status;
        }
    }
    return 0;
}

static unsigned count_keys(lua_State *L)
{
    unsigned count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        count++;
    }
    return count;
}

/* Writes the fields of the table on top of the stack. */
static int encode_message(struct encoder *enc, const struct pb_message *message, int depth)
{
    lua_State *L = enc->L;
    unsigned found = 0;
    int chosen[PB_MAX_ONEOFS]; /* index of the member that is set, -1 */
    memset(chosen, -1, sizeof(chosen));
    if (depth > PB_CODEC_DEPTH || !lua_checkstack(L, 16)) {
        return fail(enc, "nested too deeply (or a cycle)");
    }
    for (unsigned i = 0; i < message->count; i++) {
        const struct pb_field *field = &message->fields[i];
        lua_rawgeti(L, enc->names, (int)field->slot);
        lua_rawget(L, -2);
        int status = 0;
        bool is_null = lua_islightuserdata(L, -1); /* JSON null stands for absent */
        if (!lua_isnil(L, -1)) {
            found++;
        }
        if (!lua_isnil(L, -1) && !is_null) {
            if (field->oneof >= 0) {
                int other = chosen[field->oneof];
                chosen[field->oneof] = (int)i;
                if (other >= 0) {
                    status = err_set(enc->err, ERR_INVALID, "'%s' and '%s' exclude each other",
                                     name_of(enc, &message->fields[other]), name_of(enc, field));
                }
            }
            if (status == 0) {
                status = encode_field(enc, field, depth);
            }
        }
        lua_pop(L, 1);
        if (status != 0) {
            return status;
        }
    }
    return count_keys(L) > found ? fail_unknown(enc, message) : 0;
}

int pb_encode(lua_State *L, const struct pb_codec *codec, int names, int idx, struct buf *out,
              struct err *err)
{
    struct encoder enc = {.L = L, .codec = codec, .names = names, .out = out, .err = err};
    enc.max_len = out->len + (codec->max_bytes > 0 ? codec->max_bytes : DEFAULT_MAX_BYTES);
    if (!lua_checkstack(L, 20)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    if (!lua_istable(L, idx)) {
        return err_set(err, ERR_INVALID, "table expected, got %s", lua_typename(L, lua_type(L, idx)));
    }
    lua_pushvalue(L, idx);
    int status = encode_message(&enc, codec->root, 1);
    lua_settop(L, -2);
    if (status != 0) {
        pb_path_finish(&enc.path, err);
    }
    return status;
}
