/* The thread that blocks for a journal; see journal_thread.h. */
#include "journal/journal_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/xmem.h"
#include "loop/loop.h"

struct journal_thread {
    struct loop *loop;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct journal_task *task; /* under the mutex: waiting to be taken */
    bool stop;                 /* under the mutex */
};

static void *run_thread(void *arg)
{
    struct journal_thread *self = arg;
    (void)pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (self->task == NULL && !self->stop) {
            (void)pthread_cond_wait(&self->wake, &self->mutex);
        }
        struct journal_task *task = self->task;
        if (task == NULL) {
            break;
        }
        self->task = NULL;
        (void)pthread_mutex_unlock(&self->mutex);
        task->run(task);
        inbox_post(task->inbox, &task->item);
        (void)pthread_mutex_lock(&self->mutex);
    }
    (void)pthread_mutex_unlock(&self->mutex);
    return NULL;
}

struct journal_thread *journal_thread_open(struct loop *loop)
{
    struct journal_thread *self = xcalloc(1, sizeof(*self));
    self->loop = loop;
    (void)pthread_mutex_init(&self->mutex, NULL); /* these cannot fail with default attributes */
    (void)pthread_cond_init(&self->wake, NULL);
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals belong to the loop's thread */
    if (pthread_create(&self->thread, NULL, run_thread, self) != 0) {
        abort(); /* no thread at all: as out of memory */
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return self;
}

static void on_posted(struct inbox_item *item)
{
    struct journal_task *task = list_entry(item, struct journal_task, item);
    inbox_unref(task->inbox);
    task->done(task);
}

void journal_thread_submit(struct journal_thread *self, struct journal_task *task)
{
    task->item.fn = on_posted;
    task->inbox = loop_inbox(self->loop);
    inbox_ref(task->inbox);
    (void)pthread_mutex_lock(&self->mutex);
    self->task = task;
    (void)pthread_mutex_unlock(&self->mutex);
    (void)pthread_cond_signal(&self->wake); /* not before: the thread would wake only to wait for the mutex */
}

void journal_thread_close(struct journal_thread *self)
{
    if (self == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&self->mutex);
    self->stop = true;
    (void)pthread_cond_signal(&self->wake);
    (void)pthread_mutex_unlock(&self->mutex);
    (void)pthread_join(self->thread, NULL);
    (void)pthread_cond_destroy(&self->wake);
    (void)pthread_mutex_destroy(&self->mutex);
    free(self);
}
