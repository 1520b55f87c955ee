/* host.rpc: gRPC servers and channels; methods are names, messages are bytes. */
#include "lua/l_rpc.h"

#include "lua/vm.h"

static const char *const status_names[] = {
    "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
};

int luaopen_host_rpc(lua_State *L)
{
    static const luaL_Reg functions[] = {{"listen", l_rpc_listen}, {"channel", l_rpc_channel}, {NULL, NULL}};
    l_rpc_open_server(L);
    l_rpc_open_client(L);
    l_rpc_open_stream(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_newtable(L); /* status: name -> number */
    lua_newtable(L); /* status_name: number -> name */
    for (int i = 0; i < (int)(sizeof(status_names) / sizeof(status_names[0])); i++) {
        lua_pushinteger(L, i);
        lua_setfield(L, -3, status_names[i]);
        lua_pushstring(L, status_names[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setfield(L, -3, "status_name");
    lua_setfield(L, -2, "status");
    return 1;
}
