/* The RocksDB backend: records under (key, epoch, index), one synced write batch per group. Loop thread; the
 * rest is behind journal_store.h. */
#pragma once

#include "journal/journal.h"

struct loop;

/* opts->dir is the database's directory. ERR_INVALID where the program was built without RocksDB. */
int journal_rocksdb_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                         struct err *err);
