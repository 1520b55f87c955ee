/* The Redis backend when something goes wrong, against a real server: connections that break, a server that
 * is killed, empty, full or changed by others, and two programs that want the same journal. */
#include "journal/journal_help.h"

#if defined(MACP_WITH_REDIS) && defined(MACP_FAULTS)
#include <time.h>

#include "journal/journal_redis_server.h"

enum { LEASE_MS = 600 };

static struct journal *try_open(struct err *err, bool quarantine)
{
    struct journal_opts opts = {
        .url = server_address, .lease_ms = LEASE_MS, .quarantine = quarantine, .max_pending_bytes = 65536};
    return help_try_open(&opts, err);
}

static struct journal *reopen(void)
{
    struct err err = {0};
    struct journal *journal = try_open(&err, false);
    if (journal == NULL) {
        fprintf(stderr, "open: %s\n", err.text);
        exit(1);
    }
    return journal;
}

static struct journal *fresh(void)
{
    (void)server_do("FLUSHALL", NULL);
    return reopen();
}

/* The loop goes on for so long. */
static void run_for(int ms)
{
    uint64_t end = loop_mono_ns() + (uint64_t)ms * 1000000;
    while (loop_mono_ns() < end) {
        (void)uv_run(loop_uv(help_loop), UV_RUN_NOWAIT);
        (void)usleep(1000);
    }
}

/* The append is refused with this code, and words in its text. */
static void refuse_append(struct journal *journal, int code, const char *words)
{
    uint64_t lsn;
    uint64_t index;
    struct err err = {0};
    CHECK_INT(journal->ops->append(journal, "k", 1, "x", 1, &lsn, &index, &err), code);
    if (strstr(err.text, words) == NULL) {
        fprintf(stderr, "instead of `%s`: %s\n", words, err.text);
        exit(1);
    }
}

/* A record is lost for a reason that has these words, and nothing is accepted any more. */
static void expect_fenced(struct journal *journal, const char *words)
{
    CHECK_INT(help_wait(journal, help_add(journal, "k", "late")), ERR_FENCED);
    refuse_append(journal, ERR_FENCED, words);
}

TEST(a_group_whose_reply_was_lost_is_applied_once)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    fault_arm("redis.applied", "fail", 0);
    uint64_t lsn = help_add(journal, "k", "2");
    run_for(200); /* some repetitions */
    struct err err;
    CHECK_INT(journal->ops->check(journal, lsn, &err), 0);
    fault_arm("redis.applied", NULL, 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    help_append(journal, "k", "3");
    CHECK_STR(server_do("LLEN", "macp:journal:log:k", NULL), "3");
    CHECK_STR(help_read(journal, "k"), "1,2,3,");
    help_close(journal);
}

TEST(a_group_refused_after_its_reply_was_lost_is_still_applied)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    fault_arm("redis.applied", "fail", 0);
    uint64_t lsn = help_add(journal, "k", "2");
    run_for(60);
    (void)server_do("CONFIG", "SET", "maxmemory", "1", NULL);
    fault_arm("redis.applied", NULL, 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    (void)server_do("CONFIG", "SET", "maxmemory", "0", NULL);
    CHECK_STR(help_read(journal, "k"), "1,2,");
    help_close(journal);
}

TEST(a_group_that_was_not_sent_is_sent_later)
{
    struct journal *journal = fresh();
    fault_arm("redis.send", "fail", 0);
    uint64_t lsn = help_add(journal, "k", "1");
    run_for(100);
    fault_arm("redis.send", NULL, 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_STR(help_read(journal, "k"), "1,");
    help_close(journal);
}

TEST(forgotten_scripts_are_loaded_again)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    (void)server_do("SCRIPT", "FLUSH", NULL);
    help_append(journal, "k", "2");
    (void)server_do("SCRIPT", "FLUSH", NULL);
    CHECK_STR(help_read(journal, "k"), "1,2,");
    help_close(journal);
}

TEST(killed_connections_are_made_again)
{
    struct journal *journal = fresh();
    for (int i = 0; i < 20; i++) {
        (void)help_add(journal, "k", "x");
        (void)server_do("CLIENT", "KILL", "TYPE", "normal", NULL);
        CHECK_INT(help_wait(journal, help_add(journal, "k", "x")), 0);
        (void)help_read(journal, "k");
    }
    CHECK_STR(server_do("LLEN", "macp:journal:log:k", NULL), "40");
    help_close(journal);
}

