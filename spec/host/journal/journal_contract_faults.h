/* Part of the suite of journal_contract_tests.h: a second opener, and writes that fail. */
#pragma once

#include "journal/journal_contract.h"

TEST(a_second_opener_is_refused)
{
    if (!contract->is_exclusive) {
        return;
    }
    struct journal *journal = contract_fresh();
    struct err err;
    CHECK(help_try_open(&contract->opts, &err) == NULL);
    CHECK_INT(err.code, ERR_BUSY);
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    CHECK(strstr(err.text, pid) != NULL);
    help_append(journal, "k", "unharmed");
    journal = contract_reopen(journal);
    CHECK_STR(help_read(journal, "k"), "unharmed,");
    help_close(journal);
}

TEST(a_failed_flush_is_final)
{
    if (contract->fail_writes == NULL) {
        return;
    }
    struct journal *journal = contract_fresh();
    help_append(journal, "a", "1");
    help_append(journal, "b", "1");
    contract->fail_writes(true);
    uint64_t lsns[6];
    struct err err;
    lsns[0] = help_add(journal, "a", "lost");
    lsns[1] = contract_replace(journal, "b", "lost,lost");
    lsns[2] = help_add(journal, "new", "lost");
    (void)uv_run(loop_uv(help_loop), UV_RUN_NOWAIT); /* the rest queues behind it, or comes after it */
    lsns[3] = help_add(journal, "b", "lost");
    lsns[4] = contract_remove(journal, "b");
    lsns[5] = help_add(journal, "b", "lost");
    for (int i = 5; i >= 0; i--) {
        int code = help_wait(journal, lsns[i]);
        CHECK(code < 0 && code != ERR_CANCELLED && code != ERR_INVALID);
        CHECK_INT(journal->ops->check(journal, lsns[i], &err), code);
        CHECK(err.text[0] != '\0');
    }
    CHECK(journal->ops->failures(journal) >= 1);
    CHECK_STR(help_read(journal, "a"), "1,");
    CHECK_STR(help_read(journal, "b"), "1,");
    CHECK_STR(help_read(journal, "new"), "");
    CHECK_INT(contract_with_pending(journal, "b"), 1);
    CHECK_INT(contract_with_pending(journal, "new"), 0);
    CHECK_INT(contract_key_count(journal), 2);
    contract->fail_writes(false);
    help_append(journal, "a", "2");
    help_append(journal, "new", "1");
    CHECK(help_wait(journal, lsns[0]) < 0); /* asked again, later */
    CHECK_STR(help_read(journal, "a"), "1,2,");
    for (int open = 0; open < 2; open++) {
        journal = contract->is_durable ? contract_reopen(journal) : journal;
        CHECK_STR(help_read(journal, "a"), "1,2,");
        CHECK_STR(help_read(journal, "b"), "1,");
        CHECK_STR(help_read(journal, "new"), "1,");
    }
    help_close(journal);
}

TEST(failed_flushes_in_a_row_lose_nothing_that_was_durable)
{
    if (contract->fail_writes == NULL) {
        return;
    }
    struct journal *journal = contract_fresh();
    char expected[256] = "";
    for (int i = 0; i < 12; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", i);
        contract->fail_writes(i % 3 != 0);
        int code = help_wait(journal, help_add(journal, "k", text));
        CHECK((code == 0) == (i % 3 == 0));
        if (code == 0) {
            (void)strncat(expected, text, sizeof(expected) - strlen(expected) - 1);
            (void)strncat(expected, ",", sizeof(expected) - strlen(expected) - 1);
        }
        CHECK_STR(help_read(journal, "k"), expected);
    }
    contract->fail_writes(false);
    help_append(journal, "other", "1");
    journal = contract->is_durable ? contract_reopen(journal) : journal;
    CHECK_STR(help_read(journal, "k"), expected);
    help_close(journal);
}
