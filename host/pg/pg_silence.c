/* A server that says nothing: its processes are stopped, or the network swallows everything, and no error
 * will ever come. What is in flight waits until the silence has lasted longer than any statement may, then
 * the connection is lost: whether its requests were done is unknown. See pg_conn.h.
 *
 * Watching costs a busy connection nothing: the timer is started once and looks, whenever its time has come,
 * how long the silence has lasted by then. */
#include <poll.h>
#include <stdio.h>

#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/pg_conn_internal.h"

/* Since when an answer is waited for in vain; 0: for none. */
static uint64_t waiting_since(const struct pg_conn *conn)
{
    uint64_t since = pg_conn_head_since_ns(conn);
    if (since != 0 && since < conn->heard_ns) {
        since = conn->heard_ns;
    }
    if (conn->cancel != NULL && (since == 0 || conn->cancel_since_ns < since)) {
        since = conn->cancel_since_ns; /* answered on a connection of its own */
    }
    return since;
}

static void start(struct pg_conn *conn, uint64_t delay_ms)
{
    conn->is_timed = true;
    timer_start(conn->timer, delay_ms, 0);
}

void pg_silence_watch(struct pg_conn *conn)
{
    if (!conn->is_timed && conn->opts->silence_timeout_ms > 0) {
        start(conn, (uint64_t)conn->opts->silence_timeout_ms);
    }
}

/* This process may have been the one that slept: then the answer is there, and nobody has looked. */
static bool has_input(const struct pg_conn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn->pg), .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

void pg_silence_check(struct pg_conn *conn)
{
    conn->is_timed = false;
    uint64_t since = waiting_since(conn);
    if (since == 0) {
        return;
    }
    uint64_t limit_ms = (uint64_t)conn->opts->silence_timeout_ms;
    uint64_t waited_ms = (loop_mono_ns() - since) / 1000000;
    if (waited_ms < limit_ms) {
        start(conn, limit_ms - waited_ms);
    } else if (has_input(conn)) {
        start(conn, limit_ms); /* read in this turn of the loop */
    } else {
        char text[64];
        (void)snprintf(text, sizeof(text), "PostgreSQL has said nothing for %llu ms",
                       (unsigned long long)waited_ms);
        pg_conn_lose(conn, text);
    }
}
