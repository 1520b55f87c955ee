/* One connection; see pg_conn.h. Connecting is in pg_connect.c, reading answers in pg_read.c.
 *
 * Every request ends with a Sync of its own, so one that fails does not touch its neighbours. Statements are
 * prepared in front of the request that needs them first, each under a Sync of its own as well: if the
 * request fails, what was prepared stays. When preparing fails, the statements that rely on it fail with
 * 26000, and the failure of the preparation is reported in its place. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "pg/pg_cancel.h"
#include "pg/pg_conn_internal.h"
#include "pg/pg_text.h"
#include "pg/pg_unit.h"

/* --- requests ------------------------------------------------------------------------------- */

struct pg_request *pg_request_new(struct pg_unit *unit, bool wants_rows, pg_done_fn fn, void *arg)
{
    struct pg_request *request = xcalloc(1, sizeof(*request));
    list_init(&request->flight.link);
    request->flight.kind = FLIGHT_UNIT;
    request->unit = pg_unit_ref(unit);
    request->wants_rows = wants_rows;
    request->fn = fn;
    request->arg = arg;
    return request;
}

struct pg_request *pg_request_new_script(const char *text, pg_done_fn fn, void *arg)
{
    struct pg_request *request = xcalloc(1, sizeof(*request));
    list_init(&request->flight.link);
    request->flight.kind = FLIGHT_SCRIPT;
    request->script = xstrdup(text);
    request->fn = fn;
    request->arg = arg;
    return request;
}

static void free_results(struct pg_request *request)
{
    for (size_t i = 0; i < request->result_count; i++) {
        pg_result_deinit(&request->results[i]);
    }
    free(request->results);
    request->results = NULL;
    request->result_count = 0;
}

void pg_request_finish(struct pg_request *request, const struct pg_failure *failure)
{
    list_remove(&request->flight.link);
    if (!request->is_cancelled) {
        if (failure != NULL) {
            request->fn(request->arg, NULL, 0, failure);
        } else {
            request->fn(request->arg, request->results, request->result_count, NULL);
        }
    }
    free_results(request);
    pg_unit_unref(request->unit);
    free(request->script);
    free(request);
}

static void on_failed(void *arg)
{
    struct pg_request *request = arg;
    struct pg_failure failure = request->failure;
    pg_request_finish(request, &failure);
}

void pg_request_fail(struct loop *loop, struct pg_request *request, const struct pg_failure *failure)
{
    list_remove(&request->flight.link);
    request->failure = *failure;
    loop_defer(loop, on_failed, request);
}

/* --- losing the connection ------------------------------------------------------------------ */

static void fail_list(struct list *list, const struct pg_failure *failure)
{
    for (struct list *node; (node = list_pop_front(list)) != NULL;) {
        struct pg_flight *flight = list_entry(node, struct pg_flight, link);
        if (flight->kind >= FLIGHT_PREPARE) {
            free(flight); /* its text is released with the cache: see pg_conn_release */
            continue;
        }
        struct pg_request *request = (struct pg_request *)flight;
        struct pg_failure own = request->failure;
        if (own.err.code == 0) {
            own = *failure;
            own.is_maybe_done = request->is_sent;
        }
        pg_request_finish(request, &own);
    }
}

static void release_side_texts(struct pg_conn *conn)
{
    list_each (node, &conn->flights) {
        struct pg_flight *flight = list_entry(node, struct pg_flight, link);
        if (flight->kind >= FLIGHT_PREPARE) {
            struct side_flight *side = (struct side_flight *)flight;
            pg_text_unref(conn->prepared.texts, side->text);
            side->text = NULL;
        }
    }
}

void pg_conn_fail_all(struct pg_conn *conn, const struct pg_failure *failure)
{
    release_side_texts(conn);
    fail_list(&conn->flights, failure);
    fail_list(&conn->backlog, failure);
    conn->load = 0;
}

/* --- sending -------------------------------------------------------------------------------- */

/* Sending failed: takes what arrived before, then gives up. */
static void lose_after_reading(struct pg_conn *conn)
{
    conn->refs++;
    pg_conn_read(conn);
    pg_conn_lose(conn, "send to PostgreSQL");
    pg_conn_unref(conn);
}

static void on_flush_due(void *arg)
{
    struct pg_conn *conn = arg;
    conn->flush_scheduled = false;
    if (conn->state == PG_CONN_READY) {
        if (conn->is_broken) {
            lose_after_reading(conn);
        } else {
            pg_conn_flush(conn);
        }
    }
    pg_conn_unref(conn);
}

/* Sending waits for the end of the loop turn, so that requests of one turn share a system call. */
static void schedule_flush(struct pg_conn *conn)
{
    if (!conn->flush_scheduled) {
        conn->flush_scheduled = true;
        conn->refs++;
        loop_defer(conn->loop, on_flush_due, conn);
    }
}

/* libpq reads when it cannot write, and closes its socket at the end of the stream, without telling: nothing
 * would ever be heard of that connection again. */
static bool is_socket_gone(const struct pg_conn *conn)
{
    return PQsocket(conn->pg) < 0;
}

