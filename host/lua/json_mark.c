/* The metatables live in the registry under the addresses of a constant array. */
#include "lua/json_mark.h"

static const char registry_keys[JSON_MARK_COUNT] = {0};
static const char *const mark_names[JSON_MARK_COUNT] = {"array", "object", "raw"};

void json_mark_push(lua_State *L, enum json_mark mark)
{
    void *key = (void *)&registry_keys[mark];
    lua_pushlightuserdata(L, key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1)) {
        return;
    }
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushstring(L, mark_names[mark]);
    lua_setfield(L, -2, "__json");
    lua_pushlightuserdata(L, key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

const void *json_mark_id(lua_State *L, enum json_mark mark)
{
    json_mark_push(L, mark);
    const void *id = lua_topointer(L, -1);
    lua_pop(L, 1);
    return id;
}

void json_mark_set(lua_State *L, enum json_mark mark)
{
    json_mark_push(L, mark);
    lua_setmetatable(L, -2);
}

bool json_mark_has(lua_State *L, int idx, enum json_mark mark)
{
    const void *have = json_mark_of(L, idx);
    return have != NULL && have == json_mark_id(L, mark);
}

const void *json_mark_of(lua_State *L, int idx)
{
    if (!lua_getmetatable(L, idx)) {
        return NULL;
    }
    const void *id = lua_topointer(L, -1);
    lua_pop(L, 1);
    return id;
}
