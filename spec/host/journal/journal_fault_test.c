/* Disks that refuse, and giving space back. Needs a build with fault points (Debug). */
#include "journal/journal_help.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

enum { SEGMENT = 8192 };

#ifdef MACP_FAULTS

/* A flush that fails at the named point: its records, and everything queued behind them, do not exist. */
static void check_failing(const char *point, int expected)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "1");
    help_append(journal, "b", "1");
    fault_arm(point, "fail", 0);
    uint64_t first = help_add(journal, "a", "lost");
    CHECK_INT(help_wait(journal, first), expected);
    fault_arm(point, NULL, 0);
    CHECK_STR(help_read(journal, "a"), "1,");
    uint64_t with_pending;
    CHECK_INT(journal->ops->count(journal, "a", 1, &with_pending), 1);
    CHECK_INT(with_pending, 1);
    help_append(journal, "a", "2");
    help_append(journal, "new", "1");
    CHECK_INT(help_wait(journal, first), expected); /* asked again, later */
    struct err err;
    CHECK_INT(journal->ops->check(journal, first, &err), expected);
    CHECK(journal->ops->failures(journal) >= 1);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    help_close(journal);
    journal = help_open(help_dir(), SEGMENT);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    CHECK_STR(help_read(journal, "b"), "1,");
    CHECK_STR(help_read(journal, "new"), "1,");
    help_close(journal);
}

TEST(a_failed_write_is_final)
{
    check_failing("journal.write", ERR_IO);
}

TEST(a_failed_sync_is_final)
{
    check_failing("journal.fsync", ERR_IO);
}

/* The records of the failed flush are on the disk, perhaps: a crash right after must not bring them back. */
TEST(refused_records_do_not_come_back_after_a_crash)
{
    static char copy[80];
    (void)snprintf(copy, sizeof(copy), "%s-copy", help_dir());
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "1");
    fault_arm("journal.fsync", "fail", 0);
    CHECK_INT(help_wait(journal, help_add(journal, "a", "lost")), ERR_IO);
    fault_arm("journal.fsync", NULL, 0);
    help_append(journal, "b", "1");
    help_copy(help_dir(), copy);
    help_close(journal);
    journal = help_open(copy, SEGMENT);
    CHECK_STR(help_read(journal, "a"), "1,");
    CHECK_STR(help_read(journal, "b"), "1,");
    help_close(journal);
    help_wipe(copy);
}

TEST(everything_behind_a_failed_flush_fails)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "1");
    fault_arm("journal.write", "fail", 0);
    uint64_t lsns[5];
    for (int i = 0; i < 5; i++) {
        lsns[i] = help_add(journal, i % 2 == 0 ? "a" : "b", "lost");
        (void)uv_run(loop_uv(help_loop), UV_RUN_NOWAIT);
    }
    uint64_t remove_lsn;
    struct err err;
    int removed = journal->ops->remove(journal, "a", 1, &remove_lsn, &err);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(help_wait(journal, lsns[i]), ERR_IO);
    }
    if (removed == 0) {
        CHECK_INT(help_wait(journal, remove_lsn), ERR_IO);
    }
    fault_arm("journal.write", NULL, 0);
    CHECK_STR(help_read(journal, "a"), "1,");
    CHECK_STR(help_read(journal, "b"), "");
    help_append(journal, "a", "2");
    CHECK_STR(help_read(journal, "a"), "1,2,");
    help_close(journal);
}