void pg_conn_flush(struct pg_conn *conn)
{
    int status = PQflush(conn->pg);
    if (status < 0 || is_socket_gone(conn)) {
        lose_after_reading(conn);
        return;
    }
    pg_conn_watch(conn, status > 0);
}

static void push_side(struct pg_conn *conn, int kind, struct pg_text *text, const char *name)
{
    struct side_flight *side = xcalloc(1, sizeof(*side));
    side->flight.kind = kind;
    side->text = text == NULL ? NULL : pg_text_ref(text);
    memcpy(side->name, name, strlen(name) + 1);
    list_push_back(&conn->flights, &side->flight.link);
}

static bool forget(struct pg_conn *conn, const char *name)
{
    char text[PG_PREPARED_NAME + 16] = "deallocate ";
    memcpy(text + strlen(text), name, strlen(name) + 1);
    if (!PQsendQueryParams(conn->pg, text, 0, NULL, NULL, NULL, NULL, 0) || !PQpipelineSync(conn->pg)) {
        return false;
    }
    push_side(conn, FLIGHT_IGNORE, NULL, name);
    return true;
}

/* Sees to it that the server knows the statement. `since` is the cache's tick when this unit began. */
static int prepare(struct pg_conn *conn, struct pg_text *text, uint64_t since, struct err *err)
{
    struct pg_prepared *prepared = pg_prepared_find(&conn->prepared, text);
    if (prepared != NULL && prepared->is_usable) {
        return 0;
    }
    if (prepared != NULL) {
        pg_prepared_renew(&conn->prepared, prepared);
    } else {
        if (conn->prepared.count == PG_PREPARED_MAX && conn->prepared.tick - since >= PG_PREPARED_MAX) {
            return err_set(err, ERR_LIMIT, "a unit may have at most %d different statements",
                           PG_PREPARED_MAX);
        }
        char evicted[PG_PREPARED_NAME];
        prepared = pg_prepared_add(&conn->prepared, text, evicted);
        if (evicted[0] != '\0' && !forget(conn, evicted)) {
            return err_set(err, ERR_UNAVAILABLE, "send to PostgreSQL");
        }
    }
    if (!PQsendPrepare(conn->pg, prepared->name, text->text, 0, NULL) || !PQpipelineSync(conn->pg)) {
        return err_set(err, ERR_UNAVAILABLE, "send to PostgreSQL");
    }
    push_side(conn, FLIGHT_PREPARE, text, prepared->name);
    return 0;
}

static void reserve_params(struct pg_conn *conn, size_t count)
{
    if (count > conn->param_cap) {
        conn->param_cap = count * 2;
        conn->values = xrealloc(conn->values, conn->param_cap * sizeof(*conn->values));
        conn->lengths = xrealloc(conn->lengths, conn->param_cap * sizeof(*conn->lengths));
        conn->formats = xrealloc(conn->formats, conn->param_cap * sizeof(*conn->formats));
    }
}

static bool send_stmt(struct pg_conn *conn, const struct pg_unit *unit, const struct pg_stmt *stmt)
{
    const struct pg_param *params = unit->params + stmt->first_param;
    int count = stmt->param_count;
    bool has_binary = false;
    reserve_params(conn, (size_t)count);
    for (int i = 0; i < count; i++) {
        conn->values[i] = params[i].len < 0 ? NULL : unit->data.data + params[i].offset;
        conn->lengths[i] = params[i].len;
        conn->formats[i] = params[i].is_binary ? 1 : 0;
        has_binary = has_binary || params[i].is_binary;
    }
    const struct pg_prepared *prepared = pg_prepared_find(&conn->prepared, stmt->text);
    return PQsendQueryPrepared(conn->pg, prepared->name, count, conn->values, conn->lengths,
                               has_binary ? conn->formats : NULL, 0) == 1;
}

/* Asks libpq for row-by-row delivery of the statement whose answer comes next, if its rows are wanted: so
 * that a result is limited while it arrives, not when it has filled the memory. */
void pg_conn_arm_rows(struct pg_conn *conn)
{
    if (list_is_empty(&conn->flights)) {
        return;
    }
    struct pg_flight *head = list_entry(conn->flights.next, struct pg_flight, link);
    if (head->kind == FLIGHT_UNIT) {
        const struct pg_request *request = (struct pg_request *)head;
        if (request->wants_rows && request->at < request->unit->count) {
            (void)PQsetSingleRowMode(conn->pg); /* 0 when the answer is complete already: then it is small */
        }
    }
}

static int send_unit(struct pg_conn *conn, struct pg_request *request, struct err *err)
{
    const struct pg_unit *unit = request->unit;
    uint64_t since = conn->prepared.tick;
    for (size_t i = 0; i < unit->count; i++) {
        if (i == 0 || unit->stmts[i].text != unit->stmts[i - 1].text) {
            int status = prepare(conn, unit->stmts[i].text, since, err);
            if (status != 0) {
                return status;
            }
        }
    }
    for (size_t i = 0; i < unit->count; i++) {
        if (!send_stmt(conn, unit, &unit->stmts[i])) {
            return err_set(err, ERR_UNAVAILABLE, "send to PostgreSQL");
        }
    }
    if (!PQpipelineSync(conn->pg)) {
        return err_set(err, ERR_UNAVAILABLE, "send to PostgreSQL");
    }
    return 0;
}

