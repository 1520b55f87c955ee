/* A connection for one holder, which is what a transaction needs; see pg_pool.h. */
#include <stdlib.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "pg/pg_pool_state.h"

struct pg_lease *pg_pool_lease(struct pg_pool *pool, pg_lease_fn fn, void *arg)
{
    struct pg_lease *lease = xcalloc(1, sizeof(*lease));
    list_init(&lease->flight.link);
    lease->flight.kind = PG_LEASE_KIND;
    lease->pool = pool;
    lease->since_ns = loop_mono_ns();
    lease->fn = fn;
    lease->arg = arg;
    list_push_back(&pool->queue, &lease->flight.link);
    pool->waiting++;
    if (pool->is_closing) {
        struct pg_failure failure = {0};
        (void)err_set(&failure.err, ERR_CLOSED, "the pool is closed");
        pg_pool_fail_waiter(pool, &lease->flight, &failure);
        return lease;
    }
    pool->holds++; /* keeps the pool until the call has run */
    pg_pool_place_soon(pool);
    return lease;
}

void pg_pool_lease_cancel(struct pg_lease *lease)
{
    if (!list_is_empty(&lease->flight.link)) {
        struct pg_failure failure = {0};
        (void)err_set(&failure.err, ERR_CANCELLED, "the wait for a connection was cancelled");
        pg_pool_fail_waiter(lease->pool, &lease->flight, &failure);
    }
}

void pg_lease_submit(struct pg_lease *lease, struct pg_request *request)
{
    lease->pool->stats.requests++;
    if (lease->member == NULL) {
        struct pg_failure failure = {0};
        (void)err_set(&failure.err, ERR_UNAVAILABLE, "the connection of this transaction is gone");
        pg_request_fail(lease->pool->loop, request, &failure);
        return;
    }
    pg_conn_submit(lease->member->conn, request);
}

static void ignore_answer(void *arg, struct pg_result *results, size_t count,
                          const struct pg_failure *failure)
{
}

void pg_lease_release(struct pg_lease *lease)
{
    struct pg_pool *pool = lease->pool;
    struct pg_member *member = lease->member;
    free(lease);
    pg_pool_place_soon(pool); /* ends the lease's hold */
    if (member == NULL) {
        return;
    }
    member->lease = NULL;
    pg_conn_touch(member->conn);
    if (pg_conn_in_tx(member->conn) || pg_conn_load(member->conn) > 0) {
        struct pg_unit *unit = pg_pool_unit(pool);
        pg_unit_begin(unit, "rollback", 8); /* a warning at most when no transaction is open */
        pg_conn_submit(member->conn, pg_request_new(unit, false, ignore_answer, NULL));
        pg_unit_unref(unit);
    }
}

bool pg_lease_in_failed_tx(const struct pg_lease *lease)
{
    return lease->member != NULL && pg_conn_in_failed_tx(lease->member->conn);
}
