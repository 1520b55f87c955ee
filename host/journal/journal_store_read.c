/* Reading above a database: one key's records, or everything for recovery. The driver reads on the pool; a
 * log that was replaced or removed meanwhile is read again as it is now. See journal_store.h. */
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "journal/journal_store_state.h"
#include "loop/loop.h"
#include "loop/work.h"

enum { MAX_RECORDS = 65536, BATCH = 256, BATCH_BYTES = 1 << 20, MAX_TRIES = 16 };

struct read_op {
    struct journal_op op; /* first: cancel gets its address */
    struct journal_store *store;
    struct journal_range range;
    uint64_t from_index;
    size_t max_records;
    size_t max_bytes;
    struct buf out;
    struct err err;
    struct journal_store_turn turn;
    int tries;
};

struct journal_scan {
    struct journal_op op; /* first: cancel gets its address. Set while a step is in flight */
    struct journal_store *store;
    struct err err;
    size_t cursor;
    struct journal_store_turn turn;
    int tries;
    bool is_gathered;   /* the parked keys are back */
    bool is_ahead;      /* something was missing that the flush in flight may have replaced */
    bool is_last_round; /* the walk began at 0 and has found nothing yet */
    size_t range_count;
    struct buf out;
    struct journal_range ranges[BATCH];
    struct journal_extent extents[BATCH];
    struct journal_record records[BATCH];
};

static int missing(const struct journal_range *range, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "record %u of key \"%.*s\" is missing", range->first + range->found,
                   (int)range->key_len, range->key);
}

/* While a flush is in flight the database may be ahead of the index: what is missing may have been replaced
 * or removed by it. It is looked for again when the index knows; so often. */
static bool may_be_ahead(const struct journal_store *store, int *tries)
{
    return store->flying != NULL && (*tries)++ < MAX_TRIES;
}

static void wait_turn(struct journal_store *store, struct journal_store_turn *turn,
                      void (*fn)(struct journal_store_turn *turn))
{
    turn->fn = fn;
    list_push_back(&store->turns, &turn->link);
}

void journal_store_read_on(struct journal_store *store)
{
    struct list due;
    list_init(&due);
    for (struct list *node; (node = list_pop_front(&store->turns)) != NULL;) {
        list_push_back(&due, node);
    }
    for (struct list *node; (node = list_pop_front(&due)) != NULL;) {
        struct journal_store_turn *turn = list_entry(node, struct journal_store_turn, link);
        turn->fn(turn);
    }
}

/* Is what the range was planned from still the key's log? */
static bool is_current(const struct journal_store *store, const struct journal_range *range)
{
    const struct journal_key *key = journal_index_find(store->index, range->key, range->key_len);
    return key != NULL && key->epoch == range->epoch && key->count > 0;
}

static void run_read(void *arg)
{
    struct read_op *read = arg;
    struct journal_store *store = read->store;
    (void)store->driver->read(store->self, &read->range, 1, read->max_bytes, &read->out, &read->err);
}

static void finish(struct read_op *read)
{
    if (read->op.is_cancelled) {
        (void)err_set(&read->err, ERR_CANCELLED, "the read was cancelled");
    }
    const struct journal_range *range = &read->range;
    struct journal_record *records = xcalloc((size_t)range->found + 1, sizeof(*records));
    for (uint32_t i = 0; i < range->found; i++) {
        records[i] = (struct journal_record){
            .key = range->key,
            .key_len = range->key_len,
            .index = (uint64_t)range->first + i,
            .data = range->extents[i].len == 0 ? "" : read->out.data + range->extents[i].offset,
            .len = range->extents[i].len,
        };
    }
    bool is_good = read->err.code == 0;
    read->op.records(read->op.arg, is_good ? records : NULL, is_good ? range->found : 0,
                     is_good ? NULL : &read->err);
    free(records);
    free(range->extents);
    buf_deinit(&read->out);
    free(read);
}

static bool plan(struct read_op *read);
static void on_read(void *arg);
static void start(struct read_op *read);

static void on_back(void *arg, const struct err *err)
{
    struct read_op *read = arg;
    if (err != NULL) {
        read->err = *err;
        on_read(read);
    } else {
        start(read);
    }
}

/* From the index as it is now. */
static void start(struct read_op *read)
{
    struct journal_store *store = read->store;
    const struct journal_range *range = &read->range;
    const bool is_wanted = !read->op.is_cancelled;
    if (is_wanted && journal_park_holds(store->park, range->key, range->key_len)) {
        journal_park_fetch(store->park, range->key, range->key_len, on_back, read);
    } else if (is_wanted && plan(read)) {
        work_queue(store->loop, run_read, on_read, read);
    } else {
        loop_defer(store->loop, on_read, read);
    }
}

