/* The memory backend; see journal_memory.h. A place of the index is the address of the record's bytes. */
#include "journal/journal_memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/xmem.h"
#include "journal/journal_index.h"
#include "loop/loop.h"

enum { BATCH = 256 };

struct journal_memory {
    struct journal base;
    struct loop *loop;
    struct journal_opts opts;
    struct journal_index *index;
    uint64_t lsn;
    struct journal_scan *scan;
    struct journal_stats stats;
    int busy; /* deferred calls */
    void (*close_done)(void *arg);
    void *close_arg;
};

struct journal_op {
    struct journal_memory *memory;
    journal_done_fn done;
    journal_records_fn records;
    void *arg;
    struct err err;
    struct journal_scan *scan; /* for a scan step */
    char name[JOURNAL_KEY_MAX];
    size_t key_len;
    uint64_t from_index;
    size_t max_records;
    size_t max_bytes;
};

struct journal_scan {
    struct journal_memory *memory;
    size_t cursor;
    struct journal_key *key; /* being handed out; NULL: take the next */
    uint32_t index;
};

static struct journal_memory *self(const struct journal *journal)
{
    return (struct journal_memory *)journal;
}

static struct bytes *bytes_at(const struct journal_key *key, uint64_t index)
{
    return (struct bytes *)(uintptr_t)key->places[index - 1];
}

static void release(struct journal_memory *memory, struct journal_key *key)
{
    for (uint32_t i = 1; i <= key->count; i++) {
        memory->stats.bytes -= bytes_at(key, i)->len;
        memory->stats.records--;
        bytes_unref(bytes_at(key, i));
    }
    journal_key_clear(key);
}

static int check_size(const struct journal_memory *memory, size_t key_len, size_t len, struct err *err)
{
    if (memory->close_done != NULL) {
        return err_set(err, ERR_CLOSED, "the journal is closed");
    }
    if (key_len == 0 || key_len > JOURNAL_KEY_MAX) {
        return err_set(err, ERR_INVALID, "a journal key has 1 to %d bytes, not %zu", JOURNAL_KEY_MAX,
                       key_len);
    }
    if (len > memory->opts.max_record_bytes) {
        return err_set(err, ERR_LIMIT, "a record of %zu bytes is above the limit of %zu", len,
                       memory->opts.max_record_bytes);
    }
    return 0;
}

static void add(struct journal_memory *memory, struct journal_key *key, const void *data, size_t len)
{
    journal_key_set(key, key->count + 1, (uint64_t)(uintptr_t)bytes_new(data, len));
    memory->stats.bytes += len;
    memory->stats.records++;
    memory->stats.appends++;
    memory->lsn++;
}

static int append(struct journal *journal, const char *name, size_t key_len, const void *data, size_t len,
                  uint64_t *lsn, uint64_t *index, struct err *err)
{
    struct journal_memory *memory = self(journal);
    int status = check_size(memory, key_len, len, err);
    if (status != 0) {
        return status;
    }
    struct journal_key *key = journal_index_add(memory->index, name, key_len);
    if (key->count == UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "the log of key \"%.*s\" is full", (int)key_len, name);
    }
    add(memory, key, data, len);
    *lsn = memory->lsn;
    *index = key->count;
    return 0;
}

static void drop(struct journal_memory *memory, struct journal_key *key)
{
    if (memory->scan != NULL && memory->scan->key == key) {
        memory->scan->key = NULL;
    }
    release(memory, key);
    journal_index_drop(memory->index, key);
}

static int remove_key(struct journal *journal, const char *name, size_t key_len, uint64_t *lsn,
                      struct err *err)
{
    struct journal_memory *memory = self(journal);
    struct journal_key *key = journal_index_find(memory->index, name, key_len);
    if (key == NULL) {
        return err_set(err, ERR_NOT_FOUND, "the journal has no key \"%.*s\"", (int)key_len, name);
    }
    drop(memory, key);
    *lsn = ++memory->lsn;
    return 0;
}

