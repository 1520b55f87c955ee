/* The memory backend: the same interface without files. Records are durable at once, for as long as the
 * process lives. */
#pragma once

#include "journal/journal.h"

int journal_memory_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                        struct err *err);
