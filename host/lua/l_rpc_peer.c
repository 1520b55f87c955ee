/* Who is at the other end of a server's call, in Lua: its address and what its TLS certificate says. */
#include "lua/l_rpc_server.h"

#include <string.h>

#include <grpc/grpc_security_constants.h>
#include <grpc/support/alloc.h>

/* call:peer() -> "ipv4:127.0.0.1:4711" */
static int l_peer(lua_State *L)
{
    const struct l_rpc_call *state = l_rpc_call_check(L);
    char *peer = state == NULL ? NULL : rpc_server_call_peer(state->call);
    lua_pushstring(L, peer == NULL ? "" : peer);
    gpr_free(peer);
    return 1;
}

static void add_property(void *arg, const char *name, const char *value, size_t len)
{
    lua_State *L = arg; /* stack: identity */
    lua_getfield(L, -1, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, name);
    }
    lua_pushlstring(L, value, len);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* call:identity() -> { x509_common_name = { "..." }, transport_security_type = { "ssl" }, ... } */
static int l_identity(lua_State *L)
{
    const struct l_rpc_call *state = l_rpc_call_check(L);
    lua_newtable(L);
    if (state != NULL) {
        rpc_server_call_each_property(state->call, add_property, L);
    }
    return 1;
}

struct uris {
    lua_State *L;
    int count;
};

static void add_uri(void *arg, const char *name, const char *value, size_t len)
{
    struct uris *uris = arg; /* stack: list, or nothing before the first */
    if (strcmp(name, GRPC_PEER_URI_PROPERTY_NAME) != 0) {
        return;
    }
    if (uris->count == 0) {
        lua_newtable(uris->L);
    }
    lua_pushlstring(uris->L, value, len);
    lua_rawseti(uris->L, -2, ++uris->count);
}

/* call:peer_uris() -> array of the URIs among the alternative names of the verified client certificate | nil
 * (none) */
static int l_peer_uris(lua_State *L)
{
    const struct l_rpc_call *state = l_rpc_call_check(L);
    struct uris uris = {.L = L};
    if (state != NULL) {
        rpc_server_call_each_property(state->call, add_uri, &uris);
    }
    if (uris.count == 0) {
        lua_pushnil(L);
    }
    return 1;
}

const luaL_Reg l_rpc_peer_methods[] = {
    {"peer", l_peer},
    {"identity", l_identity},
    {"peer_uris", l_peer_uris},
    {NULL, NULL},
};
