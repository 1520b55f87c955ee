/* The inside of journal_park*.c. Loop thread only, except where a pool job has been handed a part. */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "journal/journal_park.h"
#include "journal/journal_parked.h"
#include "journal/journal_spill.h"

struct journal_park {
    struct loop *loop;
    struct journal_index *index;
    struct journal_parked *parked;
    struct journal_spill *spill;
    uint64_t hash_key[2];
    uint64_t print_mask;
    struct list waiting; /* struct journal_key: to be written, or just to leave */
    struct list recent;  /* struct journal_key: brought back, the oldest first */
    size_t recent_count;
    size_t recent_max;
    struct buf batch; /* entries that are being written */
    uint64_t batch_place;
    struct err batch_err;
    bool is_under_way; /* a batch, or the decision to make one */
    bool is_eager;
    bool is_suspended;
    bool is_closing;
    bool is_broken;
    struct buf walked; /* journal_park_next: the chunk it is at */
    int *busy;
    void (*on_idle)(void *arg);
    void *arg;
};

static inline struct journal_key *journal_park_linked(struct list *link)
{
    return list_entry(link, struct journal_key, link);
}

typedef void (*journal_park_entry_fn)(struct journal_park *park, const struct journal_spill_item *item,
                                      uint64_t place);

/* Calls fn for every entry in data, whose first one is at place; stops at what is none. */
void journal_park_each(struct journal_park *park, const char *data, size_t len, uint64_t place,
                       journal_park_entry_fn fn);
uint64_t journal_park_print(const struct journal_park *park, const char *name, size_t len); /* fingerprint */
void journal_park_unlist(struct journal_park *park, struct journal_key *key);
void journal_park_keep(struct journal_park *park,
                       struct journal_key *key); /* until somebody asks again to park it */
void journal_park_begin_job(struct journal_park *park);
void journal_park_end_job(struct journal_park *park);
