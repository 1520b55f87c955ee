/* Encoder of cbor.h. The tables seen so far are in a set of addresses; to name the first place of a
 * table met twice, the same traversal runs again and stops there. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "base/xmem.h"
#include "lua/cbor.h"
#include "lua/json_mark.h"
#include "lua/sorted_keys.h"

#define MAX_DEPTH 64
#define MAX_EXACT_INTEGER 9007199254740992.0
#define SEEN_INLINE 64 /* a power of two */
#define TAG_ARRAY 41

struct frame {
    const struct frame *parent;
    const char *name; /* NULL: index */
    int index;
    const void *table; /* the container of this member */
};

struct encoder {
    lua_State *L;
    struct buf *out;
    struct err *err;
    size_t max_len;
    const char *root;
    int root_index;
    const void *array_mark;
    const void *wanted; /* searching: stop at this table and write its path to found */
    struct buf *found;
    const void **seen; /* open addressing, NULL is free */
    size_t seen_cap;
    size_t seen_count;
    const void *seen_inline[SEEN_INLINE];
};

static int encode_value(struct encoder *enc, const struct frame *frame, int depth);

static void write_path(const struct encoder *enc, const struct frame *frame, struct buf *path)
{
    if (frame == NULL) {
        buf_append_str(path, enc->root);
        return;
    }
    write_path(enc, frame->parent, path);
    if (frame->name == NULL) {
        buf_printf(path, "[%d]", frame->index);
    } else {
        buf_printf(path, ".%.60s", frame->name);
    }
}

static int fail(struct encoder *enc, const struct frame *frame, int code, const char *reason)
{
    struct buf path;
    buf_init(&path);
    write_path(enc, frame, &path);
    err_set(enc->err, code, "%.*s: %s", path.len > 120 ? 120 : (int)path.len, path.data, reason);
    buf_deinit(&path);
    return code;
}

static size_t slot_of(const struct encoder *enc, const void *table)
{
    size_t hash = (size_t)((uintptr_t)table >> 4) * (size_t)0x9E3779B97F4A7C15u;
    size_t slot = (hash >> 20) & (enc->seen_cap - 1);
    while (enc->seen[slot] != NULL && enc->seen[slot] != table) {
        slot = (slot + 1) & (enc->seen_cap - 1);
    }
    return slot;
}

static void grow_seen(struct encoder *enc)
{
    const void **old = enc->seen;
    size_t old_cap = enc->seen_cap;
    enc->seen_cap = old_cap * 4;
    enc->seen = xcalloc(enc->seen_cap, sizeof(*enc->seen));
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i] != NULL) {
            enc->seen[slot_of(enc, old[i])] = old[i];
        }
    }
    if (old != enc->seen_inline) {
        free(old);
    }
}

/* false when the table was added before. */
static bool add_seen(struct encoder *enc, const void *table)
{
    size_t slot = slot_of(enc, table);
    if (enc->seen[slot] == table) {
        return false;
    }
    enc->seen[slot] = table;
    if (++enc->seen_count * 2 > enc->seen_cap) {
        grow_seen(enc);
    }
    return true;
}

static void put_head(struct buf *out, unsigned major, uint64_t value)
{
    unsigned char *at = (unsigned char *)buf_reserve(out, 9);
    unsigned char type = (unsigned char)(major << 5);
    int size;
    if (value < 24) {
        at[0] = (unsigned char)(type | value);
        out->len += 1;
        return;
    }
    if (value <= 0xFF) {
        at[0] = type | 24;
        size = 1;
    } else if (value <= 0xFFFF) {
        at[0] = type | 25;
        size = 2;
    } else if (value <= 0xFFFFFFFF) {
        at[0] = type | 26;
        size = 4;
    } else {
        at[0] = type | 27;
        size = 8;
    }
    for (int i = 0; i < size; i++) {
        at[1 + i] = (unsigned char)(value >> 8 * (size - 1 - i));
    }
    out->len += (size_t)size + 1;
}

static void put_text(struct buf *out, const char *text, size_t len)
{
    put_head(out, utf8_is_valid(text, len, NULL) ? 3 : 2, len);
    buf_append(out, text, len);
}