static int replace(struct journal *journal, const char *name, size_t key_len,
                   const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err)
{
    struct journal_memory *memory = self(journal);
    if (count == 0) {
        return remove_key(journal, name, key_len, lsn, err);
    }
    for (size_t i = 0; i < count; i++) {
        int status = check_size(memory, key_len, records[i].len, err);
        if (status != 0) {
            return status;
        }
    }
    struct journal_key *key = journal_index_add(memory->index, name, key_len);
    release(memory, key);
    for (size_t i = 0; i < count; i++) {
        add(memory, key, records[i].data, records[i].len);
    }
    *lsn = memory->lsn;
    return 0;
}

static int check(struct journal *journal, uint64_t lsn, struct err *err)
{
    if (lsn == 0 || lsn > self(journal)->lsn) {
        return err_set(err, ERR_INVALID, "lsn %llu was never given out", (unsigned long long)lsn);
    }
    return 1;
}

static void settle(struct journal_memory *memory)
{
    if (memory->close_done == NULL || memory->busy > 0) {
        return;
    }
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(memory->index, &cursor)) != NULL;) {
        release(memory, key);
    }
    journal_index_free(memory->index);
    void (*done)(void *arg) = memory->close_done;
    void *arg = memory->close_arg;
    free(memory);
    done(arg);
}

/* Collects records of key from index on into out; returns how many. */
static size_t collect(const struct journal_key *key, uint64_t index, size_t max_records, size_t max_bytes,
                      struct journal_record *out)
{
    size_t count = 0;
    size_t total = 0;
    for (; index >= 1 && index <= key->count && count < max_records; index++) {
        const struct bytes *bytes = bytes_at(key, index);
        total += bytes->len;
        if (count > 0 && total > max_bytes) {
            break;
        }
        out[count++] = (struct journal_record){key->name, key->len, index, bytes->data, bytes->len};
    }
    return count;
}

static size_t collect_scan(struct journal_scan *scan, struct journal_record *out)
{
    for (;;) {
        if (scan->key == NULL) {
            scan->key = journal_index_next(scan->memory->index, &scan->cursor);
            scan->index = 1;
        }
        if (scan->key == NULL) {
            return 0;
        }
        size_t count = collect(scan->key, scan->index, BATCH, SIZE_MAX, out);
        scan->index += (uint32_t)count;
        if (count > 0) {
            return count;
        }
        scan->key = NULL;
    }
}

static void run_op(void *arg)
{
    struct journal_op *op = arg;
    struct journal_memory *memory = op->memory;
    const struct err *err = op->err.code == 0 ? NULL : &op->err;
    if (op->done != NULL) {
        op->done(op->arg, err);
    } else {
        struct journal_record records[BATCH];
        size_t count = 0;
        const struct journal_key *key = journal_index_find(memory->index, op->name, op->key_len);
        if (err == NULL && op->scan != NULL) {
            count = collect_scan(op->scan, records);
        } else if (err == NULL && key != NULL) {
            count = collect(key, op->from_index, op->max_records < BATCH ? op->max_records : BATCH,
                            op->max_bytes, records);
        }
        op->records(op->arg, records, count, err);
    }
    free(op);
    memory->busy--;
    settle(memory);
}

static struct journal_op *defer(struct journal_memory *memory, void *arg)
{
    struct journal_op *op = xcalloc(1, sizeof(*op));
    op->memory = memory;
    op->arg = arg;
    memory->busy++;
    loop_defer(memory->loop, run_op, op);
    return op;
}

static struct journal_op *wait(struct journal *journal, uint64_t lsn, journal_done_fn fn, void *arg)
{
    struct journal_op *op = defer(self(journal), arg);
    op->done = fn;
    (void)check(journal, lsn, &op->err); /* the callback tells */
    return op;
}

static struct journal_op *read_key(struct journal *journal, const char *name, size_t key_len,
                                   uint64_t from_index, size_t max_records, size_t max_bytes,
                                   journal_records_fn fn, void *arg)
{
    struct journal_op *op = defer(self(journal), arg);
    op->records = fn;
    op->key_len = key_len <= JOURNAL_KEY_MAX ? key_len : 0;
    memcpy(op->name, name, op->key_len);
    op->from_index = from_index;
    op->max_records = max_records;
    op->max_bytes = max_bytes;
    return op;
}