static void read_again(struct journal_store_turn *turn)
{
    start(list_entry(turn, struct read_op, turn));
}

static void on_read(void *arg)
{
    struct read_op *read = arg;
    struct journal_store *store = read->store;
    if (read->err.code == 0 && read->range.is_missing && !read->op.is_cancelled) {
        if (!is_current(store, &read->range)) {
            read_again(&read->turn);
            return;
        }
        if (may_be_ahead(store, &read->tries)) {
            wait_turn(store, &read->turn, read_again);
            return;
        }
        (void)missing(&read->range, &read->err);
    }
    finish(read);
    store->busy--;
    journal_store_settle(store);
}

/* From the index to a range; false when there is nothing to read. */
static bool plan(struct read_op *read)
{
    struct journal_range *range = &read->range;
    const struct journal_key *key = journal_index_find(read->store->index, range->key, range->key_len);
    range->found = 0;
    range->is_missing = false;
    buf_clear(&read->out);
    if (key != NULL && key->is_damaged) {
        (void)err_set(&read->err, ERR_CORRUPT, "the log of key \"%.*s\" is damaged", (int)key->len,
                      key->name);
        return false;
    }
    if (key == NULL || read->from_index < 1 || read->from_index > key->count || read->max_records == 0) {
        return false;
    }
    size_t count = key->count - (size_t)(read->from_index - 1);
    count = read->max_records < count ? read->max_records : count;
    count = count < MAX_RECORDS ? count : MAX_RECORDS;
    range->epoch = key->epoch;
    range->first = (uint32_t)read->from_index;
    range->count = (uint32_t)count;
    range->extents = xrealloc(range->extents, count * sizeof(*range->extents));
    return true;
}

struct journal_op *journal_store_read(struct journal *journal, const char *name, size_t key_len,
                                      uint64_t from_index, size_t max_records, size_t max_bytes,
                                      journal_records_fn fn, void *arg)
{
    struct journal_store *store = journal_store_of(journal);
    struct read_op *read = xcalloc(1, sizeof(*read));
    read->store = store;
    read->op.journal = journal;
    read->op.records = fn;
    read->op.arg = arg;
    read->from_index = from_index;
    read->max_records = max_records;
    read->max_bytes = max_bytes;
    read->range.key_len = (uint8_t)(key_len <= JOURNAL_KEY_MAX ? key_len : 0);
    memcpy(read->range.key, name, read->range.key_len);
    store->busy++;
    if (store->is_closing) {
        (void)err_set(&read->err, ERR_CLOSED, "the journal is closed");
        loop_defer(store->loop, on_read, read);
    } else {
        start(read);
    }
    return &read->op;
}

static void start_step(void *arg);

static void deliver(struct journal_scan *scan, size_t count)
{
    struct journal_store *store = scan->store;
    struct journal_op op = scan->op;
    struct err err = scan->err;
    if (op.is_cancelled) {
        (void)err_set(&err, ERR_CANCELLED, "the scan was cancelled");
    }
    store->busy--;
    op.records(op.arg, scan->records, err.code == 0 ? count : 0, err.code == 0 ? NULL : &err);
    journal_store_settle(store);
}

static void run_scan(void *arg)
{
    struct journal_scan *scan = arg;
    struct journal_store *store = scan->store;
    (void)store->driver->read(store->self, scan->ranges, scan->range_count, BATCH_BYTES, &scan->out,
                              &scan->err);
}

/* Notes how far the key has been handed out. A log that is not what it was ends here: records added meanwhile
 * may be missing from a scan. */
static void note_scanned(struct journal_scan *scan, const struct journal_range *range)
{
    struct journal_key *key = journal_index_find(scan->store->index, range->key, range->key_len);
    if (key == NULL) {
        return;
    }
    if (!range->is_missing) {
        key->scanned = range->first - 1 + range->found;
    } else if (key->epoch == range->epoch && key->count > 0) {
        scan->is_ahead = may_be_ahead(scan->store, &scan->tries);
        if (!scan->is_ahead) {
            (void)missing(range, &scan->err);
        }
        key->scanned = range->first - 1 + range->found;
    } else {
        key->scanned = key->scan_end;
    }
}

static void scan_on(struct journal_store_turn *turn)
{
    loop_defer(list_entry(turn, struct journal_scan, turn)->store->loop, start_step,
               list_entry(turn, struct journal_scan, turn));
}

