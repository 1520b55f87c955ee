/* The C functions of RocksDB that the backend uses, found when the first store is opened: linked, the library
 * would cost every start of the program 3 ms and 9 MiB. Only where the header was there at configure time
 * (MACP_ROCKSDB is the library's name). Thread-safe. */
#pragma once

#ifdef MACP_ROCKSDB

#include <rocksdb/c.h>

#include "base/err.h"

#define ROCKSDB_FUNCTIONS(X)                                                                                 \
    X(block_based_options_create)                                                                            \
    X(block_based_options_destroy)                                                                           \
    X(block_based_options_set_block_cache)                                                                   \
    X(cache_create_lru)                                                                                      \
    X(cache_destroy)                                                                                         \
    X(close)                                                                                                 \
    X(create_iterator)                                                                                       \
    X(free)                                                                                                  \
    X(get)                                                                                                   \
    X(iter_destroy)                                                                                          \
    X(iter_get_error)                                                                                        \
    X(iter_key)                                                                                              \
    X(iter_next)                                                                                             \
    X(iter_seek)                                                                                             \
    X(iter_valid)                                                                                            \
    X(iter_value)                                                                                            \
    X(open)                                                                                                  \
    X(open_for_read_only)                                                                                    \
    X(options_create)                                                                                        \
    X(options_destroy)                                                                                       \
    X(options_set_block_based_table_factory)                                                                 \
    X(options_set_bytes_per_sync)                                                                            \
    X(options_set_compression)                                                                               \
    X(options_set_create_if_missing)                                                                         \
    X(options_set_info_log_level)                                                                            \
    X(options_set_keep_log_file_num)                                                                         \
    X(options_set_max_background_jobs)                                                                       \
    X(options_set_max_open_files)                                                                            \
    X(options_set_max_write_buffer_number)                                                                   \
    X(options_set_paranoid_checks)                                                                           \
    X(options_set_stats_dump_period_sec)                                                                     \
    X(options_set_stats_persist_period_sec)                                                                  \
    X(options_set_wal_recovery_mode)                                                                         \
    X(options_set_write_buffer_size)                                                                         \
    X(property_int)                                                                                          \
    X(readoptions_create)                                                                                    \
    X(readoptions_destroy)                                                                                   \
    X(readoptions_set_fill_cache)                                                                            \
    X(readoptions_set_iterate_upper_bound)                                                                   \
    X(readoptions_set_readahead_size)                                                                        \
    X(readoptions_set_verify_checksums)                                                                      \
    X(write)                                                                                                 \
    X(writebatch_clear)                                                                                      \
    X(writebatch_create)                                                                                     \
    X(writebatch_delete)                                                                                     \
    X(writebatch_delete_range)                                                                               \
    X(writebatch_destroy)                                                                                    \
    X(writebatch_put)                                                                                        \
    X(writebatch_putv)                                                                                       \
    X(writeoptions_create)                                                                                   \
    X(writeoptions_destroy)                                                                                  \
    X(writeoptions_set_sync)

struct rocksdb_api {
#define DECLARE(name)                                                                                        \
    __typeof__(rocksdb_##name) *name; /* NOLINT(bugprone-macro-parentheses): a declared name */
    ROCKSDB_FUNCTIONS(DECLARE)
#undef DECLARE
};

/* The functions, or NULL with what is missing. Blocks. */
const struct rocksdb_api *rocksdb_api_load(struct err *err);

#endif
