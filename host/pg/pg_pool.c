/* The pool; see pg_pool.h.
 *
 * A shared request goes to an idle connection; else to one with few requests in flight, all of them young:
 * behind a slow statement nobody queues who could go elsewhere. Else a connection is opened, and the request
 * waits in a fair queue for whichever comes first. A lease at the head of the queue stops sharing until a
 * connection has run dry. */
#include "pg/pg_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/pg_listen.h"
#include "pg/pg_pool_state.h"
#include "pg/pg_text.h"
#include "pg/pg_unit.h"

enum {
    MAX_IN_FLIGHT = 4,   /* requests sharing a connection */
    YOUNG_NS = 3000000,  /* a request in flight for longer may be slow */
    BACKOFF_MIN_MS = 50, /* between attempts to connect */
    BACKOFF_MAX_MS = 2000,
};

static void place(struct pg_pool *pool);

/* --- life ----------------------------------------------------------------------------------- */

static void settle_close(struct pg_pool *pool)
{
    if (!pool->is_closing || pool->holds > 0) {
        return;
    }
    void (*done)(void *arg) = pool->close_done;
    void *arg = pool->close_arg;
    for (int i = 0; i < PG_SPARE_UNITS; i++) {
        pg_unit_unref(pool->spares[i]);
    }
    pg_texts_unref(pool->texts);
    free(pool->conninfo);
    free(pool->application_name);
    free(pool);
    done(arg);
}

static void on_conn_closed(void *arg)
{
    struct pg_pool *pool = arg;
    pool->holds--;
    settle_close(pool);
}

static void drop_member(struct pg_pool *pool, struct pg_member *member)
{
    if (member->lease != NULL) {
        member->lease->member = NULL;
    }
    for (int i = 0; i < PG_SLOTS; i++) {
        if (pool->slots[i] == member) {
            pool->slots[i] = NULL;
        }
    }
    if (!list_is_empty(&member->link)) {
        list_remove(&member->link);
        pool->member_count--;
    }
    pool->holds++;
    pg_conn_close(member->conn, on_conn_closed, pool);
    free(member);
}

static void on_lease_failed(void *arg)
{
    struct pg_lease *lease = arg;
    lease->fn(lease->arg, NULL, &lease->failure);
    free(lease);
}

/* Ends a waiting request or lease, from the loop. */
void pg_pool_fail_waiter(struct pg_pool *pool, struct pg_flight *flight, const struct pg_failure *failure)
{
    list_remove(&flight->link);
    pool->waiting--;
    if (flight->kind == PG_LEASE_KIND) {
        struct pg_lease *lease = (struct pg_lease *)flight;
        lease->failure = *failure;
        loop_defer(pool->loop, on_lease_failed, lease);
    } else {
        pg_request_fail(pool->loop, (struct pg_request *)flight, failure);
    }
}

static void fail_queue(struct pg_pool *pool, const struct pg_failure *failure)
{
    while (!list_is_empty(&pool->queue)) {
        pg_pool_fail_waiter(pool, list_entry(pool->queue.next, struct pg_flight, link), failure);
    }
}

/* --- connections ---------------------------------------------------------------------------- */

static void on_ready(void *arg, struct pg_conn *conn)
{
    struct pg_member *member = arg;
    struct pg_pool *pool = member->pool;
    member->was_ready = true;
    pool->backoff_ms = 0;
    pool->stats.connects++;
    place(pool);
}

static bool has_connection(const struct pg_pool *pool)
{
    list_each (node, &pool->members) {
        if (list_entry(node, struct pg_member, link)->was_ready) {
            return true;
        }
    }
    return false;
}

static void on_lost(void *arg, struct pg_conn *conn, const struct pg_failure *failure)
{
    struct pg_member *member = arg;
    struct pg_pool *pool = member->pool;
    if (!member->was_ready) {
        pool->stats.connect_failures++;
        pool->last_failure = *failure;
        pool->backoff_ms = pool->backoff_ms == 0 ? BACKOFF_MIN_MS : pool->backoff_ms * 2;
        pool->backoff_ms = pool->backoff_ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : pool->backoff_ms;
        pool->next_connect_ns = loop_mono_ns() + pool->backoff_ms * 1000000;
    }
    bool is_hopeless = !member->was_ready;
    drop_member(pool, member);
    if (is_hopeless && !has_connection(pool)) {
        fail_queue(pool, &pool->last_failure);
    }
    place(pool);
}

