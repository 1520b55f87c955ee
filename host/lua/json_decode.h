/* JSON text (RFC 8259) to a Lua value. Strict: the whole text must be valid UTF-8 and one value; no
 * comments, no trailing commas, no NaN, Infinity or hexadecimal, no lone surrogates. Objects become
 * tables (the last of equal keys wins), arrays become tables with the array mark, null becomes the
 * light userdata NULL. */
#pragma once

#include <stddef.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

/* Pushes the value; on failure pushes nothing and the message says line, column and what was
 * expected. text must be followed by a NUL (as Lua strings are). scratch is for unescaping and may
 * be reused. max_depth 0: 64. Raises only when Lua runs out of memory. */
int json_decode(lua_State *L, const char *text, size_t len, int max_depth, struct buf *scratch,
                struct err *err);
