/* JSON text: never crashes; what decodes encodes again, and that text decodes and encodes to
 * itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "lua/json_decode.h"
#include "lua/json_encode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static lua_State *L;
static struct buf scratch;

/* Decodes a NUL-terminated copy, as the callers' Lua strings are. */
static int decode(const void *data, size_t size)
{
    struct err err;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    int status = json_decode(L, text, size, NULL, &scratch, &err);
    free(text);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct json_encode_opts sorted = {.sorted = true, .max_depth = 65};
    struct buf first = {0};
    struct buf second = {0};
    struct err err;
    if (L == NULL) {
        L = luaL_newstate();
    }
    if (decode(data, size) == 0) {
        if (json_encode(L, -1, &sorted, &first, &err) != 0 || decode(first.data, first.len) != 0 ||
            json_encode(L, -1, &sorted, &second, &err) != 0 || first.len != second.len ||
            memcmp(first.data, second.data, first.len) != 0) {
            abort();
        }
    }
    lua_settop(L, 0);
    buf_deinit(&first);
    buf_deinit(&second);
    return 0;
}
