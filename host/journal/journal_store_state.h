/* The inside of journal_store_*.c. Loop thread only, except where the writer or a pool job has been handed a
 * part. */
#pragma once

#include "base/list.h"
#include "journal/journal_index.h"
#include "journal/journal_ledger.h"
#include "journal/journal_park.h"
#include "journal/journal_store.h"
#include "journal/journal_thread.h"

/* Changes that become durable together. */
struct journal_store_group {
    struct list link;
    struct journal_span span;
    struct buf data;              /* the records' bytes */
    struct journal_write *writes; /* with their data pointers only once the flush starts */
    struct journal_key **keys;    /* of each write */
    size_t count;
    size_t cap;
    size_t bytes;
};

/* Something that waits for the end of the flush in flight. */
struct journal_store_turn {
    struct list link;
    void (*fn)(struct journal_store_turn *turn);
};

struct journal_store {
    struct journal base;
    struct loop *loop;
    struct journal_opts opts;
    const struct journal_driver *driver;
    void *self; /* the driver's */
    struct journal_index *index;
    struct journal_park *park;
    struct journal_ledger ledger;
    struct journal_thread *thread;
    struct journal_task task; /* the flush in flight: */
    struct journal_store_group *flying;
    struct err flush_err;
    double flush_ms;
    struct list groups; /* behind it; the last one takes appends */
    bool flush_scheduled;
    int busy;          /* pool jobs and deferred calls */
    struct list turns; /* struct journal_store_turn */
    struct journal_scan *scan;
    uint64_t epoch;
    struct err lost; /* code 0, or why nothing can be written any more */
    bool is_closing;
    bool is_finished; /* the driver is closing */
    void (*close_done)(void *arg);
    void *close_arg;
    struct journal_stats stats; /* counters; the rest is filled on demand */
};

static inline struct journal_store *journal_store_of(const struct journal *journal)
{
    return (struct journal_store *)journal;
}

/* journal_store.c: something has ended; goes on closing when that was asked for. */
void journal_store_settle(struct journal_store *store);

/* journal_store_group.c */
int journal_store_append(struct journal *journal, const char *name, size_t key_len, const void *data,
                         size_t len, uint64_t *lsn, uint64_t *index, struct err *err);
int journal_store_replace(struct journal *journal, const char *name, size_t key_len,
                          const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err);
int journal_store_remove(struct journal *journal, const char *name, size_t key_len, uint64_t *lsn,
                         struct err *err);

/* journal_store_read.c. read_on: a flush has ended, its changes are in the index (or were forgotten). */
void journal_store_read_on(struct journal_store *store);
struct journal_op *journal_store_read(struct journal *journal, const char *name, size_t key_len,
                                      uint64_t from_index, size_t max_records, size_t max_bytes,
                                      journal_records_fn fn, void *arg);
struct journal_scan *journal_store_scan_open(struct journal *journal, struct err *err);
struct journal_op *journal_store_scan_next(struct journal_scan *scan, journal_records_fn fn, void *arg);
void journal_store_scan_close(struct journal_scan *scan);