static struct journal_scan *scan_open(struct journal *journal, struct err *err)
{
    struct journal_memory *memory = self(journal);
    if (memory->scan != NULL) {
        (void)err_set(err, ERR_BUSY, "the journal is being scanned already");
        return NULL;
    }
    struct journal_scan *scan = xcalloc(1, sizeof(*scan));
    scan->memory = memory;
    memory->scan = scan;
    return scan;
}

static struct journal_op *scan_next(struct journal_scan *scan, journal_records_fn fn, void *arg)
{
    struct journal_op *op = defer(scan->memory, arg);
    op->records = fn;
    op->scan = scan;
    return op;
}

static void scan_close(struct journal_scan *scan)
{
    if (scan != NULL) {
        scan->memory->scan = NULL;
        free(scan);
    }
}

static void cancel(struct journal_op *op)
{
    (void)err_set(&op->err, ERR_CANCELLED, "the operation was cancelled");
}

static uint64_t durable(const struct journal *journal)
{
    return self(journal)->lsn;
}

static uint64_t failures(const struct journal *journal)
{
    return 0; /* memory does not refuse */
}

static uint64_t count_records(const struct journal *journal, const char *name, size_t key_len,
                              uint64_t *with_pending)
{
    const struct journal_key *key = journal_index_find(self(journal)->index, name, key_len);
    uint64_t count = key == NULL ? 0 : key->count;
    if (with_pending != NULL) {
        *with_pending = count;
    }
    return count;
}

static bool next_key(const struct journal *journal, size_t *cursor, const char **name, size_t *key_len,
                     const char **reason)
{
    const struct journal_key *key = journal_index_next(self(journal)->index, cursor);
    if (key != NULL) {
        *name = key->name;
        *key_len = key->len;
        *reason = NULL;
    }
    return key != NULL;
}

static void get_stats(const struct journal *journal, struct journal_stats *stats)
{
    const struct journal_memory *memory = self(journal);
    *stats = memory->stats;
    stats->keys = journal_index_size(memory->index);
    stats->live = stats->records;
}

static uint64_t get_epoch(const struct journal *journal)
{
    return 1; /* nobody else can have it */
}

static void park(struct journal *journal, const char *name, size_t key_len)
{
    /* the records are in memory anyway */
}

static int check_owned(const struct journal *journal, struct err *err)
{
    return 0;
}

static void on_close_due(void *arg)
{
    struct journal_memory *memory = arg;
    memory->busy--;
    settle(memory);
}

static void close_memory(struct journal *journal, void (*done)(void *arg), void *arg)
{
    struct journal_memory *memory = self(journal);
    memory->close_done = done;
    memory->close_arg = arg;
    memory->busy++;
    loop_defer(memory->loop, on_close_due, memory);
}

static const struct journal_ops memory_ops = {
    .append = append,
    .replace = replace,
    .remove = remove_key,
    .check = check,
    .wait = wait,
    .park = park,
    .read = read_key,
    .scan_open = scan_open,
    .scan_next = scan_next,
    .scan_close = scan_close,
    .cancel = cancel,
    .durable = durable,
    .failures = failures,
    .count = count_records,
    .next_key = next_key,
    .stats = get_stats,
    .epoch = get_epoch,
    .owned = check_owned,
    .close = close_memory,
};

struct opening {
    struct journal_memory *memory;
    journal_open_fn fn;
    void *arg;
};

static void on_open(void *arg)
{
    struct opening *opening = arg;
    opening->fn(opening->arg, &opening->memory->base, NULL);
    free(opening);
}

int journal_memory_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                        struct err *err)
{
    struct journal_memory *memory = xcalloc(1, sizeof(*memory));
    memory->base.ops = &memory_ops;
    memory->loop = loop;
    memory->opts = *opts;
    memory->opts.dir = NULL; /* borrowed and not ours */
    memory->index = journal_index_new(false);
    struct opening *opening = xcalloc(1, sizeof(*opening));
    *opening = (struct opening){memory, fn, arg};
    loop_defer(loop, on_open, opening);
    return 0;
}
