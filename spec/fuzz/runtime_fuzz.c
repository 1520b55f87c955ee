/* Bytes from outside, given to the Lua functions that read them: envelopes, payloads, credentials, policies,
 * stored records. runtime_fuzz.lua has a function for each; the first byte chooses. They raise only when
 * something is wrong. Lua is read from the tree, so the target runs at its top. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>

#include "loop/loop.h"
#include "lua/vm.h"

enum { MAX_COUNTERS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void); /* NOLINT: the sanitizer's name */

/* What collected objects own is freed when they are, and nobody but Lua sees its references. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* libFuzzer sees no Lua. Lines that run are counted here, which it takes for coverage of its own. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[MAX_COUNTERS];

static void on_line(lua_State *L, lua_Debug *ar)
{
    (void)lua_getinfo(L, "S", ar);
    uint32_t hash = (uint32_t)ar->currentline * 2654435761U;
    for (const char *p = ar->short_src; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619U;
    }
    uint8_t *counter = &counters[(hash >> 8) % MAX_COUNTERS];
    if (*counter < UINT8_MAX) {
        (*counter)++;
    }
}

static void fail(lua_State *L, const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, lua_tostring(L, -1));
    abort();
}

static lua_State *boot(void)
{
    struct err err;
    struct loop *loop = NULL;
    struct vm *vm = NULL;
    if (loop_open(&loop, &err) != 0 || vm_open(loop, ".", 0, NULL, &vm, &err) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
    lua_State *L = vm_state(vm);
    if (luaL_dofile(L, "spec/fuzz/runtime_fuzz.lua") != 0) {
        fail(L, "load");
    }
    (void)lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = boot();
    }
    if (size == 0) {
        return 0;
    }
    lua_pushvalue(L, -1); /* stack: entry, entry */
    lua_pushinteger(L, data[0]);
    lua_pushlstring(L, (const char *)data + 1, size - 1);
    if (lua_pcall(L, 2, 0, 0) != 0) {
        fail(L, "an input makes a reader raise");
    }
    return 0;
}