static void on_scan(void *arg)
{
    struct journal_scan *scan = arg;
    size_t count = 0;
    scan->is_ahead = false;
    for (size_t i = 0; i < scan->range_count && scan->err.code == 0; i++) {
        const struct journal_range *range = &scan->ranges[i];
        note_scanned(scan, range);
        for (uint32_t k = 0; k < range->found; k++) {
            const struct journal_extent *extent = &range->extents[k];
            scan->records[count++] = (struct journal_record){
                .key = range->key,
                .key_len = range->key_len,
                .index = (uint64_t)range->first + k,
                .data = extent->len == 0 ? "" : scan->out.data + extent->offset,
                .len = extent->len,
            };
        }
    }
    if (count == 0 && scan->is_ahead) {
        wait_turn(scan->store, &scan->turn, scan_on);
        return;
    }
    if (count == 0) {
        start_step(scan); /* all of them have gone; count 0 would be the end */
        return;
    }
    deliver(scan, count);
}

/* Plans the next records of keys that are not complete, from the cursor on. */
static size_t gather(struct journal_scan *scan)
{
    size_t total = 0;
    scan->range_count = 0;
    buf_clear(&scan->out);
    for (struct journal_key *key;
         total < BATCH && (key = journal_index_next(scan->store->index, &scan->cursor)) != NULL;) {
        uint32_t end = key->scan_end < key->count ? key->scan_end : key->count;
        if (key->is_damaged || key->scanned >= end) {
            continue;
        }
        uint32_t left = end - key->scanned;
        struct journal_range *range = &scan->ranges[scan->range_count++];
        memcpy(range->key, key->name, key->len);
        range->key_len = key->len;
        range->epoch = key->epoch;
        range->first = key->scanned + 1;
        range->count = left < BATCH - total ? left : (uint32_t)(BATCH - total);
        range->extents = scan->extents + total;
        range->found = 0;
        range->is_missing = false;
        total += range->count;
        if (range->count < left) {
            scan->cursor--; /* this key again */
        }
    }
    return total;
}

static void on_gathered(void *arg, const struct err *err)
{
    struct journal_scan *scan = arg;
    scan->is_gathered = err == NULL;
    if (err != NULL) {
        scan->err = *err;
    }
    start_step(scan);
}

/* Keys may change their place in the table between two steps, and ranges may have been cut short: the end is
 * reached only when a walk over the whole table finds nothing. */
static void start_step(void *arg)
{
    struct journal_scan *scan = arg;
    if (scan->err.code == 0 && !scan->op.is_cancelled && !scan->is_gathered) {
        journal_park_fetch_all(scan->store->park, on_gathered, scan);
        return;
    }
    if (scan->err.code != 0 || scan->op.is_cancelled) {
        deliver(scan, 0);
        return;
    }
    size_t total = gather(scan);
    if (total == 0 && !scan->is_last_round) {
        scan->cursor = 0;
        total = gather(scan);
        scan->is_last_round = total == 0;
    }
    if (total == 0) {
        deliver(scan, 0);
        return;
    }
    work_queue(scan->store->loop, run_scan, on_scan, scan);
}

struct journal_scan *journal_store_scan_open(struct journal *journal, struct err *err)
{
    struct journal_store *store = journal_store_of(journal);
    if (store->is_closing || store->scan != NULL) {
        (void)err_set(err, store->is_closing ? ERR_CLOSED : ERR_BUSY, "the journal is %s",
                      store->is_closing ? "closed" : "being scanned already");
        return NULL;
    }
    struct journal_scan *scan = xcalloc(1, sizeof(*scan));
    scan->store = store;
    scan->op.journal = journal;
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(store->index, &cursor)) != NULL;) {
        key->scanned = 0;
        key->scan_end = key->count;
    }
    store->scan = scan;
    journal_park_suspend(store->park);
    return scan;
}

struct journal_op *journal_store_scan_next(struct journal_scan *scan, journal_records_fn fn, void *arg)
{
    scan->op.records = fn;
    scan->op.arg = arg;
    scan->op.is_cancelled = false;
    scan->store->busy++;
    if (scan->store->is_closing) {
        (void)err_set(&scan->err, ERR_CLOSED, "the journal is closed");
    }
    loop_defer(scan->store->loop, start_step, scan);
    return &scan->op;
}

void journal_store_scan_close(struct journal_scan *scan)
{
    if (scan != NULL) {
        scan->store->scan = NULL;
        journal_park_resume(scan->store->park);
        buf_deinit(&scan->out);
        free(scan);
    }
}
