/* What the files of the HTTP server share; nobody else includes this. */
#pragma once

#include <uv.h>

#include "http/http_out.h"
#include "http/http_parse.h"
#include "http/http_server.h"

/* --- deadlines: one timer per server, one queue per kind, each in order of expiry -------------- */

enum http_deadline_kind {
    HTTP_DEADLINE_IDLE,
    HTTP_DEADLINE_HEAD,
    HTTP_DEADLINE_BODY,
    HTTP_DEADLINE_HALF, /* half-closed clients and lingering closes */
    HTTP_DEADLINE_WRITE,
    HTTP_DEADLINE_KINDS,
};

struct http_deadline {
    struct list node; /* unlinked: not armed */
    uint64_t at_ms;   /* loop time */
    enum http_deadline_kind kind;
};

struct http_deadlines {
    uv_timer_t timer;
    struct list queues[HTTP_DEADLINE_KINDS];
    unsigned timeout_ms[HTTP_DEADLINE_KINDS];
    uint64_t fires_at_ms; /* 0: the timer is stopped */
    void (*on_expired)(struct http_deadline *deadline);
};

void http_deadlines_init(struct http_deadlines *deadlines, uv_loop_t *uv,
                         void (*on_expired)(struct http_deadline *deadline));
void http_deadline_arm(struct http_deadlines *deadlines, struct http_deadline *deadline,
                       enum http_deadline_kind kind);
static inline void http_deadline_disarm(struct http_deadline *deadline)
{
    list_remove(&deadline->node);
}

/* --- server --------------------------------------------------------------------------------- */

/* A reply that needs no handler; the head is split around the date. */
struct http_static {
    struct http_static *next;
    char *path;
    size_t path_len;
    struct buf start; /* status line up to the value of Date */
    struct buf rest;  /* from the end of that line to the empty line */
    struct buf body;
};

struct http_drain {
    struct http_drain *next;
    http_done_fn done;
    void *arg;
};

struct http_server {
    struct loop *loop;
    size_t refs; /* one for the open server, one per request in use */
    uv_tcp_t listener;
    bool is_listening;
    bool is_draining;
    bool is_closing;
    bool flush_is_due; /* a deferred flush is on its way */
    int open_handles;  /* listener and timers, for close */
    int port;
    size_t max_connections;
    size_t max_pending;
    struct http_limits limits;
    struct http_deadlines deadlines;
    uv_timer_t drain_timer;
    struct list conns;
    struct list dirty; /* connections with work at the end of the turn */
    struct http_pool pool;
    struct http_req *spare; /* requests for reuse */
    unsigned spare_count;
    struct http_static *statics;
    http_request_fn handler;
    http_error_fn on_error;
    void *arg;
    struct http_drain *drains;
    http_done_fn closed;
    void *closed_arg;
    struct http_server_stats stats;
    int64_t complained_second; /* of the last line about accept */
    int64_t date_second;       /* of the cached date */
    char date[32];
    char *read_buf; /* shared: libuv fills it and we consume it within one callback */
};

void http_server_mark_dirty(struct http_server *server, struct list *node);
const char *http_server_date(struct http_server *server); /* 29 characters */
enum { HTTP_DATE_LEN = 29, HTTP_READ_BYTES = 65536 };
void http_server_conn_gone(struct http_server *server); /* a connection has been freed */
void http_server_unref(struct http_server *server);
const struct http_static *http_server_find_static(const struct http_server *server,
                                                  const struct http_msg *msg);

/* --- connection and request -------------------------------------------------------------------- */

enum http_conn_state {
    HTTP_CONN_READING, /* between requests, or reading one */
    HTTP_CONN_BUSY,    /* a request is with the handler */
    HTTP_CONN_ENDING,  /* the last reply is leaving */
    HTTP_CONN_LINGER,  /* everything is sent; waits for the client to see it */
    HTTP_CONN_CLOSED,
};

struct http_conn {
    uv_tcp_t tcp;
    struct http_server *server;
    struct list node;       /* in server->conns */
    struct list dirty_node; /* in server->dirty */
    struct http_deadline read_deadline;
    struct http_deadline write_deadline;
    size_t write_mark; /* bytes sent when the write deadline was armed */
    size_t sent;       /* bytes that the kernel has taken */
    struct http_parser parser;
    struct http_req *req; /* being read or answered */
    struct buf ahead;     /* bytes received behind the request being answered */
    size_t ahead_start;   /* of them, already used */
    struct http_out out;
    uv_write_t write;
    size_t writing; /* bytes handed to uv_write */
    enum http_conn_state state;
    bool is_paused;      /* reading is stopped: too much came ahead */
    bool is_half_closed; /* the client sends no more */
    bool discards;       /* unread bytes would reset the connection on close: linger */
    uv_shutdown_t shutdown;
    size_t lingered; /* bytes dropped in LINGER */
    char peer[46];   /* filled when asked for */
};

enum http_reply_state { HTTP_REPLY_NONE, HTTP_REPLY_STREAM, HTTP_REPLY_DONE };

struct http_req {
    unsigned refs;
    struct http_conn *conn;     /* NULL when the exchange is over */
    struct http_server *server; /* kept alive by this reference */
    struct http_req *next;      /* spare list */
    struct http_msg msg;
    enum http_reply_state reply;
    bool keep_alive;
    bool is_head;
    bool is_chunked;
    bool skips_body; /* HEAD, 204, 304: pieces of a stream are dropped */
    uint8_t minor;
    http_done_fn on_gone;
    void *gone_arg;
    struct list waits;
};

void http_conn_accept(struct http_server *server);
void http_conn_cut(struct http_conn *conn); /* closes at once; the request learns that the client is gone */
void http_conn_run(struct http_conn *conn); /* end of turn: next pipelined request, then flush */
void http_conn_close_idle(struct http_conn *conn); /* closes if no request is in progress */
void http_conn_expired(struct http_deadline *deadline);
void http_conn_reply_done(struct http_conn *conn);         /* the reply of conn->req is queued completely */
static inline void http_conn_touch(struct http_conn *conn) /* something was queued */
{
    http_server_mark_dirty(conn->server, &conn->dirty_node);
}
const char *http_conn_peer(struct http_conn *conn);
size_t http_conn_pending(const struct http_conn *conn);

struct http_req *http_req_take(struct http_server *server);
/* The exchange is over: tells waiters and, when the client is gone, the handler; drops the connection's
 * reference. */
void http_req_detach(struct http_req *req, bool is_gone);
void http_req_wake(struct http_req *req); /* after a flush: waiters for room */
void http_reply_error(struct http_req *req, int status, const char *reason); /* keep_alive as set in req */

void http_reply_static(struct http_req *req, const struct http_static *entry);
/* Status line and fields of a static reply, split around the value of Date. */
int http_reply_static_head(struct http_static *entry, int status, const struct http_header *headers,
                           size_t count, struct err *err);
