/* The event loop; see loop.h. Deferred calls run in libuv's check phase; an idle handle keeps the poll from
 * blocking while some are queued, or while something is awaited that is cheaper to look for than to sleep
 * for. */
#include "loop/loop.h"

#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/inbox.h"

/* Deferred calls may defer again; that many rounds run in one turn before sockets get their chance. */
enum { MAX_ROUNDS = 4 };

#define CLOSE_GRACE_NS UINT64_C(5000000000) /* for threads that post, before loop_close gives up on them */

struct deferred {
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_check_t check;
    uv_idle_t idle;
    struct inbox *inbox;
    struct deferred *queue; /* filled by loop_defer */
    size_t queue_len;
    size_t queue_cap;
    struct deferred *running; /* the round that runs; swapped with queue */
    size_t running_cap;
    uint64_t awake_until_ns; /* 0: may sleep */
};

static void run_round(struct loop *loop)
{
    struct deferred *round = loop->queue;
    size_t len = loop->queue_len;
    size_t cap = loop->queue_cap;
    loop->queue = loop->running;
    loop->queue_cap = loop->running_cap;
    loop->queue_len = 0;
    loop->running = NULL; /* a nested run would be a bug; it would find no spare queue and allocate */
    loop->running_cap = 0;
    for (size_t i = 0; i < len; i++) {
        round[i].fn(round[i].arg);
    }
    free(loop->running);
    loop->running = round;
    loop->running_cap = cap;
}

static void on_check(uv_check_t *handle)
{
    struct loop *loop = handle->data;
    for (int round = 0; round < MAX_ROUNDS && loop->queue_len > 0; round++) {
        run_round(loop);
    }
    if (loop->awake_until_ns != 0 && uv_hrtime() >= loop->awake_until_ns) {
        loop->awake_until_ns = 0;
    }
    if (loop->queue_len == 0 && loop->awake_until_ns == 0) {
        (void)uv_idle_stop(&loop->idle); /* always 0 */
    }
}

static void on_idle(uv_idle_t *handle)
{
}

int loop_open(struct loop **out, struct err *err)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    int status = uv_loop_init(&loop->uv);
    if (status != 0) {
        free(loop);
        return err_set_errno(err, status, "open event loop");
    }
    (void)uv_check_init(&loop->uv, &loop->check); /* these two cannot fail */
    (void)uv_idle_init(&loop->uv, &loop->idle);
    loop->check.data = loop;
    (void)uv_check_start(&loop->check, on_check);
    uv_unref((uv_handle_t *)&loop->check);
    loop->inbox = inbox_open(&loop->uv);
    *out = loop;
    return 0;
}

int loop_run(struct loop *loop)
{
    return uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

static void report_leak(uv_handle_t *handle, void *arg)
{
    int *leaks = arg;
    if (!uv_is_closing(handle)) {
        log_line(LOG_ERROR, "loop.leak", "handle of type %s is still open",
                 uv_handle_type_name(handle->type));
        (*leaks)++;
        uv_close(handle, NULL);
    }
}

static void turn(struct loop *loop)
{
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    while (loop->queue_len > 0) {
        run_round(loop);
    }
}

/* Threads that still post come to rest before the inbox goes: what was told to close needs some turns for it.
 */
static int wait_for_threads(struct loop *loop)
{
    uint64_t end_ns = uv_hrtime() + CLOSE_GRACE_NS;
    while (inbox_is_expecting(loop->inbox)) {
        if (uv_hrtime() >= end_ns) {
            log_line(LOG_ERROR, "loop.leak", "somebody still expects work from another thread");
            return 1;
        }
        uv_sleep(1);
        turn(loop);
    }
    return 0;
}

int loop_close(struct loop *loop)
{
    turn(loop);
    int leaks = wait_for_threads(loop);
    if (leaks == 0) {
        inbox_close(loop->inbox);
    }
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    /* Close callbacks may still defer work; a few empty turns are plenty. */
    for (int i = 0; i < 16 && uv_loop_alive(&loop->uv); i++) {
        turn(loop);
    }
    uv_walk(&loop->uv, report_leak, &leaks);
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
    if (uv_loop_close(&loop->uv) != 0) {
        leaks++;
    }
    free(loop->queue);
    free(loop->running);
    if (leaks == 0) {
        free(loop); /* a leaked handle may still point here */
    }
    return leaks;
}

uv_loop_t *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

struct inbox *loop_inbox(struct loop *loop)
{
    return loop->inbox;
}

static void keep_from_sleeping(struct loop *loop)
{
    if (!uv_is_closing((uv_handle_t *)&loop->idle)) {
        (void)uv_idle_start(&loop->idle, on_idle); /* 0 unless fn is NULL; again is no harm */
    }
}

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    if (loop->queue_len == loop->queue_cap) {
        loop->queue_cap = loop->queue_cap == 0 ? 64 : loop->queue_cap * 2;
        loop->queue = xrealloc(loop->queue, loop->queue_cap * sizeof(*loop->queue));
    }
    if (loop->queue_len == 0) {
        keep_from_sleeping(loop);
    }
    loop->queue[loop->queue_len++] = (struct deferred){fn, arg};
}

void loop_stay_awake(struct loop *loop, uint64_t ns)
{
    loop->awake_until_ns = uv_hrtime() + ns;
    keep_from_sleeping(loop);
}

void loop_may_sleep(struct loop *loop)
{
    loop->awake_until_ns = 0; /* the idle handle stops at the end of this turn */
}

int64_t loop_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t loop_mono_ns(void)
{
    return uv_hrtime();
}
