/* Lua value to JSON text. Exact integers up to 2^53, other numbers with the fewest digits that read
 * back equal, key order as the table has it unless sorted. Never raises a Lua error. */
#pragma once

#include <stdbool.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

struct json_encode_opts {
    bool sorted;      /* object keys by bytes */
    bool pretty;      /* two spaces per level, one member per line */
    int max_depth;    /* nesting of tables; 0: 64. Cycles end here, too */
    size_t max_bytes; /* length of the text; 0: 256 MiB */
};

/* Appends the text of the value at idx. On failure (a function, NaN, too deep, a mixed table) the
 * message names the path and out keeps a partial text. opts may be NULL. */
int json_encode(lua_State *L, int idx, const struct json_encode_opts *opts, struct buf *out, struct err *err);
