/* kill -9 at random points: a child works on a journal and tells which operations were acknowledged; whatever
 * was acknowledged must be there afterwards, in order, once. The child is this program, started again with
 * arguments: libuv's threads do not survive a fork. Runs for each backend that keeps its records here;
 * RocksDB is killed at its commit points, too; and once more with keys that are parked all the time. What a
 * key must hold: see journal_sequence.h. */
#include "journal/journal_sequence.h"
#include "seed.h"

#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { KEYS = SEQUENCE_KEYS, SEGMENT = 8192, ROUNDS = 40 };

extern char **environ;

struct ack {
    int key;
    unsigned op; /* number of operations of this key that are durable */
};

/* --- the child ------------------------------------------------------------------------------ */

static void on_done(struct sequence_worker *worker, const struct err *err)
{
    if (err != NULL) {
        _exit(3);
    }
    struct ack ack = {worker->key, worker->acked};
    if (write(STDOUT_FILENO, &ack, sizeof(ack)) != sizeof(ack)) {
        _exit(0); /* the parent has gone */
    }
}

static _Noreturn void run_child(int argc, char **argv)
{
    help_start();
    if (strcmp(argv[1], "parking child") == 0) {
        help_park_all(2);
    }
    struct sequence_worker workers[KEYS];
    help_backend = argv[2];
    struct journal *journal = help_open(argv[3], SEGMENT);
    for (int k = 0; k < KEYS; k++) {
        workers[k].done = on_done;
        sequence_begin(&workers[k], journal, k, (unsigned)strtoul(argv[4 + k], NULL, 10));
    }
    for (;;) {
        for (int k = 0; k < KEYS; k++) {
            if (workers[k].issued - workers[k].acked < SEQUENCE_AHEAD) {
                sequence_issue(&workers[k]);
            }
        }
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
}

/* --- the parent ----------------------------------------------------------------------------- */

static pid_t start_child(const char *program, const char *dir, const unsigned *done, int *out)
{
    char numbers[KEYS][16];
    char *role = help_parking.is_eager ? "parking child" : "child";
    char *argv[KEYS + 5] = {(char *)program, role, (char *)help_backend, (char *)dir};
    for (int k = 0; k < KEYS; k++) {
        (void)snprintf(numbers[k], sizeof(numbers[k]), "%u", done[k]);
        argv[4 + k] = numbers[k];
    }
    int fds[2];
    CHECK(pipe(fds) == 0);
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, fds[0]) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, fds[1]) == 0);
    pid_t pid;
    CHECK(posix_spawn(&pid, program, &actions, NULL, argv, environ) == 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(fds[1]);
    *out = fds[0];
    return pid;
}

/* How many operations of key k are in the journal, at least `acked`. */
static unsigned explain(struct journal *journal, int k, unsigned acked)
{
    long op = sequence_explain(journal, k, acked);
    if (op < 0) {
        char name[16];
        sequence_name(name, k);
        fprintf(stderr, "key %d: acknowledged %u, found: %.300s\n", k, acked, help_read(journal, name));
        exit(1);
    }
    return (unsigned)op;
}

/* fault: where the child kills itself (MACP_FAULT), or NULL. */
static void run_round(const char *program, const char *fault, unsigned *done, unsigned *total)
{
    int out;
    if (fault != NULL) {
        CHECK(setenv("MACP_FAULT", fault, 1) == 0);
    }
    pid_t pid = start_child(program, help_dir(), done, &out);
    CHECK(unsetenv("MACP_FAULT") == 0);
    /* The first acknowledgement shows that it runs; then some time of its own. */
    struct ack ack;
    unsigned acked[KEYS];
    memcpy(acked, done, sizeof(acked));
    bool is_killed = false;
    uint64_t kill_at = 0;
    while (read(out, &ack, sizeof(ack)) == sizeof(ack)) {
        CHECK(ack.op == acked[ack.key] + 1);
        acked[ack.key] = ack.op;
        if (kill_at == 0) {
            kill_at = loop_mono_ns() + (uint64_t)(rand() % 40000) * 1000;
        }
        if (!is_killed && loop_mono_ns() >= kill_at) {
            CHECK(kill(pid, SIGKILL) == 0);
            is_killed = true;
        }
    }
    (void)close(out);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct journal *journal = help_open(help_dir(), SEGMENT);
    for (int k = 0; k < KEYS; k++) {
        *total += acked[k] - done[k];
        done[k] = explain(journal, k, acked[k]);
    }
    help_close(journal);
}

/* Every second round of RocksDB ends at one of its commit points, after some groups. */
static const char *choose_fault(char *out, size_t size, int round)
{
    static const char *const points[] = {"rocksdb.before_write", "rocksdb.after_write"};
    if (strcmp(help_backend, "rocksdb") != 0 || round % 2 == 0) {
        return NULL;
    }
    (void)snprintf(out, size, "%s=kill:%d", points[round / 2 % 2], 3 + rand() % 20);
    return out;
}

static void run_backend(const char *backend, int rounds)
{
    help_backend = backend;
    help_wipe(help_dir());
    unsigned done[KEYS] = {0};
    unsigned total = 0;
    for (int round = 0; round < rounds; round++) {
        char fault[64];
        run_round("/proc/self/exe", choose_fault(fault, sizeof(fault), round), done, &total);
    }
    struct journal *journal = help_open(help_dir(), SEGMENT);
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    help_close(journal);
    printf("ok %s%s: %d kills, %u acknowledged operations, %llu segments at the end\n", backend,
           help_parking.is_eager ? ", parking" : "", rounds, total, (unsigned long long)stats.segments);
    CHECK(total > (unsigned)rounds * 10);
    CHECK(stats.segments < 60); /* compaction keeps up although it is killed as well */
    help_wipe(help_dir());
}

int main(int argc, char **argv)
{
    if (argc > 3 && strstr(argv[1], "child") != NULL) {
        run_child(argc, argv);
    }
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : ROUNDS;
    srand(test_seed());
    help_start();
    run_backend("file", rounds);
#ifdef MACP_ROCKSDB
    run_backend("rocksdb", rounds / 2);
#else
    printf("# rocksdb: skipped, this build has no RocksDB\n");
#endif
    help_park_all(2);
    run_backend("file", rounds / 2);
#ifdef MACP_ROCKSDB
    run_backend("rocksdb", rounds / 2);
#endif
    help_end();
    return 0;
}
