/* Plain Lua data as deterministic CBOR (RFC 8949 §4.2): equal data has equal bytes in every
 * process. Shortest forms, integers when integral, map keys by length and bytes. Strings are text
 * when they are UTF-8 and byte strings otherwise. An array that carries the JSON array mark gets
 * tag 41, so that the mark survives. */
#pragma once

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the encoding of the value at idx. Refused, with the path (beginning with root) and the
 * reason: functions and other types, NaN and infinities, arrays with holes, mixed tables, keys that
 * are no strings, metatables, and tables that are reachable twice (an alias would become a copy
 * when decoded). max_bytes bounds the result, because one long string may be referred to from many places.
 * Never raises a Lua error. */
int cbor_encode(lua_State *L, int idx, const char *root, size_t max_bytes, struct buf *out, struct err *err);

/* Pushes the value; on failure pushes nothing. Raises only when Lua runs out of memory. */
int cbor_decode(lua_State *L, const char *data, size_t len, struct err *err);
