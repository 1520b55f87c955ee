/* The tests of journal_contract.h; included by the programs that run them. */
#pragma once

#include "journal/journal_contract.h"
#include "journal/journal_contract_faults.h"
#include "journal/journal_contract_model.h"

TEST(each_log_is_numbered_from_1_and_lsns_grow)
{
    struct journal *journal = contract_fresh();
    struct err err;
    uint64_t lsn;
    uint64_t index;
    uint64_t before = journal->ops->durable(journal);
    for (uint64_t i = 1; i <= 3; i++) {
        for (const char *key = "ab"; *key != '\0'; key++) {
            CHECK_INT(journal->ops->append(journal, key, 1, "x", 1, &lsn, &index, &err), 0);
            CHECK_INT(index, i);
            CHECK(lsn > before);
            before = lsn;
        }
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_INT(journal->ops->check(journal, lsn, &err), 1);
    CHECK(journal->ops->durable(journal) >= lsn);
    CHECK_INT(journal->ops->check(journal, lsn + 1, &err), ERR_INVALID);
    CHECK_INT(journal->ops->check(journal, 0, &err), ERR_INVALID);
    CHECK_INT(help_wait(journal, lsn + 1), ERR_INVALID);
    CHECK_INT(journal->ops->failures(journal), 0);
    help_close(journal);
}

TEST(nothing_is_durable_before_its_flush)
{
    struct journal *journal = contract_fresh();
    uint64_t lsn = help_add(journal, "a", "1");
    struct err err;
    if (!contract->is_immediate) {
        struct journal_stats stats;
        CHECK_INT(journal->ops->check(journal, lsn, &err), 0);
        CHECK_INT(contract_count(journal, "a"), 0);
        CHECK_INT(contract_key_count(journal), 0);
        CHECK_STR(help_read(journal, "nobody"), "");
        journal->ops->stats(journal, &stats);
        CHECK(stats.appends == 1);
    }
    CHECK_INT(contract_with_pending(journal, "a"), 1);
    CHECK_INT(help_wait(journal, lsn), 0);
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.pending_bytes, 0);
    CHECK_INT(contract_count(journal, "a"), 1);
    CHECK_INT(contract_key_count(journal), 1);
    CHECK_STR(help_read(journal, "a"), "1,");
    help_close(journal);
}

struct contract_order {
    int *next;
    int seen;
    int code;
};

static void contract_on_order(void *arg, const struct err *err)
{
    struct contract_order *order = arg;
    order->seen = ++*order->next;
    order->code = err == NULL ? 0 : err->code;
}