static void on_progress(void *arg, struct pg_conn *conn)
{
    struct pg_member *member = arg;
    place(member->pool);
}

static const struct pg_conn_events conn_events = {
    .on_ready = on_ready,
    .on_lost = on_lost,
    .on_progress = on_progress,
};

static struct pg_member *open_member(struct pg_pool *pool)
{
    struct pg_member *member = xcalloc(1, sizeof(*member));
    list_init(&member->link);
    member->pool = pool;
    member->conn = pg_conn_open(pool->loop, &pool->conn_opts, pool->texts, &conn_events, member);
    return member;
}

static bool may_connect(const struct pg_pool *pool)
{
    return pool->backoff_ms == 0 || loop_mono_ns() >= pool->next_connect_ns;
}

/* Opens connections for what waits: one for all that can share, and one per lease. */
static void grow(struct pg_pool *pool)
{
    int wanted = 0;
    bool has_shared = false;
    list_each (node, &pool->queue) {
        const struct pg_flight *flight = list_entry(node, struct pg_flight, link);
        wanted += flight->kind == PG_LEASE_KIND ? 1 : 0;
        has_shared = has_shared || flight->kind != PG_LEASE_KIND;
        if (wanted >= pool->max_conns) {
            break;
        }
    }
    wanted += has_shared ? 1 : 0;
    list_each (member_node, &pool->members) {
        wanted -= list_entry(member_node, struct pg_member, link)->was_ready ? 0 : 1;
    }
    while (wanted-- > 0 && pool->member_count < pool->max_conns && may_connect(pool)) {
        struct pg_member *member = open_member(pool);
        list_push_back(&pool->members, &member->link);
        pool->member_count++;
        if (pool->backoff_ms > 0) {
            break; /* one attempt at a time while it does not work */
        }
    }
}

/* --- placing -------------------------------------------------------------------------------- */

static struct pg_member *find_idle(struct pg_pool *pool)
{
    list_each (node, &pool->members) {
        struct pg_member *member = list_entry(node, struct pg_member, link);
        if (member->lease == NULL && pg_conn_is_ready(member->conn) && pg_conn_load(member->conn) == 0) {
            return member;
        }
    }
    return NULL;
}

static struct pg_member *find_shared(struct pg_pool *pool)
{
    struct pg_member *best = NULL;
    uint64_t now = 0;
    list_each (node, &pool->members) {
        struct pg_member *member = list_entry(node, struct pg_member, link);
        size_t load = pg_conn_load(member->conn);
        if (member->lease != NULL || load >= MAX_IN_FLIGHT || !pg_conn_is_ready(member->conn)) {
            continue;
        }
        if (load == 0) {
            return member;
        }
        now = now == 0 ? loop_mono_ns() : now;
        uint64_t since = pg_conn_head_since_ns(member->conn);
        if ((since == 0 || now - since < YOUNG_NS) && (best == NULL || load < pg_conn_load(best->conn))) {
            best = member;
        }
    }
    return best;
}

static void give(struct pg_lease *lease, struct pg_member *member)
{
    member->lease = lease;
    lease->member = member;
    pg_lease_fn fn = lease->fn;
    lease->fn = NULL;
    lease->pool->holds++;
    fn(lease->arg, lease, NULL);
}

static void watch_queue(struct pg_pool *pool);

static void on_queue_timer(void *arg)
{
    struct pg_pool *pool = arg;
    pool->queue_timer_runs = false;
    uint64_t now = loop_mono_ns();
    struct pg_failure failure = {0};
    (void)err_set(&failure.err, ERR_TIMEOUT,
                  "no PostgreSQL connection was free within %d ms (%d of %d in use)",
                  pool->acquire_timeout_ms, pool->member_count, pool->max_conns);
    while (!list_is_empty(&pool->queue)) {
        struct pg_flight *flight = list_entry(pool->queue.next, struct pg_flight, link);
        uint64_t since = flight->kind == PG_LEASE_KIND ? ((struct pg_lease *)flight)->since_ns
                                                       : ((struct pg_request *)flight)->since_ns;
        if (now - since < (uint64_t)pool->acquire_timeout_ms * 1000000) {
            break;
        }
        pg_pool_fail_waiter(pool, flight,
                            has_connection(pool) || pool->backoff_ms == 0 ? &failure : &pool->last_failure);
    }
    place(pool);
}

