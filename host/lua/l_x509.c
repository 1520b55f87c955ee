/* host.x509: what is in PEM certificates and keys. */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "crypto/x509.h"
#include "lua/arg.h"
#include "lua/vm.h"

/* stack on return: ..., names */
static void push_names(lua_State *L, const struct buf *names)
{
    lua_newtable(L);
    const char *at = names->data;
    const char *end = names->data + names->len;
    for (int i = 1; at < end; i++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        lua_pushlstring(L, at, (size_t)(stop - at));
        lua_rawseti(L, -2, i);
        at = stop + 1;
    }
}

/* x509.read(pem) -> { subject=, names={"DNS:...", "URI:..."}, not_before_ms=, not_after_ms=, count= } | nil,
 * err: the first certificate of a text, and how many it holds */
static int l_read(lua_State *L)
{
    struct x509_facts facts;
    struct err err;
    if (x509_read(luaL_checkstring(L, 1), &facts, &err) != 0) {
        x509_facts_deinit(&facts);
        return arg_return_err(L, &err);
    }
    lua_createtable(L, 0, 5);
    lua_pushlstring(L, facts.subject.data, facts.subject.len);
    lua_setfield(L, -2, "subject");
    push_names(L, &facts.names);
    lua_setfield(L, -2, "names");
    lua_pushnumber(L, (lua_Number)facts.not_before * 1000);
    lua_setfield(L, -2, "not_before_ms");
    lua_pushnumber(L, (lua_Number)facts.not_after * 1000);
    lua_setfield(L, -2, "not_after_ms");
    lua_pushnumber(L, (lua_Number)facts.count);
    lua_setfield(L, -2, "count");
    x509_facts_deinit(&facts);
    return 1;
}

/* x509.check_pair(cert_pem, key_pem) -> true | nil, err */
static int l_check_pair(lua_State *L)
{
    struct err err;
    if (x509_check_pair(luaL_checkstring(L, 1), luaL_checkstring(L, 2), &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"read", l_read},
    {"check_pair", l_check_pair},
    {NULL, NULL},
};

int luaopen_host_x509(lua_State *L)
{
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