TEST(a_failed_replacement_leaves_the_old_log)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "old");
    char big[3000];
    memset(big, 'x', sizeof(big));
    struct journal_record records[4];
    for (int i = 0; i < 4; i++) {
        records[i] = (struct journal_record){.data = big, .len = sizeof(big)};
    }
    fault_arm("journal.fsync", "fail", 0);
    uint64_t lsn;
    struct err err;
    CHECK(journal->ops->replace(journal, "a", 1, records, 4, &lsn, &err) == 0);
    uint64_t behind = help_add(journal, "a", "behind");
    CHECK_INT(help_wait(journal, behind), ERR_IO);
    CHECK_INT(help_wait(journal, lsn), ERR_IO);
    fault_arm("journal.fsync", NULL, 0);
    CHECK_STR(help_read(journal, "a"), "old,");
    help_append(journal, "a", "next");
    help_close(journal);
    journal = help_open(help_dir(), SEGMENT);
    CHECK_STR(help_read(journal, "a"), "old,next,");
    help_close(journal);
}

TEST(a_full_disk_refuses_and_recovers)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    char text[1000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    fault_arm("journal.rotate", "fail", 1); /* the second new segment finds no space */
    int stored = 0;
    struct err err = {0};
    for (int i = 0; i < 20; i++) {
        uint64_t lsn = help_add(journal, "k", text);
        if (help_wait(journal, lsn) == 0) {
            stored++;
        } else {
            CHECK(journal->ops->check(journal, lsn, &err) < 0);
        }
    }
    CHECK(stored > 0 && stored < 20);
    CHECK(strstr(err.text, "No space left") != NULL);
    CHECK_INT(err.detail, ENOSPC);
    fault_arm("journal.rotate", NULL, 0);
    help_append(journal, "k", "again");
    CHECK_INT(journal->ops->count(journal, "k", 1, NULL), stored + 1);
    help_close(journal);
    journal = help_open(help_dir(), SEGMENT);
    CHECK_INT(journal->ops->count(journal, "k", 1, NULL), stored + 1);
    help_close(journal);
}

TEST(a_journal_that_cannot_even_reopen_keeps_trying)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "1");
    fault_arm("journal.write", "fail", 0);
    fault_arm("journal.rotate", "fail", 0);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(help_wait(journal, help_add(journal, "a", "lost")), ERR_IO);
    }
    fault_arm("journal.write", NULL, 0);
    fault_arm("journal.rotate", NULL, 0);
    help_append(journal, "a", "2");
    fault_arm("journal.rotate", "fail", 0);
    help_close(journal);
    fault_arm("journal.rotate", NULL, 0);
    journal = help_open(help_dir(), SEGMENT);
    CHECK_STR(help_read(journal, "a"), "1,2,");
    help_close(journal);
}

#endif

/* A real file system without space, where we may mount one. */
TEST(a_really_full_disk)
{
    static char dir[80];
    (void)snprintf(dir, sizeof(dir), "%s-tmpfs", help_dir());
    (void)mkdir(dir, 0700);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=256k") != 0) {
        printf("   (cannot mount a file system here: %s)\n", strerror(errno));
        (void)rmdir(dir);
        return;
    }
    char inner[100];
    (void)snprintf(inner, sizeof(inner), "%s/j", dir);
    struct journal *journal = help_open(inner, 64 << 10);
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    int stored = 0;
    while (help_wait(journal, help_add(journal, "k", text)) == 0) {
        stored++;
        CHECK(stored < 200);
    }
    CHECK(stored > 60);
    char ballast[100];
    CHECK_INT(journal->ops->count(journal, "k", 1, NULL), stored);
    (void)snprintf(ballast, sizeof(ballast), "size=%dk", 1024);
    CHECK(mount("tmpfs", dir, "tmpfs", MS_REMOUNT, ballast) == 0);
    help_append(journal, "k", text);
    help_close(journal);
    journal = help_open(inner, 64 << 10);
    CHECK_INT(journal->ops->count(journal, "k", 1, NULL), stored + 1);
    help_close(journal);
    CHECK(umount(dir) == 0);
    (void)rmdir(dir);
}

static uint64_t segments_of(struct journal *journal)
{
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    return stats.segments;
}

