/* The life of a connection: connecting, its socket, losing and closing it. See pg_conn.h.
 *
 * PQconnectStart may look up a host name, which blocks: it runs on the pool. With several hosts libpq
 * replaces the socket between two polls, possibly under the same number, so every step of connecting gets a
 * new poll handle. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "loop/work.h"
#include "pg/pg_cancel.h"
#include "pg/pg_conn_internal.h"

enum { MAX_DRAIN = 1024 }; /* reads of a broken socket: some 16 MiB */

static void drive(struct pg_conn *conn, PostgresPollingStatusType next);

/* --- the socket ----------------------------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *handle)
{
    struct pg_watch *watch = handle->data;
    struct pg_conn *conn = watch->conn;
    free(watch);
    pg_conn_unref(conn);
}

void pg_conn_unwatch(struct pg_conn *conn)
{
    if (conn->watch != NULL) {
        uv_close((uv_handle_t *)&conn->watch->handle, on_watch_closed);
        conn->watch = NULL;
    }
}

/* libuv has seen an error on the socket and will not report anything any more. The server's last words may
 * still be unread: they tell why. */
static void drain(struct pg_conn *conn, const struct pg_watch *watch)
{
    conn->refs++;
    for (int i = 0; i < MAX_DRAIN && conn->watch == watch; i++) {
        pg_conn_read(conn); /* ends with losing the connection */
    }
    if (conn->watch == watch) {
        pg_conn_lose(conn, "the connection to PostgreSQL is gone");
    }
    pg_conn_unref(conn);
}

static void on_socket(uv_poll_t *handle, int status, int events)
{
    struct pg_watch *watch = handle->data;
    struct pg_conn *conn = watch->conn;
    if (conn->watch != watch) {
        return;
    }
    if (conn->state == PG_CONN_CONNECTING) {
        drive(conn, PQconnectPoll(conn->pg));
        return;
    }
    if (status < 0) {
        drain(conn, watch);
        return;
    }
    if ((events & UV_READABLE) != 0) {
        pg_conn_read(conn);
    }
    if (conn->watch == watch && (events & UV_WRITABLE) != 0) {
        pg_conn_flush(conn);
    }
}

static int watch_events(struct pg_conn *conn, int events)
{
    if (conn->watch == NULL) {
        struct pg_watch *watch = xcalloc(1, sizeof(*watch));
        int status = uv_poll_init(loop_uv(conn->loop), &watch->handle, PQsocket(conn->pg));
        if (status != 0) {
            free(watch);
            return status;
        }
        watch->handle.data = watch;
        watch->conn = conn;
        conn->refs++;
        conn->watch = watch;
    }
    if (conn->watch->events != events) {
        conn->watch->events = events;
        return uv_poll_start(&conn->watch->handle, events, on_socket);
    }
    return 0;
}

void pg_conn_watch(struct pg_conn *conn, bool also_writable)
{
    int status = watch_events(conn, UV_READABLE | (also_writable ? UV_WRITABLE : 0));
    if (status != 0) {
        pg_conn_lose(conn, uv_strerror(status));
    }
}

/* --- ending --------------------------------------------------------------------------------- */

static void release(struct pg_conn *conn)
{
    void (*done)(void *arg) = conn->close_done;
    void *arg = conn->close_arg;
    pg_prepared_deinit(&conn->prepared);
    free(conn->values);
    free(conn->lengths);
    free(conn->formats);
    free(conn);
    done(arg);
}

void pg_conn_unref(struct pg_conn *conn)
{
    if (--conn->refs == 0) {
        release(conn);
    }
}

static void drop_socket(struct pg_conn *conn)
{
    pg_conn_unwatch(conn);
    timer_stop(conn->timer);
    if (conn->cancel != NULL) {
        pg_cancel_abandon(conn->cancel);
        conn->cancel = NULL;
        pg_conn_unref(conn); /* the call's; the owner or who loses it has another */
    }
    if (conn->pg != NULL) {
        PQfinish(conn->pg);
        conn->pg = NULL;
    }
}

