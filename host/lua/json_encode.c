/* Straight recursion over raw values (no metamethods). Members are found with lua_next, or through
 * sorted_keys when the order matters. */
#include "lua/json_encode.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "lua/json_mark.h"
#include "lua/sorted_keys.h"

#define DEFAULT_DEPTH 64
#define DEFAULT_MAX_BYTES ((size_t)256 << 20)
#define PIECE 4096
#define MAX_EXACT_INTEGER 9007199254740992.0

struct frame {
    const struct frame *parent;
    const char *name; /* NULL: an array element or a number key */
    double index;
};

struct encoder {
    lua_State *L;
    struct buf *out;
    struct err *err;
    size_t max_len;
    int max_depth;
    bool sorted;
    bool pretty;
    const void *marks[JSON_MARK_COUNT];
};

static int encode_value(struct encoder *enc, int depth, const struct frame *frame);

static inline void put_byte(struct buf *out, char byte)
{
    char *at = out->len < out->cap ? out->data + out->len : buf_reserve(out, 1);
    *at = byte;
    out->len++;
}

static void describe_path(const struct frame *frame, struct buf *path)
{
    if (frame == NULL) {
        return;
    }
    describe_path(frame->parent, path);
    if (frame->name == NULL) {
        buf_printf(path, "[%.17g]", frame->index);
    } else {
        buf_printf(path, "%s%.60s", path->len > 0 ? "." : "", frame->name);
    }
}

static int fail(struct encoder *enc, int code, const struct frame *frame, const char *reason)
{
    struct buf path;
    buf_init(&path);
    describe_path(frame, &path);
    if (path.len == 0) {
        err_set(enc->err, code, "%s", reason);
    } else {
        err_set(enc->err, code, "%.*s: %s", path.len > 120 ? 120 : (int)path.len, path.data, reason);
    }
    buf_deinit(&path);
    return code;
}

static int fail_type(struct encoder *enc, const struct frame *frame, const char *what, int type)
{
    char reason[80];
    snprintf(reason, sizeof(reason), "%s %s has no JSON form", what, lua_typename(enc->L, type));
    return fail(enc, ERR_INVALID, frame, reason);
}

static size_t put_integer(char *out, double number)
{
    char digits[24];
    size_t count = 0;
    size_t len = 0;
    uint64_t rest = (uint64_t)fabs(number);
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        out[len++] = '-';
    }
    while (count > 0) {
        out[len++] = digits[--count];
    }
    return len;
}

/* Appends a finite number. */
static void put_number(struct buf *out, double number)
{
    char *at = buf_reserve(out, 40);
    if (number == floor(number) && fabs(number) <= MAX_EXACT_INTEGER) {
        out->len += put_integer(at, number);
        return;
    }
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(at, 40, "%.*g", digits, number);
        if (strtod(at, NULL) == number) {
            break;
        }
    }
    out->len += (size_t)len;
}

/* Writes the escape of one byte below 0x20, '"' or '\\'. */
static char *put_escape(char *at, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    static const char shorts[] = "\b\t\n\f\r\"\\";
    static const char letters[] = "btnfr\"\\";
    *at++ = '\\';
    const char *found = byte == 0 ? NULL : strchr(shorts, byte);
    if (found != NULL) {
        *at++ = letters[found - shorts];
        return at;
    }
    at[0] = 'u';
    at[1] = '0';
    at[2] = '0';
    at[3] = hex[byte >> 4];
    at[4] = hex[byte & 15];
    return at + 5;
}

/* Room for the worst case (six bytes for one) is reserved per piece, so the loop writes unchecked.
 */
static void put_text(struct buf *out, const char *text, size_t len)
{
    while (len > 0) {
        size_t piece = len < PIECE ? len : PIECE;
        char *start = buf_reserve(out, piece * 6);
        char *at = start;
        for (size_t i = 0; i < piece; i++) {
            unsigned char byte = (unsigned char)text[i];
            if (byte >= 0x20 && byte != '"' && byte != '\\') {
                *at++ = (char)byte;
            } else {
                at = put_escape(at, byte);
            }
        }
        out->len += (size_t)(at - start);
        text += piece;
        len -= piece;
    }
}

/* Bytes that stand for themselves: printable ASCII without quote and backslash. */
static size_t plain_len(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (signed char)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\') {
        i++; /* bytes from 0x80 on are negative and stop it, too */
    }
    return i;
}

