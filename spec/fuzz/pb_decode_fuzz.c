/* Protobuf bytes of a message with every type, under all codec options; and descriptor sets. What
 * decodes must encode, and decode to the same bytes again; what is said to be exact must encode to what it
 * was. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "all_types.h"
#include "base/buf.h"
#include "lua/json_mark.h"
#include "lua/pb_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* stack: names, mark */
static void round_trip(lua_State *L, const struct pb_codec *codec, const char *data, size_t size)
{
    struct buf first = {0};
    struct buf second = {0};
    struct buf scratch = {0};
    struct err err;
    bool is_exact;
    if (pb_decode(L, codec, 1, 2, data, size, &scratch, &is_exact, &err) == 0) {
        if (pb_encode(L, codec, 1, -1, &first, &err) != 0 ||
            (is_exact && (first.len != size || (size > 0 && memcmp(first.data, data, size) != 0))) ||
            pb_decode(L, codec, 1, 2, first.data, first.len, &scratch, NULL, &err) != 0 ||
            pb_encode(L, codec, 1, -1, &second, &err) != 0 || first.len != second.len ||
            (first.len > 0 && memcmp(first.data, second.data, first.len) != 0)) {
            abort();
        }
    }
    buf_deinit(&first);
    buf_deinit(&second);
    buf_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    static struct pb_pool *pool;
    struct err err;
    if (L == NULL) {
        L = luaL_newstate();
        pool = pb_pool_from_set(all_types_set, sizeof(all_types_set), &err);
    }
    if (size == 0) {
        return 0;
    }
    if (data[0] == 0xFF) {
        pb_pool_unref(pb_pool_from_set(data + 1, size - 1, &err));
        return 0;
    }
    struct pb_codec codec = {
        .pool = pool,
        .root = pb_pool_find(pool, "t.All"),
        .json_names = data[0] & 1,
        .defaults = data[0] & 2,
        .base64_bytes = data[0] & 4,
        .enum_numbers = data[0] & 8,
        .int64_strings = data[0] & 16,
        .finite = data[0] & 32,
    };
    pb_codec_push_names(L, pool, codec.json_names);
    json_mark_push(L, JSON_MARK_ARRAY);
    round_trip(L, &codec, (const char *)data + 1, size - 1);
    lua_settop(L, 0);
    return 0;
}