TEST(w7_a_server_killed_and_started_again_goes_on_without_a_restart)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    server_kill();
    uint64_t lsn = help_add(journal, "k", "2");
    run_for(100);
    struct err err;
    CHECK_INT(journal->ops->check(journal, lsn, &err), 0); /* not durable: not acknowledged */
    server_start();
    CHECK_INT(help_wait(journal, lsn), 0);
    CHECK_STR(help_read(journal, "k"), "1,2,");
    help_close(journal);
    journal = reopen();
    CHECK_STR(help_read(journal, "k"), "1,2,");
    help_close(journal);
}

TEST(what_waits_for_a_server_is_bounded)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    server_kill();
    uint64_t lsn = 0;
    uint64_t index;
    struct err err = {0};
    char text[1000];
    memset(text, 'x', sizeof(text));
    int count = 0;
    while (journal->ops->append(journal, "k", 1, text, sizeof(text), &lsn, &index, &err) == 0) {
        CHECK(++count < 100);
    }
    CHECK_INT(err.code, ERR_LIMIT);
    CHECK(count > 50);
    CHECK_STR(help_read(journal, "k"), "!UNAVAILABLE");
    server_start();
    CHECK_INT(help_wait(journal, lsn), 0);
    help_append(journal, "k", "and on");
    CHECK_INT(journal->ops->count(journal, "k", 1, NULL), count + 2);
    help_close(journal);
}

TEST(closing_while_the_server_is_away_ends)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    server_kill();
    uint64_t lsn = help_add(journal, "k", "2");
    struct help_waited waited = {0};
    (void)journal->ops->wait(journal, lsn, help_on_waited, &waited);
    uint64_t start = loop_mono_ns();
    help_close(journal);
    CHECK(waited.is_done && waited.code == ERR_UNAVAILABLE);
    CHECK(loop_mono_ns() - start < UINT64_C(10000000000));
    server_start();
    (void)usleep(LEASE_MS * 1000); /* the lock could not be given back */
    journal = reopen();
    CHECK_STR(help_read(journal, "k"), "1,");
    help_close(journal);
}

TEST(a_slow_server_is_waited_for)
{
    struct journal *journal = fresh();
    (void)server_do("CLIENT", "PAUSE", "400", NULL);
    uint64_t start = loop_mono_ns();
    help_append(journal, "k", "1");
    CHECK(loop_mono_ns() - start > UINT64_C(200000000));
    CHECK_STR(help_read(journal, "k"), "1,");
    help_close(journal);
}

TEST(a_server_that_came_back_empty_is_noticed)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    (void)server_do("FLUSHALL", NULL);
    expect_fenced(journal, "has lost records that were stored");
    help_close(journal);
    CHECK_STR(server_do("DBSIZE", NULL), "0"); /* and nothing was written there */
}

TEST(an_idle_holder_notices_within_its_lease)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    (void)server_do("DEL", "macp:journal:epoch", NULL);
    struct err err;
    CHECK_INT(journal->ops->owned(journal, &err), 0);
    run_for(LEASE_MS);
    CHECK_INT(journal->ops->owned(journal, &err), ERR_FENCED);
    CHECK(strstr(err.text, "has lost records that were stored") != NULL);
    (void)server_do("SET", "macp:journal:epoch", "back too late", NULL);
    expect_fenced(journal, "has lost records that were stored");
    help_close(journal);
}

TEST(a_server_that_lost_its_last_second_is_noticed)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    char group[64];
    (void)snprintf(group, sizeof(group), "%s", server_do("GET", "macp:journal:group", NULL));
    help_append(journal, "k", "2");
    (void)server_do("SET", "macp:journal:group", group, NULL);
    (void)server_do("RPOP", "macp:journal:log:k", NULL);
    expect_fenced(journal, "the last group was `");
    help_close(journal);
}

