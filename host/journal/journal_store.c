/* Opening, closing and telling about a journal above a database; see journal_store.h. */
#include "journal/journal_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_store_state.h"
#include "loop/loop.h"
#include "loop/work.h"

struct opening {
    struct journal_store *store;
    struct journal_opened opened;
    int status;
    struct err err;
    journal_open_fn fn;
    void *arg;
    uint64_t started_ns;
};

static void free_store(struct journal_store *store)
{
    journal_thread_close(store->thread);
    journal_park_free(store->park);
    journal_index_free(store->index);
    journal_ledger_deinit(&store->ledger);
    free(store);
}

static void run_close(void *arg)
{
    struct journal_store *store = arg;
    store->driver->close(store->self);
}

static void on_closed(void *arg)
{
    struct journal_store *store = arg;
    void (*done)(void *arg) = store->close_done;
    void *done_arg = store->close_arg;
    free_store(store);
    done(done_arg);
}

void journal_store_settle(struct journal_store *store)
{
    if (!store->is_closing || store->is_finished || store->flying != NULL || store->flush_scheduled ||
        store->busy > 0 || store->ledger.busy > 0 || !list_is_empty(&store->groups)) {
        return;
    }
    store->is_finished = true;
    work_queue(store->loop, run_close, on_closed, store);
}

static void on_close_due(void *arg)
{
    struct journal_store *store = arg;
    store->busy--;
    journal_store_settle(store);
}

static void close_store(struct journal *journal, void (*done)(void *arg), void *arg)
{
    struct journal_store *store = journal_store_of(journal);
    store->is_closing = true;
    journal_park_close(store->park);
    store->close_done = done;
    store->close_arg = arg;
    store->busy++;
    if (store->driver->closing != NULL) {
        store->driver->closing(store->self);
    }
    loop_defer(store->loop, on_close_due, store);
}

static void on_ledger_idle(void *arg)
{
    journal_store_settle(arg);
}

static int check_lsn(struct journal *journal, uint64_t lsn, struct err *err)
{
    return journal_ledger_check(&journal_store_of(journal)->ledger, lsn, err);
}

static struct journal_op *wait_lsn(struct journal *journal, uint64_t lsn, journal_done_fn fn, void *arg)
{
    return journal_ledger_wait(&journal_store_of(journal)->ledger, lsn, fn, arg);
}

static void cancel_op(struct journal_op *op)
{
    if (op->done != NULL) {
        journal_ledger_cancel(op);
    } else {
        op->is_cancelled = true; /* the pool is at it; its result is dropped */
    }
}

static uint64_t get_durable(const struct journal *journal)
{
    return journal_store_of(journal)->ledger.decided_lsn;
}

static uint64_t get_failures(const struct journal *journal)
{
    return journal_store_of(journal)->stats.failed_syncs;
}

static uint64_t count_records(const struct journal *journal, const char *name, size_t key_len,
                              uint64_t *with_pending)
{
    return journal_park_count(journal_store_of(journal)->park, name, key_len, with_pending);
}

static bool next_key(const struct journal *journal, size_t *cursor, const char **name, size_t *key_len,
                     const char **reason)
{
    return journal_park_walk(journal_store_of(journal)->park, cursor, name, key_len, reason);
}

static void park_key(struct journal *journal, const char *name, size_t key_len)
{
    journal_park_key(journal_store_of(journal)->park, name, key_len);
}

static void get_stats(const struct journal *journal, struct journal_stats *stats)
{
    const struct journal_store *store = journal_store_of(journal);
    *stats = store->stats;
    stats->parked = journal_park_size(store->park);
    stats->keys = journal_index_size(store->index) + stats->parked;
    stats->records = stats->live;
    if (store->driver->stats != NULL) {
        store->driver->stats(store->self, stats);
    }
}

static uint64_t get_epoch(const struct journal *journal)
{
    return journal_store_of(journal)->epoch;
}

