/* Protobuf bytes <-> Lua tables, straight, by a schema of proto/pb_schema.h. Unknown fields are
 * skipped when reading and refused when writing. Reading takes packed and unpacked numbers; writing
 * is deterministic: fields by number, map entries by key. */
#pragma once

#include <stdbool.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/pb_schema.h"

#define PB_CODEC_DEPTH 64

struct pb_codec {
    struct pb_pool *pool; /* one reference */
    const struct pb_message *root;
    bool json_names;    /* lowerCamelCase instead of the declared names */
    bool defaults;      /* fill absent fields without presence with their zero values */
    bool base64_bytes;  /* bytes fields are base64 text in Lua */
    bool enum_numbers;  /* enum fields are numbers; else names, and numbers when unknown */
    bool int64_strings; /* 64-bit integers are always decimal strings; else only beyond 2^53 */
    bool finite;        /* refuse NaN and infinities */
    size_t max_bytes;   /* of an encoded message; 0: 256 MiB */
};

/* Pushes the array of names (field and enum value names by slot) that encode and decode take. */
void pb_codec_push_names(lua_State *L, const struct pb_pool *pool, bool json_names);

/* Pushes the table. names and mark are stack or upvalue indices: the array of names, the metatable
 * of arrays (json_mark.h). On failure pushes nothing; the message is "path.of.field: reason".
 * Raises only when Lua runs out of memory; scratch is for base64. *is_exact (may be NULL) tells that
 * pb_encode would give these bytes again; it may stay false for bytes of which that is true, too. */
int pb_decode(lua_State *L, const struct pb_codec *codec, int names, int mark, const char *data, size_t len,
              struct buf *scratch, bool *is_exact, struct err *err);

/* Appends the bytes of the table at idx. Never raises. */
int pb_encode(lua_State *L, const struct pb_codec *codec, int names, int idx, struct buf *out,
              struct err *err);
