/* The globals of trusted code: the base functions that cannot escape, math, bit, and table
 * functions that pay for the work they do in C. Nothing that loads code, runs finalizers, sees the
 * clock or the outside. */
#include <math.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lua/isolate_inside.h"

static const char *const kept_globals[] = {
    "_G",       "assert",   "error",  "getmetatable", "ipairs", "next",         "pairs",
    "pcall",    "rawequal", "rawget", "rawset",       "select", "setmetatable", "tonumber",
    "tostring", "type",     "unpack", "math",         "table",  "bit",          NULL,
};

static const char *const removed_math[] = {"random", "randomseed", NULL};

/* table.insert(t, [at,] value): moving elements is charged. */
static int l_insert(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int count = (int)lua_objlen(L, 1);
    int args = lua_gettop(L);
    if (args == 2) {
        lua_rawseti(L, 1, count + 1);
        return 0;
    }
    if (args != 3) {
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    int at = luaL_checkint(L, 2);
    luaL_argcheck(L, at >= 1 && at <= count + 1, 2, "position out of bounds");
    isolate_charge(L, (size_t)(count - at + 1) / 4);
    for (int i = count; i >= at; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_rawseti(L, 1, at);
    return 0;
}

/* table.remove(t [, at]) -> value */
static int l_remove(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int count = (int)lua_objlen(L, 1);
    int at = luaL_optint(L, 2, count);
    if (count == 0) {
        return 0;
    }
    luaL_argcheck(L, at >= 1 && at <= count, 2, "position out of bounds");
    isolate_charge(L, (size_t)(count - at) / 4);
    lua_rawgeti(L, 1, at);
    for (int i = at; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, count);
    return 1;
}

/* table.concat(t [, separator [, from [, to]]]): the length is known, and limited, before the text
 * is built. */
static int l_concat(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t separator_len;
    const char *separator = luaL_optlstring(L, 2, "", &separator_len);
    int from = luaL_optint(L, 3, 1);
    int to = lua_isnoneornil(L, 4) ? (int)lua_objlen(L, 1) : luaL_checkint(L, 4);
    size_t total = 0;
    for (long i = from; i <= to; i++) {
        lua_rawgeti(L, 1, (int)i);
        if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER) {
            return luaL_error(L, "invalid value (%s) at index %d in table for 'concat'", luaL_typename(L, -1),
                              (int)i);
        }
        size_t len;
        (void)lua_tolstring(L, -1, &len);
        total += len + separator_len;
        lua_pop(L, 1);
        if (total > ISOLATE_MAX_STRING + separator_len) {
            return luaL_error(L, "string limit exceeded (%d bytes)", (int)ISOLATE_MAX_STRING);
        }
    }
    isolate_charge(L, total / 32 + (size_t)(to > from ? to - from : 0) / 2);
    struct isolate *isolate = isolate_of(L);
    struct buf *out = isolate_scratch(isolate);
    isolate_lift_cap(isolate);
    for (long i = from; i <= to; i++) {
        size_t len;
        lua_rawgeti(L, 1, (int)i);
        const char *text = lua_tolstring(L, -1, &len);
        buf_append(out, text, len);
        buf_append(out, separator, i < to ? separator_len : 0);
        lua_pop(L, 1);
    }
    lua_pushlstring(L, out->data == NULL ? "" : out->data, out->len);
    isolate_restore_cap(isolate);
    return 1;
}

/* table.sort(t [, less]); upvalue 1 is the library's own, whose comparisons in C no hook sees. */
static int l_sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double count = (double)lua_objlen(L, 1);
    if (count > 1) {
        isolate_charge(L, (size_t)(count * log2(count)));
    }
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 2, 0);
    return 0;
}

/* unpack(t [, from [, to]]); upvalue 1 is the library's own, which pushes up to 8000 values in one
 * instruction. */
static int l_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int args = lua_gettop(L);
    lua_Number from = luaL_optnumber(L, 2, 1);
    lua_Number to = lua_isnoneornil(L, 3) ? (lua_Number)lua_objlen(L, 1) : luaL_checknumber(L, 3);
    isolate_charge(L, to - from > 16 ? (size_t)((to - from > 8000 ? 8000 : to - from) / 16) : 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, args, LUA_MULTRET);
    return lua_gettop(L);
}

static void open_table(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_insert);
    lua_setfield(L, -2, "insert");
    lua_pushcfunction(L, l_remove);
    lua_setfield(L, -2, "remove");
    lua_pushcfunction(L, l_concat);
    lua_setfield(L, -2, "concat");
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_remove(L, -2);
    lua_pushcclosure(L, l_sort, 1);
    lua_setfield(L, -2, "sort");
    lua_setglobal(L, "table");
    lua_getglobal(L, "unpack");
    lua_pushcclosure(L, l_unpack, 1);
    lua_setglobal(L, "unpack");
}

static void open_library(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static void remove_fields(lua_State *L, const char *table, const char *const *names)
{
    lua_getglobal(L, table);
    for (; *names != NULL; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

void isolate_open_base(lua_State *L)
{
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_table, LUA_TABLIBNAME);
    open_library(L, luaopen_string, LUA_STRLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    open_table(L);
    remove_fields(L, "math", removed_math);
    /* An allow list: whatever else the libraries put there (load, xpcall, newproxy, coroutine ...)
     * stays out. */
    lua_newtable(L);
    for (const char *const *name = kept_globals; *name != NULL; name++) {
        lua_getglobal(L, *name);
        lua_setfield(L, -2, *name);
    }
    lua_getglobal(L, "string"); /* for isolate_open_string, which replaces it */
    lua_setfield(L, -2, "string");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    lua_replace(L, LUA_GLOBALSINDEX);
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_LOADED");
}