static void settle(struct journal *journal)
{
    struct journal_stats before;
    struct journal_stats after;
    journal->ops->stats(journal, &after);
    do {
        before = after;
        for (int i = 0; i < 20; i++) {
            (void)uv_run(loop_uv(help_loop), UV_RUN_NOWAIT);
            (void)usleep(1000);
        }
        journal->ops->stats(journal, &after);
    } while (memcmp(&before, &after, sizeof(before)) != 0);
}

TEST(dead_segments_go_and_live_records_stay)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    char key[16];
    char text[200];
    for (int round = 0; round < 40; round++) {
        for (int k = 0; k < 20; k++) {
            (void)snprintf(key, sizeof(key), "k%d", round * 20 + k);
            (void)snprintf(text, sizeof(text), "%0150d", round * 20 + k);
            (void)help_add(journal, key, text);
        }
        (void)help_add(journal, "keeper", "x");
        help_append(journal, "keeper", "y");
        for (int k = 0; k < 20; k++) {
            (void)snprintf(key, sizeof(key), "k%d", round * 20 + k);
            if (k != 7) {
                help_remove(journal, key);
            }
        }
    }
    settle(journal);
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.live, 40 + 80);
    CHECK(stats.compacted > 10);
    CHECK(segments_of(journal) <= 8);
    for (int open = 0; open < 2; open++) {
        for (int round = 0; round < 40; round++) {
            for (int k = 0; k < 20; k++) {
                (void)snprintf(key, sizeof(key), "k%d", round * 20 + k);
                (void)snprintf(text, sizeof(text), "%0150d,", round * 20 + k);
                CHECK_STR(help_read(journal, key), k == 7 ? text : "");
            }
        }
        CHECK_INT(strlen(help_read(journal, "keeper")), 160);
        help_close(journal);
        journal = help_open(help_dir(), SEGMENT);
    }
    help_close(journal);
}

struct scanned {
    size_t count;
    uint64_t next;
    bool is_done;
    bool is_end;
};

static void on_scanned(void *arg, const struct journal_record *records, size_t count, const struct err *err)
{
    struct scanned *scanned = arg;
    CHECK(err == NULL);
    for (size_t i = 0; i < count; i++) {
        if (records[i].key_len == 6) { /* keeper */
            CHECK_INT(records[i].index, scanned->next);
            scanned->next++;
        }
    }
    scanned->count += count;
    scanned->is_end = count == 0;
    scanned->is_done = true;
}

TEST(a_scan_is_in_order_although_records_were_moved)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    char text[200];
    memset(text, 'z', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 300; i++) {
        (void)help_add(journal, "keeper", "v");
        help_append(journal, "churn", text);
        if (i % 10 == 9) {
            help_remove(journal, "churn");
        }
    }
    settle(journal);
    for (int open = 0; open < 2; open++) {
        struct err err;
        struct journal_scan *scan = journal->ops->scan_open(journal, &err);
        struct scanned scanned = {.next = 1};
        while (!scanned.is_end) {
            scanned.is_done = false;
            (void)journal->ops->scan_next(scan, on_scanned, &scanned);
            help_run_until(&scanned.is_done);
        }
        CHECK_INT(scanned.next, 301);
        CHECK_INT(scanned.count, 300);
        journal->ops->scan_close(scan);
        help_close(journal);
        journal = help_open(help_dir(), SEGMENT);
    }
    help_close(journal);
}

int main(void)
{
    help_start();
#ifdef MACP_FAULTS
    RUN(a_failed_write_is_final);
    RUN(a_failed_sync_is_final);
    RUN(refused_records_do_not_come_back_after_a_crash);
    RUN(everything_behind_a_failed_flush_fails);
    RUN(a_failed_replacement_leaves_the_old_log);
    RUN(a_full_disk_refuses_and_recovers);
    RUN(a_journal_that_cannot_even_reopen_keeps_trying);
#endif
    RUN(a_really_full_disk);
    RUN(dead_segments_go_and_live_records_stay);
    RUN(a_scan_is_in_order_although_records_were_moved);
    help_wipe(help_dir());
    help_end();
    return 0;
}