static int send_script(struct pg_conn *conn, struct pg_request *request, struct err *err)
{
    if (!PQexitPipelineMode(conn->pg) || !PQsendQuery(conn->pg, request->script)) {
        return err_set(err, ERR_UNAVAILABLE, "send to PostgreSQL");
    }
    conn->runs_script = true;
    return 0;
}

/* Takes the request from the backlog to the flights. */
static void send_request(struct pg_conn *conn, struct pg_request *request)
{
    struct err err = {0};
    int status = request->flight.kind == FLIGHT_SCRIPT ? send_script(conn, request, &err)
                                                       : send_unit(conn, request, &err);
    list_remove(&request->flight.link);
    if (status == ERR_LIMIT) {
        conn->load--;
        struct pg_failure failure = {.err = err};
        pg_request_fail(conn->loop, request, &failure);
    } else {
        request->is_sent = true;
        request->since_ns = loop_mono_ns();
        list_push_back(&conn->flights, &request->flight.link);
        conn->is_broken = conn->is_broken || status != 0 || is_socket_gone(conn);
        if (is_socket_gone(conn)) {
            pg_conn_unwatch(conn); /* its number may be another socket's soon */
        }
        if (conn->flights.next == &request->flight.link) {
            pg_conn_arm_rows(conn);
        }
        pg_silence_watch(conn);
    }
    schedule_flush(conn);
}

void pg_conn_pump(struct pg_conn *conn)
{
    while (conn->state == PG_CONN_READY && !conn->is_broken && conn->cancel == NULL && !conn->runs_script &&
           !list_is_empty(&conn->backlog)) {
        struct pg_request *request =
            (struct pg_request *)list_entry(conn->backlog.next, struct pg_flight, link);
        if (request->flight.kind == FLIGHT_SCRIPT && !list_is_empty(&conn->flights)) {
            return;
        }
        send_request(conn, request);
    }
}

void pg_conn_submit(struct pg_conn *conn, struct pg_request *request)
{
    list_remove(&request->flight.link);
    request->conn = conn;
    request->since_ns = loop_mono_ns();
    if (conn->state == PG_CONN_LOST || conn->state == PG_CONN_CLOSED) {
        struct pg_failure failure;
        pg_failure_conn(&failure, ERR_UNAVAILABLE, "the connection is closed", NULL);
        pg_request_fail(conn->loop, request, &failure);
        return;
    }
    conn->load++;
    list_push_back(&conn->backlog, &request->flight.link);
    pg_conn_pump(conn);
}

/* --- cancelling ----------------------------------------------------------------------------- */

struct cancelled_call {
    pg_done_fn fn;
    void *arg;
};

static void on_cancelled(void *arg)
{
    struct cancelled_call *call = arg;
    struct pg_failure failure = {0};
    (void)err_set(&failure.err, ERR_CANCELLED, "the query was cancelled");
    call->fn(call->arg, NULL, 0, &failure);
    free(call);
}

static void on_cancel_sent(void *arg)
{
    struct pg_conn *conn = arg;
    conn->cancel = NULL;
    pg_conn_pump(conn);
    if (conn->state == PG_CONN_READY) {
        conn->events.on_progress(conn->arg, conn);
    }
    pg_conn_unref(conn);
}

/* Asks the server to stop the request if nobody else waits behind it. Nothing new is sent until the request
 * to cancel has been delivered: it means the connection, not the statement, and would hit an innocent one. */
void pg_conn_stop_statement(struct pg_conn *conn, const struct pg_request *request)
{
    bool is_alone =
        conn->flights.next == &request->flight.link && conn->flights.prev == &request->flight.link;
    if (!is_alone || conn->state != PG_CONN_READY || conn->cancel != NULL) {
        return;
    }
    PGcancel *cancel = PQgetCancel(conn->pg);
    if (cancel == NULL) {
        return;
    }
    conn->cancel = pg_cancel_start(conn->loop, cancel, on_cancel_sent, conn);
    if (conn->cancel != NULL) {
        conn->refs++;
        conn->cancel_since_ns = loop_mono_ns();
        pg_silence_watch(conn);
    }
}

void pg_conn_cancel(struct pg_request *request)
{
    struct pg_conn *conn = request->conn;
    if (request->is_cancelled) {
        return;
    }
    if (!request->is_sent) {
        struct pg_failure failure = {0};
        (void)err_set(&failure.err, ERR_CANCELLED, "the query was cancelled");
        conn->load--;
        pg_request_fail(conn->loop, request, &failure);
        return;
    }
    request->is_cancelled = true;
    struct cancelled_call *call = xcalloc(1, sizeof(*call));
    *call = (struct cancelled_call){request->fn, request->arg};
    loop_defer(conn->loop, on_cancelled, call);
    pg_conn_stop_statement(conn, request);
}
