/* host.bytes: immutable shared buffers, so that one encoded frame can go to many sockets without copies. */
#include <lauxlib.h>
#include <lua.h>

#include "base/bytes.h"
#include "lua/arg.h"
#include "lua/vm.h"

#define META "host.bytes"

/* bytes.new(string) -> buffer */
static int l_new(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    struct bytes **box = lua_newuserdata(L, sizeof(*box));
    *box = bytes_new(data, len);
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct bytes **box = luaL_checkudata(L, 1, META);
    bytes_unref(*box);
    *box = NULL;
    return 0;
}

static int l_len(lua_State *L)
{
    struct bytes **box = luaL_checkudata(L, 1, META);
    lua_pushnumber(L, (lua_Number)(*box)->len);
    return 1;
}

static int l_tostring(lua_State *L)
{
    struct bytes **box = luaL_checkudata(L, 1, META);
    lua_pushlstring(L, (*box)->data, (*box)->len);
    return 1;
}

int luaopen_host_bytes(lua_State *L)
{
    static const luaL_Reg methods[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};
    arg_class(L, META, methods, l_gc);
    luaL_getmetatable(L, META);
    lua_pushcfunction(L, l_len);
    lua_setfield(L, -2, "__len");
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
