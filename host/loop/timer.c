/* Timers; see timer.h. */
#include "loop/timer.h"

#include <stdlib.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/loop.h"

struct timer {
    uv_timer_t uv;
    timer_fn fn;
    void *arg;
};

static void on_timer(uv_timer_t *handle)
{
    struct timer *timer = handle->data;
    timer->fn(timer->arg);
}

struct timer *timer_open(struct loop *loop, timer_fn fn, void *arg)
{
    struct timer *timer = xcalloc(1, sizeof(*timer));
    (void)uv_timer_init(loop_uv(loop), &timer->uv); /* always 0 */
    timer->uv.data = timer;
    timer->fn = fn;
    timer->arg = arg;
    return timer;
}

void timer_start(struct timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    /* libuv counts from its cached time, which is stale after a long callback. */
    uv_update_time(timer->uv.loop);
    (void)uv_timer_start(&timer->uv, on_timer, delay_ms, repeat_ms); /* fails only when closing */
}

void timer_stop(struct timer *timer)
{
    (void)uv_timer_stop(&timer->uv); /* always 0 */
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void timer_close(struct timer *timer)
{
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->uv, on_closed);
    }
}
