/* A very small test harness for host modules: cases run in order, the first failed check ends the program.
 *
 *     TEST(name) { CHECK(1 + 1 == 2); }
 *     TEST_MAIN(name, ...)
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST(name) static void test_##name(void)

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);                    \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_INT(actual, expected)                                                                          \
    do {                                                                                                     \
        long long check_a = (long long)(actual);                                                             \
        long long check_b = (long long)(expected);                                                           \
        if (check_a != check_b) {                                                                            \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #actual, check_a,      \
                    check_b);                                                                                \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_STR(actual, expected)                                                                          \
    do {                                                                                                     \
        const char *check_a = (actual);                                                                      \
        const char *check_b = (expected);                                                                    \
        if (check_a == NULL || strcmp(check_a, check_b) != 0) {                                              \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #actual,           \
                    check_a == NULL ? "(null)" : check_a, check_b);                                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define RUN(name)                                                                                            \
    do {                                                                                                     \
        test_##name();                                                                                       \
        printf("ok %s\n", #name);                                                                            \
    } while (0)
