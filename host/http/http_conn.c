/* One connection: reads, pipelining, deadlines, writes and the ways it can end.
 *
 * Requests are answered one at a time and in order. Reading goes on meanwhile, so that a client that goes
 * away is noticed; what arrives early waits in `ahead`, and reading pauses when that is full. Reads use the
 * server's buffer, writes use pooled blocks: a connection without a request in progress owns neither. */
#include "http/http_internal.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

enum {
    AHEAD_BYTES = HTTP_READ_BYTES, /* pipelined bytes held before reading pauses */
    LINGER_BYTES = 16 << 20,       /* dropped after the last reply before we hang up */
    MAX_BUFS = 64,                 /* per writev */
    WRITE_PROGRESS = 16 * 1024,    /* what a slow reader must take per write timeout */
};

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static size_t ahead_len(const struct http_conn *conn)
{
    return conn->ahead.len - conn->ahead_start;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct http_conn *conn = handle->data;
    size_t ahead = ahead_len(conn);
    bool is_ahead = ahead > 0 || conn->state == HTTP_CONN_BUSY;
    /* Never empty: reading is paused when AHEAD_BYTES are held. */
    *buf = uv_buf_init(conn->server->read_buf, is_ahead ? (unsigned)(AHEAD_BYTES - ahead) : HTTP_READ_BYTES);
}

static uv_stream_t *stream_of(struct http_conn *conn)
{
    return (uv_stream_t *)&conn->tcp;
}

static void arm_read(struct http_conn *conn, enum http_deadline_kind kind)
{
    http_deadline_arm(&conn->server->deadlines, &conn->read_deadline, kind);
}

/* --- closing -------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    struct http_server *server = conn->server;
    list_remove(&conn->node);
    http_out_clear(&conn->out);
    buf_deinit(&conn->ahead);
    free(conn);
    http_server_conn_gone(server);
}

void http_conn_cut(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_CLOSED) {
        return;
    }
    if (conn->state == HTTP_CONN_BUSY) {
        conn->server->stats.in_flight--;
    }
    conn->state = HTTP_CONN_CLOSED;
    list_remove(&conn->dirty_node);
    http_deadline_disarm(&conn->read_deadline);
    http_deadline_disarm(&conn->write_deadline);
    if (conn->req != NULL) {
        struct http_req *req = conn->req;
        conn->req = NULL;
        http_req_detach(req, true);
    }
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct http_conn *conn = request->data;
    if (status != 0) {
        http_conn_cut(conn); /* does nothing when it is being closed already */
    }
}

/* Everything is written. Closing with unread input would reset the connection and could cost the client the
 * reply: then close only our side, and wait a moment for the client to do the same. */
static void end(struct http_conn *conn)
{
    bool has_unread = conn->discards || conn->is_paused || ahead_len(conn) > 0;
    if (conn->is_half_closed || !has_unread) {
        http_conn_cut(conn);
        return;
    }
    conn->state = HTTP_CONN_LINGER;
    buf_deinit(&conn->ahead);
    conn->ahead_start = 0;
    arm_read(conn, HTTP_DEADLINE_HALF);
    conn->shutdown.data = conn;
    int status = uv_shutdown(&conn->shutdown, stream_of(conn), on_shutdown);
    if (status == 0 && conn->is_paused) {
        conn->is_paused = false;
        status = uv_read_start(stream_of(conn), on_alloc, on_read);
    }
    if (status != 0) {
        http_conn_cut(conn);
    }
}

/* --- writing -------------------------------------------------------------------------------- */

static void flush(struct http_conn *conn);

