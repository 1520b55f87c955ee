/* Durable append-only logs. A journal holds many keys; the log of each key is numbered from 1, independent of
 * the others, and shares storage and flushes with them. Appends never wait; journal_ops.wait tells when they
 * are durable.
 *
 * Every function is for the loop thread and follows the callback contract (style C14). A struct journal_op is
 * valid until its callback has run; cancel makes that happen with ERR_CANCELLED. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct journal;
struct journal_op;
struct journal_scan;

enum { JOURNAL_KEY_MAX = 255, JOURNAL_RECORD_MAX = 256 << 20 };

/* How keys are parked; 0 and false everywhere but in tests. */
struct journal_parking {
    uint8_t print_bits;   /* 0: 64; of a key's fingerprint, so that some are equal */
    uint32_t chunk_bytes; /* 0: 1 MiB; the file for what leaves memory is used in portions of this size */
    uint32_t recent;      /* 0: 2048; parked keys that a read has brought back, and that stay for a while */
    bool is_eager;        /* every key is parked whenever nothing of it is under way */
};

struct journal_opts {
    const char *dir;          /* file, rocksdb: the directory; it is created. Borrowed */
    size_t segment_bytes;     /* file. 0: 32 MiB; a segment file is closed when the next group does not fit */
    size_t max_record_bytes;  /* 0: 16 MiB; larger records are refused with ERR_LIMIT */
    size_t max_group_bytes;   /* 0: 4 MiB; bytes of one flush */
    size_t max_pending_bytes; /* 0: 64 MiB; appends beyond it are refused with ERR_LIMIT */
    const char *url;          /* redis backend: where the server is. Borrowed */
    const char *name;  /* redis backend: NULL: "journal"; tells journals of one server apart. Borrowed */
    uint32_t lease_ms; /* redis backend: 0: 10 s; how long a crashed holder keeps others out */
    bool no_sync;      /* leave the flush to the operating system: survives kill, not power loss */
    bool quarantine;   /* serve what verifies when records are damaged, instead of refusing to open */
    struct journal_parking parking;
};

/* One record handed out; the pointers are valid during the callback. */
struct journal_record {
    const char *key;
    size_t key_len;
    uint64_t index; /* from 1, within the key's log */
    const char *data;
    size_t len;
};

struct journal_stats {
    uint64_t keys;
    uint64_t parked; /* of those */
    uint64_t segments;
    uint64_t bytes;   /* on disk (or in memory), dead records included */
    uint64_t records; /* stored, dead ones included */
    uint64_t live;    /* records that a reader can see */
    uint64_t appends; /* records accepted since open */
    uint64_t syncs;   /* flushes that reached the disk since open */
    uint64_t failed_syncs;
    uint64_t grouped;       /* records in those flushes: grouped / syncs is the mean group */
    uint64_t largest_group; /* records */
    uint64_t pending_bytes; /* accepted and not durable */
    uint64_t compacted;     /* segments rewritten and removed since open */
    uint64_t truncated;     /* bytes of a torn tail cut off at open */
    uint64_t damaged;       /* keys that lost records (quarantine) */
    double last_sync_ms;
};

typedef void (*journal_open_fn)(void *arg, struct journal *journal, const struct err *err);
typedef void (*journal_done_fn)(void *arg, const struct err *err);
typedef void (*journal_records_fn)(void *arg, const struct journal_record *records, size_t count,
                                   const struct err *err);

