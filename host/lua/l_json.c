/* host.json: JSON text for Lua.
 *
 * encode(value [, { sorted=, pretty= }]) -> text; raises on values without a JSON form, naming the path.
 *
 * decode(text [, { max_depth=64, unique=false }]) -> value | nil, err; strict; arrays keep the array
 * mark; unique refuses equal keys in one object.
 *
 * null: JSON null (nil means absent). array(t) -> t, object(t) -> t: marks. is_array(t) -> bool.
 * raw(text) -> value that encodes as this text.
 */
#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "lua/arg.h"
#include "lua/json_decode.h"
#include "lua/json_encode.h"
#include "lua/json_mark.h"
#include "lua/vm.h"

#define SCRATCH_META "host.json.scratch"
#define SCRATCH_KEEP ((size_t)1 << 20)

/* Upvalue 1: the module's buffer, kept from call to call. */
static struct buf *scratch_of(lua_State *L)
{
    struct buf *buf = lua_touserdata(L, lua_upvalueindex(1));
    if (buf->cap > SCRATCH_KEEP) {
        buf_deinit(buf);
    }
    buf_clear(buf);
    return buf;
}

static int l_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    struct json_encode_opts opts = {0};
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        opts.sorted = arg_opt_bool(L, 2, "sorted", false);
        opts.pretty = arg_opt_bool(L, 2, "pretty", false);
    }
    struct buf *out = scratch_of(L);
    struct err err;
    if (json_encode(L, 1, &opts, out, &err) != 0) {
        return luaL_error(L, "json.encode: %s", err.text);
    }
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static int l_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct json_decode_opts opts = {0};
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        opts.max_depth = (int)arg_opt_int(L, 2, "max_depth", 0, 1, 200);
        opts.unique = arg_opt_bool(L, 2, "unique", false);
    }
    struct err err;
    if (json_decode(L, text, len, &opts, scratch_of(L), &err) != 0) {
        return arg_return_err(L, &err);
    }
    return 1;
}

static int set_mark(lua_State *L, enum json_mark mark)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    json_mark_set(L, mark);
    return 1;
}

static int l_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    return set_mark(L, JSON_MARK_ARRAY);
}

static int l_object(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    return set_mark(L, JSON_MARK_OBJECT);
}

static int l_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_istable(L, 1) && json_mark_has(L, 1, JSON_MARK_ARRAY));
    return 1;
}

static int l_raw(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    json_mark_set(L, JSON_MARK_RAW);
    return 1;
}

static int l_free_scratch(lua_State *L)
{
    buf_deinit(lua_touserdata(L, 1));
    return 0;
}

static const luaL_Reg functions[] = {
    {"encode", l_encode},     {"decode", l_decode}, {"array", l_array}, {"object", l_object},
    {"is_array", l_is_array}, {"raw", l_raw},       {NULL, NULL},
};

int luaopen_host_json(lua_State *L)
{
    lua_newtable(L);
    struct buf *scratch = lua_newuserdata(L, sizeof(*scratch));
    buf_init(scratch);
    luaL_newmetatable(L, SCRATCH_META);
    lua_pushcfunction(L, l_free_scratch);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_setfuncs(L, functions, 1);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
