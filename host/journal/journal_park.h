/* Keys that leave memory. A key that nobody needs, an idle one, is written to a file (journal_spill.h) and
 * goes out of the index; its fingerprint stays in a table (journal_parked.h). It comes back as it was when a
 * read asks for it, and leaves again when many others were asked for since, or when somebody changes it, and
 * stays.
 *
 * The hash is SipHash with a random key of this process: who chooses names cannot make two fingerprints
 * equal. If two are all the same, the second key stays in memory; and whoever asks for a third one, which is
 * not stored, finds another name in the file: then the parked key comes back and stays, too.
 *
 * A key that cannot be parked (damaged, or too long a log for a chunk) stays in memory; all do when the file
 * cannot be written. Loop thread only. */
#pragma once

#include <stdbool.h>

#include "journal/journal.h"
#include "journal/journal_index.h"

struct journal_park;

struct journal_park_opts {
    struct loop *loop;
    struct journal_index *index;
    const char *dir; /* for the file; NULL: where temporary files are. Borrowed */
    struct journal_parking tuning;
    int *busy;                  /* counts jobs under way, */
    void (*on_idle)(void *arg); /* after each of them */
    void *arg;
};

struct journal_park *journal_park_new(const struct journal_park_opts *opts);
void journal_park_free(struct journal_park *park);  /* before the index; NULL is fine */
void journal_park_close(struct journal_park *park); /* nothing is parked from now on */

/* As journal_ops.park. */
void journal_park_key(struct journal_park *park, const char *name, size_t len);
/* Parks nothing until resume: a walk over the index sees the keys that fetch_all has brought back. */
void journal_park_suspend(struct journal_park *park);
void journal_park_resume(struct journal_park *park);

/* The key, brought back if it was parked; *key is NULL when there is none. An error: the file cannot be read.
 * Blocks for one read of the file when the key is parked. */
int journal_park_get(struct journal_park *park, const char *name, size_t len, struct journal_key **key,
                     struct err *err);
/* The same for a key that is not in the index and gets records now: made when there is none. */
int journal_park_add(struct journal_park *park, const char *name, size_t len, struct journal_key **key,
                     struct err *err);
/* Records of the key; with those pending in *with_pending (may be NULL). See journal_ops.count. */
uint64_t journal_park_count(const struct journal_park *park, const char *name, size_t len,
                            uint64_t *with_pending);

typedef void (*journal_park_fn)(void *arg, const struct err *err);
/* Would get have to read the file? */
bool journal_park_holds(const struct journal_park *park, const char *name, size_t len);
/* Brings a key that is held back, on the pool, and calls fn. The file may say that it is another one. */
void journal_park_fetch(struct journal_park *park, const char *name, size_t len, journal_park_fn fn,
                        void *arg);
/* Brings all of them back. Only while suspended. */
void journal_park_fetch_all(struct journal_park *park, journal_park_fn fn, void *arg);
/* As journal_ops.next_key. Blocks. */
bool journal_park_walk(struct journal_park *park, size_t *cursor, const char **name, size_t *len,
                       const char **reason);
size_t journal_park_size(const struct journal_park *park);

/* Out of the index for good. */
void journal_park_drop(struct journal_park *park, struct journal_key *key);

/* The inside of the functions below. */
void journal_park_try(struct journal_park *park, struct journal_key *key);
void journal_park_forget(struct journal_park *park, struct journal_key *key);

/* The key, which gets records now: found, brought back, or made. It is idle no more. Appends begin here. */
static inline int journal_park_use(struct journal_park *park, const struct journal_index *index,
                                   bool is_eager, const char *name, size_t len, struct journal_key **key,
                                   struct err *err)
{
    *key = journal_index_find(index, name, len);
    int status = *key == NULL ? journal_park_add(park, name, len, key, err) : 0;
    if (status == 0) {
        (*key)->is_idle = is_eager;
    }
    return status;
}

/* Something of the key has become durable, or was lost: call when it is in the index. */
static inline void journal_park_settled(struct journal_park *park, struct journal_key *key)
{
    if (key->is_idle) {
        journal_park_try(park, key);
    }
}

/* The key is about to change in the index: what was written of it does not hold any more. */
static inline void journal_park_changes(struct journal_park *park, struct journal_key *key)
{
    if (key->spilled != 0) {
        journal_park_forget(park, key);
    }
}
