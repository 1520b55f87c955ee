/* Isolates through their C interface: entries, failures, memory accounting, the cap. */
#include "lua/isolate.h"

#include <string.h>

#include "test.h"

static const char boot_text[] =
    "local M = {}\n"
    "function M.add(a, b) return a + b end\n"
    "function M.fail()\n"
    "  error('broken')\n"
    "end\n"
    "function M.grow(n) local t = {} for i = 1, n do t[i] = { i } end return #t end\n"
    "function M.keep(n) kept = {} for i = 1, n do kept[i] = { i } end end\n"
    "function M.drop() kept = nil end\n"
    "function M.loop() while true do end end\n"
    "return M\n";

static struct isolate *boot(size_t memory_bytes)
{
    struct isolate_opts opts = {.name = "test", .memory_bytes = memory_bytes};
    struct isolate *isolate = isolate_new(&opts);
    CHECK_INT(isolate_boot(isolate, "=boot", boot_text, strlen(boot_text)), 0);
    return isolate;
}

static int call(struct isolate *isolate, const char *entry, double arg, const struct isolate_limits *limits)
{
    lua_State *L = isolate_begin(isolate, isolate_entry(isolate, entry));
    lua_pushnumber(L, arg);
    return isolate_run(isolate, 1, limits);
}

TEST(calls_entries)
{
    struct isolate *isolate = boot(0);
    int add = isolate_entry(isolate, "add");
    CHECK(add >= 0);
    CHECK_INT(isolate_entry(isolate, "missing"), -1);
    for (int i = 0; i < 100; i++) {
        lua_State *L = isolate_begin(isolate, add);
        lua_pushnumber(L, i);
        lua_pushnumber(L, 2);
        CHECK_INT(isolate_run(isolate, 2, NULL), 0);
        CHECK_INT(lua_gettop(L), ISOLATE_FIRST_RESULT);
        CHECK_INT(lua_tonumber(L, ISOLATE_FIRST_RESULT), i + 2);
    }
    isolate_free(isolate);
}

TEST(replaces_entries_on_a_second_boot)
{
    struct isolate *isolate = boot(0);
    int add = isolate_entry(isolate, "add");
    const char *text = "return { add = function(a, b) return a - b end, more = function() return 1 end }";
    CHECK_INT(isolate_boot(isolate, "=more", text, strlen(text)), 0);
    CHECK_INT(isolate_entry(isolate, "add"), add);
    CHECK(isolate_entry(isolate, "more") >= 0);
    lua_State *L = isolate_begin(isolate, add);
    lua_pushnumber(L, 5);
    lua_pushnumber(L, 2);
    CHECK_INT(isolate_run(isolate, 2, NULL), 0);
    CHECK_INT(lua_tonumber(L, ISOLATE_FIRST_RESULT), 3);
    isolate_free(isolate);
}

TEST(explains_failures)
{
    struct isolate *isolate = boot(0);
    CHECK_INT(call(isolate, "fail", 0, NULL), ERR_SCRIPT);
    const struct isolate_failure *failure = isolate_last_failure(isolate);
    CHECK_STR(failure->message, "broken");
    CHECK_STR(failure->file, "boot");
    CHECK_INT(failure->line, 4);
    CHECK(strstr(failure->traceback, "boot:4") != NULL);
    CHECK_INT(call(isolate, "missing", 0, NULL), ERR_SCRIPT);
    CHECK_STR(isolate_last_failure(isolate)->message, "attempt to call a nil value");
    isolate_free(isolate);
}

TEST(counts_instructions)
{
    struct isolate *isolate = boot(0);
    struct isolate_limits limits = {.instructions = 50000};
    CHECK_INT(call(isolate, "loop", 0, &limits), ERR_LIMIT);
    CHECK_STR(isolate_last_failure(isolate)->message, "instruction limit exceeded (50000)");
    CHECK(isolate_last_instructions(isolate) >= 50000 && isolate_last_instructions(isolate) < 60000);
    /* The budget is per call: many calls below it pass. */
    for (int i = 0; i < 100; i++) {
        CHECK_INT(call(isolate, "grow", 100, &limits), 0);
    }
    isolate_free(isolate);
}

TEST(limits_growth_of_live_memory)
{
    struct isolate *isolate = boot(0);
    struct isolate_limits limits = {.growth_bytes = 1 << 20};
    CHECK_INT(call(isolate, "keep", 1000, &limits), 0);
    CHECK_INT(call(isolate, "keep", 1000000, &limits), ERR_LIMIT);
    CHECK(strstr(isolate_last_failure(isolate)->message, "memory limit exceeded") != NULL);
    CHECK_INT(isolate_last_failure(isolate)->line, 7);
    CHECK_INT(call(isolate, "drop", 0, &limits), 0);
    isolate_collect(isolate);
    CHECK(isolate_used(isolate) < 100000);
    isolate_free(isolate);
}

TEST(survives_its_memory_cap_again_and_again)
{
    struct isolate *isolate = boot(2 << 20);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(call(isolate, "grow", 1000000, NULL), ERR_LIMIT);
        CHECK_INT(call(isolate, "grow", 100, NULL), 0);
    }
    isolate_free(isolate);
}

TEST(refuses_bad_boot_chunks)
{
    struct isolate *isolate = isolate_new(&(struct isolate_opts){0});
    static const char *const texts[] = {"return 1", "return { a = 1 }", "return { function() end }",
                                        "x = = 1", "error('no')"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK_INT(isolate_boot(isolate, "=boot", texts[i], strlen(texts[i])), ERR_SCRIPT);
        CHECK_STR(isolate_last_failure(isolate)->file, "boot");
    }
    isolate_free(isolate);
    isolate_free(NULL);
}

int main(void)
{
    RUN(calls_entries);
    RUN(replaces_entries_on_a_second_boot);
    RUN(explains_failures);
    RUN(counts_instructions);
    RUN(limits_growth_of_live_memory);
    RUN(survives_its_memory_cap_again_and_again);
    RUN(refuses_bad_boot_chunks);
    return 0;
}
