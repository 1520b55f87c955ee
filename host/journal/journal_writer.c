/* Writing segments; see journal_writer.h. */
#include "journal/journal_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_owner.h"
#include "journal/journal_record.h"
#include "journal/journal_segment.h"
#include "loop/loop.h"

struct journal_writer {
    struct journal_thread *thread;
    struct journal_writer_opts opts;
    int fd; /* the thread's own while it runs */
};

/* Gives unused preallocated space back. That neither has to work nor to be durable: the header of the next
 * segment tells where this one ends, and the last one ends where zeros begin. */
static void leave_segment(struct journal_writer *writer, uint64_t end)
{
    if (writer->fd < 0) {
        return;
    }
    if (ftruncate(writer->fd, (off_t)end) != 0) {
        log_line(LOG_DEBUG, "journal.space", "cut a segment at %llu: %s", (unsigned long long)end,
                 strerror(errno));
    }
    (void)close(writer->fd); /* what matters has been synced */
    writer->fd = -1;
}

static void write_data(struct journal_writer *writer, struct journal_job *job)
{
    int error = fault_hit("journal.write") ? EIO : 0;
    if (error == 0) {
        error = journal_write_all(writer->fd, job->data, job->len, job->offset);
    }
    if (error != 0) {
        (void)err_set_errno(&job->err, error, "write %zu bytes to the journal", job->len);
        return;
    }
    uint64_t start = loop_mono_ns();
    if (fault_hit("journal.fsync") || (writer->opts.sync && fdatasync(writer->fd) != 0)) {
        (void)err_set_errno(&job->err, errno == 0 ? EIO : errno, "sync the journal");
        return;
    }
    job->sync_ms = (double)(loop_mono_ns() - start) / 1e6;
    (void)fault_hit("journal.synced"); /* durable, and nobody knows yet */
}

static void run_job(struct journal_task *task)
{
    struct journal_job *job = list_entry(task, struct journal_job, task);
    struct journal_writer *writer = job->writer;
    if (journal_owner_check(writer->opts.owner, &job->err) != 0) {
        return;
    }
    errno = 0;
    if (job->rotate || job->finish) {
        leave_segment(writer, job->prev_end);
    }
    if (job->rotate) {
        struct journal_segment_head head = {
            .salt = writer->opts.salt,
            .seq = job->seq,
            .prev_end = job->prev_end,
            .created_ms = loop_now_ms(),
        };
        if (journal_segment_create(writer->opts.dir_fd, &head, writer->opts.segment_bytes,
                                   JOURNAL_SEGMENT_HEAD + job->len, writer->opts.sync, &writer->fd,
                                   &job->err) != 0) {
            return;
        }
        job->has_rotated = true;
    }
    if (job->data != NULL) {
        write_data(writer, job);
    }
}

static void on_done(struct journal_task *task)
{
    struct journal_job *job = list_entry(task, struct journal_job, task);
    job->done(job);
}

struct journal_writer *journal_writer_open(struct loop *loop, const struct journal_writer_opts *opts)
{
    struct journal_writer *writer = xcalloc(1, sizeof(*writer));
    writer->thread = journal_thread_open(loop);
    writer->opts = *opts;
    writer->fd = opts->fd;
    return writer;
}

void journal_writer_submit(struct journal_writer *writer, struct journal_job *job)
{
    job->task.run = run_job;
    job->task.done = on_done;
    job->writer = writer;
    job->has_rotated = false;
    job->err = (struct err){0};
    job->sync_ms = 0;
    journal_thread_submit(writer->thread, &job->task);
}

void journal_writer_close(struct journal_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    journal_thread_close(writer->thread);
    if (writer->fd >= 0) {
        (void)close(writer->fd); /* what matters has been synced */
    }
    free(writer);
}