/* The half-precision bits of a float, or -1 when it does not fit exactly. */
static int half_bits(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, 4);
    uint32_t sign = bits >> 16 & 0x8000;
    int exponent = (int)(bits >> 23 & 0xFF) - 127;
    uint32_t mantissa = bits & 0x7FFFFF;
    if (number == 0) {
        return (int)sign;
    }
    if (exponent >= -14 && exponent <= 15) {
        if ((mantissa & 0x1FFF) != 0) {
            return -1;
        }
        return (int)(sign | (uint32_t)(exponent + 15) << 10 | mantissa >> 13);
    }
    if (exponent >= -24 && exponent < -14) {
        uint32_t full = mantissa | 0x800000; /* subnormal: shift the implied one in */
        int shift = -exponent - 1;           /* 14 .. 23 */
        if ((full & ((1u << shift) - 1)) != 0) {
            return -1;
        }
        return (int)(sign | full >> shift);
    }
    return -1;
}

static void put_float(struct buf *out, double number)
{
    unsigned char *at = (unsigned char *)buf_reserve(out, 9);
    float single = (float)number;
    int size;
    uint64_t bits = 0;
    if ((double)single == number) {
        int half = half_bits(single);
        uint32_t single_bits;
        memcpy(&single_bits, &single, 4);
        size = half >= 0 ? 2 : 4;
        bits = half >= 0 ? (uint64_t)half : single_bits;
    } else {
        size = 8;
        memcpy(&bits, &number, 8);
    }
    at[0] = size == 2 ? 0xF9 : size == 4 ? 0xFA : 0xFB;
    for (int i = 0; i < size; i++) {
        at[1 + i] = (unsigned char)(bits >> 8 * (size - 1 - i));
    }
    out->len += (size_t)size + 1;
}

static int encode_number(struct encoder *enc, const struct frame *frame)
{
    double number = lua_tonumber(enc->L, -1);
    if (!isfinite(number)) {
        return fail(enc, frame, ERR_INVALID, "NaN and infinities cannot be stored");
    }
    bool is_minus_zero = number == 0 && signbit(number);
    if (number == floor(number) && fabs(number) <= MAX_EXACT_INTEGER && !is_minus_zero) {
        int64_t integer = (int64_t)number;
        put_head(enc->out, integer < 0 ? 1 : 0, (uint64_t)(integer < 0 ? -(integer + 1) : integer));
    } else {
        put_float(enc->out, number);
    }
    return 0;
}

