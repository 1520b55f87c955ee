/* The seed of tests that throw dice, printed so that a run can be repeated. As spec/support/seed.lua: the
 * same in every ordinary run; TEST_SEED=N asks for another, TEST_SEED=random draws one, and so does
 * TEST_LONG=1. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline unsigned test_seed(void)
{
    const char *given = getenv("TEST_SEED");
    const char *variant = getenv("TEST_LONG");
    if (given == NULL && variant != NULL && strcmp(variant, "1") == 0) {
        given = "random";
    }
    unsigned seed = 20261121;
    if (given != NULL) {
        seed = strcmp(given, "random") == 0 ? (unsigned)time(NULL) : (unsigned)strtoul(given, NULL, 10);
    }
    printf("# TEST_SEED=%u\n", seed);
    (void)fflush(stdout);
    return seed;
}
