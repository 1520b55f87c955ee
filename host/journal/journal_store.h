/* A journal above a database: group commit, waiters, counts, reads, scans and closing, for every backend
 * whose records lie in a store that finds them by key. The backend plugs in as a struct journal_driver of
 * blocking functions, none of which runs on the loop thread:
 *
 *     int journal_x_open(loop, opts, fn, arg, err)       listed in journal.c; checks opts, and then
 *         return journal_store_open(loop, opts, &x_driver, self, fn, arg);
 *
 *     open    pool thread, alone. Takes the store for this process, and tells every key that is in it with
 *             journal_store_load.
 *     write   writer thread, one call at a time. Makes a batch durable, as a whole or not at all.
 *     read    pool threads, several at a time, also beside write.
 *     stats   loop thread: the size of what is stored, from memory.
 *     close   pool thread, alone; frees self. Also after a failed open.
 *
 * A key's log has a generation, `epoch`: an lsn, larger in each log that the key gets. With it a driver tells
 * the records of a log from those of the log before, and can leave the latter to be removed at leisure. */
#pragma once

#include "base/buf.h"
#include "journal/journal.h"

struct journal_store;

enum journal_write_kind {
    JOURNAL_WRITE_RECORD = 1, /* record `index` of log `epoch`; the first of a key's first log may be the
                                 first word of it */
    JOURNAL_WRITE_BEGIN = 2,  /* log `epoch` takes the place of what the key has; its records follow in the
                                 same  batch */
    JOURNAL_WRITE_DROP = 3,   /* the key has no log any more; `epoch` is above that of the last */
};

/* One change. The bytes are the store's, valid during the call. */
struct journal_write {
    const char *key;
    const char *data;
    size_t len;
    uint64_t epoch;
    uint32_t index;
    uint8_t kind;
    uint8_t key_len;
};

/* The changes of a group, in order. */
struct journal_batch {
    const struct journal_write *writes;
    size_t count;
    size_t bytes; /* keys and data */
    uint64_t first_lsn;
    uint64_t last_lsn;
};

/* A record in the buffer that read fills. */
struct journal_extent {
    size_t offset;
    size_t len;
};

/* Records first, first + 1, ... first + count - 1 of a log. */
struct journal_range {
    char key[JOURNAL_KEY_MAX];
    uint8_t key_len;
    uint64_t epoch;
    uint32_t first;
    uint32_t count;
    struct journal_extent *extents; /* room for count */
    uint32_t found;                 /* result */
    bool is_missing;                /* result: record first + found does not exist (perhaps not any more) */
};

/* What open found. */
struct journal_opened {
    uint64_t last_lsn; /* the highest lsn of a batch that was stored */
    uint64_t epoch;    /* fencing token: larger than that of every opener before */
};

struct journal_driver {
    const char *name; /* for messages */
    int (*open)(void *self, struct journal_store *store, struct journal_opened *opened, struct err *err);
    /* 0: durable. Otherwise nothing of it exists, now or after a restart. ERR_FENCED: another process has
     * taken the store over; no write will be tried again. */
    int (*write)(void *self, const struct journal_batch *batch, struct err *err);
    /* Appends the data to out, stopping when one more record would exceed max_bytes in all (unless it is the
     * first of all); ranges behind that stay at found 0. ERR_CORRUPT: a record does not verify. */
    int (*read)(void *self, struct journal_range *ranges, size_t count, size_t max_bytes, struct buf *out,
                struct err *err);
    void (*stats)(void *self, struct journal_stats *stats); /* segments, bytes, truncated; NULL is fine */
    /* Loop thread: close was asked for; a write that waits for something to come back is to give up soon.
     * NULL is fine. */
    void (*closing)(void *self);
    /* Loop thread, cheap: ERR_FENCED when it is known, also without a write, that another process has taken
     * the store over. NULL is fine. */
    int (*owned)(void *self, struct err *err);
    void (*close)(void *self);
};

/* opts are complete (journal.c) and copied, without dir; self is taken. fn runs once. */
int journal_store_open(struct loop *loop, const struct journal_opts *opts,
                       const struct journal_driver *driver, void *self, journal_open_fn fn, void *arg);

/* For driver->open, telling a key twice is fine: the key has `count` records in log `epoch`. is_damaged: some
 * of them are lost; the key can only be removed. */
void journal_store_load(struct journal_store *store, const char *key, size_t key_len, uint64_t epoch,
                        uint32_t count, bool is_damaged);