/* stack: ..., table */
static int encode_array(struct encoder *enc, const struct frame *parent, int depth, int count)
{
    lua_State *L = enc->L;
    int table = lua_gettop(L);
    put_head(enc->out, 4, (uint64_t)count);
    for (int i = 1; i <= count; i++) {
        struct frame frame = {parent, NULL, i, lua_topointer(L, table)};
        lua_rawgeti(L, table, i);
        int status = encode_value(enc, &frame, depth);
        lua_pop(L, 1);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* stack: ..., table */
static int encode_map(struct encoder *enc, const struct frame *parent, int depth)
{
    lua_State *L = enc->L;
    int table = lua_gettop(L);
    struct sorted_keys keys;
    int bad_type = LUA_TNIL;
    if (sorted_keys_init(&keys, L, table, SORTED_BY_LENGTH, &bad_type) != 0) {
        char reason[80];
        snprintf(reason, sizeof(reason), "a key is a %s, keys must be strings", lua_typename(L, bad_type));
        return fail(enc, parent, ERR_INVALID, reason);
    }
    int status = 0;
    if (keys.count > 0 && keys.items[0].text == NULL) {
        bool mixed = keys.items[keys.count - 1].text != NULL;
        status = fail(enc, parent, ERR_INVALID,
                      mixed ? "the table mixes number keys and string keys"
                            : "number keys must be 1..n without holes");
    } else {
        put_head(enc->out, 5, keys.count);
    }
    for (size_t i = 0; i < keys.count && status == 0; i++) {
        struct frame frame = {parent, keys.items[i].text, 0, lua_topointer(L, table)};
        put_text(enc->out, keys.items[i].text, keys.items[i].len);
        sorted_keys_push(&keys, i, L);
        lua_rawget(L, table);
        status = encode_value(enc, &frame, depth);
        lua_pop(L, 1);
    }
    sorted_keys_deinit(&keys);
    return status;
}

/* Number of elements when the keys are exactly 1..n (0 for an empty table), else -1. */
static int array_count(lua_State *L)
{
    int count = (int)lua_objlen(L, -1);
    int total = 0;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        bool is_number = lua_type(L, -1) == LUA_TNUMBER;
        double key = is_number ? lua_tonumber(L, -1) : 0;
        /* The length is only some border: {1, 2, nil, 4, [9] = 5} has 4 keys and may have length 4. */
        if (++total > count || !(key >= 1 && key <= count && key == (int)key)) {
            lua_pop(L, 1);
            return -1;
        }
    }
    return total == count ? count : -1;
}

static int fail_twice(struct encoder *enc, const struct frame *frame, const void *table)
{
    for (const struct frame *up = frame; up != NULL; up = up->parent) {
        if (up->table == table) {
            return fail(enc, frame, ERR_INVALID, "the table contains itself");
        }
    }
    struct buf reason;
    buf_init(&reason);
    buf_append_str(&reason, "the same table is stored twice (first at ");
    enc->wanted = table;
    enc->found = &reason;
    lua_pushvalue(enc->L, enc->root_index);
    (void)encode_value(enc, NULL, 0);
    lua_pop(enc->L, 1);
    enc->wanted = NULL;
    enc->found = NULL;
    buf_append(&reason, ")", 2); /* with the NUL */
    int status = fail(enc, frame, ERR_INVALID, reason.data);
    buf_deinit(&reason);
    return status;
}

static int enter_table(struct encoder *enc, const struct frame *frame)
{
    const void *table = lua_topointer(enc->L, -1);
    if (enc->wanted != NULL) {
        if (table == enc->wanted) {
            write_path(enc, frame, enc->found);
            return ERR_EXISTS; /* found: unwinds the search */
        }
        return 0;
    }
    return add_seen(enc, table) ? 0 : fail_twice(enc, frame, table);
}

static int encode_table(struct encoder *enc, const struct frame *frame, int depth)
{
    lua_State *L = enc->L;
    if (depth >= MAX_DEPTH || !lua_checkstack(L, 8)) {
        return fail(enc, frame, ERR_LIMIT, "nested too deeply");
    }
    int status = enter_table(enc, frame);
    if (status != 0) {
        return status;
    }
    const void *mark = json_mark_of(L, -1);
    if (mark != NULL && mark != enc->array_mark) {
        return fail(enc, frame, ERR_INVALID, "the table has a metatable");
    }
    int count = array_count(L);
    if (mark == NULL && count <= 0) {
        return encode_map(enc, frame, depth + 1);
    }
    if (count < 0) {
        return fail(enc, frame, ERR_INVALID, "an array must have the keys 1..n and no others");
    }
    if (mark != NULL) {
        put_head(enc->out, 6, TAG_ARRAY);
    }
    return encode_array(enc, frame, depth + 1, count);
}

/* Encodes the value on top of the stack and leaves it there. */
static int encode_value(struct encoder *enc, const struct frame *frame, int depth)
{
    lua_State *L = enc->L;
    int type = lua_type(L, -1);
    size_t len;
    const char *text;
    char reason[60];
    switch (type) {
    case LUA_TBOOLEAN:
        buf_append_byte(enc->out, lua_toboolean(L, -1) ? 0xF5 : 0xF4);
        return 0;
    case LUA_TNUMBER:
        return encode_number(enc, frame);
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (len > enc->max_len || enc->out->len > enc->max_len - len) {
            return fail(enc, frame, ERR_LIMIT, "the encoding is too long");
        }
        put_text(enc->out, text, len);
        return 0;
    case LUA_TTABLE:
        return encode_table(enc, frame, depth);
    case LUA_TNIL:
        buf_append_byte(enc->out, 0xF6);
        return 0;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL) {
            buf_append_byte(enc->out, 0xF6); /* JSON null; nil itself only occurs at the root */
            return 0;
        }
        break;
    default:
        break;
    }
    snprintf(reason, sizeof(reason), "a %s cannot be stored", lua_typename(L, type));
    return fail(enc, frame, ERR_INVALID, reason);
}

int cbor_encode(lua_State *L, int idx, const char *root, size_t max_bytes, struct buf *out, struct err *err)
{
    struct encoder enc = {.L = L, .out = out, .err = err, .root = root, .max_len = out->len + max_bytes};
    if (!lua_checkstack(L, 10)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    enc.seen = enc.seen_inline;
    enc.seen_cap = SEEN_INLINE;
    enc.array_mark = json_mark_id(L, JSON_MARK_ARRAY);
    lua_pushvalue(L, idx);
    enc.root_index = lua_gettop(L);
    int status = encode_value(&enc, NULL, 0);
    lua_settop(L, -2);
    if (enc.seen != enc.seen_inline) {
        free(enc.seen);
    }
    return status;
}
