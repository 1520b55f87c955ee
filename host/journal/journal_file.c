/* The file backend: opening and closing; see journal_file.h. */
#include "journal/journal_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/work.h"

struct opening {
    struct journal_file *file;
    int fd;
    int status;
    struct err err; /* only with status; quarantine leaves words behind */
    journal_open_fn fn;
    void *arg;
    uint64_t started_ns;
};

static void free_file(struct journal_file *file)
{
    journal_writer_close(file->writer);
    journal_compact_free(file);
    journal_park_free(file->park);
    journal_index_free(file->index);
    journal_segments_deinit(&file->segments);
    journal_owner_drop(file->owner);
    if (file->dir_fd >= 0) {
        (void)close(file->dir_fd); /* a directory */
    }
    journal_ledger_deinit(&file->ledger);
    free(file->dir);
    free(file);
}

/* The last job cuts the present segment behind its last record. */
static void on_finished(struct journal_job *job)
{
    struct journal_file *file = list_entry(job, struct journal_file, job);
    void (*done)(void *arg) = file->close_done;
    void *arg = file->close_arg;
    free_file(file);
    done(arg);
}

static void finish(struct journal_file *file)
{
    const struct journal_segment *last = journal_segments_last(&file->segments);
    file->job.rotate = false;
    file->job.data = NULL;
    file->job.finish = true;
    file->job.prev_end = last == NULL ? 0 : last->end;
    file->job.done = on_finished;
    file->is_flying = true;
    journal_writer_submit(file->writer, &file->job);
}

void journal_file_settle(struct journal_file *file)
{
    if (!file->is_closing || file->is_flying || file->flush_scheduled || file->busy > 0 ||
        file->ledger.busy > 0 || !list_is_empty(&file->groups)) {
        return;
    }
    if (!file->is_marked_closed && !file->must_rotate && file->segments.count > 0) {
        file->is_marked_closed =
            true; /* one attempt; a journal without the mark is only a little less strict */
        journal_group_add_closed(file);
        return;
    }
    finish(file);
}

static void on_close_due(void *arg)
{
    struct journal_file *file = arg;
    file->busy--;
    journal_file_settle(file);
}

static void close_file(struct journal *journal, void (*done)(void *arg), void *arg)
{
    struct journal_file *file = (struct journal_file *)journal;
    file->is_closing = true;
    journal_park_close(file->park);
    file->close_done = done;
    file->close_arg = arg;
    file->busy++;
    loop_defer(file->loop, on_close_due, file);
}

static uint64_t get_durable(const struct journal *journal)
{
    return ((const struct journal_file *)journal)->ledger.decided_lsn;
}

static uint64_t get_failures(const struct journal *journal)
{
    return ((const struct journal_file *)journal)->stats.failed_syncs;
}

static uint64_t count_records(const struct journal *journal, const char *name, size_t key_len,
                              uint64_t *with_pending)
{
    return journal_park_count(((const struct journal_file *)journal)->park, name, key_len, with_pending);
}

static bool next_key(const struct journal *journal, size_t *cursor, const char **name, size_t *key_len,
                     const char **reason)
{
    return journal_park_walk(((const struct journal_file *)journal)->park, cursor, name, key_len, reason);
}

static void park_key(struct journal *journal, const char *name, size_t key_len)
{
    journal_park_key(((struct journal_file *)journal)->park, name, key_len);
}

static void get_stats(const struct journal *journal, struct journal_stats *stats)
{
    const struct journal_file *file = (const struct journal_file *)journal;
    *stats = file->stats;
    stats->parked = journal_park_size(file->park);
    stats->keys = journal_index_size(file->index) + stats->parked;
    stats->segments = file->segments.count;
    for (size_t i = 0; i < file->segments.count; i++) {
        stats->bytes += file->segments.items[i].end;
        stats->records += file->segments.items[i].records;
        stats->live += file->segments.items[i].live;
    }
}

static void cancel_op(struct journal_op *op)
{
    if (op->done != NULL) {
        journal_ledger_cancel(op);
    } else {
        op->is_cancelled = true; /* the pool is at it; its result is dropped */
    }
}

static int check_lsn(struct journal *journal, uint64_t lsn, struct err *err)
{
    return journal_ledger_check(&((struct journal_file *)journal)->ledger, lsn, err);
}

static struct journal_op *wait_lsn(struct journal *journal, uint64_t lsn, journal_done_fn fn, void *arg)
{
    return journal_ledger_wait(&((struct journal_file *)journal)->ledger, lsn, fn, arg);
}