/* Appends text as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD. */
static void put_string(struct buf *out, const char *text, size_t len)
{
    size_t plain = plain_len(text, len);
    char *at = buf_reserve(out, plain + 2);
    at[0] = '"';
    memcpy(at + 1, text, plain);
    out->len += plain + 1;
    if (plain == len) {
        at[plain + 1] = '"';
        out->len++;
        return;
    }
    text += plain;
    len -= plain;
    size_t bad_at;
    while (!utf8_is_valid(text, len, &bad_at)) {
        put_text(out, text, bad_at);
        buf_append(out, "\xEF\xBF\xBD", 3);
        text += bad_at + 1;
        len -= bad_at + 1;
    }
    put_text(out, text, len);
    put_byte(out, '"');
}

static void new_line(struct encoder *enc, int depth)
{
    if (enc->pretty) {
        size_t width = (size_t)depth * 2;
        char *at = buf_reserve(enc->out, width + 1);
        at[0] = '\n';
        memset(at + 1, ' ', width);
        enc->out->len += width + 1;
    }
}

/* stack: ..., array */
static int encode_array(struct encoder *enc, int depth, const struct frame *parent)
{
    lua_State *L = enc->L;
    int array = lua_gettop(L);
    size_t count = lua_objlen(L, array);
    put_byte(enc->out, '[');
    for (size_t i = 1; i <= count; i++) {
        struct frame frame = {.parent = parent, .index = (double)i};
        if (i > 1) {
            put_byte(enc->out, ',');
        }
        new_line(enc, depth);
        lua_rawgeti(L, array, (int)i);
        int status = encode_value(enc, depth, &frame);
        lua_pop(L, 1);
        if (status != 0) {
            return status;
        }
    }
    /* Anything the traversal still finds behind the last element would be lost silently. */
    if (count > 0) {
        lua_pushnumber(L, (lua_Number)count);
    } else {
        lua_pushnil(L);
    }
    if (lua_next(L, array) != 0) {
        int type = lua_type(L, -2);
        bool stray = type != LUA_TNUMBER || lua_tonumber(L, -2) > (double)count || lua_tonumber(L, -2) < 1;
        lua_pop(L, 2);
        if (stray) {
            return fail(enc, ERR_INVALID, parent, "an array with other keys has no JSON form");
        }
    }
    if (count > 0) {
        new_line(enc, depth - 1);
    }
    put_byte(enc->out, ']');
    return 0;
}

/* stack: ..., value; the key is text, or number when text is NULL. Pops nothing. */
static int encode_member(struct encoder *enc, int depth, const struct frame *parent, const char *text,
                         size_t len, double number, bool first)
{
    struct frame frame = {.parent = parent, .name = text, .index = number};
    if (!first) {
        put_byte(enc->out, ',');
    }
    new_line(enc, depth);
    if (text != NULL) {
        put_string(enc->out, text, len);
    } else {
        put_byte(enc->out, '"');
        put_number(enc->out, number);
        put_byte(enc->out, '"');
    }
    put_byte(enc->out, ':');
    if (enc->pretty) {
        put_byte(enc->out, ' ');
    }
    return encode_value(enc, depth, &frame);
}

static int encode_sorted(struct encoder *enc, int depth, const struct frame *parent, size_t *count)
{
    lua_State *L = enc->L;
    int object = lua_gettop(L);
    struct sorted_keys keys;
    int bad_type = LUA_TNIL;
    if (sorted_keys_init(&keys, L, object, SORTED_BY_BYTES, &bad_type) != 0) {
        return fail_type(enc, parent, "a key of type", bad_type);
    }
    int status = 0;
    *count = keys.count;
    for (size_t i = 0; i < keys.count && status == 0; i++) {
        const struct sorted_key *key = &keys.items[i];
        sorted_keys_push(&keys, i, L);
        lua_rawget(L, object);
        status = encode_member(enc, depth, parent, key->text, key->len, key->number, i == 0);
        lua_pop(L, 1);
    }
    sorted_keys_deinit(&keys);
    return status;
}

