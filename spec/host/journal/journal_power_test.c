/* Power cuts: everything a journal does to its directory is recorded, and after any of these calls the disk
 * is made as a cut would leave it (power_disk.h). Whatever was acknowledged before must be there, in order,
 * once, and the journal must go on from there. Segments are small, so that they are changed and compacted all
 * the time; each round begins with what a cut of the one before has left, so that recovery is cut as well. */
#include "power_disk.h"
#include "seed.h"

#include "journal/journal_sequence.h"

enum { KEYS = SEQUENCE_KEYS, SEGMENT = 8192, ROUNDS = 12, CUTS = 25, ACKS = 150 };

static int rounds = ROUNDS;

static unsigned acks; /* of this round */
static size_t opened; /* events of this round until the journal was open */

static void on_done(struct sequence_worker *worker, const struct err *err)
{
    CHECK(err == NULL);
    acks++;
    power_mark((unsigned)worker->key, worker->acked);
}

/* Works on the journal behind what was done already, closes it, and records all of it. Returns its epoch. */
static uint64_t work(const unsigned *done, unsigned lies, unsigned wanted)
{
    struct sequence_worker workers[KEYS];
    power_start(help_dir(), lies);
    struct journal *journal = help_open(help_dir(), SEGMENT);
    uint64_t epoch = journal->ops->epoch(journal);
    acks = 0;
    opened = power.count;
    for (int k = 0; k < KEYS; k++) {
        workers[k].done = on_done;
        sequence_begin(&workers[k], journal, k, done[k]);
    }
    for (;;) {
        bool is_idle = true;
        for (int k = 0; k < KEYS; k++) {
            if (acks < wanted && workers[k].issued - workers[k].acked < SEQUENCE_AHEAD) {
                sequence_issue(&workers[k]);
            }
            is_idle = is_idle && workers[k].issued == workers[k].acked;
        }
        if (is_idle) {
            break;
        }
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
    help_close(journal);
    power_stop();
    return epoch;
}

/* What had been acknowledged before an event. */
static void count_acked(size_t end, const unsigned *done, unsigned *acked)
{
    memcpy(acked, done, sizeof(*acked) * KEYS);
    for (size_t i = 0; i < end; i++) {
        if (power.events[i].kind == POWER_MARK) {
            acked[power.events[i].mark[0]] = power.events[i].mark[1];
        }
    }
}

/* Opens what a cut has left and compares; found: how many operations of each key are there. NULL: all is
 * well, else what is not. */
static const char *examine(const char *dir, const unsigned *acked, unsigned *found, uint64_t *epoch)
{
    static char problem[400];
    struct err err;
    struct journal_opts opts = {.dir = dir, .segment_bytes = SEGMENT, .parking = help_parking};
    struct journal *journal = help_try_open(&opts, &err);
    if (journal == NULL) {
        (void)snprintf(problem, sizeof(problem), "it does not open: %s", err.text);
        return problem;
    }
    *epoch = journal->ops->epoch(journal);
    const char *result = NULL;
    for (int k = 0; k < KEYS && result == NULL; k++) {
        long op = sequence_explain(journal, k, acked[k]);
        if (op < 0) {
            char name[16];
            sequence_name(name, k);
            (void)snprintf(problem, sizeof(problem), "key %d: acknowledged %u, found: %.300s", k, acked[k],
                           help_read(journal, name));
            result = problem;
        }
        found[k] = (unsigned)op;
    }
    if (result == NULL) {
        help_append(journal, "behind", "it goes on");
    }
    help_close(journal);
    return result;
}

/* Cuts the power at random places of what was recorded. Returns how many of the cuts lost something; with an
 * honest disk that ends the test. */
static unsigned cut(const char *dir, const unsigned *done, uint64_t epoch, bool is_honest)
{
    unsigned losses = 0;
    for (int i = 0; i < CUTS; i++) {
        size_t end = i < 4 ? opened : (size_t)rand() % (power.count + 1);
        unsigned acked[KEYS];
        unsigned found[KEYS];
        uint64_t next_epoch = 0;
        count_acked(end, done, acked);
        power_cut(end, dir);
        const char *problem = examine(dir, acked, found, &next_epoch);
        if (problem == NULL) { /* and again, now that it has repaired itself and gone on */
            problem = examine(dir, found, found, &next_epoch);
        }
        if (problem != NULL && is_honest) {
            fprintf(stderr, "cut before event %zu of %zu: %s\n", end, power.count, problem);
            exit(1);
        }
        CHECK(!is_honest || end < opened || next_epoch > epoch); /* no token is handed out twice */
        losses += problem != NULL;
        help_wipe(dir);
    }
    return losses;
}

/* Leaves in the journal's directory what a cut leaves, for the next round. */
static void go_on(unsigned *done)
{
    unsigned acked[KEYS];
    char left[96];
    uint64_t epoch;
    size_t end = (size_t)rand() % (power.count + 1);
    count_acked(end, done, acked);
    (void)snprintf(left, sizeof(left), "%s-left", help_dir());
    power_cut(end, left);
    help_wipe(help_dir());
    CHECK(rename(left, help_dir()) == 0);
    (void)snprintf(left, sizeof(left), "%s-look", help_dir());
    help_copy(help_dir(), left);
    CHECK(examine(left, acked, done, &epoch) == NULL);
    help_wipe(left);
}

TEST(nothing_acknowledged_is_lost)
{
    unsigned done[KEYS] = {0};
    char dir[96];
    (void)snprintf(dir, sizeof(dir), "%s-cut", help_dir());
    CHECK(mkdir(help_dir(), 0700) == 0);
    size_t events = 0;
    for (int round = 0; round < rounds; round++) {
        uint64_t epoch = work(done, POWER_HONEST, ACKS);
        (void)cut(dir, done, epoch, true);
        events += power.count;
        go_on(done);
        power_forget();
    }
    struct journal *journal = help_open(help_dir(), SEGMENT);
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    help_close(journal);
    printf("# %d cuts in %zu events, %llu segments at the end\n", rounds * (CUTS + 1), events,
           (unsigned long long)stats.segments);
    help_wipe(help_dir());
}

/* The test itself: on a disk that does not flush, something must be missing. */
static void lose(unsigned lies)
{
    unsigned done[KEYS] = {0};
    char dir[96];
    (void)snprintf(dir, sizeof(dir), "%s-cut", help_dir());
    CHECK(mkdir(help_dir(), 0700) == 0);
    (void)work(done, lies, 4 * ACKS);
    CHECK(cut(dir, done, 0, false) > 0);
    power_forget();
    help_wipe(help_dir());
}

TEST(a_disk_that_does_not_flush_data_is_noticed)
{
    lose(POWER_IGNORES_DATA);
}

TEST(a_disk_that_does_not_flush_names_is_noticed)
{
    lose(POWER_IGNORES_NAMES);
}

/* An argument is the number of rounds. */
int main(int argc, char **argv)
{
    rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : ROUNDS;
    srand(test_seed());
    help_start();
    RUN(nothing_acknowledged_is_lost);
    help_park_all(2);
    rounds = (rounds + 1) / 2;
    RUN(nothing_acknowledged_is_lost); /* nor while keys leave memory and come back */
    help_parking = (struct journal_parking){0};
    RUN(a_disk_that_does_not_flush_data_is_noticed);
    RUN(a_disk_that_does_not_flush_names_is_noticed);
    help_end();
    return 0;
}