size_t http_conn_pending(const struct http_conn *conn)
{
    if (conn->writing == 0) {
        return conn->out.len;
    }
    return conn->out.len - conn->writing + uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

static void took(struct http_conn *conn, size_t count)
{
    http_out_consume(&conn->out, count);
    conn->sent += count;
    conn->server->stats.bytes_out += count;
}

static void on_written(uv_write_t *request, int status)
{
    struct http_conn *conn = request->data;
    size_t count = conn->writing;
    conn->writing = 0;
    if (status != 0) {
        http_conn_cut(conn);
        return;
    }
    took(conn, count);
    if (conn->state != HTTP_CONN_CLOSED) {
        flush(conn);
    }
}

static int write_rest(struct http_conn *conn)
{
    uv_buf_t bufs[MAX_BUFS];
    size_t bytes;
    unsigned count = http_out_peek(&conn->out, bufs, MAX_BUFS, &bytes);
    conn->write.data = conn;
    int status = uv_write(&conn->write, stream_of(conn), bufs, count, on_written);
    if (status != 0) {
        return status;
    }
    conn->writing = bytes;
    if (list_is_empty(&conn->write_deadline.node)) {
        conn->write_mark = conn->sent;
        http_deadline_arm(&conn->server->deadlines, &conn->write_deadline, HTTP_DEADLINE_WRITE);
    }
    return 0;
}

/* Hands the kernel what it takes now, and leaves the rest to libuv. */
static void flush(struct http_conn *conn)
{
    if (conn->writing > 0) {
        return;
    }
    int status = 0;
    http_out_seal_chunk(&conn->out);
    while (conn->out.len > 0) {
        uv_buf_t bufs[MAX_BUFS];
        size_t bytes;
        unsigned count = http_out_peek(&conn->out, bufs, MAX_BUFS, &bytes);
        status = uv_try_write(stream_of(conn), bufs, count);
        if (status < 0) {
            break;
        }
        took(conn, (size_t)status);
        if ((size_t)status < bytes) {
            break;
        }
    }
    if (status == UV_EAGAIN || status >= 0) {
        status = conn->out.len > 0 ? write_rest(conn) : 0;
    }
    if (status < 0) {
        http_conn_cut(conn);
        return;
    }
    if (conn->out.len == 0) {
        http_deadline_disarm(&conn->write_deadline);
    }
    if (conn->req != NULL) {
        http_req_wake(conn->req);
    }
    if (conn->state == HTTP_CONN_ENDING && conn->out.len == 0) {
        end(conn);
    }
}

/* --- requests ------------------------------------------------------------------------------- */

static void dispatch(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_req *req = http_req_ref(conn->req);
    const struct http_msg *msg = &req->msg;
    conn->state = HTTP_CONN_BUSY;
    server->stats.requests++;
    server->stats.in_flight++;
    if (conn->is_half_closed) {
        arm_read(conn, HTTP_DEADLINE_HALF);
    } else {
        http_deadline_disarm(&conn->read_deadline);
    }
    req->keep_alive = msg->keep_alive;
    req->is_head = msg->is_head;
    req->minor = msg->minor;
    const struct http_static *entry = http_server_find_static(server, msg);
    if (entry != NULL) {
        http_reply_static(req, entry);
    } else if (server->handler == NULL) {
        http_reply_error(req, 503, "the server is starting");
    } else {
        server->handler(server->arg, req, msg);
    }
    http_msg_reset(&req->msg);
    http_req_unref(req);
}

/* Answers what cannot be a request, or comes too late to be one; the connection ends with it. */
static void refuse(struct http_conn *conn, int status, const char *reason)
{
    if (conn->req == NULL) {
        conn->req = http_req_take(conn->server);
    }
    conn->req->conn = conn;
    conn->req->keep_alive = false;
    conn->req->minor = 1;
    conn->discards = true;
    conn->state = HTTP_CONN_BUSY;
    conn->server->stats.in_flight++;
    conn->server->stats.bad_requests++;
    http_deadline_disarm(&conn->read_deadline);
    http_reply_error(conn->req, status, reason);
}

/* Parses and hands over what it can; returns the bytes used. Stops behind a request that is not answered at
 * once. */
static size_t process(struct http_conn *conn, const char *data, size_t len)
{
    size_t total = 0;
    while (total < len && conn->state == HTTP_CONN_READING) {
        if (conn->req == NULL) {
            conn->req = http_req_take(conn->server);
            conn->req->conn = conn;
        }
        size_t used;
        enum http_parse_event event =
            http_parser_feed(&conn->parser, &conn->req->msg, data + total, len - total, &used);
        total += used;
        if (event == HTTP_PARSE_MESSAGE) {
            dispatch(conn);
        } else if (event == HTTP_PARSE_FAILED) {
            refuse(conn, conn->parser.status, conn->parser.reason);
            return len;
        }
    }
    return total;
}

/* After input was processed: what do we wait for now? */
static void await_input(struct http_conn *conn)
{
    struct http_req *req = conn->req;
    if (conn->state != HTTP_CONN_READING) {
        return;
    }
    if (conn->is_half_closed) {
        if (req != NULL) {
            refuse(conn, 400, "the request ends before it is complete");
        } else {
            conn->state = HTTP_CONN_ENDING;
            http_conn_touch(conn);
        }
        return;
    }
    if (req == NULL) {
        return; /* the idle deadline runs since the last reply */
    }
    bool is_body = conn->parser.phase == HTTP_PHASE_BODY;
    enum http_deadline_kind kind = is_body ? HTTP_DEADLINE_BODY : HTTP_DEADLINE_HEAD;
    if (list_is_empty(&conn->read_deadline.node) || conn->read_deadline.kind != kind) {
        arm_read(conn, kind);
    }
    if (is_body && req->msg.wants_continue && req->msg.body.len == 0) {
        req->msg.wants_continue = false;
        http_out_append(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        http_conn_touch(conn);
    }
}

void http_conn_reply_done(struct http_conn *conn)
{
    struct http_req *req = conn->req;
    bool keeps = req->keep_alive;
    conn->req = NULL;
    conn->server->stats.in_flight--;
    conn->state = keeps ? HTTP_CONN_READING : HTTP_CONN_ENDING;
    if (keeps) {
        arm_read(conn, HTTP_DEADLINE_IDLE);
    }
    http_req_detach(req, false);
    http_conn_touch(conn);
}

void http_conn_run(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_READING && (ahead_len(conn) > 0 || conn->is_half_closed)) {
        if (ahead_len(conn) > 0) {
            conn->ahead_start += process(conn, conn->ahead.data + conn->ahead_start, ahead_len(conn));
        }
        if (ahead_len(conn) == 0) {
            buf_deinit(&conn->ahead);
            conn->ahead_start = 0;
            await_input(conn);
        }
        if (conn->is_paused && ahead_len(conn) < AHEAD_BYTES / 2 && conn->state != HTTP_CONN_ENDING) {
            conn->is_paused = uv_read_start(stream_of(conn), on_alloc, on_read) != 0;
        }
    }
    flush(conn);
}

/* --- reading -------------------------------------------------------------------------------- */

static void keep_for_later(struct http_conn *conn, const char *data, size_t len)
{
    if (conn->ahead_start > 0) {
        buf_consume(&conn->ahead, conn->ahead_start);
        conn->ahead_start = 0;
    }
    buf_append(&conn->ahead, data, len);
    if (conn->ahead.len >= AHEAD_BYTES) {
        (void)uv_read_stop(stream_of(conn)); /* always 0 */
        conn->is_paused = true;
    }
}

static void on_end_of_input(struct http_conn *conn)
{
    conn->is_half_closed = true;
    switch (conn->state) {
    case HTTP_CONN_READING:
        if (ahead_len(conn) == 0) {
            await_input(conn);
        }
        break;
    case HTTP_CONN_BUSY: /* it may still read: the reply has a moment to come */
        arm_read(conn, HTTP_DEADLINE_HALF);
        break;
    case HTTP_CONN_LINGER:
        http_conn_cut(conn);
        break;
    case HTTP_CONN_ENDING:
    case HTTP_CONN_CLOSED:
        break;
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct http_conn *conn = stream->data;
    if (count == UV_EOF) {
        on_end_of_input(conn);
        return;
    }
    if (count < 0) {
        http_conn_cut(conn);
        return;
    }
    size_t len = (size_t)count;
    conn->server->stats.bytes_in += len;
    if (conn->state == HTTP_CONN_LINGER || conn->state == HTTP_CONN_ENDING) {
        conn->discards = true;
        conn->lingered += len;
        if (conn->lingered > LINGER_BYTES) {
            http_conn_cut(conn);
        }
        return;
    }
    size_t used = ahead_len(conn) == 0 ? process(conn, buf->base, len) : 0;
    if (used < len) {
        keep_for_later(conn, buf->base + used, len - used);
    } else {
        await_input(conn);
    }
}

/* --- deadlines ------------------------------------------------------------------------------ */

static void write_expired(struct http_conn *conn)
{
    size_t sent = conn->sent;
    if (conn->writing > 0) {
        sent += conn->writing - uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
    }
    if (sent - conn->write_mark >= WRITE_PROGRESS) {
        conn->write_mark = sent;
        http_deadline_arm(&conn->server->deadlines, &conn->write_deadline, HTTP_DEADLINE_WRITE);
        return;
    }
    conn->server->stats.timeouts++;
    http_conn_cut(conn);
}

void http_conn_expired(struct http_deadline *deadline)
{
    if (deadline->kind == HTTP_DEADLINE_WRITE) {
        write_expired(list_entry(deadline, struct http_conn, write_deadline));
        return;
    }
    struct http_conn *conn = list_entry(deadline, struct http_conn, read_deadline);
    if (deadline->kind == HTTP_DEADLINE_IDLE || deadline->kind == HTTP_DEADLINE_HALF || conn->req == NULL) {
        http_conn_cut(conn);
        return;
    }
    conn->server->stats.timeouts++;
    refuse(conn, 408,
           deadline->kind == HTTP_DEADLINE_HEAD ? "the request head did not arrive in time"
                                                : "the request body did not arrive in time");
}

/* --- opening -------------------------------------------------------------------------------- */

const char *http_conn_peer(struct http_conn *conn)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    if (conn->peer[0] == '\0' && uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &len) == 0) {
        int status = address.ss_family == AF_INET6
                         ? uv_ip6_name((struct sockaddr_in6 *)&address, conn->peer, sizeof(conn->peer))
                         : uv_ip4_name((struct sockaddr_in *)&address, conn->peer, sizeof(conn->peer));
        if (status != 0) {
            conn->peer[0] = '\0';
        }
    }
    return conn->peer;
}

