/* Reading answers: results are matched with what was sent, in order. See pg_conn.h.
 *
 * Per statement the server's answer is one or more results and then NULL; per unit, after its statements, one
 * PGRES_PIPELINE_SYNC without a NULL. After an error the rest of the unit is PGRES_PIPELINE_ABORTED. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "pg/pg_conn_internal.h"
#include "pg/pg_text.h"
#include "pg/pg_unit.h"

/* The failure of a statement that the server does not know, or whose plan it has thrown away. */
static void explain_unprepared(struct pg_conn *conn, struct pg_text *text, struct pg_failure *failure)
{
    struct pg_prepared *prepared = pg_prepared_find(&conn->prepared, text);
    bool is_unknown = strcmp(failure->sqlstate, "26000") == 0; /* no such prepared statement */
    bool is_stale = strcmp(failure->sqlstate, "0A000") == 0;   /* "cached plan must not change result type" */
    if (prepared == NULL || (!is_unknown && !is_stale)) {
        return;
    }
    if (is_unknown && prepared->failure != NULL) {
        size_t index = failure->index;
        *failure = *prepared->failure;
        failure->index = index;
    } else {
        prepared->is_usable = false; /* the next use prepares it anew */
    }
}

static void note_failure(struct pg_conn *conn, struct pg_request *request, const PGresult *res)
{
    struct pg_failure *failure = &request->failure;
    if (failure->err.code != 0) {
        return;
    }
    pg_failure_take(failure, res);
    if (request->unit != NULL && request->unit->count > 0) {
        size_t last = request->unit->count;
        failure->index = request->at < last ? request->at + 1 : last; /* behind the last: the commit failed */
        explain_unprepared(conn, request->unit->stmts[failure->index - 1].text, failure);
    }
    if (failure->err.code == ERR_UNAVAILABLE) {
        conn->fatal = *failure;
        /* Libpq's words: the server said nothing. Or its last words came while it committed. */
        bool is_committing = request->unit != NULL && request->at >= request->unit->count;
        failure->is_maybe_done = failure->sqlstate[0] == '\0' || is_committing;
    }
}

static struct pg_result *result_of(struct pg_request *request, size_t at)
{
    while (request->result_count <= at) {
        if ((request->result_count & (request->result_count - 1)) == 0) { /* full at 0, 1, 2, 4, ... */
            size_t cap = request->result_count == 0 ? 1 : request->result_count * 2;
            request->results = xrealloc(request->results, cap * sizeof(*request->results));
        }
        memset(&request->results[request->result_count++], 0, sizeof(*request->results));
    }
    return &request->results[at];
}

/* Rows, or the good end of a statement. */
static void take_rows(struct pg_conn *conn, struct pg_request *request, const PGresult *res)
{
    if (!request->wants_rows || request->is_cancelled || request->failure.err.code != 0) {
        return;
    }
    request->bytes += pg_result_take(result_of(request, request->at), res);
    if (request->bytes > conn->opts->max_result_bytes) {
        (void)err_set(&request->failure.err, ERR_LIMIT, "the result is larger than %zu bytes",
                      conn->opts->max_result_bytes);
        request->failure.index = request->at + 1;
        for (size_t i = 0; i < request->result_count; i++) {
            pg_result_deinit(&request->results[i]);
        }
        pg_conn_stop_statement(conn, request);
    }
}

static void end_side(struct pg_conn *conn, struct side_flight *side)
{
    list_remove(&side->flight.link);
    if (side->text != NULL) {
        pg_text_unref(conn->prepared.texts, side->text);
    }
    free(side);
}

static void take_side(struct pg_conn *conn, struct side_flight *side, const PGresult *res)
{
    if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
        end_side(conn, side);
        return;
    }
    if (side->flight.kind != FLIGHT_PREPARE || PQresultStatus(res) != PGRES_FATAL_ERROR) {
        return;
    }
    struct pg_prepared *prepared = pg_prepared_find(&conn->prepared, side->text);
    if (prepared != NULL && strcmp(prepared->name, side->name) == 0) {
        struct pg_failure failure = {0};
        pg_failure_take(&failure, res);
        pg_prepared_fail(prepared, &failure);
    }
}