void pg_conn_lose(struct pg_conn *conn, const char *what)
{
    if (conn->state != PG_CONN_CONNECTING && conn->state != PG_CONN_READY) {
        return;
    }
    struct pg_failure failure;
    pg_failure_conn(&failure, ERR_UNAVAILABLE, what, conn->pg);
    if (conn->fatal.err.code != 0) {
        failure = conn->fatal; /* the server said why */
        failure.index = 0;
    }
    conn->refs++;
    conn->state = PG_CONN_LOST;
    drop_socket(conn);
    pg_conn_fail_all(conn, &failure);
    if (conn->state == PG_CONN_LOST) { /* not closed by a callback */
        conn->events.on_lost(conn->arg, conn, &failure);
    }
    pg_conn_unref(conn);
}

static void on_close_due(void *arg)
{
    struct pg_conn *conn = arg;
    struct pg_failure failure;
    pg_failure_conn(&failure, ERR_CLOSED, "the connection was closed", NULL);
    pg_conn_fail_all(conn, &failure);
    pg_conn_unref(conn); /* the owner's */
}

void pg_conn_close(struct pg_conn *conn, void (*done)(void *arg), void *arg)
{
    conn->state = PG_CONN_CLOSED;
    conn->close_done = done;
    conn->close_arg = arg;
    if (!conn->is_starting) {
        drop_socket(conn);
    }
    timer_close(conn->timer);
    conn->timer = NULL;
    loop_defer(conn->loop, on_close_due, conn);
}

/* --- connecting ----------------------------------------------------------------------------- */

struct start_job {
    struct pg_conn *conn;
    PGconn *pg;
};

/* The session settings as a command line of the server; what the connection string says itself comes last and
 * wins. */
static char *session_options(const struct pg_conn_opts *opts)
{
    struct buf text;
    buf_init(&text);
    buf_printf(&text,
               "-c timezone=UTC -c datestyle=ISO -c standard_conforming_strings=on -c bytea_output=hex "
               "-c extra_float_digits=1 -c client_min_messages=warning -c jit=off -c statement_timeout=%d "
               "-c lock_timeout=%d "
               "-c idle_in_transaction_session_timeout=%d",
               opts->statement_timeout_ms, opts->lock_timeout_ms, opts->idle_tx_timeout_ms);
    PQconninfoOption *parsed = PQconninfoParse(opts->conninfo, NULL);
    for (PQconninfoOption *option = parsed; option != NULL && option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "options") == 0 && option->val != NULL) {
            buf_printf(&text, " %s", option->val);
        }
    }
    PQconninfoFree(parsed);
    return buf_take(&text, NULL);
}

static void run_start(void *arg)
{
    struct start_job *job = arg;
    const struct pg_conn_opts *opts = job->conn->opts;
    char *options = session_options(opts);
    const char *const names[] = {"fallback_application_name", "dbname", "options", "client_encoding", NULL};
    const char *const values[] = {opts->application_name, opts->conninfo, options, "UTF8", NULL};
    job->pg = PQconnectStartParams(names, values, 1);
    free(options);
}

static void drop_notice(void *arg, const PGresult *res)
{
    (void)arg;
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    log_line(LOG_DEBUG, "pg.notice", "%s", text == NULL ? "" : text);
}

static void become_ready(struct pg_conn *conn)
{
    timer_stop(conn->timer);
    if (PQsetnonblocking(conn->pg, 1) != 0 || PQenterPipelineMode(conn->pg) != 1) {
        pg_conn_lose(conn, "set up the connection to PostgreSQL");
        return;
    }
    (void)PQsetNoticeReceiver(conn->pg, drop_notice, NULL);
    conn->state = PG_CONN_READY;
    conn->idle_since_ns = loop_mono_ns();
    conn->heard_ns = conn->idle_since_ns;
    pg_conn_watch(conn, false);
    if (conn->state == PG_CONN_READY) {
        conn->refs++;
        pg_conn_pump(conn);
        conn->events.on_ready(conn->arg, conn);
        pg_conn_unref(conn);
    }
}

