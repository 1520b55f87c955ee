/* Codecs of host.proto for other modules: bytes that come from or go to a transport need not become Lua
 * strings on the way. Loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

/* Pushes the table that data encodes. Raises when the value at codec_idx (absolute) is no codec; otherwise
 * 0 or an error code with err, and nothing pushed. is_exact as for pb_decode. */
int l_proto_decode(lua_State *L, int codec_idx, const char *data, size_t len, bool *is_exact,
                   struct err *err);

/* The bytes of the table at table_idx. Raises like l_proto_decode. They are the codec's own: valid until it
 * is used again. NULL with err when the table does not encode. */
const struct buf *l_proto_encode(lua_State *L, int codec_idx, int table_idx, struct err *err);
