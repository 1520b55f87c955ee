/* Helpers of bindings: error tables, option tables, checked arguments. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/err.h"

/* Pushes { code = "TIMEOUT", message = "...", detail = n }. */
void arg_push_err(lua_State *L, const struct err *err);
/* Pushes nil and the error table; returns 2. */
int arg_return_err(lua_State *L, const struct err *err);

/* Option readers: field `name` of the table at idx. A wrong type raises, naming the option. */
bool arg_opt_bool(lua_State *L, int idx, const char *name, bool def);
int64_t arg_opt_int(lua_State *L, int idx, const char *name, int64_t def, int64_t min, int64_t max);
/* Borrowed from the table: valid while it is. NULL (or def) when absent; len may be NULL. */
const char *arg_opt_str(lua_State *L, int idx, const char *name, const char *def, size_t *len);
const char *arg_need_str(lua_State *L, int idx, const char *name, size_t *len);
/* An integer argument in a range; raises otherwise. */
int64_t arg_check_int(lua_State *L, int idx, int64_t min, int64_t max);

/* Registers a class: metatable `name`, methods in __index, gc. Leaves nothing on the stack. */
void arg_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

/* Bytes argument: a Lua string or a host.bytes value. Borrowed. */
struct bytes;
const char *arg_check_bytes(lua_State *L, int idx, size_t *len, struct bytes **shared);
