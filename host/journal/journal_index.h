/* Which records a key has and where they lie: a hash table from key to the packed places of its records (8
 * bytes per record). Not tied to a loop; one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct journal_index;

/* Places of a log that is being replaced and has not been committed. */
struct journal_staged {
    uint64_t epoch;
    uint64_t *places;
    size_t count; /* highest index seen */
    size_t cap;
};

/* One key. `count` and `epoch` describe what is durable, `next_*` what will be when everything pending is. */
struct journal_key {
    uint64_t epoch;   /* log generation: the lsn that began it; with count 0: all up to here are dead */
    uint64_t *places; /* journal_place of record i at [i - 1]; 0: not there (only while recovering) */
    uint32_t count;
    uint32_t cap;
    uint32_t next_count;
    uint32_t pending; /* records in unfinished groups that point here */
    uint64_t next_epoch;
    struct journal_staged *staged; /* NULL nearly always */
    uint32_t scanned;              /* records already handed out by the running scan, */
    uint32_t scan_end;             /* of so many that there were when it began */
    uint32_t hash;
    bool is_damaged; /* lost records: may be removed, nothing else */
    /* of journal_park.c: */
    bool is_idle;     /* is to leave memory as soon as nothing of it is under way */
    bool is_recent;   /* has been asked for lately, in the list of those */
    bool is_spilling; /* its entry is being written */
    uint8_t len;
    uint64_t spilled; /* place of its entry outside memory as the key is now, 0: there is none */
    struct list link; /* in one of the lists of journal_park.c */
    char name[];
};

/* makes_idle: for tests, keys are to leave memory from the beginning. */
struct journal_index *journal_index_new(bool makes_idle);
void journal_index_free(struct journal_index *index);
struct journal_key *journal_index_find(const struct journal_index *index, const char *name, size_t len);
struct journal_key *journal_index_add(struct journal_index *index, const char *name,
                                      size_t len); /* find or create */
void journal_index_drop(struct journal_index *index,
                        struct journal_key *key);     /* out of the table, and freed */
void journal_index_trim(struct journal_index *index); /* gives room back once few keys are left; moves keys */
size_t journal_index_size(const struct journal_index *index);
/* Walks the keys in no particular order: *cursor starts at 0; NULL at the end. Dropping the returned key may
 * make the walk skip others. */
struct journal_key *journal_index_next(const struct journal_index *index, size_t *cursor);

/* Records that record `number` (from 1) is at place; grows the log as needed. */
void journal_key_set(struct journal_key *key, uint32_t number, uint64_t place);
void journal_key_stage(struct journal_key *key, uint64_t epoch, uint32_t number, uint64_t place);
void journal_key_unstage(struct journal_key *key);
void journal_key_clear(struct journal_key *key); /* frees the places; count becomes 0 */

/* A place packs the segment's number and the record's offset in it. Never 0. */
static inline uint64_t journal_place(uint64_t seq, uint64_t offset)
{
    return seq << 32 | offset >> 3;
}

static inline uint64_t journal_place_seq(uint64_t place)
{
    return place >> 32;
}

static inline uint64_t journal_place_offset(uint64_t place)
{
    return (place & UINT32_MAX) << 3;
}