TEST(waiters_run_in_order_and_a_cancelled_one_is_told_so)
{
    struct journal *journal = contract_fresh();
    int next = 0;
    struct contract_order orders[6] = {0};
    struct journal_op *cancelled = NULL;
    uint64_t lsn = help_add(journal, "a", "1");
    for (int i = 0; i < 6; i++) {
        orders[i].next = &next;
        struct journal_op *op = journal->ops->wait(journal, lsn, contract_on_order, &orders[i]);
        cancelled = i == 2 ? op : cancelled;
    }
    CHECK_INT(next, 0); /* never from inside the call */
    journal->ops->cancel(cancelled);
    CHECK_INT(next, 0);
    while (next < 6) {
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
    int last = 0;
    for (int i = 0; i < 6; i++) {
        CHECK_INT(orders[i].code, i == 2 ? ERR_CANCELLED : 0);
        if (i != 2) {
            CHECK(orders[i].seen > last);
            last = orders[i].seen;
        }
    }
    help_close(journal);
}

static struct help_text contract_read_part(struct journal *journal, const char *key, uint64_t from,
                                           size_t max_records, size_t max_bytes, struct buf *out)
{
    buf_clear(out);
    struct help_text text = {.out = out};
    (void)journal->ops->read(journal, key, strlen(key), from, max_records, max_bytes, help_on_records, &text);
    CHECK(!text.is_done);
    help_run_until(&text.is_done);
    buf_append_byte(out, '\0');
    return text;
}

TEST(reads_keep_to_their_bounds)
{
    struct journal *journal = contract_fresh();
    uint64_t lsn = 0;
    for (int i = 1; i <= 100; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%03d", i);
        lsn = help_add(journal, "k", text);
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    static const struct {
        uint64_t from;
        size_t records;
        size_t bytes;
        const char *expected;
    } cases[] = {
        {42, 2, 1000, "042,043,"}, {100, 5, 1000, "100,"},
        {101, 5, 1000, ""},        {1, 10, 7, "001,002,"},
        {1, 10, 1, "001,"},        {1, 10, 0, "001,"},
        {7, 0, 1000, ""},          {0, 5, 1000, ""},
        {UINT64_MAX, 5, 1000, ""}, {99, SIZE_MAX, SIZE_MAX, "099,100,"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT(
            contract_read_part(journal, "k", cases[i].from, cases[i].records, cases[i].bytes, &out).code, 0);
        CHECK_STR(out.data, cases[i].expected);
    }
    CHECK_INT(contract_read_part(journal, "unknown", 1, 5, 1000, &out).count, 0);
    buf_deinit(&out);
    help_close(journal);
}

TEST(keys_of_any_bytes_are_kept_apart)
{
    struct journal *journal = contract_fresh();
    static char keys[40][JOURNAL_KEY_MAX];
    size_t lens[40];
    size_t count = 0;
    static const struct {
        const char *bytes;
        size_t len;
    } odd[] = {{"\0", 1},     {"\0\0", 2}, {"\xff", 1},  {"\xff\xff", 2},
               {"a", 1},      {"a\0", 2},  {"a\0\0", 3}, {"a\0\0\0\0\0\0\0\1", 9},
               {"ab", 2},     {"\1", 1},   {"\1a", 2},   {"%s%n", 4},
               {"a\r\nb", 4}, {"a b", 3},  {"{a}", 3},   {"\xc3\x28", 2},
               {"'\"\\", 3},  {"a:b", 3},  {"*", 1},     {"../../x", 7}};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        memcpy(keys[count], odd[i].bytes, odd[i].len);
        lens[count++] = odd[i].len;
    }
    for (int fill = 0; fill < 256; fill += 51) {
        memset(keys[count], fill, JOURNAL_KEY_MAX);
        lens[count++] = JOURNAL_KEY_MAX;
        memset(keys[count], fill, JOURNAL_KEY_MAX - 1);
        lens[count++] = JOURNAL_KEY_MAX - 1;
    }
    uint64_t lsn = 0;
    uint64_t index;
    struct err err;
    for (int round = 1; round <= 2; round++) {
        for (size_t i = 0; i < count; i++) {
            char text[32];
            int len = snprintf(text, sizeof(text), "%zu.%d", i, round);
            CHECK_INT(journal->ops->append(journal, keys[i], lens[i], text, (size_t)len, &lsn, &index, &err),
                      0);
            CHECK_INT(index, round);
        }
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    for (int open = 0; open < (contract->is_durable ? 2 : 1); open++) {
        CHECK_INT(contract_key_count(journal), count);
        struct contract_scan *scan = contract_scan_all(journal);
        CHECK_INT(scan->key_count, count);
        for (size_t i = 0; i < count; i++) {
            char expected[64];
            (void)snprintf(expected, sizeof(expected), "%zu.1,%zu.2,", i, i);
            size_t slot = contract_slot(scan, keys[i], lens[i]);
            buf_append_byte(&scan->texts[slot], '\0');
            CHECK_STR(scan->texts[slot].data, expected);
        }
        if (open == 0 && contract->is_durable) {
            journal = contract_reopen(journal);
        }
    }
    help_close(journal);
}

struct contract_bytes {
    const char *expected;
    size_t len;
    bool is_done;
};

static void contract_on_bytes(void *arg, const struct journal_record *records, size_t count,
                              const struct err *err)
{
    struct contract_bytes *bytes = arg;
    CHECK(err == NULL);
    CHECK_INT(count, 1);
    CHECK_INT(records[0].len, bytes->len);
    CHECK(memcmp(records[0].data, bytes->expected, bytes->len) == 0);
    CHECK_INT(records[0].key_len, 1);
    CHECK_INT(records[0].key[0], 'k');
    bytes->is_done = true;
}

TEST(records_of_any_bytes_come_back_as_they_were)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 255, 256, 4095, 4096, 65535, 65536, 1 << 20};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    struct journal *journal = contract_fresh();
    char *data = malloc((1 << 20) + 1);
    for (size_t i = 0; i <= 1 << 20; i++) {
        data[i] = (char)(i * 2654435761U >> 11);
    }
    uint64_t lsn = 0;
    uint64_t index;
    struct err err;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_INT(journal->ops->append(journal, "k", 1, data + (i & 1), sizes[i], &lsn, &index, &err), 0);
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    for (int open = 0; open < (contract->is_durable ? 2 : 1); open++) {
        for (size_t i = 0; i < COUNT; i++) {
            struct contract_bytes bytes = {.expected = data + (i & 1), .len = sizes[i]};
            (void)journal->ops->read(journal, "k", 1, i + 1, 1, SIZE_MAX, contract_on_bytes, &bytes);
            help_run_until(&bytes.is_done);
        }
        if (open == 0 && contract->is_durable) {
            journal = contract_reopen(journal);
        }
    }
    free(data);
    help_close(journal);
}

static void contract_check_sizes(struct journal *journal, size_t max_record)
{
    char *data = calloc(1, max_record + 1);
    char key[JOURNAL_KEY_MAX + 1];
    memset(key, 'k', sizeof(key));
    uint64_t lsn;
    uint64_t index;
    struct err err;
    CHECK_INT(journal->ops->append(journal, key, 0, "", 0, &lsn, &index, &err), ERR_INVALID);
    CHECK_STR(err.text, "a journal key has 1 to 255 bytes, not 0");
    CHECK_INT(journal->ops->append(journal, key, sizeof(key), "", 0, &lsn, &index, &err), ERR_INVALID);
    CHECK_STR(err.text, "a journal key has 1 to 255 bytes, not 256");
    CHECK_INT(journal->ops->append(journal, "k", 1, data, max_record + 1, &lsn, &index, &err), ERR_LIMIT);
    CHECK_STR(err.text, "a record of 1001 bytes is above the limit of 1000");
    struct journal_record records[2] = {{.data = data, .len = 1}, {.data = data, .len = max_record + 1}};
    CHECK_INT(journal->ops->replace(journal, "k", 1, records, 2, &lsn, &err), ERR_LIMIT);
    CHECK_INT(contract_with_pending(journal, "k"), 0);
    CHECK_INT(journal->ops->append(journal, key, JOURNAL_KEY_MAX, data, max_record, &lsn, &index, &err), 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_INT(journal->ops->remove(journal, "none", 4, &lsn, &err), ERR_NOT_FOUND);
    CHECK_STR(err.text, "the journal has no key \"none\"");
    CHECK_INT(journal->ops->replace(journal, "none", 4, NULL, 0, &lsn, &err), ERR_NOT_FOUND);
    free(data);
}

TEST(what_is_too_large_or_wrong_is_refused)
{
    struct contract_backend limited = *contract;
    const struct contract_backend *saved = contract;
    limited.opts.max_record_bytes = 1000;
    limited.opts.max_pending_bytes = 10000;
    limited.opts.max_group_bytes = 4096;
    contract = &limited;
    struct journal *journal = contract_fresh();
    contract_check_sizes(journal, 1000);
    if (!contract->is_immediate) {
        char data[900] = {0};
        uint64_t lsn = 0;
        uint64_t index;
        struct err err;
        int accepted = 0;
        while (journal->ops->append(journal, "p", 1, data, sizeof(data), &lsn, &index, &err) == 0) {
            accepted++;
        }
        CHECK_INT(err.code, ERR_LIMIT);
        CHECK(strstr(err.text, "bytes waiting for the disk (limit 10000)") != NULL);
        CHECK(accepted >= 9 && accepted <= 11); /* what a record costs besides is the backend's */
        CHECK_INT(contract_with_pending(journal, "p"), accepted);
        CHECK_INT(help_wait(journal, lsn), 0);
        CHECK_INT(contract_count(journal, "p"), accepted);
        help_append(journal, "p", "again");
    }
    help_close(journal);
    contract = saved;
}

TEST(a_log_can_be_replaced_and_removed)
{
    struct journal *journal = contract_fresh();
    for (int i = 0; i < 5; i++) {
        (void)help_add(journal, "k", "old");
    }
    help_append(journal, "stays", "1");
    CHECK_INT(help_wait(journal, contract_replace(journal, "k", "n1,n2")), 0);
    CHECK_STR(help_read(journal, "k"), "n1,n2,");
    help_append(journal, "k", "n3");
    CHECK_STR(help_read(journal, "k"), "n1,n2,n3,");
    CHECK_INT(help_wait(journal, contract_replace(journal, "born", "b1,b2")), 0);
    CHECK_STR(help_read(journal, "born"), "b1,b2,");
    CHECK_INT(help_wait(journal, contract_remove(journal, "k")), 0);
    CHECK_STR(help_read(journal, "k"), "");
    CHECK_INT(contract_key_count(journal), 2);
    help_append(journal, "k", "again");
    CHECK_STR(help_read(journal, "k"), "again,");
    CHECK_INT(help_wait(journal, contract_replace(journal, "born", "")), 0);
    if (contract->is_durable) {
        journal = contract_reopen(journal);
    }
    CHECK_STR(help_read(journal, "k"), "again,");
    CHECK_STR(help_read(journal, "stays"), "1,");
    CHECK_STR(help_read(journal, "born"), "");
    CHECK_INT(contract_key_count(journal), 2);
    help_close(journal);
}

TEST(changes_of_one_flush_count_in_their_order)
{
    struct journal *journal = contract_fresh();
    (void)help_add(journal, "k", "1");
    (void)help_add(journal, "k", "2");
    (void)contract_replace(journal, "k", "3,4");
    (void)help_add(journal, "k", "5");
    (void)help_add(journal, "brief", "x");
    (void)contract_remove(journal, "brief");
    (void)contract_remove(journal, "k");
    CHECK_INT(contract_with_pending(journal, "k"), 0);
    (void)help_add(journal, "k", "6");
    (void)contract_replace(journal, "k", "7");
    uint64_t lsn = help_add(journal, "k", "8");
    CHECK_INT(contract_with_pending(journal, "k"), 2);
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_STR(help_read(journal, "k"), "7,8,");
    if (contract->is_durable) {
        journal = contract_reopen(journal);
        CHECK_STR(help_read(journal, "k"), "7,8,");
    }
    CHECK_INT(contract_key_count(journal), 1);
    help_close(journal);
}

TEST(a_scan_gives_everything_once_and_in_order)
{
    struct journal *journal = contract_fresh();
    uint64_t lsn = 0;
    for (int i = 0; i < 3000; i++) {
        char key[8];
        char text[16];
        (void)snprintf(key, sizeof(key), "k%d", i % 30 == 0 ? i % 11 : 5);
        (void)snprintf(text, sizeof(text), "%d", i);
        lsn = help_add(journal, key, text);
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_INT(contract_scan_all(journal)->key_count, 11);
    struct err err;
    struct journal_scan *first = journal->ops->scan_open(journal, &err);
    CHECK(first != NULL);
    CHECK(journal->ops->scan_open(journal, &err) == NULL);
    CHECK_INT(err.code, ERR_BUSY);
    static struct contract_scan seen;
    memset(&seen, 0, sizeof(seen));
    journal->ops->cancel(journal->ops->scan_next(first, contract_on_scan, &seen));
    CHECK(!seen.is_done);
    help_run_until(&seen.is_done);
    CHECK_INT(seen.code, ERR_CANCELLED);
    CHECK_INT(seen.count, 0);
    journal->ops->scan_close(first);
    journal->ops->scan_close(NULL);
    struct contract_scan *scan = contract_scan_all(journal);
    uint64_t total = 0;
    for (size_t i = 0; i < scan->key_count; i++) {
        total += scan->next[i] - 1;
    }
    CHECK_INT(total, 3000);
    help_close(journal);
}

TEST(an_empty_journal_scans_to_its_end)
{
    struct journal *journal = contract_fresh();
    CHECK_INT(contract_scan_all(journal)->key_count, 0);
    CHECK_INT(contract_key_count(journal), 0);
    help_close(journal);
}

TEST(a_cancelled_read_is_told_so)
{
    struct journal *journal = contract_fresh();
    help_append(journal, "a", "1");
    static struct buf out;
    struct help_text text = {.out = &out};
    journal->ops->cancel(journal->ops->read(journal, "a", 1, 1, 10, 100, help_on_records, &text));
    CHECK(!text.is_done);
    help_run_until(&text.is_done);
    CHECK_INT(text.code, ERR_CANCELLED);
    CHECK_INT(text.count, 0);
    help_close(journal);
}

TEST(a_read_beside_a_replacement_sees_one_of_the_two_logs)
{
    struct journal *journal = contract_fresh();
    for (int round = 0; round < 50; round++) {
        char texts[64];
        (void)snprintf(texts, sizeof(texts), "r%d,r%d,r%d", round, round, round);
        uint64_t lsn = contract_replace(journal, "k", texts);
        if (round % 5 == 4) {
            (void)contract_remove(journal, "k");
            lsn = contract_replace(journal, "k", texts);
        }
        struct buf out = {0};
        struct help_text text = {.out = &out};
        (void)journal->ops->read(journal, "k", 1, 1, 10, 1000, help_on_records, &text);
        CHECK_INT(help_wait(journal, lsn), 0);
        help_run_until(&text.is_done);
        CHECK_INT(text.code, 0);
        buf_append_byte(&out, '\0');
        char before[80] = "";
        char after[80];
        if (round > 0) {
            (void)snprintf(before, sizeof(before), "r%d,r%d,r%d,", round - 1, round - 1, round - 1);
        }
        (void)snprintf(after, sizeof(after), "%s,", texts);
        CHECK(strcmp(out.data, before) == 0 || strcmp(out.data, after) == 0);
        buf_deinit(&out);
    }
    help_close(journal);
}

TEST(appends_of_one_turn_share_a_flush)
{
    struct journal *journal = contract_fresh();
    uint64_t lsn = 0;
    for (int i = 0; i < 200; i++) {
        lsn = help_add(journal, i % 2 == 0 ? "a" : "b", "x");
    }
    CHECK_INT(help_wait(journal, lsn), 0);
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.appends, 200);
    CHECK_INT(stats.live, 200);
    CHECK_INT(stats.keys, 2);
    CHECK_INT(stats.failed_syncs, 0);
    if (!contract->is_immediate) {
        CHECK_INT(stats.syncs, 1);
        CHECK_INT(stats.grouped, 200);
        CHECK_INT(stats.largest_group, 200);
    }
    help_remove(journal, "a");
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.live, 100);
    CHECK_INT(stats.keys, 1);
    help_close(journal);
}

TEST(close_makes_durable_what_is_pending)
{
    if (!contract->is_durable) {
        return;
    }
    struct journal *journal = contract_fresh();
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        last = help_add(journal, "k", "x");
    }
    journal = contract_reopen(journal);
    CHECK_INT(contract_count(journal, "k"), 1000);
    CHECK(help_add(journal, "k", "y") > last); /* an lsn is never given out twice */
    journal = contract_reopen(journal);
    CHECK_INT(contract_count(journal, "k"), 1001);
    help_close(journal);
}

