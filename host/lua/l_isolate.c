/* host.isolate: isolates for Lua.
 *
 *   new{ name=, memory_bytes=256 MiB, wall_ms=2000 } -> iso
 *   iso:boot(chunk_name, text) -> true | nil, err
 *   iso:entry(name) -> index | nil
 *   iso:call(entry name or index, limits|nil, ...) -> true, results... | nil, err
 *       limits = { instructions=, growth_bytes=, wall_ms= }; arguments and results are plain data,
 * copied iso:call_fast(index, instructions, growth_bytes, ...) -> as call; no limits table: for hot
 * paths iso:used() -> bytes   iso:last_instructions() -> number   iso:set_step(n)   iso:collect()
 * iso:close()
 *
 * err = { code = "SCRIPT"|"LIMIT", message=, file=, line=, traceback= }. Nothing here yields. */
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua/arg.h"
#include "lua/isolate.h"
#include "lua/plain_copy.h"
#include "lua/vm.h"

#define ISOLATE_META "host.isolate"

/* Upvalue 1 of every method is the metatable: one pointer comparison instead of a search by name.
 */
static struct isolate *check_isolate(lua_State *L)
{
    struct isolate **slot = lua_touserdata(L, 1);
    if (slot == NULL || !lua_getmetatable(L, 1)) {
        luaL_typerror(L, 1, ISOLATE_META);
        return NULL;
    }
    int same = lua_rawequal(L, -1, lua_upvalueindex(1));
    lua_pop(L, 1);
    if (!same) {
        luaL_typerror(L, 1, ISOLATE_META);
    }
    if (*slot == NULL) {
        luaL_error(L, "the isolate is closed");
    }
    return *slot;
}

static int l_new(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    struct isolate_opts opts = {
        .name = arg_opt_str(L, 1, "name", NULL, NULL),
        .memory_bytes = (size_t)arg_opt_int(L, 1, "memory_bytes", 0, 0, INT64_C(1) << 40),
        .wall_ms = (int)arg_opt_int(L, 1, "wall_ms", 0, 0, 3600000),
    };
    struct isolate **slot = lua_newuserdata(L, sizeof(*slot));
    *slot = NULL;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    *slot = isolate_new(&opts);
    return 1;
}

static int return_failure(lua_State *L, struct isolate *isolate)
{
    const struct isolate_failure *failure = isolate_last_failure(isolate);
    lua_pushnil(L);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, err_name(failure->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, failure->message);
    lua_setfield(L, -2, "message");
    if (failure->file[0] != '\0') {
        lua_pushstring(L, failure->file);
        lua_setfield(L, -2, "file");
    }
    if (failure->line > 0) {
        lua_pushinteger(L, failure->line);
        lua_setfield(L, -2, "line");
    }
    lua_pushstring(L, failure->traceback);
    lua_setfield(L, -2, "traceback");
    return 2;
}

/* What a script left in a result (a function, a cycle) is its fault, not the caller's. */
static int return_bad_result(lua_State *L, int index, struct err *err)
{
    (void)err_wrap(err, "result %d", index);
    err->code = ERR_SCRIPT;
    return arg_return_err(L, err);
}

