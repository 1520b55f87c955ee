/* The parts of a connection that its files share: pg_conn.c (sending), pg_read.c (answers), pg_connect.c
 * (life), pg_silence.c (a server that does not answer). */
#pragma once

#include <uv.h>

#include "pg/pg_conn.h"
#include "pg/pg_prepared.h"

struct pg_cancel_call;
struct timer;

enum flight_kind { FLIGHT_UNIT, FLIGHT_SCRIPT, FLIGHT_PREPARE, FLIGHT_IGNORE };

enum pg_conn_state { PG_CONN_CONNECTING, PG_CONN_READY, PG_CONN_LOST, PG_CONN_CLOSED };

/* A statement being prepared, or forgotten (text NULL). */
struct side_flight {
    struct pg_flight flight; /* first */
    struct pg_text *text;    /* a reference */
    char name[PG_PREPARED_NAME];
};

/* libuv's view of the socket; a new one whenever libpq may have changed the socket. */
struct pg_watch {
    uv_poll_t handle;
    struct pg_conn *conn;
    int events;
};

struct pg_conn {
    struct loop *loop;
    const struct pg_conn_opts *opts;
    struct pg_conn_events events;
    void *arg;
    PGconn *pg;
    enum pg_conn_state state;
    struct pg_watch *watch; /* NULL while there is no socket */
    struct timer *timer;    /* of connecting; later of silence */
    struct list backlog;    /* not sent; struct pg_request */
    struct list flights;    /* sent, oldest first; struct pg_flight */
    size_t load;            /* requests in both */
    struct pg_prepared_cache prepared;
    struct pg_failure fatal; /* what the server said before it ended the connection */
    bool is_starting;        /* the pool job has not returned */
    bool flush_scheduled;
    bool is_broken; /* sending failed: lost at the end of the turn */
    bool runs_script;
    bool has_progress;
    bool is_timed;                 /* the timer runs, and will look for silence */
    struct pg_cancel_call *cancel; /* NULL: none on its way */
    uint64_t cancel_since_ns;
    uint64_t heard_ns; /* when the server was last heard */
    uint64_t idle_since_ns;
    int refs;            /* deferred calls and jobs, and 1 for the owner until close */
    const char **values; /* of the statement being sent */
    int *lengths;
    int *formats;
    size_t param_cap;
    void (*close_done)(void *arg);
    void *close_arg;
};

/* pg_connect.c */
void pg_conn_unref(struct pg_conn *conn);
void pg_conn_watch(struct pg_conn *conn, bool also_writable);
/* Stops watching the socket. */
void pg_conn_unwatch(struct pg_conn *conn);
void pg_conn_lose(struct pg_conn *conn, const char *what); /* with libpq's or the server's words */

/* pg_conn.c */
void pg_conn_pump(struct pg_conn *conn); /* sends what the backlog allows */
void pg_conn_flush(struct pg_conn *conn);
void pg_conn_arm_rows(struct pg_conn *conn);
void pg_conn_stop_statement(struct pg_conn *conn, const struct pg_request *request);
void pg_conn_fail_all(struct pg_conn *conn, const struct pg_failure *failure);
void pg_request_finish(struct pg_request *request, const struct pg_failure *failure);

/* pg_silence.c */
void pg_silence_watch(struct pg_conn *conn); /* something has been asked */
void pg_silence_check(struct pg_conn *conn); /* the timer's time has come */

/* pg_read.c */
void pg_conn_read(struct pg_conn *conn); /* the socket is readable */