void contract_run(const struct contract_backend *backend)
{
    contract = backend;
    printf("# %s\n", backend->name);
    RUN(each_log_is_numbered_from_1_and_lsns_grow);
    RUN(nothing_is_durable_before_its_flush);
    RUN(waiters_run_in_order_and_a_cancelled_one_is_told_so);
    RUN(reads_keep_to_their_bounds);
    RUN(keys_of_any_bytes_are_kept_apart);
    RUN(records_of_any_bytes_come_back_as_they_were);
    RUN(what_is_too_large_or_wrong_is_refused);
    RUN(a_log_can_be_replaced_and_removed);
    RUN(changes_of_one_flush_count_in_their_order);
    RUN(a_scan_gives_everything_once_and_in_order);
    RUN(an_empty_journal_scans_to_its_end);
    RUN(a_cancelled_read_is_told_so);
    RUN(a_read_beside_a_replacement_sees_one_of_the_two_logs);
    RUN(appends_of_one_turn_share_a_flush);
    RUN(close_makes_durable_what_is_pending);
    RUN(a_second_opener_is_refused);
    RUN(a_failed_flush_is_final);
    RUN(failed_flushes_in_a_row_lose_nothing_that_was_durable);
    RUN(random_changes_agree_with_a_model);
    if (contract->wipe != NULL) {
        contract->wipe();
    }
}

void contract_run_parking(const struct contract_backend *backend)
{
    struct contract_backend parking = *backend;
    parking.opts.parking = (struct journal_parking){.is_eager = true, .chunk_bytes = 4096, .recent = 1};
    printf("# parking:\n");
    contract_run(&parking);
    for (uint8_t bits = 1; bits <= 3; bits++) {
        parking.opts.parking.print_bits = bits;
        contract = &parking;
        RUN(random_changes_agree_with_a_model);
    }
    parking.opts.parking.is_eager = false; /* only what is asked for */
    RUN(random_changes_agree_with_a_model);
    if (contract->wipe != NULL) {
        contract->wipe();
    }
}
