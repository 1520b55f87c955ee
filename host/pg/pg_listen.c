/* Notifications; see pg_listen.h. */
#include "pg/pg_listen.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/pg_conn.h"
#include "pg/pg_text.h"
#include "pg/pg_unit.h"

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 2000,
    PING_MS = 15000, /* a connection that only listens would never learn that its server is gone */
};

struct pg_sub {
    struct list link;
    struct pg_listener *listener; /* NULL when that is closed */
    char *channel;
    pg_ready_fn ready; /* NULL when it has run */
    void *ready_arg;
    uint64_t sent_no;          /* number of the LISTEN that covers it */
    char *queue[PG_SUB_QUEUE]; /* a ring */
    size_t first;
    size_t count;
    bool has_reset; /* comes before the queue */
    bool is_live;
    pg_notice_fn fn; /* waiting for the next */
    void *arg;
};

struct pg_listener {
    struct loop *loop;
    const struct pg_conn_opts *opts;
    struct pg_texts *texts;
    struct pg_conn *conn; /* NULL between two attempts */
    bool is_ready;
    struct list subs;
    struct timer *timer; /* next attempt */
    struct timer *ping_timer;
    uint64_t backoff_ms;
    uint64_t sent_no; /* LISTENs sent, */
    uint64_t done_no; /* and answered, on this connection */
    int holds;        /* closing connections and deferred calls */
    bool is_closing;
    void (*close_done)(void *arg);
    void *close_arg;
};

/* --- delivering ----------------------------------------------------------------------------- */

bool pg_sub_take(struct pg_sub *sub, bool *is_reset, char **payload)
{
    *is_reset = sub->has_reset;
    *payload = NULL;
    if (sub->has_reset) {
        sub->has_reset = false;
        return true;
    }
    if (sub->count == 0) {
        return false;
    }
    *payload = sub->queue[sub->first];
    sub->first = (sub->first + 1) % PG_SUB_QUEUE;
    sub->count--;
    return true;
}

/* Hands out what is there, if somebody waits. */
static void deliver(struct pg_sub *sub)
{
    struct pg_notice notice = {0};
    char *payload;
    if (sub->fn == NULL || !pg_sub_take(sub, &notice.is_reset, &payload)) {
        return;
    }
    pg_notice_fn fn = sub->fn;
    sub->fn = NULL;
    notice.payload = payload;
    fn(sub->arg, &notice, NULL);
    free(payload);
}

static void drop_queue(struct pg_sub *sub)
{
    while (sub->count > 0) {
        free(sub->queue[sub->first]);
        sub->first = (sub->first + 1) % PG_SUB_QUEUE;
        sub->count--;
    }
}

static void reset(struct pg_sub *sub)
{
    drop_queue(sub);
    sub->has_reset = true;
    deliver(sub);
}

static void on_notify(void *arg, const char *channel, const char *payload)
{
    struct pg_listener *listener = arg;
    list_each_safe (node, &listener->subs) {
        struct pg_sub *sub = list_entry(node, struct pg_sub, link);
        if (!sub->is_live || strcmp(sub->channel, channel) != 0) {
            continue;
        }
        if (sub->count == PG_SUB_QUEUE) {
            reset(sub);
            continue;
        }
        sub->queue[(sub->first + sub->count++) % PG_SUB_QUEUE] = xstrdup(payload);
        deliver(sub);
    }
}

static void call_ready(struct pg_sub *sub, const struct err *err)
{
    pg_ready_fn ready = sub->ready;
    sub->ready = NULL;
    if (ready != NULL) {
        ready(sub->ready_arg, err);
    }
}

/* --- listening ------------------------------------------------------------------------------ */

static void fail_new_subs(struct pg_listener *listener, const struct err *err)
{
    list_each_safe (node, &listener->subs) {
        call_ready(list_entry(node, struct pg_sub, link), err);
    }
}

