/* The table of journal backends and the defaults of the options; see journal.h. */
#include "journal/journal.h"

#include <string.h>

#include "journal/journal_file.h"
#include "journal/journal_memory.h"
#include "journal/journal_rocksdb.h"
#ifdef MACP_WITH_REDIS
#include "journal/journal_redis.h"
#endif

#ifdef MACP_ROCKSDB
#define MACP_HAS_ROCKSDB true
#else
#define MACP_HAS_ROCKSDB false
#endif
#ifdef MACP_WITH_REDIS
#define MACP_HAS_REDIS true
#else
#define MACP_HAS_REDIS false
#endif

enum { MIB = 1 << 20 };

struct backend {
    const char *name;
    bool is_built;
    int (*open)(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                struct err *err);
};

#ifndef MACP_WITH_REDIS
static int journal_redis_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn,
                              void *arg, struct err *err)
{
    return err_set(
        err, ERR_INVALID,
        "journal: this program was built without Redis: install hiredis (Debian: libhiredis-dev) and "
        "build again");
}
#endif

static const struct backend backends[] = {
    {"file", true, journal_file_open},
    {"memory", true, journal_memory_open},
    {"rocksdb", MACP_HAS_ROCKSDB, journal_rocksdb_open},
    {"redis", MACP_HAS_REDIS, journal_redis_open},
};

const char *journal_backend(size_t *cursor)
{
    while (*cursor < sizeof(backends) / sizeof(backends[0])) {
        const struct backend *backend = &backends[(*cursor)++];
        if (backend->is_built) {
            return backend->name;
        }
    }
    return NULL;
}

static void set_default(size_t *value, size_t def)
{
    if (*value == 0) {
        *value = def;
    }
}

static int check_limits(const struct journal_opts *opts, struct err *err)
{
    if (opts->max_record_bytes > JOURNAL_RECORD_MAX) {
        return err_set(err, ERR_INVALID, "journal: max_record_bytes is above %d", JOURNAL_RECORD_MAX);
    }
    if (opts->segment_bytes < 4096 || opts->segment_bytes > (size_t)1024 * MIB) {
        return err_set(err, ERR_INVALID, "journal: segment_bytes must be between 4 KiB and 1 GiB");
    }
    if (opts->max_group_bytes < 4096 || opts->max_group_bytes > (size_t)256 * MIB) {
        return err_set(err, ERR_INVALID, "journal: max_group_bytes must be between 4 KiB and 256 MiB");
    }
    return 0;
}

int journal_open(struct loop *loop, const char *backend, const struct journal_opts *opts, journal_open_fn fn,
                 void *arg, struct err *err)
{
    struct journal_opts full = *opts;
    set_default(&full.segment_bytes, 32 * MIB);
    set_default(&full.max_record_bytes, 16 * MIB);
    set_default(&full.max_group_bytes, 4 * MIB);
    set_default(&full.max_pending_bytes, 64 * MIB);
    int status = check_limits(&full, err);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (strcmp(backends[i].name, backend) == 0) {
            return backends[i].open(loop, &full, fn, arg, err);
        }
    }
    return err_set(err, ERR_INVALID, "journal: unknown backend \"%s\" (file, memory, rocksdb, redis)",
                   backend);
}