static int encode_unsorted(struct encoder *enc, int depth, const struct frame *parent, size_t *count)
{
    lua_State *L = enc->L;
    int object = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, object) != 0) {
        /* stack: object, key, value; the key must stay as it is for lua_next */
        int type = lua_type(L, -2);
        int status;
        if (type == LUA_TSTRING) {
            size_t len;
            const char *text = lua_tolstring(L, -2, &len);
            status = encode_member(enc, depth, parent, text, len, 0, *count == 0);
        } else if (type == LUA_TNUMBER) {
            status = encode_member(enc, depth, parent, NULL, 0, lua_tonumber(L, -2), *count == 0);
        } else {
            status = fail_type(enc, parent, "a key of type", type);
        }
        lua_pop(L, 1);
        if (status != 0) {
            lua_pop(L, 1);
            return status;
        }
        (*count)++;
    }
    return 0;
}

static int encode_object(struct encoder *enc, int depth, const struct frame *parent)
{
    size_t count = 0;
    put_byte(enc->out, '{');
    int status =
        enc->sorted ? encode_sorted(enc, depth, parent, &count) : encode_unsorted(enc, depth, parent, &count);
    if (status != 0) {
        return status;
    }
    if (count > 0) {
        new_line(enc, depth - 1);
    }
    put_byte(enc->out, '}');
    return 0;
}

static int encode_table(struct encoder *enc, int depth, const struct frame *frame)
{
    lua_State *L = enc->L;
    if (depth >= enc->max_depth) {
        return fail(enc, ERR_LIMIT, frame, "nested too deeply (or a cycle)");
    }
    if (!lua_checkstack(L, 8)) {
        return fail(enc, ERR_LIMIT, frame, "no stack left");
    }
    const void *mark = json_mark_of(L, -1);
    if (mark != NULL && mark == enc->marks[JSON_MARK_RAW]) {
        lua_rawgeti(L, -1, 1);
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        buf_append(enc->out, text, len);
        lua_pop(L, 1);
        return 0;
    }
    bool is_array = mark != NULL && mark == enc->marks[JSON_MARK_ARRAY];
    if (!is_array && mark != enc->marks[JSON_MARK_OBJECT]) {
        is_array = lua_objlen(L, -1) > 0;
    }
    return is_array ? encode_array(enc, depth + 1, frame) : encode_object(enc, depth + 1, frame);
}

static int encode_number(struct encoder *enc, const struct frame *frame)
{
    double number = lua_tonumber(enc->L, -1);
    if (!isfinite(number)) {
        return fail(enc, ERR_INVALID, frame, "NaN and infinities have no JSON form");
    }
    put_number(enc->out, number);
    return 0;
}

/* Encodes the value on top of the stack and leaves it there. depth is the nesting so far. */
static int encode_value(struct encoder *enc, int depth, const struct frame *frame)
{
    lua_State *L = enc->L;
    if (enc->out->len > enc->max_len) {
        return fail(enc, ERR_LIMIT, frame, "the text is too long");
    }
    int type = lua_type(L, -1);
    size_t len;
    const char *text;
    switch (type) {
    case LUA_TNIL:
        buf_append(enc->out, "null", 4);
        return 0;
    case LUA_TBOOLEAN:
        buf_append_str(enc->out, lua_toboolean(L, -1) ? "true" : "false");
        return 0;
    case LUA_TNUMBER:
        return encode_number(enc, frame);
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        put_string(enc->out, text, len);
        return 0;
    case LUA_TTABLE:
        return encode_table(enc, depth, frame);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL) {
            buf_append(enc->out, "null", 4);
            return 0;
        }
        return fail_type(enc, frame, "a", type);
    default:
        return fail_type(enc, frame, "a", type);
    }
}

int json_encode(lua_State *L, int idx, const struct json_encode_opts *opts, struct buf *out, struct err *err)
{
    static const struct json_encode_opts none = {0};
    opts = opts == NULL ? &none : opts;
    if (!lua_checkstack(L, 8)) {
        return err_set(err, ERR_LIMIT, "no stack left");
    }
    size_t max_bytes = opts->max_bytes > 0 ? opts->max_bytes : DEFAULT_MAX_BYTES;
    struct encoder enc = {
        .L = L,
        .out = out,
        .err = err,
        .max_len = out->len + max_bytes,
        .max_depth = opts->max_depth > 0 ? opts->max_depth : DEFAULT_DEPTH,
        .sorted = opts->sorted,
        .pretty = opts->pretty,
    };
    for (int i = 0; i < JSON_MARK_COUNT; i++) {
        enc.marks[i] = json_mark_id(L, (enum json_mark)i);
    }
    lua_pushvalue(L, idx);
    int status = encode_value(&enc, 0, NULL);
    lua_settop(L, -2);
    return status;
}
