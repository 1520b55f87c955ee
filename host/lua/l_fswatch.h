/* The watching part of host.fs. */
#pragma once

#include <lua.h>

void l_fswatch_register(lua_State *L); /* the watcher's class */
int l_fs_watch(lua_State *L);          /* fs.watch(path[, opts]) */
