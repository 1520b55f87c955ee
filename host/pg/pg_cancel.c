/* See pg_cancel.h. Whoever comes second, the thread or the loop, frees the call: the thread when it was
 * abandoned before the server answered, else the loop. An abandoned thread touches nothing but its call. */
#include "pg/pg_cancel.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/xmem.h"
#include "loop/inbox.h"
#include "loop/loop.h"

enum { STACK_BYTES = 512 * 1024 };

struct pg_cancel_call {
    struct inbox_item item;
    PGcancel *cancel;
    struct inbox *inbox;
    void (*done)(void *arg); /* loop thread only; NULL: abandoned */
    void *arg;
    pthread_mutex_t lock; /* of is_abandoned, and held while posting */
    bool is_abandoned;
};

static void free_call(struct pg_cancel_call *call)
{
    PQfreeCancel(call->cancel);
    (void)pthread_mutex_destroy(&call->lock); /* fails only for a locked one */
    free(call);
}

static void on_posted(struct inbox_item *item)
{
    struct pg_cancel_call *call = list_entry(item, struct pg_cancel_call, item);
    void (*done)(void *arg) = call->done;
    void *arg = call->arg;
    if (done != NULL) {
        inbox_unref(call->inbox);
    }
    (void)pthread_mutex_lock(&call->lock); /* the thread has posted, and may still hold it */
    (void)pthread_mutex_unlock(&call->lock);
    free_call(call);
    if (done != NULL) {
        done(arg);
    }
}

static void *run(void *arg)
{
    struct pg_cancel_call *call = arg;
    char text[256];
    (void)PQcancel(call->cancel, text, sizeof(text)); /* best effort: time limits are behind it */
    (void)pthread_mutex_lock(&call->lock);
    bool is_mine = call->is_abandoned;
    if (!is_mine) {
        inbox_post(call->inbox, &call->item);
    }
    (void)pthread_mutex_unlock(&call->lock);
    if (is_mine) {
        free_call(call);
    }
    return NULL;
}

static bool start_thread(struct pg_cancel_call *call)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    bool is_started = pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 &&
                      pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0 &&
                      pthread_create(&thread, &attr, run, call) == 0;
    (void)pthread_attr_destroy(&attr);
    return is_started;
}

struct pg_cancel_call *pg_cancel_start(struct loop *loop, PGcancel *cancel, void (*done)(void *arg),
                                       void *arg)
{
    struct pg_cancel_call *call = xcalloc(1, sizeof(*call));
    call->item.fn = on_posted;
    call->cancel = cancel;
    call->inbox = loop_inbox(loop);
    call->done = done;
    call->arg = arg;
    (void)pthread_mutex_init(&call->lock, NULL); /* cannot fail with default attributes */
    if (!start_thread(call)) {
        free_call(call);
        return NULL;
    }
    inbox_ref(call->inbox);
    return call;
}

void pg_cancel_abandon(struct pg_cancel_call *call)
{
    if (call == NULL) {
        return;
    }
    inbox_unref(call->inbox);
    call->done = NULL;
    (void)pthread_mutex_lock(&call->lock);
    call->is_abandoned = true;
    (void)pthread_mutex_unlock(&call->lock);
}