/* The timer looks again at the head's deadline or when connecting may be tried again. */
static void watch_queue(struct pg_pool *pool)
{
    if (list_is_empty(&pool->queue) || pool->queue_timer_runs) {
        return;
    }
    uint64_t delay_ms = (uint64_t)pool->acquire_timeout_ms / 4 + 1;
    if (pool->backoff_ms > 0) {
        uint64_t now = loop_mono_ns();
        uint64_t retry_ms = pool->next_connect_ns > now ? (pool->next_connect_ns - now) / 1000000 + 1 : 1;
        delay_ms = retry_ms < delay_ms ? retry_ms : delay_ms;
    }
    pool->queue_timer_runs = true;
    timer_start(pool->queue_timer, delay_ms, 0);
}

static void place(struct pg_pool *pool)
{
    while (!pool->is_closing && !list_is_empty(&pool->queue)) {
        struct pg_flight *head = list_entry(pool->queue.next, struct pg_flight, link);
        bool is_lease = head->kind == PG_LEASE_KIND;
        struct pg_member *member = is_lease ? find_idle(pool) : find_shared(pool);
        if (member == NULL) {
            grow(pool);
            watch_queue(pool);
            return;
        }
        list_remove(&head->link);
        pool->waiting--;
        if (is_lease) {
            give((struct pg_lease *)head, member);
        } else {
            pg_conn_submit(member->conn, (struct pg_request *)head);
        }
    }
}

static void on_place_due(void *arg)
{
    struct pg_pool *pool = arg;
    pool->holds--;
    place(pool);
    settle_close(pool);
}

void pg_pool_place_soon(struct pg_pool *pool)
{
    loop_defer(pool->loop, on_place_due, pool);
}

/* --- public --------------------------------------------------------------------------------- */

static void on_idle_timer(void *arg)
{
    struct pg_pool *pool = arg;
    uint64_t now = loop_mono_ns();
    list_each_safe (node, &pool->members) {
        struct pg_member *member = list_entry(node, struct pg_member, link);
        if (pool->member_count > 1 && member->lease == NULL && pg_conn_is_ready(member->conn) &&
            pg_conn_load(member->conn) == 0 &&
            now - pg_conn_idle_since_ns(member->conn) > (uint64_t)pool->idle_close_ms * 1000000) {
            drop_member(pool, member);
        }
    }
}

static int or_default(int value, int def)
{
    return value == 0 ? def : value;
}

struct pg_pool *pg_pool_open(struct loop *loop, const struct pg_pool_opts *opts)
{
    struct pg_pool *pool = xcalloc(1, sizeof(*pool));
    pool->loop = loop;
    pool->conninfo = xstrdup(opts->conninfo);
    pool->application_name = xstrdup(opts->application_name == NULL ? "macp" : opts->application_name);
    pool->max_conns = or_default(opts->max_conns, 10);
    pool->acquire_timeout_ms = or_default(opts->acquire_timeout_ms, 5000);
    pool->idle_close_ms = or_default(opts->idle_close_ms, 30000);
    pool->conn_opts = (struct pg_conn_opts){
        .conninfo = pool->conninfo,
        .application_name = pool->application_name,
        .connect_timeout_ms = or_default(opts->connect_timeout_ms, 5000),
        .statement_timeout_ms = or_default(opts->statement_timeout_ms, 30000),
        .lock_timeout_ms = or_default(opts->lock_timeout_ms, 5000),
        .idle_tx_timeout_ms = or_default(opts->idle_tx_timeout_ms, 30000),
        .silence_timeout_ms = (int64_t)or_default(opts->statement_timeout_ms, 30000) +
                              or_default(opts->silence_timeout_ms, 5000),
        .max_result_bytes = opts->max_result_bytes == 0 ? (size_t)64 << 20 : opts->max_result_bytes,
    };
    pool->texts = pg_texts_new();
    list_init(&pool->members);
    list_init(&pool->queue);
    pool->queue_timer = timer_open(loop, on_queue_timer, pool);
    pool->idle_timer = timer_open(loop, on_idle_timer, pool);
    uint64_t interval = (uint64_t)pool->idle_close_ms / 2 + 1;
    timer_start(pool->idle_timer, interval, interval);
    return pool;
}