/* One LISTEN unit has been answered: subscriptions up to its number are live. */
static void on_listening(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    struct pg_listener *listener = arg;
    if (failure != NULL) {
        log_line(LOG_WARN, "pg.listen_failed", "%s", failure->err.text);
        fail_new_subs(listener, &failure->err);
        return;
    }
    listener->done_no++;
    list_each_safe (node, &listener->subs) {
        struct pg_sub *sub = list_entry(node, struct pg_sub, link);
        if (sub->sent_no > listener->done_no || sub->is_live) {
            continue;
        }
        sub->is_live = true;
        if (sub->ready != NULL) {
            call_ready(sub, NULL);
        } else {
            reset(sub); /* it was live before the connection broke */
        }
    }
}

static void add_command(struct pg_unit *unit, const char *verb, const char *channel)
{
    struct buf text;
    buf_init(&text);
    buf_printf(&text, "%s \"", verb);
    for (const char *p = channel; *p != '\0'; p++) {
        buf_append_byte(&text, (unsigned char)*p);
        if (*p == '"') {
            buf_append_byte(&text, '"');
        }
    }
    buf_append_byte(&text, '"');
    pg_unit_begin(unit, text.data, text.len);
    buf_deinit(&text);
}

static void submit(struct pg_listener *listener, struct pg_unit *unit, pg_done_fn fn)
{
    pg_conn_submit(listener->conn, pg_request_new(unit, false, fn, listener));
    pg_unit_unref(unit);
}

static void ignore_answer(void *arg, struct pg_result *results, size_t count,
                          const struct pg_failure *failure)
{
}

/* Asks for any answer: the connection notices by itself when none comes. */
static void on_ping_due(void *arg)
{
    struct pg_listener *listener = arg;
    if (listener->is_ready && pg_conn_load(listener->conn) == 0) {
        struct pg_unit *unit = pg_unit_new(listener->texts);
        pg_unit_begin(unit, "select 1", 8);
        submit(listener, unit, ignore_answer);
    }
}

static void on_ready(void *arg, struct pg_conn *conn)
{
    struct pg_listener *listener = arg;
    listener->is_ready = true;
    listener->backoff_ms = 0;
    listener->sent_no = 1;
    listener->done_no = 0;
    struct pg_unit *unit = pg_unit_new(listener->texts);
    list_each (node, &listener->subs) {
        struct pg_sub *sub = list_entry(node, struct pg_sub, link);
        sub->sent_no = 1;
        add_command(unit, "listen", sub->channel);
    }
    submit(listener, unit, on_listening);
    uint64_t limit_ms = (uint64_t)listener->opts->silence_timeout_ms;
    uint64_t ping_ms = limit_ms > 0 && limit_ms < PING_MS ? limit_ms : PING_MS;
    timer_start(listener->ping_timer, ping_ms, ping_ms);
}

static void on_conn_closed(void *arg)
{
    struct pg_listener *listener = arg;
    if (--listener->holds == 0 && listener->is_closing) {
        void (*done)(void *arg_) = listener->close_done;
        void *done_arg = listener->close_arg;
        free(listener);
        done(done_arg);
    }
}

static void drop_conn(struct pg_listener *listener)
{
    if (listener->conn != NULL) {
        listener->holds++;
        pg_conn_close(listener->conn, on_conn_closed, listener);
        listener->conn = NULL;
    }
    timer_stop(listener->ping_timer);
    listener->is_ready = false;
}

static void on_lost(void *arg, struct pg_conn *conn, const struct pg_failure *failure)
{
    struct pg_listener *listener = arg;
    drop_conn(listener);
    listener->backoff_ms = listener->backoff_ms == 0 ? BACKOFF_MIN_MS : listener->backoff_ms * 2;
    listener->backoff_ms = listener->backoff_ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : listener->backoff_ms;
    list_each (node, &listener->subs) {
        list_entry(node, struct pg_sub, link)->is_live = false;
    }
    fail_new_subs(listener, &failure->err);
    if (!listener->is_closing && listener->conn == NULL) {
        timer_start(listener->timer, listener->backoff_ms, 0);
    }
}

static void on_progress(void *arg, struct pg_conn *conn)
{
}

