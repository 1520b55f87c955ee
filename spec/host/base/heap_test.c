#include "base/heap.h"

#include <stdint.h>
#include <string.h>

#include "test.h"

TEST(a_block_keeps_its_bytes_when_it_changes_size)
{
    char *block = heap_resize(NULL, 0, 10);
    CHECK(block != NULL);
    memcpy(block, "0123456789", 10);
    block = heap_resize(block, 10, 100000);
    CHECK(memcmp(block, "0123456789", 10) == 0);
    memset(block + 10, 'x', 100000 - 10);
    block = heap_resize(block, 100000, 5);
    CHECK(memcmp(block, "01234", 5) == 0);
    CHECK(heap_resize(block, 5, 0) == NULL);
    CHECK(heap_resize(NULL, 0, 0) == NULL);
    heap_trim();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* which end the program instead */
#define IS_SANITIZED
#endif

#ifndef IS_SANITIZED
TEST(too_large_a_block_is_refused_and_the_old_one_stays)
{
    char *block = heap_resize(NULL, 0, 8);
    memcpy(block, "abcdefg", 8);
    volatile size_t too_large = SIZE_MAX / 2;
    CHECK(heap_resize(block, 8, too_large) == NULL);
    CHECK(memcmp(block, "abcdefg", 8) == 0);
    CHECK(heap_resize(block, 8, 0) == NULL);
}
#endif

int main(void)
{
    RUN(a_block_keeps_its_bytes_when_it_changes_size);
#ifndef IS_SANITIZED
    RUN(too_large_a_block_is_refused_and_the_old_one_stays);
#endif
    return 0;
}