TEST(a_list_that_somebody_changed_is_noticed)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    (void)server_do("RPUSH", "macp:journal:log:k", "foreign", NULL);
    expect_fenced(journal, "the list of key \"k\" was changed: length 1 expected, found 2");
    help_close(journal);
    journal = fresh();
    help_append(journal, "k", "1");
    (void)server_do("SET", "macp:journal:log:k", "no list", NULL);
    expect_fenced(journal, "the list of key \"k\" was changed: length 1 expected, found WRONGTYPE");
    help_close(journal);
}

TEST(a_record_that_does_not_verify_is_not_handed_out)
{
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    help_append(journal, "k", "2");
    (void)server_do("LSET", "macp:journal:log:k", "1", "1234x", NULL);
    CHECK_STR(help_read(journal, "k"), "!CORRUPT");
    (void)server_do("LSET", "macp:journal:log:k", "1", "1", NULL);
    CHECK_STR(help_read(journal, "k"), "!CORRUPT");
    help_close(journal);
}

TEST(lists_that_are_not_what_was_noted_are_damaged)
{
    struct err err = {0};
    struct journal *journal = fresh();
    help_append(journal, "good", "1");
    help_append(journal, "bad", "1");
    help_close(journal);
    (void)server_do("DEL", "macp:journal:log:bad", NULL);
    CHECK(try_open(&err, false) == NULL);
    CHECK_INT(err.code, ERR_CORRUPT);
    CHECK(strstr(err.text, "the list of key \"bad\" has length 0, noted is `1 1 ") != NULL);
    journal = try_open(&err, true);
    CHECK(journal != NULL);
    CHECK_STR(help_read(journal, "good"), "1,");
    uint64_t lsn;
    uint64_t index;
    CHECK_INT(journal->ops->append(journal, "bad", 3, "x", 1, &lsn, &index, &err), ERR_CORRUPT);
    help_remove(journal, "bad");
    help_append(journal, "bad", "new");
    help_close(journal);
    journal = reopen();
    CHECK_STR(help_read(journal, "bad"), "new,");
    help_close(journal);
}

TEST(another_format_is_refused)
{
    struct err err = {0};
    help_close(fresh());
    (void)server_do("SET", "macp:journal:version", "99", NULL);
    CHECK(try_open(&err, false) == NULL);
    CHECK_INT(err.code, ERR_CORRUPT);
    CHECK(strstr(err.text, "has format 99, this program reads 1") != NULL);
}

TEST(unfit_servers_are_refused)
{
    struct err err = {0};
    help_close(fresh());
    (void)server_do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", NULL);
    CHECK(try_open(&err, false) == NULL);
    CHECK(strstr(err.text, "would discard records when its memory is full (maxmemory-policy allkeys-lru)") !=
          NULL);
    (void)server_do("CONFIG", "SET", "maxmemory-policy", "noeviction", NULL);
    (void)server_do("REPLICAOF", "127.0.0.1", "1", NULL);
    CHECK(try_open(&err, false) == NULL);
    CHECK(strstr(err.text, "is a replica: name the server it follows") != NULL);
    (void)server_do("REPLICAOF", "NO", "ONE", NULL);
    help_close(reopen());
}

TEST(a_wrong_password_is_refused_and_never_told)
{
    struct err err = {0};
    help_close(fresh());
    char address[200];
    (void)snprintf(address, sizeof(address), "unix://ann:s3cret@%s", server_address + strlen("unix://"));
    struct journal_opts opts = {.url = address, .lease_ms = LEASE_MS};
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK_INT(err.code, ERR_DENIED);
    CHECK(strstr(err.text, "refuses the password of user `ann`: WRONGPASS") != NULL);
    CHECK(strstr(err.text, "s3cret") == NULL);
    (void)server_do("ACL", "SETUSER", "ann", "on", ">s3cret", "~macp:*", "+@all", NULL);
    struct journal *journal = help_try_open(&opts, &err);
    CHECK(journal != NULL);
    help_append(journal, "k", "1");
    help_close(journal);
    (void)server_do("ACL", "SETUSER", "ann", "resetkeys", "~elsewhere:*", NULL);
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK_INT(err.code, ERR_DENIED);
    (void)server_do("ACL", "DELUSER", "ann", NULL);
}

