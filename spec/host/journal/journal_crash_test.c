/* kill -9 at random points: a child works on a journal and tells which operations were acknowledged; whatever
 * was acknowledged must be there afterwards, in order, once. The child is this program, started again with
 * arguments: libuv's threads do not survive a fork. Runs for each backend that keeps its records here;
 * RocksDB is killed at its commit points, too.
 *
 * The operations of a key are a fixed sequence: what the key holds after the first n of them is known
 * (model_after). So the parent only has to find an n, not smaller than what was acknowledged, that explains
 * what it reads. */
#include "journal/journal_help.h"

#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

enum { KEYS = 8, AHEAD = 4, SEGMENT = 8192, ROUNDS = 40 };

extern char **environ;

enum op_kind { OP_APPEND, OP_REPLACE, OP_REMOVE };

struct ack {
    int key;
    unsigned op; /* number of operations of this key that are durable */
};

static unsigned hash_of(int key, unsigned op)
{
    unsigned h = (unsigned)key * 2654435761U ^ op * 2246822519U;
    h ^= h >> 13;
    h *= 3266489917U;
    return h ^ h >> 16;
}

/* What operation number `op` of the key is; remove only when there is something. */
static enum op_kind kind_of(int key, unsigned op, size_t records)
{
    unsigned dice = hash_of(key, op) % 20;
    if (dice == 0 && records > 0) {
        return OP_REMOVE;
    }
    return dice <= 2 ? OP_REPLACE : OP_APPEND;
}

static void text_of(char *out, size_t size, int key, unsigned op, int part)
{
    int pad = (int)(hash_of(key, op + 7) % 400);
    (void)snprintf(out, size, "k%d-%u-%d-%0*d", key, op, part, pad + 1, 0);
}

/* Applies operation `op` to a model: the texts of the key joined by commas. */
static void model_step(struct buf *model, size_t *records, int key, unsigned op)
{
    char text[512];
    enum op_kind kind = kind_of(key, op, *records);
    if (kind != OP_APPEND) {
        buf_clear(model);
        *records = 0;
    }
    int count = kind == OP_APPEND ? 1 : kind == OP_REPLACE ? 3 : 0;
    for (int part = 0; part < count; part++) {
        text_of(text, sizeof(text), key, op, part);
        buf_append_str(model, text);
        buf_append_byte(model, ',');
        (*records)++;
    }
}

/* --- the child ------------------------------------------------------------------------------ */

struct worker {
    struct journal *journal;
    int key;
    unsigned issued;
    unsigned acked;
    size_t records;
};

static void on_durable(void *arg, const struct err *err)
{
    struct worker *worker = arg;
    if (err != NULL) {
        _exit(3);
    }
    struct ack ack = {worker->key, ++worker->acked};
    if (write(STDOUT_FILENO, &ack, sizeof(ack)) != sizeof(ack)) {
        _exit(0); /* the parent has gone */
    }
}

static void issue(struct worker *worker)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "key%d", worker->key);
    struct journal *journal = worker->journal;
    unsigned op = worker->issued;
    enum op_kind kind = kind_of(worker->key, op, worker->records);
    char texts[3][512];
    struct journal_record records[3];
    for (int part = 0; part < 3; part++) {
        text_of(texts[part], sizeof(texts[part]), worker->key, op, part);
        records[part] = (struct journal_record){.data = texts[part], .len = strlen(texts[part])};
    }
    uint64_t lsn;
    uint64_t index;
    struct err err;
    int status;
    if (kind == OP_APPEND) {
        status =
            journal->ops->append(journal, name, strlen(name), texts[0], records[0].len, &lsn, &index, &err);
        worker->records++;
    } else if (kind == OP_REPLACE) {
        status = journal->ops->replace(journal, name, strlen(name), records, 3, &lsn, &err);
        worker->records = 3;
    } else {
        status = journal->ops->remove(journal, name, strlen(name), &lsn, &err);
        worker->records = 0;
    }
    if (status != 0) {
        fprintf(stderr, "child: %s\n", err.text);
        _exit(4);
    }
    worker->issued++;
    (void)journal->ops->wait(journal, lsn, on_durable, worker);
}

static _Noreturn void run_child(int argc, char **argv)
{
    help_start();
    struct worker workers[KEYS];
    help_backend = argv[2];
    struct journal *journal = help_open(argv[3], SEGMENT);
    for (int k = 0; k < KEYS; k++) {
        unsigned start = (unsigned)strtoul(argv[4 + k], NULL, 10);
        workers[k] = (struct worker){.journal = journal, .key = k};
        struct buf model = {0};
        for (; workers[k].issued < start; workers[k].issued++) {
            model_step(&model, &workers[k].records, k, workers[k].issued);
        }
        workers[k].acked = start;
        buf_deinit(&model);
    }
    for (;;) {
        for (int k = 0; k < KEYS; k++) {
            if (workers[k].issued - workers[k].acked < AHEAD) {
                issue(&workers[k]);
            }
        }
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
}

/* --- the parent ----------------------------------------------------------------------------- */

static pid_t start_child(const char *program, const char *dir, const unsigned *done, int *out)
{
    char numbers[KEYS][16];
    char *argv[KEYS + 5] = {(char *)program, "child", (char *)help_backend, (char *)dir};
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

/* Finds how many operations explain what the journal holds for key k; at least `acked`. */
static unsigned explain(struct journal *journal, int k, unsigned acked)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "key%d", k);
    const char *found = help_read(journal, name);
    struct buf model = {0};
    size_t records = 0;
    unsigned op = 0;
    for (; op < acked; op++) {
        model_step(&model, &records, k, op);
    }
    for (; op <= acked + AHEAD; op++) {
        if (model.len == strlen(found) && (model.len == 0 || memcmp(model.data, found, model.len) == 0)) {
            buf_deinit(&model);
            return op;
        }
        model_step(&model, &records, k, op);
    }
    fprintf(stderr, "key %d: acknowledged %u, found: %.300s\n", k, acked, found);
    exit(1);
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

static void run_backend(const char *backend, int rounds, unsigned seed)
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
    printf("ok %s: %d kills, %u acknowledged operations, seed %u, %llu segments at the end\n", backend,
           rounds, total, seed, (unsigned long long)stats.segments);
    CHECK(total > (unsigned)rounds * 10);
    CHECK(stats.segments < 60); /* compaction keeps up although it is killed as well */
    help_wipe(help_dir());
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "child") == 0) {
        run_child(argc, argv);
    }
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : ROUNDS;
    unsigned seed = (unsigned)time(NULL);
    srand(seed);
    help_start();
    run_backend("file", rounds, seed);
#ifdef MACP_ROCKSDB
    run_backend("rocksdb", rounds / 2, seed);
#else
    printf("# rocksdb: skipped, this build has no RocksDB\n");
#endif
    help_end();
    return 0;
}
