/* The index of keys: finding, growing, dropping, and places. */
#include "journal/journal_index.h"

#include <stdbool.h>

#include "test.h"

enum { COUNT = 20000 };

static size_t name_of(char out[32], int i)
{
    return (size_t)snprintf(out, 32, "key-%d-%s", i, i % 3 == 0 ? "long-suffix" : "s");
}

TEST(finds_what_was_added)
{
    struct journal_index *index = journal_index_new(false);
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        struct journal_key *key = journal_index_add(index, name, name_of(name, i));
        CHECK(key->count == 0);
        journal_key_set(key, 1, journal_place(1, (uint64_t)i * 8 + 64));
        CHECK(journal_index_add(index, name, name_of(name, i)) == key);
    }
    CHECK_INT(journal_index_size(index), COUNT);
    for (int i = 0; i < COUNT; i += 2) {
        journal_index_drop(index, journal_index_find(index, name, name_of(name, i)));
    }
    for (int i = 0; i < COUNT; i++) {
        const struct journal_key *key = journal_index_find(index, name, name_of(name, i));
        CHECK((key != NULL) == (i % 2 == 1));
        if (key != NULL) {
            CHECK_INT(journal_place_offset(key->places[0]), i * 8 + 64);
        }
    }
    size_t cursor = 0;
    int seen = 0;
    while (journal_index_next(index, &cursor) != NULL) {
        seen++;
    }
    CHECK_INT(seen, COUNT / 2);
    journal_index_free(index);
}

TEST(logs_grow_with_gaps)
{
    struct journal_index *index = journal_index_new(false);
    struct journal_key *key = journal_index_add(index, "k", 1);
    journal_key_set(key, 100, journal_place(3, 4096));
    CHECK_INT(key->count, 100);
    CHECK_INT(key->places[98], 0);
    CHECK_INT(journal_place_seq(key->places[99]), 3);
    CHECK_INT(journal_place_offset(key->places[99]), 4096);
    journal_key_stage(key, 5, 2, journal_place(4, 64));
    journal_key_stage(key, 6, 1, journal_place(4, 128)); /* another attempt: the first is forgotten */
    CHECK_INT(key->staged->epoch, 6);
    CHECK_INT(key->staged->count, 1);
    journal_key_clear(key);
    CHECK_INT(key->count, 0);
    journal_index_free(index);
}

int main(void)
{
    RUN(finds_what_was_added);
    RUN(logs_grow_with_gaps);
    return 0;
}
