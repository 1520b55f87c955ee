/* What pg_pool.c and pg_lease.c share of a pool. */
#pragma once

#include "base/list.h"
#include "pg/pg_pool.h"
#include "pg/pg_unit.h"

enum {
    PG_SPARE_UNITS = 8,
    PG_LEASE_KIND = 100, /* a pg_lease among the waiting requests */
};

/* A connection of the pool. */
struct pg_member {
    struct list link;
    struct pg_pool *pool;
    struct pg_conn *conn;
    struct pg_lease *lease; /* who has it alone */
    bool was_ready;
};

/* A claim to a connection: waiting in the queue, or holding a member. */
struct pg_lease {
    struct pg_flight flight; /* first; kind PG_LEASE_KIND, link in the queue */
    struct pg_pool *pool;
    struct pg_member *member; /* NULL while waiting, and after the connection broke */
    uint64_t since_ns;
    pg_lease_fn fn; /* NULL when it has run */
    void *arg;
    struct pg_failure failure;
};

struct pg_pool {
    struct loop *loop;
    struct pg_conn_opts conn_opts;
    char *conninfo;
    char *application_name;
    int max_conns;
    int acquire_timeout_ms;
    int idle_close_ms;
    struct pg_texts *texts;
    struct list members;
    int member_count;
    struct pg_member *slots[PG_SLOTS];
    struct list queue; /* struct pg_flight: requests and leases */
    int waiting;
    struct timer *queue_timer; /* the head's deadline, or the next attempt to connect */
    bool queue_timer_runs;
    struct timer *idle_timer;
    uint64_t backoff_ms; /* 0: connecting works */
    uint64_t next_connect_ns;
    struct pg_failure last_failure;
    struct pg_listener *listener;
    struct pg_unit
        *spares[PG_SPARE_UNITS]; /* recent units, for their memory: free when the reference is the only one */
    int holds;                   /* closing connections, leases, deferred calls: the pool outlives them */
    bool is_closing;
    void (*close_done)(void *arg);
    void *close_arg;
    struct pg_pool_stats stats;
};

/* Ends the wait of a request or a lease with a failure. */
void pg_pool_fail_waiter(struct pg_pool *pool, struct pg_flight *flight, const struct pg_failure *failure);
/* Looks soon for a connection for who waits; the call has taken a hold of the pool, which that ends. */
void pg_pool_place_soon(struct pg_pool *pool);
