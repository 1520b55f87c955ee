/* Deadlines of connections: every kind has one fixed duration, so a queue in order of arming is a queue in
 * order of expiry. Arming is a list operation; the one timer is restarted when it fires, not per request. */
#include "http/http_internal.h"

enum { RESOLUTION_MS = 10 };

static void on_timer(uv_timer_t *timer);

static void start_timer(struct http_deadlines *deadlines, uint64_t at_ms)
{
    uint64_t now = uv_now(deadlines->timer.loop);
    uint64_t delay = at_ms > now ? at_ms - now : 0;
    deadlines->fires_at_ms = at_ms;
    (void)uv_timer_start(&deadlines->timer, on_timer, delay + RESOLUTION_MS, 0); /* fails only when closing */
}

static void on_timer(uv_timer_t *timer)
{
    struct http_deadlines *deadlines = timer->data;
    uint64_t now = uv_now(timer->loop);
    uint64_t next = 0;
    deadlines->fires_at_ms = 0;
    for (int kind = 0; kind < HTTP_DEADLINE_KINDS; kind++) {
        struct list *queue = &deadlines->queues[kind];
        while (!list_is_empty(queue)) {
            struct http_deadline *deadline = list_entry(queue->next, struct http_deadline, node);
            if (deadline->at_ms > now) {
                break;
            }
            list_remove(&deadline->node);
            deadlines->on_expired(deadline); /* may arm it again, behind the others */
        }
    }
    for (int kind = 0; kind < HTTP_DEADLINE_KINDS; kind++) {
        struct list *queue = &deadlines->queues[kind];
        if (!list_is_empty(queue)) {
            uint64_t at_ms = list_entry(queue->next, struct http_deadline, node)->at_ms;
            next = next == 0 || at_ms < next ? at_ms : next;
        }
    }
    if (next != 0 && !uv_is_closing((uv_handle_t *)timer)) {
        start_timer(deadlines, next);
    }
}

void http_deadlines_init(struct http_deadlines *deadlines, uv_loop_t *uv,
                         void (*on_expired)(struct http_deadline *deadline))
{
    for (int kind = 0; kind < HTTP_DEADLINE_KINDS; kind++) {
        list_init(&deadlines->queues[kind]);
    }
    (void)uv_timer_init(uv, &deadlines->timer); /* always 0 */
    deadlines->timer.data = deadlines;
    deadlines->on_expired = on_expired;
}

void http_deadline_arm(struct http_deadlines *deadlines, struct http_deadline *deadline,
                       enum http_deadline_kind kind)
{
    list_remove(&deadline->node);
    deadline->kind = kind;
    deadline->at_ms = uv_now(deadlines->timer.loop) + deadlines->timeout_ms[kind];
    list_push_back(&deadlines->queues[kind], &deadline->node);
    bool is_sooner = deadlines->fires_at_ms == 0 || deadline->at_ms < deadlines->fires_at_ms;
    if (is_sooner && !uv_is_closing((uv_handle_t *)&deadlines->timer)) {
        start_timer(deadlines, deadline->at_ms);
    }
}
