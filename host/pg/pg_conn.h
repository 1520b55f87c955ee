/* One PostgreSQL connection, always in pipeline mode: requests go out as they come, answers arrive in order.
 * Statements are prepared on first use and kept by text. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "pg/pg_result.h"

struct loop;
struct pg_conn;
struct pg_texts;
struct pg_unit;

struct pg_conn_opts {
    const char *conninfo; /* libpq connection string or URL */
    const char *application_name;
    int connect_timeout_ms;
    int statement_timeout_ms; /* these three are session settings; 0: none */
    int lock_timeout_ms;
    int idle_tx_timeout_ms;
    int64_t silence_timeout_ms; /* nothing heard for that long while something is asked: the connection is
                                   lost; 0: never */
    size_t max_result_bytes;    /* of one request; beyond it fails with ERR_LIMIT */
};

/* results[0..count) belong to the request and are freed after the call; on failure they are NULL, 0. */
typedef void (*pg_done_fn)(void *arg, struct pg_result *results, size_t count,
                           const struct pg_failure *failure);

/* Something the server has to answer, in the order of sending. */
struct pg_flight {
    struct list link; /* in the connection's backlog or flights, or in a queue of the owner */
    int kind;         /* enum flight_kind of pg_conn.c */
};

/* A unit on its way, or a script. */
struct pg_request {
    struct pg_flight flight; /* first */
    struct pg_conn *conn;    /* NULL until submitted to one */
    bool is_sent;
    struct pg_unit *unit; /* a reference; NULL for a script */
    char *script;         /* several statements in one text, simple protocol */
    bool wants_rows;
    bool is_cancelled; /* fn has run or will run on its own; the answer is dropped */
    pg_done_fn fn;
    void *arg;
    void *owner;       /* for the pool */
    uint64_t since_ns; /* submitted; while in flight: sent */
    size_t at;         /* statement whose answer comes next */
    size_t bytes;      /* of results so far */
    struct pg_result *results;
    size_t result_count;
    struct pg_failure failure; /* err.code 0: none */
};

struct pg_conn_events {
    void (*on_ready)(void *arg, struct pg_conn *conn);
    /* The connection failed or broke: everything submitted has failed already. Only close may follow. */
    void (*on_lost)(void *arg, struct pg_conn *conn, const struct pg_failure *failure);
    void (*on_progress)(void *arg, struct pg_conn *conn); /* requests have ended: there is room */
    void (*on_notify)(void *arg, const char *channel, const char *payload); /* may be NULL */
};

/* Begins to connect. opts and texts are kept. */
struct pg_conn *pg_conn_open(struct loop *loop, const struct pg_conn_opts *opts, struct pg_texts *texts,
                             const struct pg_conn_events *events, void *arg);
/* Fails what is in flight; no event or request callback runs after done. */
void pg_conn_close(struct pg_conn *conn, void (*done)(void *arg), void *arg);

/* A request for unit (a reference is taken; it must not change until fn). Free it only through its callback.
 */
struct pg_request *pg_request_new(struct pg_unit *unit, bool wants_rows, pg_done_fn fn, void *arg);
struct pg_request *pg_request_new_script(const char *text, pg_done_fn fn, void *arg);
/* For requests that were never submitted: runs fn with the failure (from the loop, not from here) and frees
 * it. */
void pg_request_fail(struct loop *loop, struct pg_request *request, const struct pg_failure *failure);

/* Sends the request, or keeps it until the connection is up; fn runs later in every case. */
void pg_conn_submit(struct pg_conn *conn, struct pg_request *request);
/* fn runs soon with ERR_CANCELLED. The server is asked to stop the statement when nobody else waits behind
 * it. */
void pg_conn_cancel(struct pg_request *request);

bool pg_conn_is_ready(const struct pg_conn *conn);          /* connected, and new requests are sent at once */
size_t pg_conn_load(const struct pg_conn *conn);            /* requests submitted and not ended */
uint64_t pg_conn_head_since_ns(const struct pg_conn *conn); /* when the oldest was sent; 0: none in flight */
bool pg_conn_in_tx(const struct pg_conn *conn);             /* in a transaction block, or in a broken one */
bool pg_conn_in_failed_tx(const struct pg_conn *conn);
void pg_conn_touch(struct pg_conn *conn); /* not idle until now */
uint64_t pg_conn_idle_since_ns(const struct pg_conn *conn);
