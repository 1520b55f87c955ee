/* Parked keys: what leaves memory, what brings it back, and what happens when the file for it does not work.
 * The contract and the crash tests run with parked keys as well. */
#include "journal/journal_contract.h"

#include <malloc.h>

#include "journal/journal_index.h"
#include "journal/journal_spill.h"

enum { KEYS = 100000, BYTES_PER_KEY = 24 };

static struct journal_stats stats_of(struct journal *journal)
{
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    return stats;
}

static void park(struct journal *journal, const char *key)
{
    journal->ops->park(journal, key, strlen(key));
}

static void wait_parked(struct journal *journal, uint64_t count)
{
    while (stats_of(journal).parked != count) {
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
}

/* A journal with a, which has two records, parked. */
static struct journal *open_with_parked(void)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 0);
    help_append(journal, "a", "1");
    help_append(journal, "a", "2");
    park(journal, "a");
    wait_parked(journal, 1);
    return journal;
}

static void end(struct journal *journal)
{
    help_close(journal);
    help_wipe(help_dir());
}

TEST(a_parked_key_is_what_it_was)
{
    struct journal *journal = open_with_parked();
    CHECK_INT(stats_of(journal).keys, 1);
    CHECK_INT(contract_count(journal, "a"), 2);
    CHECK_INT(contract_with_pending(journal, "a"), 2);
    CHECK_INT(contract_key_count(journal), 1);
    CHECK_INT(stats_of(journal).parked, 1);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    CHECK_INT(stats_of(journal).parked, 0); /* for a while */
    park(journal, "a");
    park(journal, "nobody");
    CHECK_INT(stats_of(journal).keys, 1);
    end(journal);
}

TEST(a_parked_key_can_be_changed_at_once)
{
    struct journal *journal = open_with_parked();
    help_append(journal, "a", "3");
    CHECK_STR(help_read(journal, "a"), "1,2,3,");
    park(journal, "a");
    wait_parked(journal, 1);
    CHECK_INT(help_wait(journal, contract_replace(journal, "a", "r,s")), 0);
    CHECK_STR(help_read(journal, "a"), "r,s,");
    CHECK_INT(stats_of(journal).parked, 0);
    park(journal, "a");
    wait_parked(journal, 1);
    help_remove(journal, "a");
    CHECK_STR(help_read(journal, "a"), "");
    CHECK_INT(stats_of(journal).keys, 0);
    help_append(journal, "a", "again");
    journal = (help_close(journal), help_open(help_dir(), 0));
    CHECK_STR(help_read(journal, "a"), "again,");
    end(journal);
}

TEST(a_key_that_changes_while_it_is_written_stays)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 0);
    help_append(journal, "a", "1");
    for (int i = 0; i < 50; i++) {
        park(journal, "a");
        for (int turns = 0; turns < i % 5; turns++) {
            (void)uv_run(loop_uv(help_loop), UV_RUN_NOWAIT);
        }
        help_append(journal, "a", "x");
        CHECK_INT(contract_count(journal, "a"), i + 2);
    }
    CHECK_INT(stats_of(journal).parked, 0);
    CHECK_INT(stats_of(journal).keys, 1);
    end(journal);
}

TEST(what_is_pending_is_parked_when_it_is_durable)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 0);
    uint64_t lsn = help_add(journal, "a", "1");
    park(journal, "a");
    CHECK_INT(stats_of(journal).parked, 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    wait_parked(journal, 1);
    CHECK_STR(help_read(journal, "a"), "1,");
    end(journal);
}

TEST(a_read_beside_the_end_of_the_journal_completes)
{
    struct journal *journal = open_with_parked();
    static struct buf out;
    struct help_text text = {.out = &out};
    (void)journal->ops->read(journal, "a", 1, 1, 10, 100, help_on_records, &text);
    bool is_closed = false;
    journal->ops->close(journal, help_on_flag, &is_closed);
    help_run_until(&is_closed);
    CHECK(text.is_done);
    help_wipe(help_dir());
}

/* With one bit, half of all names have the fingerprint of the parked key. */
TEST(a_name_with_the_fingerprint_of_a_parked_key_is_told_apart)
{
    help_parking.print_bits = 1;
    struct journal *journal = open_with_parked();
    int same = 0;
    for (int i = 0; i < 64; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%d", i);
        if (stats_of(journal).parked == 0) {
            park(journal, "a");
            wait_parked(journal, 1);
        }
        bool is_same = contract_count(journal, name) > 0;
        same += is_same;
        uint64_t lsn;
        uint64_t index;
        struct err err;
        if (i % 4 == 0) { /* not read before */
            CHECK(journal->ops->remove(journal, name, strlen(name), &lsn, &err) == ERR_NOT_FOUND);
        } else if (i % 4 == 1) {
            CHECK_INT(journal->ops->append(journal, name, strlen(name), "x", 1, &lsn, &index, &err), 0);
            CHECK_INT(index, 1);
            CHECK_INT(help_wait(journal, lsn), 0);
            CHECK_STR(help_read(journal, name), "x,");
            help_remove(journal, name);
        } else {
            CHECK_STR(help_read(journal, name), "");
        }
        CHECK_INT(contract_count(journal, name), 0);
        CHECK_INT(stats_of(journal).parked, is_same ? 0 : 1); /* the other one stays in memory */
    }
    CHECK(same > 10 && same < 54);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    end(journal);
    help_parking.print_bits = 0;
}

