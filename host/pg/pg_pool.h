/* A pool of connections: short units share them (a few in flight on each), leases have one alone, and two
 * slots with connections of their own keep the order of what is sent through them. Loop thread only. */
#pragma once

#include "pg/pg_conn.h"

struct loop;
struct pg_lease;
struct pg_listener;
struct pg_pool;

enum { PG_SLOTS = 2 };

struct pg_pool_opts {
    const char *conninfo;         /* libpq connection string or URL; borrowed, as all strings here */
    const char *application_name; /* NULL: "macp" */
    int max_conns;                /* 0: 10; connections are opened when needed */
    int acquire_timeout_ms;       /* 0: 5000; waiting longer for a connection fails with ERR_TIMEOUT */
    int statement_timeout_ms;     /* 0: 30000 */
    int lock_timeout_ms;          /* 0: 5000 */
    int idle_tx_timeout_ms;       /* 0: 30000 */
    int silence_timeout_ms;       /* 0: 5000; nothing heard for that long after a statement's time is up: the
                                     connection is lost */
    int connect_timeout_ms;       /* 0: 5000 */
    int idle_close_ms;            /* 0: 30000; idle connections but one are closed after it */
    size_t max_result_bytes;      /* 0: 64 MiB */
};

struct pg_pool_stats {
    int max;
    int open; /* connected; slots and listener not counted */
    int connecting;
    int leased;
    int in_flight; /* requests on shared connections */
    int waiting;
    uint64_t requests;
    uint64_t connects;
    uint64_t connect_failures;
};

/* lease is NULL on failure. */
typedef void (*pg_lease_fn)(void *arg, struct pg_lease *lease, const struct pg_failure *failure);

struct pg_pool *pg_pool_open(struct loop *loop, const struct pg_pool_opts *opts);
/* Everything waiting or in flight fails with ERR_CLOSED; leases are dead. done runs when all connections are
 * gone. */
void pg_pool_close(struct pg_pool *pool, void (*done)(void *arg), void *arg);

/* An empty unit, with the memory of an earlier one; give it back with pg_unit_unref. */
struct pg_unit *pg_pool_unit(struct pg_pool *pool);

/* Runs the request on any connection. Takes it. */
void pg_pool_submit(struct pg_pool *pool, struct pg_request *request);
/* Runs it on the connection of that slot, behind what was submitted to the slot before. When that connection
 * breaks, everything submitted to it fails. Takes it. */
void pg_pool_submit_slot(struct pg_pool *pool, int slot, struct pg_request *request);
/* For requests given to any of the functions here. */
void pg_pool_cancel(struct pg_pool *pool, struct pg_request *request);

/* Waits for a connection that nobody else uses. The result is what pg_pool_lease_cancel takes, valid until
 * fn. */
struct pg_lease *pg_pool_lease(struct pg_pool *pool, pg_lease_fn fn, void *arg);
void pg_pool_lease_cancel(struct pg_lease *lease);
void pg_lease_submit(struct pg_lease *lease, struct pg_request *request); /* in order; takes it */
/* Gives the connection back; an open transaction is rolled back first. Frees lease. */
void pg_lease_release(struct pg_lease *lease);
bool pg_lease_in_failed_tx(const struct pg_lease *lease);

/* The listener of this pool, opened when first asked for. */
struct pg_listener *pg_pool_listener(struct pg_pool *pool);
void pg_pool_stats(const struct pg_pool *pool, struct pg_pool_stats *stats);