static int l_boot(lua_State *L)
{
    struct isolate *isolate = check_isolate(L);
    size_t len;
    const char *name = luaL_checkstring(L, 2);
    const char *text = luaL_checklstring(L, 3, &len);
    if (*name != '=' && *name != '@') {
        name = lua_pushfstring(L, "=%s", name); /* trusted code: errors are blamed on script frames first */
    }
    if (isolate_boot(isolate, name, text, len) != 0) {
        return return_failure(L, isolate);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int l_entry(lua_State *L)
{
    int index = isolate_entry(check_isolate(L), luaL_checkstring(L, 2));
    if (index < 0) {
        return 0;
    }
    lua_pushinteger(L, index);
    return 1;
}

/* Copies the arguments from first on, runs, copies the results behind a true. */
static int run(lua_State *L, struct isolate *isolate, int entry, int first,
               const struct isolate_limits *limits)
{
    lua_State *inside = isolate_begin(isolate, entry);
    struct err err;
    int last = lua_gettop(L);
    if (last - first > 50 && !lua_checkstack(inside, last - first + 10)) {
        return luaL_error(L, "too many arguments");
    }
    for (int i = first; i <= last; i++) {
        if (plain_copy(L, i, inside, &err) != 0) {
            isolate_end(isolate);
            return luaL_error(L, "argument %d: %s", i - first + 1, err.text);
        }
    }
    if (isolate_run(isolate, last >= first ? last - first + 1 : 0, limits) != 0) {
        return return_failure(L, isolate);
    }
    int count = lua_gettop(inside) - ISOLATE_FIRST_RESULT + 1;
    luaL_checkstack(L, count + 8, "too many results");
    lua_checkstack(inside, 8);
    lua_pushboolean(L, 1);
    for (int i = 0; i < count; i++) {
        if (plain_copy(inside, ISOLATE_FIRST_RESULT + i, L, &err) != 0) {
            isolate_end(isolate);
            return return_bad_result(L, i + 1, &err);
        }
    }
    return count + 1;
}

static int check_entry(lua_State *L, struct isolate *isolate)
{
    if (lua_type(L, 2) == LUA_TNUMBER) {
        return (int)lua_tointeger(L, 2);
    }
    const char *name = luaL_checkstring(L, 2);
    int entry = isolate_entry(isolate, name);
    if (entry < 0) {
        luaL_error(L, "isolate %s has no entry '%s'", isolate_name(isolate), name);
    }
    return entry;
}

static int l_call(lua_State *L)
{
    struct isolate *isolate = check_isolate(L);
    int entry = check_entry(L, isolate);
    struct isolate_limits limits = {0};
    if (lua_gettop(L) < 3) {
        lua_settop(L, 3);
    }
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        limits.instructions = arg_opt_int(L, 3, "instructions", 0, 0, INT64_C(1) << 53);
        limits.growth_bytes = (size_t)arg_opt_int(L, 3, "growth_bytes", 0, 0, INT64_C(1) << 40);
        limits.wall_ms = (int)arg_opt_int(L, 3, "wall_ms", 0, 0, 3600000);
    }
    return run(L, isolate, entry, 4, &limits);
}

/* A limit given as a number; nothing, NaN and what is below 1 mean none. */
static int64_t limit_of(lua_State *L, int idx)
{
    lua_Number number = luaL_optnumber(L, idx, 0);
    if (!(number >= 1)) {
        return 0;
    }
    return number < 9e15 ? (int64_t)number : 0;
}

static int l_call_fast(lua_State *L)
{
    struct isolate *isolate = check_isolate(L);
    int entry = luaL_checkint(L, 2);
    struct isolate_limits limits = {
        .instructions = limit_of(L, 3),
        .growth_bytes = (size_t)limit_of(L, 4),
    };
    return run(L, isolate, entry, 5, &limits);
}

static int l_used(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)isolate_used(check_isolate(L)));
    return 1;
}

static int l_last_instructions(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)isolate_last_instructions(check_isolate(L)));
    return 1;
}

static int l_set_step(lua_State *L)
{
    isolate_set_step(check_isolate(L), (int)arg_check_int(L, 2, 1, 1000));
    return 0;
}

static int l_collect(lua_State *L)
{
    isolate_collect(check_isolate(L));
    return 0;
}

/* Also __gc; a second close does nothing. */
static int l_close(lua_State *L)
{
    struct isolate **slot = lua_touserdata(L, 1);
    if (slot != NULL) {
        isolate_free(*slot);
        *slot = NULL;
    }
    return 0;
}

static const luaL_Reg methods[] = {
    {"boot", l_boot},           {"entry", l_entry},     {"call", l_call},
    {"call_fast", l_call_fast}, {"used", l_used},       {"last_instructions", l_last_instructions},
    {"set_step", l_set_step},   {"collect", l_collect}, {NULL, NULL},
};

int luaopen_host_isolate(lua_State *L)
{
    luaL_newmetatable(L, ISOLATE_META);
    int meta = lua_gettop(L);
    lua_newtable(L);
    lua_pushvalue(L, meta);
    luaL_setfuncs(L, methods, 1);
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, meta, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, meta, "__gc");
    lua_newtable(L);
    lua_pushvalue(L, meta);
    lua_pushcclosure(L, l_new, 1);
    lua_setfield(L, -2, "new");
    return 1;
}
