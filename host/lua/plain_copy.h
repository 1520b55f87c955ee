/* Plain values from one Lua state into another: nil, booleans, numbers, strings, JSON null and tables of
 * those. Raw access only; metatables stay behind, except that JSON marks are set again. */
#pragma once

#include <lua.h>

#include "base/err.h"

#define PLAIN_COPY_DEPTH 32
#define PLAIN_COPY_BYTES ((size_t)64 << 20) /* of strings in one value: equal ones are copied each time */

/* Pushes a copy of the value at idx of from on to. On failure (another type, nested deeper than 32, a cycle,
 * too long) nothing is pushed. Raises only when `to` has no memory. Needs 8 free slots on both stacks. */
int plain_copy(lua_State *from, int idx, lua_State *to, struct err *err);
