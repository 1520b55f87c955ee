/* A driver of journal_store.h that keeps the records in a Redis server: a list per key, one script call per
 * group, a lease with a fencing token against second writers. host/README.md describes the format. */
#pragma once

#include "journal/journal.h"

struct loop;

/* Uses opts->url (required), name, lease_ms. ERR_INVALID: the URL; ERR_BUSY: another program has the journal,
 * and is alive; ERR_DENIED: user or password; ERR_UNAVAILABLE: nobody answers; ERR_CORRUPT: lists that are
 * not what was noted about them. */
int journal_redis_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                       struct err *err);
