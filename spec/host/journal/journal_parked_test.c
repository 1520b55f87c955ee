/* The table of parked keys: adding, finding, removing, and what it takes of memory. */
#include "journal/journal_parked.h"

#include "test.h"

enum { COUNT = 300000, STEPS = 200000, PRINTS = 512, BYTES_PER_KEY = 24 };

/* Well-spread fingerprints. */
static uint64_t print_of(uint64_t number)
{
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9U;
    number = (number ^ number >> 27) * 0x94d049bb133111ebU;
    return number ^ number >> 31;
}

static struct journal_parked_item item_of(uint64_t number)
{
    return (struct journal_parked_item){
        .place = number % 3 == 0 ? JOURNAL_PARKED_MAX_PLACE - number : number + 1,
        .count = number % 5 == 0 ? JOURNAL_PARKED_MAX_COUNT : (uint32_t)(number % 1000) + 1,
    };
}

static void check_item(const struct journal_parked *parked, uint64_t number, uint64_t print)
{
    struct journal_parked_item item;
    struct journal_parked_item expected = item_of(number);
    CHECK(journal_parked_find(parked, print, &item));
    CHECK(item.place == expected.place);
    CHECK_INT(item.count, expected.count);
}

TEST(many_keys_take_few_bytes_each)
{
    struct journal_parked *parked = journal_parked_new();
    for (uint64_t i = 1; i <= COUNT; i++) {
        CHECK(journal_parked_add(parked, print_of(i), item_of(i)));
        CHECK(i < 10000 || journal_parked_bytes(parked) <= BYTES_PER_KEY * i);
    }
    CHECK_INT(journal_parked_size(parked), COUNT);
    for (uint64_t i = 1; i <= COUNT; i++) {
        check_item(parked, i, print_of(i));
    }
    struct journal_parked_item item;
    CHECK(!journal_parked_find(parked, print_of(COUNT + 1), &item));
    CHECK(!journal_parked_add(parked, print_of(7), item_of(8)));
    check_item(parked, 7, print_of(7));
    printf("# %.1f bytes per key\n", (double)journal_parked_bytes(parked) / COUNT);
    for (uint64_t i = 1; i <= COUNT - 100; i++) {
        journal_parked_remove(parked, print_of(i));
    }
    for (uint64_t i = COUNT - 99; i <= COUNT; i++) {
        check_item(parked, i, print_of(i));
    }
    CHECK(journal_parked_bytes(parked) < 1 << 18); /* room is given back */
    journal_parked_free(parked);
}

/* Fingerprints that crowd together in few places. */
TEST(random_changes_agree_with_a_model)
{
    static uint64_t present[PRINTS]; /* the number that is stored, 0: none */
    struct journal_parked *parked = journal_parked_new();
    size_t size = 0;
    for (uint64_t step = 1; step <= STEPS; step++) {
        uint64_t dice = print_of(step);
        size_t which = dice % PRINTS;
        uint64_t print = (which % 3) << 56 | (which / 3 % 7 == 0 ? (which << 47) : which);
        if (dice >> 32 & 1) {
            CHECK(journal_parked_add(parked, print, item_of(step)) == (present[which] == 0));
            size += present[which] == 0;
            present[which] = present[which] == 0 ? step : present[which];
        } else if (present[which] != 0) {
            journal_parked_remove(parked, print);
            present[which] = 0;
            size--;
        }
        struct journal_parked_item item;
        CHECK(journal_parked_find(parked, print, &item) == (present[which] != 0));
        if (present[which] != 0) {
            check_item(parked, present[which], print);
        }
        CHECK_INT(journal_parked_size(parked), size);
    }
    journal_parked_free(parked);
}

int main(void)
{
    RUN(many_keys_take_few_bytes_each);
    RUN(random_changes_agree_with_a_model);
    return 0;
}
