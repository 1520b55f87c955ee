/* host.embed: the files compiled into the program, with the on-disk tree (MACP_ROOT) in front of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "embed/embed.h"
#include "lua/arg.h"
#include "lua/vm.h"

/* embed.read(name) -> text | nil */
static int l_read(lua_State *L)
{
    const struct embed_file *file = embed_find(luaL_checkstring(L, 1));
    if (file == NULL) {
        return 0;
    }
    lua_pushlstring(L, file->data, file->len);
    return 1;
}

/* embed.list(prefix) -> array of names that start with it, in order */
static int l_list(lua_State *L)
{
    size_t len;
    const char *prefix = luaL_checklstring(L, 1, &len);
    lua_newtable(L);
    int count = 0;
    for (unsigned i = 0; i < embed_file_count; i++) {
        if (strncmp(embed_files[i].name, prefix, len) == 0) {
            lua_pushstring(L, embed_files[i].name);
            lua_rawseti(L, -2, ++count);
        }
    }
    return 1;
}

/* embed.root() -> the directory given by MACP_ROOT | nil: development reads scripts, modes and migrations
 * there */
static int l_root(lua_State *L)
{
    const char *root = vm_root(L);
    if (root == NULL) {
        return 0;
    }
    lua_pushstring(L, root);
    return 1;
}

int luaopen_host_embed(lua_State *L)
{
    static const luaL_Reg functions[] = {{"read", l_read}, {"list", l_list}, {"root", l_root}, {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
