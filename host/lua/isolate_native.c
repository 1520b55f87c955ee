/* The `native` table of trusted code: what Lua alone cannot do fast or at all. Failures return nil,
 * message; wrong argument types raise. Work is charged to the budget by size.
 *
 *   compile(text, chunk_name, env) -> function | nil, message      text only; "@" is put before a
 * bare chunk name sha256_hex(s)  hex(s)  base64_encode(s)  base64_decode(s) -> s | nil, message
 * utf8_valid(s) -> bool json_encode(value [, sorted]) -> text | nil, message json_decode(text [,
 * max_depth]) -> value | nil, message cbor_encode(value [, root]) -> bytes | nil, message
 * cbor_decode(bytes) -> value | nil, message array(t) -> t, marked as a JSON array      is_array(t)
 * -> bool      null: JSON null sorted_keys(t) -> array of keys            pairs(t) -> iterator in
 * key order, over the keys t has now codec(name, fields) -> { decode, encode }  see isolate_codec.c
 *   find, match, gmatch, gsub: as in string    instructions_left() -> number (math.huge without a
 * budget)
 */
#include <math.h>
#include <string.h>

#include <lauxlib.h>

#include "base/utf8.h"
#include "crypto/digest.h"
#include "crypto/encode.h"
#include "lua/cbor.h"
#include "lua/isolate_inside.h"
#include "lua/json_decode.h"
#include "lua/json_encode.h"
#include "lua/json_mark.h"
#include "lua/sorted_keys.h"

#define MAX_CHUNK ((size_t)1 << 20)
#define MAX_DOCUMENT ((size_t)16 << 20) /* text or bytes of one encoded value */
#define MAX_STATE ((size_t)64 << 20)
#define BYTES_PER_INSTRUCTION 16

static void charge_bytes(lua_State *L, size_t len)
{
    isolate_charge(L, len / BYTES_PER_INSTRUCTION);
}

static int return_error(lua_State *L, const char *message)
{
    isolate_restore_cap(isolate_of(L));
    lua_pushnil(L);
    lua_pushstring(L, message);
    return 2;
}

/* Pushes the bytes, gives the cap back and charges for them. */
static int return_bytes(lua_State *L, const struct buf *buf)
{
    lua_pushlstring(L, buf->data == NULL ? "" : buf->data, buf->len);
    isolate_restore_cap(isolate_of(L));
    charge_bytes(L, buf->len);
    return 1;
}

static int l_compile(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *name = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_argcheck(L, len <= MAX_CHUNK, 1, "the text is too long");
    isolate_charge(L, len / 2);
    if (*name != '@' && *name != '=') {
        name = lua_pushfstring(L, "@%s", name);
    }
    if (luaL_loadbufferx(L, text, len, name, "t") != 0) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, 3);
    lua_setfenv(L, -2);
    return 1;
}

static int l_sha256_hex(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    charge_bytes(L, len);
    unsigned char hash[DIGEST_SHA256_LEN];
    struct err err;
    struct isolate *isolate = isolate_of(L);
    if (digest_sha256(isolate->digest, data, len, hash, &err) != 0) {
        return luaL_error(L, "%s", err.text);
    }
    struct buf *out = isolate_scratch(isolate);
    encode_hex(out, hash, sizeof(hash));
    return return_bytes(L, out);
}

static int l_hex(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, len <= ISOLATE_MAX_STRING, 1, "the string is too long");
    struct buf *out = isolate_scratch(isolate_of(L));
    encode_hex(out, data, len);
    return return_bytes(L, out);
}

static int l_base64_encode(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, len <= MAX_DOCUMENT, 1, "the string is too long");
    struct buf *out = isolate_scratch(isolate_of(L));
    encode_base64(out, data, len, ENCODE_BASE64);
    return return_bytes(L, out);
}

static int l_base64_decode(lua_State *L)
{
    size_t len;
    size_t bad_at;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *out = isolate_scratch(isolate_of(L));
    if (!encode_unbase64(out, text, len, ENCODE_BASE64, &bad_at)) {
        charge_bytes(L, len);
        lua_pushnil(L);
        lua_pushfstring(L, "not base64 (at byte %d)", (int)bad_at + 1);
        return 2;
    }
    return return_bytes(L, out);
}

static int l_utf8_valid(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    isolate_charge(L, len / 64);
    lua_pushboolean(L, utf8_is_valid(text, len, NULL));
    return 1;
}

static int l_json_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    struct isolate *isolate = isolate_of(L);
    struct buf *out = isolate_scratch(isolate);
    struct json_encode_opts opts = {.sorted = lua_toboolean(L, 2), .max_bytes = MAX_DOCUMENT};
    struct err err;
    isolate_lift_cap(isolate);
    if (json_encode(L, 1, &opts, out, &err) != 0) {
        return return_error(L, err.text);
    }
    return return_bytes(L, out);
}

static int l_json_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct json_decode_opts opts = {.max_depth = luaL_optint(L, 2, 0)};
    luaL_argcheck(L, len <= MAX_DOCUMENT, 1, "the text is too long");
    charge_bytes(L, len);
    struct err err;
    /* Under the cap: a short text may stand for a large value, and nothing leaks when memory runs
     * out here. */
    if (json_decode(L, text, len, &opts, isolate_scratch(isolate_of(L)), &err) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    return 1;
}

