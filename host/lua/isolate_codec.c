/* native.codec(name, fields) -> { decode = function(bytes) -> table | nil, message,
 *                                 encode = function(table) -> bytes | nil, message }
 *
 * fields: array of { name=, number=, type="string", repeated=bool, map_value=type }. Every declared
 * field is present in a decoded table; NaN and infinities are refused; 64-bit values beyond 2^53
 * are decimal strings. A bad list raises. */
#include <lauxlib.h>

#include "lua/isolate_inside.h"
#include "lua/json_mark.h"
#include "lua/pb_codec.h"
#include "lua/pb_spec.h"

#define BYTES_PER_INSTRUCTION 4
#define MAX_MESSAGE ((size_t)16 << 20)

static int l_decode(lua_State *L)
{
    const struct pb_codec *codec = lua_touserdata(L, lua_upvalueindex(1));
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    isolate_charge(L, 10 + len / BYTES_PER_INSTRUCTION);
    struct err err;
    /* The names and the mark as plain stack values: upvalue indices cost a look-up each time. */
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(3));
    int top = lua_gettop(L);
    if (pb_decode(L, codec, top - 1, top, data, len, isolate_scratch(isolate_of(L)), NULL, &err) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    return 1;
}

static int l_encode(lua_State *L)
{
    const struct pb_codec *codec = lua_touserdata(L, lua_upvalueindex(1));
    luaL_checktype(L, 1, LUA_TTABLE);
    struct isolate *isolate = isolate_of(L);
    struct buf *out = isolate_scratch(isolate);
    struct err err;
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    isolate_lift_cap(isolate);
    int status = pb_encode(L, codec, 2, 1, out, &err);
    if (status != 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
    } else {
        lua_pushlstring(L, out->data == NULL ? "" : out->data, out->len);
    }
    isolate_restore_cap(isolate);
    isolate_charge(L, 10 + out->len / BYTES_PER_INSTRUCTION);
    return status != 0 ? 2 : 1;
}

static int l_free(lua_State *L)
{
    struct pb_codec *codec = lua_touserdata(L, 1);
    pb_pool_unref(codec->pool);
    codec->pool = NULL;
    return 0;
}

static void push_methods(lua_State *L, int codec)
{
    pb_codec_push_names(L, ((struct pb_codec *)lua_touserdata(L, codec))->pool, false);
    int names = lua_gettop(L);
    lua_newtable(L);
    lua_pushvalue(L, codec);
    lua_pushvalue(L, names);
    json_mark_push(L, JSON_MARK_ARRAY);
    lua_pushcclosure(L, l_decode, 3);
    lua_setfield(L, -2, "decode");
    lua_pushvalue(L, codec);
    lua_pushvalue(L, names);
    lua_pushcclosure(L, l_encode, 2);
    lua_setfield(L, -2, "encode");
}

/* Upvalue 1: metatable of codecs. */
static int l_codec(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct pb_codec *codec = lua_newuserdata(L, sizeof(*codec));
    *codec = (struct pb_codec){.defaults = true, .finite = true, .max_bytes = MAX_MESSAGE};
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    size_t count;
    struct pb_field_spec *specs = pb_spec_read(L, 2, &count);
    isolate_charge(L, count * 20);
    struct err err;
    codec->pool = pb_pool_from_fields(name, specs, count, &err);
    if (codec->pool == NULL) {
        return luaL_error(L, "%s", err.text);
    }
    codec->root = pb_pool_find(codec->pool, name);
    push_methods(L, 3);
    return 1;
}

void isolate_open_codec(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_free);
    lua_setfield(L, -2, "__gc");
    lua_pushcclosure(L, l_codec, 1);
    lua_setfield(L, -2, "codec");
}
