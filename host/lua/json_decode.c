/* Recursive descent that builds the Lua value on the stack as it reads. lua-cjson is not used here:
 * it cannot tell an empty array from an empty object, checks no UTF-8 and accepts lone surrogates.
 */
#include "lua/json_decode.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "lua/json_mark.h"

#define DEFAULT_DEPTH 64
#define FIRST_ROOM 4 /* members of a new table: saves the first two rehashes */

struct decoder {
    lua_State *L;
    const char *text;
    const char *at;
    const char *end; /* *end is NUL */
    int max_depth;
    bool unique;    /* equal keys in one object are an error */
    int array_mark; /* stack index of the mark's metatable */
    struct buf *scratch;
    struct err *err;
};

static int decode_value(struct decoder *dec, int depth);

static int fail_at(struct decoder *dec, const char *at, int code, const char *reason)
{
    int line = 1;
    const char *line_start = dec->text;
    for (const char *p = dec->text; p < at; p++) {
        if (*p == '\n') {
            line++;
            line_start = p + 1;
        }
    }
    return err_set(dec->err, code, "line %d, column %d: %s", line, (int)(at - line_start) + 1, reason);
}

static int fail(struct decoder *dec, const char *reason)
{
    if (dec->at >= dec->end) {
        return fail_at(dec, dec->end, ERR_INVALID, "the text ends too early");
    }
    return fail_at(dec, dec->at, ERR_INVALID, reason);
}

static void skip_space(struct decoder *dec)
{
    while (*dec->at == ' ' || *dec->at == '\n' || *dec->at == '\r' || *dec->at == '\t') {
        dec->at++;
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int decode_number(struct decoder *dec)
{
    const char *start = dec->at;
    const char *p = start;
    bool negative = *p == '-';
    p += negative;
    const char *digits = p;
    if (!is_digit(*p)) {
        dec->at = p;
        return fail(dec, negative ? "a digit must follow '-'" : "a value is expected");
    }
    double value = 0;
    if (*p == '0') {
        p++;
    } else {
        while (is_digit(*p)) {
            value = value * 10 + (*p - '0'); /* exact for up to 15 digits */
            p++;
        }
    }
    bool is_exact = p - digits <= 15;
    if (*p == '.') {
        is_exact = false;
        p++;
        if (!is_digit(*p)) {
            dec->at = p;
            return fail(dec, "a digit must follow '.'");
        }
        while (is_digit(*p)) {
            p++;
        }
    }
    if (*p == 'e' || *p == 'E') {
        is_exact = false;
        p++;
        p += *p == '+' || *p == '-';
        if (!is_digit(*p)) {
            dec->at = p;
            return fail(dec, "a digit must follow the exponent");
        }
        while (is_digit(*p)) {
            p++;
        }
    }
    if (is_exact) {
        value = negative ? -value : value;
    } else {
        value = strtod(start, NULL); /* stops at p: the grammar above is a subset of its own */
        if (!isfinite(value)) {
            return fail(dec, "the number is out of range");
        }
    }
    dec->at = p;
    lua_pushnumber(dec->L, value);
    return 0;
}

/* Four hexadecimal digits at p; -1 if they are not. */
static int hex4(const char *p)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit;
        if (is_digit(c)) {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = c - 'A' + 10;
        } else {
            return -1; /* also at the NUL behind the text, so nothing is read beyond it */
        }
        value = value * 16 + digit;
    }
    return value;
}

/* dec->at is behind "\u". */
static int decode_unicode(struct decoder *dec)
{
    int unit = hex4(dec->at);
    if (unit < 0) {
        return fail(dec, "four hexadecimal digits must follow \\u");
    }
    unsigned code = (unsigned)unit;
    const char *next = dec->at + 4;
    if (unit >= 0xD800 && unit <= 0xDFFF) {
        int low = unit < 0xDC00 && next[0] == '\\' && next[1] == 'u' ? hex4(next + 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return fail(dec, "a lone surrogate is not a character");
        }
        code = 0x10000 + (((unsigned)unit & 0x3FF) << 10) + ((unsigned)low & 0x3FF);
        next += 6;
    }
    char *out = buf_reserve(dec->scratch, 4);
    dec->scratch->len += utf8_put(out, code);
    dec->at = next;
    return 0;
}

static int decode_escape(struct decoder *dec)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char bytes[] = "\"\\/\b\f\n\r\t";
    dec->at++; /* the backslash */
    char letter = *dec->at;
    if (letter == 'u') {
        dec->at++;
        return decode_unicode(dec);
    }
    const char *found = letter == '\0' ? NULL : strchr(letters, letter);
    if (found == NULL) {
        return fail(dec, "unknown escape");
    }
    buf_append_byte(dec->scratch, (unsigned char)bytes[found - letters]);
    dec->at++;
    return 0;
}