static void end_request(struct pg_conn *conn, struct pg_request *request)
{
    conn->load--;
    conn->has_progress = true;
    if (list_is_empty(&conn->backlog) && conn->load == 0) {
        conn->idle_since_ns = loop_mono_ns();
    }
    struct pg_failure failure = request->failure;
    pg_request_finish(request, failure.err.code == 0 ? NULL : &failure);
}

/* false: the answer makes no sense in a pipeline. */
static bool take_unit(struct pg_conn *conn, struct pg_request *request, const PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_SINGLE_TUPLE:
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        take_rows(conn, request, res);
        return true;
    case PGRES_FATAL_ERROR:
        note_failure(conn, request, res);
        return true;
    case PGRES_PIPELINE_ABORTED:
        return true;
    case PGRES_PIPELINE_SYNC:
        end_request(conn, request);
        return true;
    default:
        return false; /* COPY */
    }
}

/* A script's answer: results of the simple protocol until NULL, outside of the pipeline. false: COPY. */
static bool take_script(struct pg_conn *conn, struct pg_request *request, const PGresult *res)
{
    ExecStatusType status = res == NULL ? PGRES_COMMAND_OK : PQresultStatus(res);
    if (res == NULL) {
        conn->runs_script = false;
        conn->is_broken = PQenterPipelineMode(conn->pg) != 1;
        end_request(conn, request);
    } else if (status == PGRES_FATAL_ERROR) {
        note_failure(conn, request, res);
    }
    return status != PGRES_COPY_IN && status != PGRES_COPY_OUT && status != PGRES_COPY_BOTH;
}

/* One result, or the NULL behind a statement. */
static bool take(struct pg_conn *conn, const PGresult *res)
{
    struct pg_flight *head = list_entry(conn->flights.next, struct pg_flight, link);
    int kind = head->kind; /* NOLINT(clang-analyzer-unix.Malloc): what has ended is off the list */
    if (kind == FLIGHT_SCRIPT) {
        return take_script(conn, (struct pg_request *)head, res);
    }
    bool is_end = res == NULL || PQresultStatus(res) == PGRES_PIPELINE_SYNC;
    bool is_good = true;
    if (kind == FLIGHT_UNIT) {
        if (res == NULL) {
            ((struct pg_request *)head)->at++;
        } else {
            is_good = take_unit(conn, (struct pg_request *)head, res);
        }
    } else if (res != NULL) {
        take_side(conn, (struct side_flight *)head, res);
    }
    if (is_end && conn->state == PG_CONN_READY) {
        pg_conn_arm_rows(conn);
    }
    return is_good;
}

static void take_all(struct pg_conn *conn)
{
    bool was_null = false;
    while (conn->state == PG_CONN_READY && !list_is_empty(&conn->flights) && !PQisBusy(conn->pg)) {
        PGresult *res = PQgetResult(conn->pg);
        bool is_out_of_step =
            res == NULL && was_null; /* libpq waits for nothing, we do: the connection broke */
        was_null = res == NULL;
        bool is_good = !is_out_of_step && take(conn, res);
        PQclear(res);
        if (!is_good) {
            pg_conn_lose(conn,
                         is_out_of_step ? "the connection to PostgreSQL is gone" : "COPY is not supported");
        }
    }
}

static void take_notifications(struct pg_conn *conn)
{
    for (PGnotify *notify; conn->state == PG_CONN_READY && (notify = PQnotifies(conn->pg)) != NULL;) {
        if (conn->events.on_notify != NULL) {
            conn->events.on_notify(conn->arg, notify->relname, notify->extra);
        }
        PQfreemem(notify);
    }
}

void pg_conn_read(struct pg_conn *conn)
{
    conn->refs++; /* callbacks may close it */
    bool is_open = PQconsumeInput(conn->pg) == 1;
    conn->heard_ns = loop_mono_ns();
    conn->has_progress = false;
    take_all(conn); /* what arrived before the end counts */
    if (list_is_empty(&conn->flights) && conn->state == PG_CONN_READY) {
        (void)PQisBusy(conn->pg); /* parses: notifications and last words of an idle connection */
    }
    take_notifications(conn);
    if (!is_open && conn->state == PG_CONN_READY) {
        pg_conn_lose(conn, "the connection to PostgreSQL is gone");
    }
    if (conn->state == PG_CONN_READY) {
        pg_conn_pump(conn);
    }
    if (conn->state == PG_CONN_READY && conn->has_progress) {
        conn->events.on_progress(conn->arg, conn);
    }
    pg_conn_unref(conn);
}
