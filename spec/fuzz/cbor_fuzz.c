/* Stored state: never crashes; what decodes encodes deterministically: once more around gives the
 * same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "lua/cbor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    struct buf first = {0};
    struct buf second = {0};
    struct err err;
    if (L == NULL) {
        L = luaL_newstate();
    }
    if (cbor_decode(L, (const char *)data, size, &err) == 0 &&
        cbor_encode(L, -1, "state", 1 << 20, &first, &err) == 0) {
        if (cbor_decode(L, first.data, first.len, &err) != 0 ||
            cbor_encode(L, -1, "state", 1 << 20, &second, &err) != 0 || first.len != second.len ||
            memcmp(first.data, second.data, first.len) != 0) {
            abort();
        }
    }
    lua_settop(L, 0);
    buf_deinit(&first);
    buf_deinit(&second);
    return 0;
}
