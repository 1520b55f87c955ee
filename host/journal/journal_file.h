/* The file backend: its state, shared by the journal_*.c files that make it up, and the way in. Loop thread
 * only, except where a pool job owns a copy. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "journal/journal.h"
#include "journal/journal_index.h"
#include "journal/journal_ledger.h"
#include "journal/journal_owner.h"
#include "journal/journal_park.h"
#include "journal/journal_record.h"
#include "journal/journal_segment.h"
#include "journal/journal_writer.h"

/* A record on its way to the disk: what has to be noted in the index once it is durable. */
struct journal_slot {
    struct journal_key *key; /* NULL for JOURNAL_CLOSED */
    uint64_t epoch;
    uint64_t moved_from; /* place of the original when compaction rewrites a record, else 0 */
    size_t offset;       /* in the group */
    uint32_t index;
    uint8_t kind;
};

/* Records that become durable with one flush. */
struct journal_group {
    struct list link;
    struct buf buf;
    struct journal_slot *slots;
    size_t count;
    size_t cap;
    struct journal_span span;
};

struct journal_file {
    struct journal base;
    struct loop *loop;
    struct journal_opts opts;
    char *dir;
    int dir_fd;
    struct journal_owner *owner;
    struct err lost; /* code 0, or why nothing can be written any more */
    uint32_t salt;
    struct journal_index *index;
    struct journal_park *park;
    struct journal_segments segments;
    struct journal_writer *writer;
    struct journal_job job; /* the flush in flight */
    bool is_flying;
    struct journal_group *flying; /* its group; NULL when it only reopens */
    struct list groups;           /* behind it; the last one takes appends */
    bool flush_scheduled;
    bool must_rotate; /* the present segment is not to be written any more */
    struct journal_ledger ledger;
    int busy;                  /* pool jobs that use this journal */
    struct journal_scan *scan; /* NULL when none runs */
    struct journal_cleaner *cleaner;
    bool has_unplaced_damage; /* quarantine: damage that could not be tied to a key */
    bool is_marked_closed;    /* the last record is JOURNAL_CLOSED */
    bool has_cores;           /* more than one: the loop may wait awake while the writer works */
    bool is_closing;
    void (*close_done)(void *arg);
    void *close_arg;
    struct journal_stats stats; /* counters; the rest is filled on demand */
};

int journal_file_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                      struct err *err);
/* A pool job or flush has ended: continue closing when that was asked for. */
void journal_file_settle(struct journal_file *file);

/* journal_recover.c, on a pool thread before anything else uses `file`: reads all segments, fills the index,
 * repairs the tail and leaves *fd (or -1) open on the segment to go on with. */
int journal_recover(struct journal_file *file, int *fd, struct err *err);

/* journal_group.c */
int journal_group_append(struct journal *journal, const char *key, size_t key_len, const void *data,
                         size_t len, uint64_t *lsn, uint64_t *index, struct err *err);
int journal_group_replace(struct journal *journal, const char *key, size_t key_len,
                          const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err);
int journal_group_remove(struct journal *journal, const char *key, size_t key_len, uint64_t *lsn,
                         struct err *err);
void journal_group_add_closed(struct journal_file *file);
/* Adds a copy of a live record, to take its place in the index when durable; false when too much is pending.
 */
bool journal_group_add_moved(struct journal_file *file, struct journal_key *key,
                             const struct journal_item *item, uint64_t place);
void journal_group_flush(
    struct journal_file *file); /* starts a flush when there is something and none runs */

/* journal_read.c. Reads places[0..count), appending them to out until one more would exceed max_bytes (at
 * least one). Blocks; for the pool. *found is the number read; each is journal_read_item in `items`, offsets
 * into out. */
struct journal_read_item {
    size_t offset;
    size_t len;
};
int journal_read_places(int dir_fd, uint32_t salt, const uint64_t *places, size_t count, uint32_t first_index,
                        size_t max_bytes, struct buf *out, struct journal_read_item *items, size_t *found,
                        struct err *err);
struct journal_op *journal_read(struct journal *journal, const char *key, size_t key_len, uint64_t from_index,
                                size_t max_records, size_t max_bytes, journal_records_fn fn, void *arg);
/* Marks the segments of places as being read, or no longer. */
void journal_read_hold(struct journal_file *file, const uint64_t *places, size_t count, int delta);

/* journal_scan.c */
struct journal_scan *journal_scan_open(struct journal *journal, struct err *err);
struct journal_op *journal_scan_next(struct journal_scan *scan, journal_records_fn fn, void *arg);
void journal_scan_close(struct journal_scan *scan);

/* journal_compact.c: rewrites the oldest segments while most of what is stored is dead. */
void journal_compact_kick(struct journal_file *file); /* something died or became durable */
void journal_compact_free(struct journal_file *file);
