/* The specs live in Lua memory, so that an error half way leaks nothing. */
#include "lua/pb_spec.h"

#include <lauxlib.h>

static const char *field_string(lua_State *L, int idx, const char *name, int at)
{
    lua_pushstring(L, name);
    lua_rawget(L, idx);
    if (lua_type(L, -1) != LUA_TSTRING) {
        luaL_error(L, "field %d of the list: '%s' must be a string", at, name);
    }
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

/* Fills spec from the table on top of the stack. */
static void read_spec(lua_State *L, struct pb_field_spec *spec, int at)
{
    int table = lua_gettop(L);
    if (!lua_istable(L, table)) {
        luaL_error(L, "field %d of the list must be a table", at);
    }
    spec->name = field_string(L, table, "name", at);
    lua_pushliteral(L, "number");
    lua_rawget(L, table);
    lua_Number number = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(number >= 1 && number <= 536870911)) {
        luaL_error(L, "field '%s': number must be from 1 to 536870911", spec->name);
    }
    spec->number = (uint32_t)number;
    lua_pushliteral(L, "map_value");
    lua_rawget(L, table);
    spec->is_map = !lua_isnil(L, -1);
    spec->type = field_string(L, table, spec->is_map ? "map_value" : "type", at);
    lua_pushliteral(L, "repeated");
    lua_rawget(L, table);
    spec->is_repeated = lua_toboolean(L, -1);
    lua_settop(L, table);
}

struct pb_field_spec *pb_spec_read(lua_State *L, int idx, size_t *count)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    *count = lua_objlen(L, idx);
    luaL_argcheck(L, *count <= PB_SPEC_MAX_FIELDS, idx, "too many fields");
    struct pb_field_spec *specs = lua_newuserdata(L, (*count + 1) * sizeof(*specs));
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, idx, (int)i + 1);
        read_spec(L, &specs[i], (int)i + 1);
        lua_pop(L, 1);
    }
    return specs;
}