static int l_cbor_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    const char *root = luaL_optstring(L, 2, "state");
    struct isolate *isolate = isolate_of(L);
    struct buf *out = isolate_scratch(isolate);
    struct err err;
    isolate_lift_cap(isolate);
    if (cbor_encode(L, 1, root, MAX_STATE, out, &err) != 0) {
        return return_error(L, err.text);
    }
    return return_bytes(L, out);
}

static int l_cbor_decode(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    charge_bytes(L, len);
    struct err err;
    if (cbor_decode(L, data, len, &err) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    return 1;
}

static int l_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    json_mark_set(L, JSON_MARK_ARRAY);
    return 1;
}

static int l_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_istable(L, 1) && json_mark_has(L, 1, JSON_MARK_ARRAY));
    return 1;
}

static int push_sorted_keys(lua_State *L)
{
    struct isolate *isolate = isolate_of(L);
    struct sorted_keys keys;
    int bad_type = LUA_TNIL;
    isolate_lift_cap(isolate);
    if (sorted_keys_init(&keys, L, 1, SORTED_BY_BYTES, &bad_type) != 0) {
        isolate_restore_cap(isolate);
        return luaL_error(L, "keys must be numbers or strings, not a %s", lua_typename(L, bad_type));
    }
    size_t count = keys.count;
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        sorted_keys_push(&keys, i, L);
        lua_rawseti(L, -2, (int)i + 1);
    }
    sorted_keys_deinit(&keys);
    isolate_restore_cap(isolate);
    isolate_charge(L, count < 2 ? count : (size_t)((double)count * log2((double)count) / 2));
    return 1;
}

static int l_sorted_keys(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return push_sorted_keys(L);
}

/* upvalues: array of keys (false: the keys are 1..count), position, count. Arguments: table, last
 * key */
static int pairs_next(lua_State *L)
{
    int position = (int)lua_tointeger(L, lua_upvalueindex(2));
    int count = (int)lua_tointeger(L, lua_upvalueindex(3));
    bool is_array = !lua_istable(L, lua_upvalueindex(1));
    while (position < count) {
        position++;
        if (is_array) {
            lua_pushinteger(L, position);
            lua_rawgeti(L, 1, position);
        } else {
            lua_rawgeti(L, lua_upvalueindex(1), position);
            lua_pushvalue(L, -1);
            lua_rawget(L, 1);
        }
        if (!lua_isnil(L, -1)) { /* else removed by the body of the loop */
            lua_pushinteger(L, position);
            lua_replace(L, lua_upvalueindex(2));
            return 2;
        }
        lua_pop(L, 2);
    }
    return 0;
}

static bool is_sequence(lua_State *L, int idx, int count)
{
    int total = 0;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        lua_pop(L, 1);
        bool is_number = lua_type(L, -1) == LUA_TNUMBER;
        double key = is_number ? lua_tonumber(L, -1) : 0;
        /* The length is only some border. */
        if (++total > count || !(key >= 1 && key <= count && key == (int)key)) {
            lua_pop(L, 1);
            return false;
        }
    }
    return total == count;
}

static int l_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    int count = (int)lua_objlen(L, 1);
    isolate_charge(L, (size_t)count / 8);
    if (is_sequence(L, 1, count)) {
        lua_pushboolean(L, 0);
    } else {
        (void)push_sorted_keys(L);
        count = (int)lua_objlen(L, -1);
    }
    lua_pushinteger(L, 0);
    lua_pushinteger(L, count);
    lua_pushcclosure(L, pairs_next, 3);
    lua_pushvalue(L, 1);
    return 2;
}

static int l_instructions_left(lua_State *L)
{
    int64_t left = isolate_left(isolate_of(L));
    lua_pushnumber(L, left == ISOLATE_NO_LIMIT ? (lua_Number)INFINITY : (lua_Number)left);
    return 1;
}

static const luaL_Reg native_functions[] = {
    {"compile", l_compile},
    {"sha256_hex", l_sha256_hex},
    {"hex", l_hex},
    {"base64_encode", l_base64_encode},
    {"base64_decode", l_base64_decode},
    {"utf8_valid", l_utf8_valid},
    {"json_encode", l_json_encode},
    {"json_decode", l_json_decode},
    {"cbor_encode", l_cbor_encode},
    {"cbor_decode", l_cbor_decode},
    {"array", l_array},
    {"is_array", l_is_array},
    {"sorted_keys", l_sorted_keys},
    {"pairs", l_pairs},
    {"instructions_left", l_instructions_left},
    {NULL, NULL},
};

static const char *const string_functions[] = {"find", "match", "gmatch", "gsub", NULL};

void isolate_open_native(lua_State *L)
{
    lua_newtable(L);
    luaL_setfuncs(L, native_functions, 0);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    lua_getglobal(L, "string");
    for (const char *const *name = string_functions; *name != NULL; name++) {
        lua_getfield(L, -1, *name);
        lua_setfield(L, -3, *name);
    }
    lua_pop(L, 1);
    isolate_open_codec(L);
    lua_setglobal(L, "native");
}