static void on_ledger_idle(void *arg)
{
    journal_file_settle(arg);
}

static uint64_t get_epoch(const struct journal *journal)
{
    return journal_owner_epoch(((const struct journal_file *)journal)->owner);
}

static int check_owned(const struct journal *journal, struct err *err)
{
    const struct err *lost = &((const struct journal_file *)journal)->lost;
    if (lost->code != 0) {
        *err = *lost;
    }
    return lost->code;
}

static const struct journal_ops file_ops = {
    .append = journal_group_append,
    .replace = journal_group_replace,
    .remove = journal_group_remove,
    .check = check_lsn,
    .wait = wait_lsn,
    .park = park_key,
    .read = journal_read,
    .scan_open = journal_scan_open,
    .scan_next = journal_scan_next,
    .scan_close = journal_scan_close,
    .cancel = cancel_op,
    .durable = get_durable,
    .failures = get_failures,
    .count = count_records,
    .next_key = next_key,
    .stats = get_stats,
    .epoch = get_epoch,
    .owned = check_owned,
    .close = close_file,
};

static void on_park_idle(void *arg)
{
    journal_file_settle(arg);
}

static void run_open(void *arg)
{
    struct opening *opening = arg;
    struct journal_file *file = opening->file;
    struct err *err = &opening->err;
    opening->status = journal_dir_open(file->dir, &file->dir_fd, err);
    if (opening->status == 0) {
        opening->status = journal_owner_take(file->dir_fd, file->dir, "LOCK", &file->owner, err);
    }
    if (opening->status == 0) {
        opening->status = journal_recover(file, &opening->fd, err);
        if (opening->status == ERR_CORRUPT) {
            (void)err_wrap(err, "journal %s", file->dir);
        }
    }
    if (opening->status == 0) {
        opening->status = journal_owner_publish(file->owner, 0, err);
    }
}

static void on_open(void *arg)
{
    struct opening *opening = arg;
    struct journal_file *file = opening->file;
    if (opening->status != 0) {
        if (opening->fd >= 0) {
            (void)close(opening->fd); /* nothing was written to it */
        }
        opening->fn(opening->arg, NULL, &opening->err);
        free_file(file);
        free(opening);
        return;
    }
    struct journal_writer_opts opts = {
        .dir_fd = file->dir_fd,
        .salt = file->salt,
        .segment_bytes = file->opts.segment_bytes,
        .sync = !file->opts.no_sync,
        .fd = opening->fd,
        .owner = file->owner,
    };
    file->writer = journal_writer_open(file->loop, &opts);
    struct journal_stats stats;
    get_stats(&file->base, &stats);
    log_line(LOG_DEBUG, "journal.opened", "%s: %llu keys, %llu records in %llu segments, %.1f ms", file->dir,
             (unsigned long long)stats.keys, (unsigned long long)stats.live,
             (unsigned long long)stats.segments, (double)(loop_mono_ns() - opening->started_ns) / 1e6);
    if (file->opts.parking.is_eager) {
        journal_park_resume(file->park);
    }
    opening->fn(opening->arg, &file->base, NULL);
    free(opening);
}

int journal_file_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                      struct err *err)
{
    if (opts->dir == NULL || opts->dir[0] == '\0') {
        return err_set(err, ERR_INVALID, "journal: the file backend needs a directory");
    }
    struct journal_file *file = xcalloc(1, sizeof(*file));
    file->base.ops = &file_ops;
    file->loop = loop;
    file->opts = *opts;
    file->dir = xstrdup(opts->dir);
    file->opts.dir = file->dir;
    file->dir_fd = -1;
    file->has_cores = uv_available_parallelism() > 1;
    file->index = journal_index_new(opts->parking.is_eager);
    file->park = journal_park_new(&(struct journal_park_opts){
        .loop = loop,
        .index = file->index,
        .dir = file->dir,
        .tuning = opts->parking,
        .busy = &file->busy,
        .on_idle = on_park_idle,
        .arg = file,
    });
    list_init(&file->groups);
    journal_ledger_init(&file->ledger, loop, on_ledger_idle, file);
    struct opening *opening = xcalloc(1, sizeof(*opening));
    *opening = (struct opening){.file = file, .fd = -1, .fn = fn, .arg = arg, .started_ns = loop_mono_ns()};
    work_queue(loop, run_open, on_open, opening);
    return 0;
}
