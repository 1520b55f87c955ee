/* The journal's writer thread; see journal_writer.h. */
#include "journal/journal_writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_record.h"
#include "journal/journal_segment.h"
#include "loop/loop.h"

struct journal_writer {
    struct loop *loop;
    struct journal_writer_opts opts;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct journal_job *job; /* under the mutex: waiting to be taken */
    bool stop;               /* under the mutex */
    int fd;                  /* the thread's own while it runs */
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
}

static void run_job(struct journal_writer *writer, struct journal_job *job)
{
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

static void *run_thread(void *arg)
{
    struct journal_writer *writer = arg;
    (void)pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (writer->job == NULL && !writer->stop) {
            (void)pthread_cond_wait(&writer->wake, &writer->mutex);
        }
        struct journal_job *job = writer->job;
        if (job == NULL) {
            break;
        }
        writer->job = NULL;
        (void)pthread_mutex_unlock(&writer->mutex);
        run_job(writer, job);
        inbox_post(loop_inbox(writer->loop), &job->item);
        (void)pthread_mutex_lock(&writer->mutex);
    }
    (void)pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

static void on_posted(struct inbox_item *item)
{
    struct journal_job *job = list_entry(item, struct journal_job, item);
    job->done(job);
}

struct journal_writer *journal_writer_open(struct loop *loop, const struct journal_writer_opts *opts)
{
    struct journal_writer *writer = xcalloc(1, sizeof(*writer));
    writer->loop = loop;
    writer->opts = *opts;
    writer->fd = opts->fd;
    (void)pthread_mutex_init(&writer->mutex, NULL); /* these cannot fail with default attributes */
    (void)pthread_cond_init(&writer->wake, NULL);
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals belong to the loop's thread */
    if (pthread_create(&writer->thread, NULL, run_thread, writer) != 0) {
        abort(); /* no thread at all: as out of memory */
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return writer;
}

void journal_writer_submit(struct journal_writer *writer, struct journal_job *job)
{
    job->item.fn = on_posted;
    job->has_rotated = false;
    job->err = (struct err){0};
    job->sync_ms = 0;
    (void)pthread_mutex_lock(&writer->mutex);
    writer->job = job;
    (void)pthread_cond_signal(&writer->wake);
    (void)pthread_mutex_unlock(&writer->mutex);
}

void journal_writer_close(struct journal_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&writer->mutex);
    writer->stop = true;
    (void)pthread_cond_signal(&writer->wake);
    (void)pthread_mutex_unlock(&writer->mutex);
    (void)pthread_join(writer->thread, NULL);
    if (writer->fd >= 0) {
        (void)close(writer->fd); /* what matters has been synced */
    }
    (void)pthread_cond_destroy(&writer->wake);
    (void)pthread_mutex_destroy(&writer->mutex);
    free(writer);
}