static int check_owned(const struct journal *journal, struct err *err)
{
    const struct journal_store *store = journal_store_of(journal);
    if (store->lost.code != 0) {
        *err = store->lost;
        return store->lost.code;
    }
    return store->driver->owned == NULL ? 0 : store->driver->owned(store->self, err);
}

static const struct journal_ops store_ops = {
    .append = journal_store_append,
    .replace = journal_store_replace,
    .remove = journal_store_remove,
    .check = check_lsn,
    .wait = wait_lsn,
    .park = park_key,
    .read = journal_store_read,
    .scan_open = journal_store_scan_open,
    .scan_next = journal_store_scan_next,
    .scan_close = journal_store_scan_close,
    .cancel = cancel_op,
    .durable = get_durable,
    .failures = get_failures,
    .count = count_records,
    .next_key = next_key,
    .stats = get_stats,
    .epoch = get_epoch,
    .owned = check_owned,
    .close = close_store,
};

void journal_store_load(struct journal_store *store, const char *name, size_t key_len, uint64_t epoch,
                        uint32_t count, bool is_damaged)
{
    struct journal_key *key = journal_index_add(store->index, name, key_len);
    store->stats.live -= key->count; /* told before */
    store->stats.damaged -= key->is_damaged ? 1 : 0;
    key->epoch = epoch;
    key->count = count;
    key->next_epoch = epoch;
    key->next_count = is_damaged && count == 0 ? 1 : count; /* so that it can be removed */
    key->is_damaged = is_damaged;
    store->stats.live += count;
    store->stats.damaged += is_damaged ? 1 : 0;
}

static void on_park_idle(void *arg)
{
    journal_store_settle(arg);
}

static void run_open(void *arg)
{
    struct opening *opening = arg;
    struct journal_store *store = opening->store;
    opening->status = store->driver->open(store->self, store, &opening->opened, &opening->err);
    if (opening->status != 0) {
        store->driver->close(store->self);
    }
}

static void on_open(void *arg)
{
    struct opening *opening = arg;
    struct journal_store *store = opening->store;
    if (opening->status != 0) {
        opening->fn(opening->arg, NULL, &opening->err);
        free_store(store);
        free(opening);
        return;
    }
    journal_ledger_start(&store->ledger, opening->opened.last_lsn);
    store->epoch = opening->opened.epoch;
    store->thread = journal_thread_open(store->loop);
    log_line(LOG_DEBUG, "journal.opened", "%s: %zu keys, %llu records, %.1f ms", store->driver->name,
             journal_index_size(store->index), (unsigned long long)store->stats.live,
             (double)(loop_mono_ns() - opening->started_ns) / 1e6);
    if (store->opts.parking.is_eager) {
        journal_park_resume(store->park);
    }
    opening->fn(opening->arg, &store->base, NULL);
    free(opening);
}

int journal_store_open(struct loop *loop, const struct journal_opts *opts,
                       const struct journal_driver *driver, void *self, journal_open_fn fn, void *arg)
{
    struct journal_store *store = xcalloc(1, sizeof(*store));
    store->base.ops = &store_ops;
    store->loop = loop;
    store->opts = *opts;
    store->opts.dir = NULL; /* borrowed, and the driver's matter */
    store->driver = driver;
    store->self = self;
    store->index = journal_index_new(opts->parking.is_eager);
    store->park = journal_park_new(&(struct journal_park_opts){
        .loop = loop,
        .index = store->index,
        .dir = opts->dir,
        .tuning = opts->parking,
        .busy = &store->busy,
        .on_idle = on_park_idle,
        .arg = store,
    });
    list_init(&store->groups);
    list_init(&store->turns);
    journal_ledger_init(&store->ledger, loop, on_ledger_idle, store);
    struct opening *opening = xcalloc(1, sizeof(*opening));
    *opening = (struct opening){.store = store, .fn = fn, .arg = arg, .started_ns = loop_mono_ns()};
    work_queue(loop, run_open, on_open, opening);
    return 0;
}