TEST(nobody_at_the_address_is_told)
{
    struct err err = {0};
    struct journal_opts opts = {.url = "redis://127.0.0.1:1"};
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK_INT(err.code, ERR_UNAVAILABLE);
    CHECK(strstr(err.text, "Redis at redis://127.0.0.1:1/0: connect: Connection refused") != NULL);
}

TEST(w7_a_holder_that_is_alive_keeps_others_out)
{
    struct err err = {0};
    struct journal *journal = fresh();
    help_append(journal, "k", "1");
    CHECK(try_open(&err, false) == NULL);
    CHECK_INT(err.code, ERR_BUSY);
    char words[64];
    (void)snprintf(words, sizeof(words), "is in use by process %ld on ", (long)getpid());
    CHECK(strstr(err.text, words) != NULL);
    struct journal_opts opts = {.url = server_address, .name = "other", .lease_ms = LEASE_MS};
    struct journal *other = help_try_open(&opts, &err);
    CHECK(other != NULL);
    help_append(other, "k", "elsewhere");
    CHECK_STR(help_read(journal, "k"), "1,");
    help_close(other);
    help_close(journal);
}

/* A child process that opens the journal, stores a record and stops for good. */
static pid_t hold(void)
{
    int pipe_fds[2];
    CHECK_INT(pipe(pipe_fds), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        server_link.context = NULL; /* the parent's */
        help_start();
        struct journal *journal = reopen();
        help_append(journal, "k", "holder");
        CHECK_INT(write(pipe_fds[1], "x", 1), 1);
        CHECK_INT(raise(SIGSTOP), 0);
        CHECK_INT(help_wait(journal, help_add(journal, "k", "late")), ERR_FENCED);
        refuse_append(journal, ERR_FENCED, "was taken over by process ");
        help_close(journal);
        help_end();
        _exit(0);
    }
    char byte;
    CHECK_INT(read(pipe_fds[0], &byte, 1), 1);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    return pid;
}

/* Runs first: a process forks well only before it has a loop with threads. */
TEST(w7_a_lease_that_ends_is_taken_over_and_late_writes_are_refused)
{
    pid_t pid = hold();
    help_start();
    uint64_t start = loop_mono_ns();
    struct journal *journal = reopen();
    CHECK(loop_mono_ns() - start < UINT64_C(1000000) * 2 * LEASE_MS);
    CHECK_STR(help_read(journal, "k"), "holder,");
    help_append(journal, "k", "heir");
    CHECK_INT(kill(pid, SIGCONT), 0);
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
    CHECK_STR(help_read(journal, "k"), "holder,heir,");
    CHECK_STR(server_do("LLEN", "macp:journal:log:k", NULL), "2");
    help_close(journal);
}

int main(void)
{
    help_backend = "redis";
    server_fsync = "always";
    server_open();
    RUN(w7_a_lease_that_ends_is_taken_over_and_late_writes_are_refused);
    RUN(a_group_whose_reply_was_lost_is_applied_once);
    RUN(a_group_refused_after_its_reply_was_lost_is_still_applied);
    RUN(a_group_that_was_not_sent_is_sent_later);
    RUN(forgotten_scripts_are_loaded_again);
    RUN(killed_connections_are_made_again);
    RUN(w7_a_server_killed_and_started_again_goes_on_without_a_restart);
    RUN(what_waits_for_a_server_is_bounded);
    RUN(closing_while_the_server_is_away_ends);
    RUN(a_slow_server_is_waited_for);
    RUN(a_server_that_came_back_empty_is_noticed);
    RUN(an_idle_holder_notices_within_its_lease);
    RUN(a_server_that_lost_its_last_second_is_noticed);
    RUN(a_list_that_somebody_changed_is_noticed);
    RUN(a_record_that_does_not_verify_is_not_handed_out);
    RUN(lists_that_are_not_what_was_noted_are_damaged);
    RUN(another_format_is_refused);
    RUN(unfit_servers_are_refused);
    RUN(a_wrong_password_is_refused_and_never_told);
    RUN(nobody_at_the_address_is_told);
    RUN(w7_a_holder_that_is_alive_keeps_others_out);
    help_end();
    server_close();
    return 0;
}
#else
int main(void)
{
    puts("built without Redis or without fault points: nothing to test");
    return 0;
}
#endif
