/* JSON text (RFC 8259) to a Lua value. Strict: the whole text must be valid UTF-8 and one value; no
 * comments, no trailing commas, no NaN, Infinity or hexadecimal, no lone surrogates. Objects become
 * tables (the last of equal keys wins, unless that is refused), arrays become tables with the array
 * mark, null becomes the light userdata NULL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

struct json_decode_opts {
    int max_depth; /* of arrays and objects inside each other; 0: 64 */
    bool unique;   /* equal keys in one object are an error */
};

/* Pushes the value; on failure pushes nothing and the message says line, column and what was
 * expected. text must be followed by a NUL (as Lua strings are). scratch is for unescaping and may
 * be reused. opts may be NULL. Raises only when Lua runs out of memory. */
int json_decode(lua_State *L, const char *text, size_t len, const struct json_decode_opts *opts,
                struct buf *scratch, struct err *err);