void pg_pool_close(struct pg_pool *pool, void (*done)(void *arg), void *arg)
{
    pool->is_closing = true;
    pool->close_done = done;
    pool->close_arg = arg;
    struct pg_failure failure = {0};
    (void)err_set(&failure.err, ERR_CLOSED, "the pool is closed");
    fail_queue(pool, &failure);
    timer_close(pool->queue_timer);
    timer_close(pool->idle_timer);
    while (!list_is_empty(&pool->members)) {
        drop_member(pool, list_entry(pool->members.next, struct pg_member, link));
    }
    for (int i = 0; i < PG_SLOTS; i++) {
        if (pool->slots[i] != NULL) {
            drop_member(pool, pool->slots[i]);
        }
    }
    if (pool->listener != NULL) {
        pool->holds++;
        pg_listener_close(pool->listener, on_conn_closed, pool);
    }
    pool->holds++;
    loop_defer(pool->loop, on_conn_closed, pool); /* also without any connection, done runs from the loop */
}

struct pg_unit *pg_pool_unit(struct pg_pool *pool)
{
    int at = 0;
    while (at < PG_SPARE_UNITS - 1 && pool->spares[at] != NULL && pool->spares[at]->refs > 1) {
        at++;
    }
    if (pool->spares[at] != NULL && pool->spares[at]->refs == 1) {
        pg_unit_clear(pool->spares[at]);
    } else {
        pg_unit_unref(pool->spares[at]);
        pool->spares[at] = pg_unit_new(pool->texts);
    }
    return pg_unit_ref(pool->spares[at]);
}

static void refuse(struct pg_pool *pool, struct pg_request *request)
{
    struct pg_failure failure = {0};
    (void)err_set(&failure.err, ERR_CLOSED, "the pool is closed");
    pg_request_fail(pool->loop, request, &failure);
}

void pg_pool_submit(struct pg_pool *pool, struct pg_request *request)
{
    pool->stats.requests++;
    if (pool->is_closing) {
        refuse(pool, request);
        return;
    }
    request->since_ns = loop_mono_ns();
    list_push_back(&pool->queue, &request->flight.link);
    pool->waiting++;
    place(pool);
}

void pg_pool_submit_slot(struct pg_pool *pool, int slot, struct pg_request *request)
{
    pool->stats.requests++;
    if (pool->is_closing) {
        refuse(pool, request);
        return;
    }
    if (pool->slots[slot] == NULL) {
        if (!may_connect(pool)) {
            pg_request_fail(pool->loop, request, &pool->last_failure);
            return;
        }
        pool->slots[slot] = open_member(pool);
    }
    pg_conn_submit(pool->slots[slot]->conn, request);
}

void pg_pool_cancel(struct pg_pool *pool, struct pg_request *request)
{
    if (request->conn != NULL) {
        pg_conn_cancel(request);
        return;
    }
    struct pg_failure failure = {0};
    (void)err_set(&failure.err, ERR_CANCELLED, "the query was cancelled");
    if (!list_is_empty(&request->flight.link)) {
        pg_pool_fail_waiter(pool, &request->flight, &failure);
    }
}

struct pg_listener *pg_pool_listener(struct pg_pool *pool)
{
    if (pool->listener == NULL && !pool->is_closing) {
        pool->listener = pg_listener_open(pool->loop, &pool->conn_opts, pool->texts);
    }
    return pool->listener;
}

void pg_pool_stats(const struct pg_pool *pool, struct pg_pool_stats *stats)
{
    *stats = pool->stats;
    stats->max = pool->max_conns;
    stats->waiting = pool->waiting;
    list_each (node, &pool->members) {
        const struct pg_member *member = list_entry(node, struct pg_member, link);
        stats->open += member->was_ready ? 1 : 0;
        stats->connecting += member->was_ready ? 0 : 1;
        stats->leased += member->lease != NULL ? 1 : 0;
        stats->in_flight += member->lease == NULL ? (int)pg_conn_load(member->conn) : 0;
    }
}