/* Waits for what libpq wants next. */
static void drive(struct pg_conn *conn, PostgresPollingStatusType next)
{
    pg_conn_unwatch(conn);
    if (next == PGRES_POLLING_OK) {
        become_ready(conn);
        return;
    }
    if (next == PGRES_POLLING_FAILED) {
        pg_conn_lose(conn, "connect to PostgreSQL");
        return;
    }
    int status = watch_events(conn, next == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE);
    if (status != 0) {
        pg_conn_lose(conn, uv_strerror(status));
    }
}

static void on_started(void *arg)
{
    struct start_job *job = arg;
    struct pg_conn *conn = job->conn;
    conn->pg = job->pg;
    conn->is_starting = false;
    free(job);
    if (conn->state != PG_CONN_CONNECTING) { /* closed or timed out meanwhile */
        PQfinish(conn->pg);
        conn->pg = NULL;
    } else if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD) {
        pg_conn_lose(conn, "connect to PostgreSQL");
    } else {
        drive(conn, PGRES_POLLING_WRITING);
    }
    pg_conn_unref(conn); /* NOLINT(clang-analyzer-unix.Malloc): this job's reference, the owner has another */
}

static void on_timeout(void *arg)
{
    struct pg_conn *conn = arg;
    if (conn->state == PG_CONN_READY) {
        pg_silence_check(conn);
    } else {
        pg_conn_lose(conn, "connect to PostgreSQL: nobody answered in time");
    }
}

struct pg_conn *pg_conn_open(struct loop *loop, const struct pg_conn_opts *opts, struct pg_texts *texts,
                             const struct pg_conn_events *events, void *arg)
{
    struct pg_conn *conn = xcalloc(1, sizeof(*conn));
    conn->loop = loop;
    conn->opts = opts;
    conn->events = *events;
    conn->arg = arg;
    conn->refs = 2; /* the owner, and the job */
    list_init(&conn->backlog);
    list_init(&conn->flights);
    pg_prepared_init(&conn->prepared, texts);
    conn->timer = timer_open(loop, on_timeout, conn);
    timer_start(conn->timer, (uint64_t)opts->connect_timeout_ms, 0);
    conn->is_starting = true;
    struct start_job *job = xcalloc(1, sizeof(*job));
    job->conn = conn;
    work_queue(loop, run_start, on_started, job);
    return conn;
}

/* --- questions ------------------------------------------------------------------------------ */

bool pg_conn_is_ready(const struct pg_conn *conn)
{
    return conn->state == PG_CONN_READY && !conn->is_broken && conn->cancel == NULL && !conn->runs_script;
}

size_t pg_conn_load(const struct pg_conn *conn)
{
    return conn->load;
}

uint64_t pg_conn_head_since_ns(const struct pg_conn *conn)
{
    list_each (node, &conn->flights) {
        struct pg_flight *flight = list_entry(node, struct pg_flight, link);
        if (flight->kind < FLIGHT_PREPARE) {
            return ((struct pg_request *)flight)->since_ns;
        }
    }
    return 0;
}

bool pg_conn_in_tx(const struct pg_conn *conn)
{
    return conn->state == PG_CONN_READY && PQtransactionStatus(conn->pg) != PQTRANS_IDLE;
}

bool pg_conn_in_failed_tx(const struct pg_conn *conn)
{
    return conn->state == PG_CONN_READY && PQtransactionStatus(conn->pg) == PQTRANS_INERROR;
}

void pg_conn_touch(struct pg_conn *conn)
{
    conn->idle_since_ns = loop_mono_ns();
}

uint64_t pg_conn_idle_since_ns(const struct pg_conn *conn)
{
    return conn->idle_since_ns;
}