static void connect_now(void *arg)
{
    static const struct pg_conn_events events = {
        .on_ready = on_ready,
        .on_lost = on_lost,
        .on_progress = on_progress,
        .on_notify = on_notify,
    };
    struct pg_listener *listener = arg;
    if (listener->conn == NULL && !list_is_empty(&listener->subs)) {
        listener->conn = pg_conn_open(listener->loop, listener->opts, listener->texts, &events, listener);
    }
}

/* --- public --------------------------------------------------------------------------------- */

struct pg_listener *pg_listener_open(struct loop *loop, const struct pg_conn_opts *opts,
                                     struct pg_texts *texts)
{
    struct pg_listener *listener = xcalloc(1, sizeof(*listener));
    listener->loop = loop;
    listener->opts = opts;
    listener->texts = texts;
    list_init(&listener->subs);
    listener->timer = timer_open(loop, connect_now, listener);
    listener->ping_timer = timer_open(loop, on_ping_due, listener);
    return listener;
}

void pg_listener_close(struct pg_listener *listener, void (*done)(void *arg), void *arg)
{
    struct err err;
    (void)err_set(&err, ERR_CLOSED, "the pool is closed");
    listener->is_closing = true;
    listener->close_done = done;
    listener->close_arg = arg;
    timer_close(listener->timer);
    drop_conn(listener);
    timer_close(listener->ping_timer);
    for (struct list *node; (node = list_pop_front(&listener->subs)) != NULL;) {
        struct pg_sub *sub = list_entry(node, struct pg_sub, link);
        sub->listener = NULL;
        pg_notice_fn fn = sub->fn;
        sub->fn = NULL;
        call_ready(sub, &err);
        if (fn != NULL) {
            fn(sub->arg, NULL, &err);
        }
    }
    listener->holds++;
    loop_defer(listener->loop, on_conn_closed, listener);
}

struct pg_sub *pg_listener_subscribe(struct pg_listener *listener, const char *channel, pg_ready_fn ready,
                                     void *arg)
{
    struct pg_sub *sub = xcalloc(1, sizeof(*sub));
    sub->listener = listener;
    sub->channel = xstrdup(channel);
    sub->ready = ready;
    sub->ready_arg = arg;
    list_push_back(&listener->subs, &sub->link);
    if (listener->is_ready) {
        struct pg_unit *unit = pg_unit_new(listener->texts);
        add_command(unit, "listen", channel);
        sub->sent_no = ++listener->sent_no;
        submit(listener, unit, on_listening);
    } else if (listener->conn == NULL) {
        timer_start(listener->timer, listener->backoff_ms, 0);
    }
    return sub;
}

void pg_sub_next(struct pg_sub *sub, pg_notice_fn fn, void *arg)
{
    sub->fn = fn;
    sub->arg = arg;
}

void pg_sub_cancel_next(struct pg_sub *sub)
{
    pg_notice_fn fn = sub->fn;
    sub->fn = NULL;
    if (fn != NULL) {
        struct err err;
        (void)err_set(&err, ERR_CANCELLED, "the wait was cancelled");
        fn(sub->arg, NULL, &err);
    }
}

bool pg_sub_is_waiting(const struct pg_sub *sub)
{
    return sub->fn != NULL;
}

void pg_sub_close(struct pg_sub *sub)
{
    if (sub == NULL) {
        return;
    }
    struct pg_listener *listener = sub->listener;
    list_remove(&sub->link);
    if (listener != NULL && listener->is_ready) {
        bool is_shared = false;
        list_each (node, &listener->subs) {
            is_shared =
                is_shared || strcmp(list_entry(node, struct pg_sub, link)->channel, sub->channel) == 0;
        }
        if (!is_shared) {
            struct pg_unit *unit = pg_unit_new(listener->texts);
            add_command(unit, "unlisten", sub->channel);
            submit(listener, unit, ignore_answer);
        }
    }
    pg_notice_fn fn = sub->fn;
    sub->fn = NULL;
    if (fn != NULL) {
        struct err err;
        (void)err_set(&err, ERR_CLOSED, "the subscription was closed");
        fn(sub->arg, NULL, &err);
    }
    drop_queue(sub);
    free(sub->channel);
    free(sub);
}