TEST(a_log_that_is_too_long_for_a_chunk_stays)
{
    help_parking.chunk_bytes = 64;
    struct journal *journal = open_with_parked();
    for (int i = 0; i < 100; i++) {
        (void)help_add(journal, "long", "x");
    }
    help_append(journal, "long", "y");
    park(journal, "long");
    help_append(journal, "b", "1");
    park(journal, "b");
    wait_parked(journal, 2);
    CHECK_INT(contract_count(journal, "long"), 101);
    CHECK_INT(stats_of(journal).keys, 3);
    end(journal);
    help_parking.chunk_bytes = 0;
}

TEST(segments_of_parked_keys_are_compacted)
{
    help_parking.recent = 10;
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 8192);
    char key[16];
    for (int i = 0; i < 400; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        (void)help_add(journal, key, key);
        help_append(journal, key, "second");
        park(journal, key);
    }
    wait_parked(journal, 400);
    uint64_t before = stats_of(journal).segments;
    for (int i = 0; i < 400; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        if (i % 8 != 0) {
            help_remove(journal, key);
        }
    }
    while (stats_of(journal).segments > before / 2) { /* the removals have made it longer meanwhile */
        help_append(journal, "on", "and on");
    }
    while (stats_of(journal).parked < 40) { /* those that were moved are parked again, but for the last */
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 400; i += 8) {
            char expected[32];
            (void)snprintf(key, sizeof(key), "k%d", i);
            (void)snprintf(expected, sizeof(expected), "%s,second,", key);
            CHECK_STR(help_read(journal, key), expected);
        }
        journal = (help_close(journal), help_open(help_dir(), 8192));
    }
    end(journal);
    help_parking.recent = 0;
}

TEST(a_chunk_is_used_again_when_nobody_needs_its_entries)
{
    struct journal_spill *spill = journal_spill_new(NULL, 4096);
    struct journal_index *index = journal_index_new(false);
    struct journal_key *key = journal_index_add(index, "name", 4);
    journal_key_set(key, 1, journal_place(1, 64));
    struct buf entry = {0};
    struct err err;
    size_t size = journal_spill_encode(&entry, key);
    uint64_t places[64] = {0};
    uint64_t kept = journal_spill_reserve(spill, size, true); /* one is needed for ever */
    CHECK_INT(journal_spill_write(spill, kept, entry.data, size, &err), 0);
    for (int i = 0; i < 100000; i++) {
        uint64_t *place = &places[i % 64];
        if (*place != 0) {
            journal_spill_drop(spill, *place);
        }
        *place = journal_spill_reserve(spill, size, true);
        CHECK(*place != 0 && *place != kept);
    }
    CHECK(journal_spill_bytes(spill) <= 4 * 4096);
    journal_spill_hold(spill, 1); /* a reader may be at any of them */
    uint64_t before = journal_spill_bytes(spill);
    for (int i = 0; i < 1000; i++) {
        journal_spill_drop(spill, journal_spill_reserve(spill, size, true));
    }
    CHECK(journal_spill_bytes(spill) > before);
    struct buf out = {0};
    CHECK_INT(journal_spill_read(spill, kept, &out, &err), 0);
    CHECK(out.len == size && memcmp(out.data, entry.data, size) == 0);
    out.data[size - 1] ^= 1;
    struct journal_spill_item item;
    CHECK(!journal_spill_decode(out.data, out.len, &item, &size));
    buf_deinit(&out);
    buf_deinit(&entry);
    journal_index_free(index);
    journal_spill_free(spill);
}

TEST(places_come_back_as_they_were)
{
    struct journal_index *index = journal_index_new(false);
    struct journal_key *key = journal_index_add(index, "name", 4);
    const uint64_t places[] = {
        journal_place(1, 64), journal_place(1, 72),         journal_place(9, 64),
        journal_place(2, 0),  journal_place(UINT32_MAX, 8), journal_place(1, UINT32_MAX),
    };
    enum { PLACES = sizeof(places) / sizeof(places[0]) };
    for (uint32_t i = 0; i < PLACES; i++) {
        journal_key_set(key, i + 1, places[i]);
    }
    key->epoch = UINT64_MAX - 7;
    struct buf entry = {0};
    size_t size = journal_spill_encode(&entry, key);
    struct journal_spill_item item;
    CHECK(journal_spill_decode(entry.data, entry.len, &item, &size));
    CHECK(size == entry.len && item.epoch == key->epoch && item.count == PLACES);
    CHECK(item.name_len == 4 && memcmp(item.name, "name", 4) == 0);
    uint64_t *back = journal_spill_places(&item);
    CHECK(memcmp(back, places, sizeof(places)) == 0);
    free(back);
    CHECK(!journal_spill_decode(entry.data, entry.len - 1, &item, &size));
    buf_deinit(&entry);
    journal_index_free(index);
}