void http_conn_close_idle(struct http_conn *conn)
{
    if (conn->state != HTTP_CONN_READING || conn->req != NULL || ahead_len(conn) > 0) {
        return;
    }
    if (conn->out.len == 0) {
        http_conn_cut(conn);
    } else {
        conn->state = HTTP_CONN_ENDING;
    }
}

enum { EXTRA_CONNECTIONS = 64 }; /* beyond the limit, for as long as it takes to say 503 */

void http_conn_accept(struct http_server *server)
{
    struct http_conn *conn = xcalloc(1, sizeof(*conn));
    (void)uv_tcp_init(server->listener.loop, &conn->tcp); /* always 0 */
    conn->tcp.data = conn;
    conn->server = server;
    conn->out.pool = &server->pool;
    list_init(&conn->dirty_node);
    list_init(&conn->read_deadline.node);
    list_init(&conn->write_deadline.node);
    list_push_back(&server->conns, &conn->node);
    http_parser_init(&conn->parser, &server->limits);
    server->stats.connections++;
    server->stats.accepted++;
    bool is_over = server->stats.connections > server->max_connections;
    server->stats.rejected += is_over ? 1 : 0;
    if (uv_accept((uv_stream_t *)&server->listener, stream_of(conn)) != 0 ||
        server->stats.connections > server->max_connections + EXTRA_CONNECTIONS ||
        uv_read_start(stream_of(conn), on_alloc, on_read) != 0) {
        http_conn_cut(conn);
        return;
    }
    if (is_over) {
        refuse(conn, 503, "too many connections");
    } else {
        arm_read(conn, HTTP_DEADLINE_HEAD);
    }
}
