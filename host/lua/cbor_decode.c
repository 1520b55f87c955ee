/* Decoder of cbor.h: the subset that the encoder writes, plus longer forms of the same values.
 * Lengths are checked against the bytes that are left before anything is allocated. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "lua/cbor.h"
#include "lua/json_mark.h"

#define MAX_DEPTH 64
#define MAX_EXACT_INTEGER 9007199254740992u
#define PREALLOCATE 4096
#define TAG_ARRAY 41

struct decoder {
    lua_State *L;
    const unsigned char *start;
    const unsigned char *at;
    const unsigned char *end;
    int array_mark; /* stack index of the mark's metatable */
    struct err *err;
};

static int decode_value(struct decoder *dec, int depth);

static int fail(struct decoder *dec, const char *reason)
{
    return err_set(dec->err, ERR_CORRUPT, "CBOR at byte %zu: %s", (size_t)(dec->at - dec->start), reason);
}

static bool take_big_endian(struct decoder *dec, size_t size, uint64_t *value)
{
    if ((size_t)(dec->end - dec->at) < size) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < size; i++) {
        *value = *value << 8 | *dec->at++;
    }
    return true;
}

/* The argument behind an initial byte with this additional information. */
static int take_argument(struct decoder *dec, unsigned info, uint64_t *value)
{
    *value = info;
    if (info < 24) {
        return 0;
    }
    if (info > 27) {
        return fail(dec, "indefinite lengths are not used");
    }
    return take_big_endian(dec, (size_t)1 << (info - 24), value) ? 0 : fail(dec, "it ends too early");
}

static double half_value(uint64_t bits)
{
    int exponent = (int)(bits >> 10 & 0x1F);
    double mantissa = (double)(bits & 0x3FF);
    double value = exponent == 0    ? ldexp(mantissa, -24)
                   : exponent == 31 ? (mantissa == 0 ? INFINITY : NAN)
                                    : ldexp(mantissa + 1024, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

static int decode_simple(struct decoder *dec, unsigned info)
{
    if (info == 20 || info == 21) {
        lua_pushboolean(dec->L, info == 21);
        return 0;
    }
    if (info == 22) {
        lua_pushlightuserdata(dec->L, NULL);
        return 0;
    }
    uint64_t bits;
    double value;
    if (info < 25 || info > 27) {
        return fail(dec, "unknown simple value");
    }
    if (!take_big_endian(dec, (size_t)1 << (info - 24), &bits)) {
        return fail(dec, "it ends too early");
    }
    if (info == 25) {
        value = half_value(bits);
    } else if (info == 26) {
        uint32_t single_bits = (uint32_t)bits;
        float single;
        memcpy(&single, &single_bits, 4);
        value = single;
    } else {
        memcpy(&value, &bits, 8);
    }
    if (!isfinite(value)) {
        return fail(dec, "a number is not finite");
    }
    lua_pushnumber(dec->L, value);
    return 0;
}

static int decode_string(struct decoder *dec, unsigned major, uint64_t len)
{
    if (len > (uint64_t)(dec->end - dec->at)) {
        return fail(dec, "it ends too early");
    }
    const char *text = (const char *)dec->at;
    if (major == 3 && !utf8_is_valid(text, (size_t)len, NULL)) {
        return fail(dec, "a text is not valid UTF-8");
    }
    lua_pushlstring(dec->L, text, (size_t)len);
    dec->at += len;
    return 0;
}

static int decode_array(struct decoder *dec, uint64_t count, int depth)
{
    lua_State *L = dec->L;
    if (count > (uint64_t)(dec->end - dec->at)) {
        return fail(dec, "it ends too early");
    }
    lua_createtable(L, count > PREALLOCATE ? PREALLOCATE : (int)count, 0);
    for (uint64_t i = 1; i <= count; i++) {
        int status = decode_value(dec, depth);
        if (status != 0) {
            return status;
        }
        lua_rawseti(L, -2, (int)i);
    }
    return 0;
}

static int decode_map(struct decoder *dec, uint64_t count, int depth)
{
    lua_State *L = dec->L;
    if (count > (uint64_t)(dec->end - dec->at) / 2) {
        return fail(dec, "it ends too early");
    }
    lua_createtable(L, 0, count > PREALLOCATE ? PREALLOCATE : (int)count);
    for (uint64_t i = 0; i < count; i++) {
        if (dec->at < dec->end && *dec->at >> 5 != 2 && *dec->at >> 5 != 3) {
            return fail(dec, "a map key is not a string");
        }
        int status = decode_value(dec, depth);
        if (status != 0) {
            return status;
        }
        status = decode_value(dec, depth);
        if (status != 0) {
            return status;
        }
        lua_rawset(L, -3);
    }
    return 0;
}

static int decode_tagged(struct decoder *dec, uint64_t tag, int depth)
{
    if (tag != TAG_ARRAY || dec->at >= dec->end || *dec->at >> 5 != 4) {
        return fail(dec, "unknown tag");
    }
    int status = decode_value(dec, depth);
    if (status == 0) {
        lua_pushvalue(dec->L, dec->array_mark);
        lua_setmetatable(dec->L, -2);
    }
    return status;
}

static int decode_value(struct decoder *dec, int depth)
{
    if (dec->at >= dec->end) {
        return fail(dec, "it ends too early");
    }
    unsigned major = *dec->at >> 5;
    unsigned info = *dec->at & 31;
    dec->at++;
    if (major == 7) {
        return decode_simple(dec, info);
    }
    uint64_t value;
    int status = take_argument(dec, info, &value);
    if (status != 0) {
        return status;
    }
    if (major >= 4 && (depth >= MAX_DEPTH || !lua_checkstack(dec->L, 8))) {
        return fail(dec, "nested too deeply");
    }
    switch (major) {
    case 0:
    case 1:
        if (value > MAX_EXACT_INTEGER) {
            return fail(dec, "an integer is too large");
        }
        lua_pushnumber(dec->L, major == 0 ? (lua_Number)value : -1 - (lua_Number)value);
        return 0;
    case 2:
    case 3:
        return decode_string(dec, major, value);
    case 4:
        return decode_array(dec, value, depth + 1);
    case 5:
        return decode_map(dec, value, depth + 1);
    default:
        return decode_tagged(dec, value, depth);
    }
}

int cbor_decode(lua_State *L, const char *data, size_t len, struct err *err)
{
    struct decoder dec = {
        .L = L,
        .start = (const unsigned char *)data,
        .at = (const unsigned char *)data,
        .end = (const unsigned char *)data + len,
        .err = err,
    };
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 10)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    json_mark_push(L, JSON_MARK_ARRAY);
    dec.array_mark = lua_gettop(L);
    int status = decode_value(&dec, 0);
    if (status == 0 && dec.at < dec.end) {
        status = fail(&dec, "bytes follow the value");
    }
    if (status != 0) {
        lua_settop(L, top);
        return status;
    }
    lua_remove(L, dec.array_mark);
    return 0;
}