int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
    __attribute__((weak)); /* jemalloc's, in a program that has it */

/* Bytes that are allocated; 0: nobody knows. */
static size_t allocated(void)
{
    if (mallctl != NULL) {
        uint64_t epoch = 1;
        size_t bytes = 0;
        size_t len = sizeof(bytes);
        CHECK_INT(mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)), 0); /* counts anew */
        CHECK_INT(mallctl("stats.allocated", &bytes, &len, NULL, 0), 0);
        return bytes;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

static void store_and_park(struct journal *journal, int from, int count)
{
    char key[64];
    uint64_t lsn = 0;
    for (int i = from; i < from + count; i++) {
        (void)snprintf(key, sizeof(key), "session-%08d-0123456789abcdef", i);
        for (int n = 0; n < 4; n++) {
            lsn = help_add(journal, key, "a record");
        }
        park(journal, key);
        if (i % 500 == 499) {
            CHECK_INT(help_wait(journal, lsn), 0);
        }
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    wait_parked(journal, (uint64_t)from + (uint64_t)count);
}

TEST(a_parked_key_takes_a_few_bytes)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 1 << 30);
    store_and_park(journal, 0, KEYS / 10); /* what is only taken once */
    size_t before = allocated();
    store_and_park(journal, KEYS / 10, KEYS);
    size_t after = allocated();
    double each = ((double)after - (double)before) / KEYS;
    printf("# %.1f bytes per key of 4 records\n", each);
    CHECK(each <= BYTES_PER_KEY);
    end(journal);
}

#ifdef MACP_FAULTS
TEST(keys_stay_when_the_file_cannot_be_written)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 0);
    help_append(journal, "a", "1");
    help_append(journal, "b", "1");
    fault_arm("journal.spill_write", "fail", 0);
    park(journal, "a");
    for (int i = 0; i < 20; i++) {
        help_append(journal, "c", "x");
    }
    fault_arm("journal.spill_write", NULL, 0);
    park(journal, "b");
    help_append(journal, "a", "2");
    CHECK_INT(stats_of(journal).parked, 0);
    CHECK_INT(stats_of(journal).keys, 3);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    CHECK_STR(help_read(journal, "b"), "1,");
    end(journal);
}

TEST(a_file_that_cannot_be_read_is_told_and_changes_nothing)
{
    struct journal *journal = open_with_parked();
    fault_arm("journal.spill_read", "fail", 0);
    CHECK_STR(help_read(journal, "a"), "!IO");
    uint64_t lsn;
    uint64_t index;
    struct err err;
    CHECK_INT(journal->ops->append(journal, "a", 1, "3", 1, &lsn, &index, &err), ERR_IO);
    CHECK(strstr(err.text, "read a temporary file in ") != NULL);
    CHECK_INT(journal->ops->remove(journal, "a", 1, &lsn, &err), ERR_IO);
    struct journal_record record = {.data = "r", .len = 1};
    CHECK_INT(journal->ops->replace(journal, "a", 1, &record, 1, &lsn, &err), ERR_IO);
    struct journal_scan *scan = journal->ops->scan_open(journal, &err);
    static struct buf out;
    struct help_text text = {.out = &out};
    (void)journal->ops->scan_next(scan, help_on_records, &text);
    help_run_until(&text.is_done);
    CHECK_INT(text.code, ERR_IO);
    journal->ops->scan_close(scan);
    CHECK_INT(contract_count(journal, "a"), 2);
    fault_arm("journal.spill_read", NULL, 0);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    help_append(journal, "a", "3");
    CHECK_STR(help_read(journal, "a"), "1,2,3,");
    end(journal);
}
#endif

static void run_store(const char *backend)
{
    printf("# %s\n", backend);
    help_backend = backend;
    RUN(a_parked_key_is_what_it_was);
    RUN(a_parked_key_can_be_changed_at_once);
    RUN(a_key_that_changes_while_it_is_written_stays);
    RUN(what_is_pending_is_parked_when_it_is_durable);
    RUN(a_read_beside_the_end_of_the_journal_completes);
    RUN(a_name_with_the_fingerprint_of_a_parked_key_is_told_apart);
#ifdef MACP_FAULTS
    RUN(keys_stay_when_the_file_cannot_be_written);
    RUN(a_file_that_cannot_be_read_is_told_and_changes_nothing);
#endif
}

int main(void)
{
    help_start();
    RUN(a_chunk_is_used_again_when_nobody_needs_its_entries);
    RUN(places_come_back_as_they_were);
#ifdef MACP_ROCKSDB
    run_store("rocksdb");
#else
    printf("# rocksdb: skipped, this build has no RocksDB\n");
#endif
    run_store("file");
    RUN(a_log_that_is_too_long_for_a_chunk_stays);
    RUN(segments_of_parked_keys_are_compacted);
    RUN(a_parked_key_takes_a_few_bytes);
    help_end();
    return 0;
}