static const char *plain_end(const char *p)
{
    while ((unsigned char)*p >= 0x20 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
}

/* dec->at is on the opening quote. Pushes the string. */
static int decode_string(struct decoder *dec)
{
    dec->at++;
    const char *stop = plain_end(dec->at);
    if (*stop == '"') {
        lua_pushlstring(dec->L, dec->at, (size_t)(stop - dec->at));
        dec->at = stop + 1;
        return 0;
    }
    buf_clear(dec->scratch);
    for (;;) {
        buf_append(dec->scratch, dec->at, (size_t)(stop - dec->at));
        dec->at = stop;
        if (*stop == '"') {
            break;
        }
        if (*stop != '\\') {
            return fail(dec, "a control character must be escaped in a string");
        }
        int status = decode_escape(dec);
        if (status != 0) {
            return status;
        }
        stop = plain_end(dec->at);
    }
    dec->at++;
    lua_pushlstring(dec->L, dec->scratch->data == NULL ? "" : dec->scratch->data, dec->scratch->len);
    return 0;
}

static int decode_array(struct decoder *dec, int depth)
{
    lua_State *L = dec->L;
    dec->at++;
    skip_space(dec);
    lua_createtable(L, *dec->at == ']' ? 0 : FIRST_ROOM, 0);
    lua_pushvalue(L, dec->array_mark);
    lua_setmetatable(L, -2);
    if (*dec->at == ']') {
        dec->at++;
        return 0;
    }
    for (int index = 1;; index++) {
        int status = decode_value(dec, depth);
        if (status != 0) {
            return status;
        }
        lua_rawseti(L, -2, index);
        skip_space(dec);
        if (*dec->at == ']') {
            dec->at++;
            return 0;
        }
        if (*dec->at != ',') {
            return fail(dec, "',' or ']' is expected");
        }
        dec->at++;
    }
}

/* stack: object, key */
static bool has_key(lua_State *L)
{
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    bool found = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return found;
}

static int decode_member(struct decoder *dec, int depth)
{
    skip_space(dec);
    if (*dec->at != '"') {
        return fail(dec, "a member name in quotes is expected");
    }
    const char *key_at = dec->at;
    int status = decode_string(dec);
    if (status != 0) {
        return status;
    }
    if (dec->unique && has_key(dec->L)) {
        return fail_at(dec, key_at, ERR_INVALID, "this member is there twice");
    }
    skip_space(dec);
    if (*dec->at != ':') {
        return fail(dec, "':' is expected");
    }
    dec->at++;
    status = decode_value(dec, depth);
    if (status != 0) {
        return status;
    }
    lua_rawset(dec->L, -3);
    return 0;
}

static int decode_object(struct decoder *dec, int depth)
{
    dec->at++;
    skip_space(dec);
    lua_createtable(dec->L, 0, *dec->at == '}' ? 0 : FIRST_ROOM);
    if (*dec->at == '}') {
        dec->at++;
        return 0;
    }
    for (;;) {
        int status = decode_member(dec, depth);
        if (status != 0) {
            return status;
        }
        skip_space(dec);
        if (*dec->at == '}') {
            dec->at++;
            return 0;
        }
        if (*dec->at != ',') {
            return fail(dec, "',' or '}' is expected");
        }
        dec->at++;
    }
}

static int decode_word(struct decoder *dec)
{
    lua_State *L = dec->L;
    if (strncmp(dec->at, "true", 4) == 0) {
        lua_pushboolean(L, 1);
        dec->at += 4;
    } else if (strncmp(dec->at, "false", 5) == 0) {
        lua_pushboolean(L, 0);
        dec->at += 5;
    } else if (strncmp(dec->at, "null", 4) == 0) {
        lua_pushlightuserdata(L, NULL);
        dec->at += 4;
    } else {
        return fail(dec, "a value is expected");
    }
    return 0;
}

static int decode_value(struct decoder *dec, int depth)
{
    skip_space(dec);
    char c = *dec->at;
    if (c == '"') {
        return decode_string(dec);
    }
    if (c == '{' || c == '[') {
        if (depth >= dec->max_depth) {
            return fail_at(dec, dec->at, ERR_LIMIT, "nested too deeply");
        }
        if (!lua_checkstack(dec->L, 8)) {
            return fail_at(dec, dec->at, ERR_LIMIT, "no stack left");
        }
        return c == '{' ? decode_object(dec, depth + 1) : decode_array(dec, depth + 1);
    }
    if (c == 't' || c == 'f' || c == 'n') {
        return decode_word(dec);
    }
    return decode_number(dec);
}

int json_decode(lua_State *L, const char *text, size_t len, const struct json_decode_opts *opts,
                struct buf *scratch, struct err *err)
{
    struct decoder dec = {
        .L = L,
        .text = text,
        .at = text,
        .end = text + len,
        .max_depth = opts != NULL && opts->max_depth > 0 ? opts->max_depth : DEFAULT_DEPTH,
        .unique = opts != NULL && opts->unique,
        .scratch = scratch,
        .err = err,
    };
    int top = lua_gettop(L);
    size_t bad_at;
    if (!utf8_is_valid(text, len, &bad_at)) {
        return fail_at(&dec, text + bad_at, ERR_INVALID, "the text is not valid UTF-8");
    }
    if (!lua_checkstack(L, 10)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    json_mark_push(L, JSON_MARK_ARRAY);
    dec.array_mark = lua_gettop(L);
    int status = decode_value(&dec, 0);
    if (status == 0) {
        skip_space(&dec);
        if (dec.at < dec.end) {
            status = fail(&dec, "nothing may follow the value");
        }
    }
    if (status != 0) {
        lua_settop(L, top);
        return status;
    }
    lua_remove(L, dec.array_mark);
    return 0;
}