struct journal_ops {
    /* Adds a record behind the key's log. *lsn grows by append over the whole journal, *index is the position
     * in the key's log. The bytes are copied. ERR_LIMIT: too large or too much pending; ERR_CORRUPT: damaged
     * key. */
    int (*append)(struct journal *journal, const char *key, size_t key_len, const void *data, size_t len,
                  uint64_t *lsn, uint64_t *index, struct err *err);
    /* Makes `count` records the key's whole log, atomically: after a crash there is the old log or the new
     * one. Durable when *lsn is. Later appends follow the new records. Count 0 is remove. */
    int (*replace)(struct journal *journal, const char *key, size_t key_len,
                   const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err);
    /* Removes the key and its records; durable when *lsn is. ERR_NOT_FOUND without such a key. */
    int (*remove)(struct journal *journal, const char *key, size_t key_len, uint64_t *lsn, struct err *err);
    /* 1: lsn is durable; 0: pending; negative with err: its flush failed, the record does not exist. */
    int (*check)(struct journal *journal, uint64_t lsn, struct err *err);
    /* Calls fn when lsn is durable or has failed; waiters of one flush run in the order of their calls. */
    struct journal_op *(*wait)(struct journal *journal, uint64_t lsn, journal_done_fn fn, void *arg);
    /* Nobody will need the key soon: it leaves memory once nothing of it is under way, but for a fingerprint,
     * and read brings it back. Until then the other functions do what they always do; append, replace and
     * remove have to read a portion of a local file first, in place: read the key before. What count tells of
     * an unknown key may be that of a parked one with the same fingerprint (1 in 2^64, and the hash is
     * keyed): a read of it settles that. */
    void (*park)(struct journal *journal, const char *key, size_t key_len);
    /* Durable records from_index, from_index + 1, ... of a key: at most max_records, and at most max_bytes
     * unless the first alone is larger. An unknown key or an index behind the end gives none. */
    struct journal_op *(*read)(struct journal *journal, const char *key, size_t key_len, uint64_t from_index,
                               size_t max_records, size_t max_bytes, journal_records_fn fn, void *arg);
    /* All durable records of undamaged keys, each key's in order; several keys may alternate. NULL with
     * ERR_BUSY while another scan runs. Records added meanwhile may be missing. */
    struct journal_scan *(*scan_open)(struct journal *journal, struct err *err);
    /* The next portion (a few hundred records); count 0 is the end. One call at a time. */
    struct journal_op *(*scan_next)(struct journal_scan *scan, journal_records_fn fn, void *arg);
    void (*scan_close)(struct journal_scan *scan); /* not while scan_next is in flight; NULL is fine */
    void (*cancel)(struct journal_op *op);
    uint64_t (*durable)(const struct journal *journal);  /* highest lsn that is decided */
    uint64_t (*failures)(const struct journal *journal); /* flushes that failed since open */
    /* Records in the key's log: durable ones, and with those pending in *with_pending (may be NULL). */
    uint64_t (*count)(const struct journal *journal, const char *key, size_t key_len, uint64_t *with_pending);
    /* Walks the keys with durable records: *cursor starts at 0; false at the end. No changes in between.
     * Reads the names of parked keys in place: for starts and tools. *reason is NULL, or what is wrong with a
     * damaged key. */
    bool (*next_key)(const struct journal *journal, size_t *cursor, const char **key, size_t *key_len,
                     const char **reason);
    void (*stats)(const struct journal *journal, struct journal_stats *stats);
    /* Fencing token: larger than that of every journal that had this store open before. */
    uint64_t (*epoch)(const struct journal *journal);
    /* 0 while this process may write; ERR_FENCED, for good, once a flush found that somebody else has taken
     * the store over: nothing is accepted any more. */
    int (*owned)(const struct journal *journal, struct err *err);
    /* Flushes what is pending, then closes. Operations in flight complete first. */
    void (*close)(struct journal *journal, void (*done)(void *arg), void *arg);
};

struct journal {
    const struct journal_ops *ops;
};

/* Names of the backends that this program was built with: *cursor starts at 0; NULL at the end. */
const char *journal_backend(size_t *cursor);

/* Opens the backend "file", "memory" or "rocksdb". ERR_BUSY: another process has the directory open;
 * ERR_CORRUPT names file and offset. fn runs once unless the call itself fails (unknown backend, bad
 * options). */
int journal_open(struct loop *loop, const char *backend, const struct journal_opts *opts, journal_open_fn fn,
                 void *arg, struct err *err);
