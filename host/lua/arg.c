/* Helpers of bindings; see arg.h. */
#include "lua/arg.h"

#include "base/bytes.h"

void arg_push_err(lua_State *L, const struct err *err)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, err_name(err->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, err->text);
    lua_setfield(L, -2, "message");
    if (err->detail != 0) {
        lua_pushinteger(L, err->detail);
        lua_setfield(L, -2, "detail");
    }
}

int arg_return_err(lua_State *L, const struct err *err)
{
    lua_pushnil(L);
    arg_push_err(L, err);
    return 2;
}

static int bad_option(lua_State *L, const char *name, const char *expected, int idx)
{
    return luaL_error(L, "option '%s': %s expected, got %s", name, expected, luaL_typename(L, idx));
}

bool arg_opt_bool(lua_State *L, int idx, const char *name, bool def)
{
    if (lua_isnoneornil(L, idx)) {
        return def;
    }
    lua_getfield(L, idx, name);
    bool value = def;
    if (lua_isboolean(L, -1)) {
        value = lua_toboolean(L, -1);
    } else if (!lua_isnil(L, -1)) {
        bad_option(L, name, "boolean", -1);
    }
    lua_pop(L, 1);
    return value;
}

int64_t arg_opt_int(lua_State *L, int idx, const char *name, int64_t def, int64_t min, int64_t max)
{
    if (lua_isnoneornil(L, idx)) {
        return def;
    }
    lua_getfield(L, idx, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return def;
    }
    if (lua_type(L, -1) != LUA_TNUMBER) {
        bad_option(L, name, "number", -1);
    }
    lua_Number number = lua_tonumber(L, -1);
    if (!(number >= (lua_Number)min && number <= (lua_Number)max) || number != (lua_Number)(int64_t)number) {
        luaL_error(L, "option '%s': a whole number from %f to %f expected, got %f", name, (lua_Number)min,
                   (lua_Number)max, number);
    }
    lua_pop(L, 1);
    return (int64_t)number;
}

const char *arg_opt_str(lua_State *L, int idx, const char *name, const char *def, size_t *len)
{
    const char *text = def;
    if (len != NULL) {
        *len = 0;
    }
    if (lua_isnoneornil(L, idx)) {
        return def;
    }
    lua_getfield(L, idx, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        text = lua_tolstring(L, -1, len); /* the option table keeps it alive */
    } else if (!lua_isnil(L, -1)) {
        bad_option(L, name, "string", -1);
    }
    lua_pop(L, 1);
    return text;
}

const char *arg_need_str(lua_State *L, int idx, const char *name, size_t *len)
{
    const char *text = arg_opt_str(L, idx, name, NULL, len);
    if (text == NULL) {
        luaL_error(L, "option '%s' is missing (a string)", name);
    }
    return text;
}

int64_t arg_check_int(lua_State *L, int idx, int64_t min, int64_t max)
{
    lua_Number number = luaL_checknumber(L, idx);
    if (!(number >= (lua_Number)min && number <= (lua_Number)max) || number != (lua_Number)(int64_t)number) {
        luaL_argerror(
            L, idx,
            lua_pushfstring(L, "a whole number from %f to %f expected", (lua_Number)min, (lua_Number)max));
    }
    return (int64_t)number;
}

void arg_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    if (gc != NULL) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

const char *arg_check_bytes(lua_State *L, int idx, size_t *len, struct bytes **shared)
{
    if (lua_type(L, idx) == LUA_TUSERDATA) {
        struct bytes **box = luaL_checkudata(L, idx, "host.bytes");
        *shared = *box;
        *len = (*box)->len;
        return (*box)->data;
    }
    *shared = NULL;
    return luaL_checklstring(L, idx, len);
}
