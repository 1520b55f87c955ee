/* Version 7 identifiers under a clock that stands still, runs back or over the counter. */
#include "crypto/uuid.h"

#include <string.h>

#include "test.h"

static void next(struct uuid_clock *clock, uint64_t now_ms, char out[UUID_LEN + 1])
{
    struct err err;
    CHECK_INT(uuid_v7(clock, now_ms, out, &err), 0);
}

TEST(carries_the_time)
{
    struct uuid_clock clock = {0};
    char text[UUID_LEN + 1];
    next(&clock, 0x017F22E279B0, text);
    CHECK(strncmp(text, "017f22e2-79b0-7", 15) == 0);
    CHECK(strchr("89ab", text[19]) != NULL);
}

TEST(ascends_when_the_clock_does_not)
{
    struct uuid_clock clock = {0};
    char last[UUID_LEN + 1];
    char text[UUID_LEN + 1];
    next(&clock, 2000, last);
    for (int i = 0; i < 10000; i++) {
        next(&clock, i % 3 == 0 ? 1000 : 2000, text);
        CHECK(strcmp(text, last) > 0);
        memcpy(last, text, sizeof(last));
    }
}

TEST(ascends_when_the_counter_runs_over)
{
    struct uuid_clock clock = {.last_ms = 2000, .counter = ((uint32_t)1 << 26) - 2};
    char last[UUID_LEN + 1];
    char text[UUID_LEN + 1];
    next(&clock, 2000, last);
    CHECK_INT(clock.last_ms, 2000);
    next(&clock, 2000, text);
    CHECK_INT(clock.last_ms, 2001);
    CHECK(strcmp(text, last) > 0);
}

TEST(hashes_names)
{
    char text[UUID_LEN + 1];
    struct err err;
    const char *dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    CHECK_INT(uuid_v5(dns, strlen(dns), "www.example.com", 15, text, &err), 0);
    CHECK_STR(text, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    CHECK_INT(uuid_v5(dns, 35, "x", 1, text, &err), ERR_INVALID);
    CHECK_INT(uuid_v5("6ba7b810x9dad-11d1-80b4-00c04fd430c8", 36, "x", 1, text, &err), ERR_INVALID);
    CHECK_INT(uuid_v5("6ba7b810-9dad-11d1-80b4-00c04fd430cg", 36, "x", 1, text, &err), ERR_INVALID);
}

int main(void)
{
    RUN(carries_the_time);
    RUN(ascends_when_the_clock_does_not);
    RUN(ascends_when_the_counter_runs_over);
    RUN(hashes_names);
    return 0;
}
