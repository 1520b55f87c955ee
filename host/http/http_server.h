/* An HTTP/1.1 server: keep-alive, in-order pipelining, limits, deadlines, whole and streaming replies. Loop
 * thread only.
 *
 * A request is handed over complete, body included. The handler owns its struct http_req until http_req_end;
 * it may reply at once or later. Replies leave at the end of the loop turn, everything a connection has
 * gathered in one write. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "http/http_parse.h"

struct bytes;
struct loop;
struct http_server;
struct http_req;

struct http_server_opts {
    const char *host;           /* NULL: 0.0.0.0; an IPv4 or IPv6 address, or "localhost" */
    int port;                   /* 0: any free port */
    int backlog;                /* 0: 1024 */
    bool reuseport;             /* several processes share the port */
    size_t max_head_bytes;      /* 0: 64 KiB */
    size_t max_headers;         /* 0: 100 */
    size_t max_body_bytes;      /* 0: 1 MiB */
    size_t max_connections;     /* 0: 10000; more are answered 503 */
    size_t max_pending_bytes;   /* 0: 1 MiB; what a streaming reply may hold back for a slow reader */
    unsigned header_timeout_ms; /* 0: 10 s, from connect or the first byte of a head to its end */
    unsigned body_timeout_ms;   /* 0: 30 s, from the end of the head to the end of the body */
    unsigned idle_timeout_ms;   /* 0: 75 s, between requests */
    unsigned write_timeout_ms;  /* 0: 30 s, a reader must take 16 KiB, or all there is, within this time */
    unsigned half_close_ms;     /* 0: 1 s, for a reply after the client has closed its sending side */
};

struct http_server_stats {
    size_t connections; /* open now */
    size_t in_flight;   /* requests handed over and not answered */
    uint64_t accepted;
    uint64_t rejected; /* connections over the limit */
    uint64_t requests;
    uint64_t bad_requests; /* refused by the host itself */
    uint64_t timeouts;
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/* Called once per request, on the loop. The message is valid during this call only. */
typedef void (*http_request_fn)(void *arg, struct http_req *req, const struct http_msg *msg);
/* Makes a reply of the host's own with http_reply_send. msg holds what was understood of the request, which
 * may be nothing (fields may be cut), during this call only. Without a reply the client gets the reason as
 * plain text. */
typedef void (*http_error_fn)(void *arg, struct http_req *req, int status, const char *reason,
                              const struct http_msg *msg);
typedef void (*http_done_fn)(void *arg);

int http_server_open(struct loop *loop, const struct http_server_opts *opts, struct http_server **out,
                     struct err *err);
int http_server_port(const struct http_server *server);
/* handler and on_error may be replaced; on_error NULL: plain text. arg is kept. */
void http_server_serve(struct http_server *server, http_request_fn handler, http_error_fn on_error,
                       void *arg);
void http_server_get_stats(const struct http_server *server, struct http_server_stats *stats);

struct http_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};

/* Answers GET and HEAD of exactly that path without asking the handler. Copies everything. */
int http_server_respond_static(struct http_server *server, const char *path, int status,
                               const struct http_header *headers, size_t count, const char *body,
                               size_t body_len, struct err *err);

void http_server_stop_listening(struct http_server *server);
/* Stops listening, closes idle connections, lets requests in flight finish; what is left after timeout_ms is
 * cut. done runs once. One drain at a time; done of a second call runs with the first. */
void http_server_drain(struct http_server *server, unsigned timeout_ms, http_done_fn done, void *arg);
/* Cuts everything; frees the server before done (may be NULL) runs. Drains that wait are answered first. */
void http_server_close(struct http_server *server, http_done_fn done, void *arg);
/* As close at the end of the program: neither handlers nor waiters nor drains are told. */
void http_server_abandon(struct http_server *server);

/* --- a request ------------------------------------------------------------------------------ */

struct http_req *http_req_ref(struct http_req *req);
void http_req_unref(struct http_req *req);
const char *http_req_peer(struct http_req *req); /* the client's address; valid like the message */
/* fn(arg) runs once when the client is gone before the reply was complete. */
void http_req_on_gone(struct http_req *req, http_done_fn fn, void *arg);
bool http_req_is_closed(
    const struct http_req *req); /* nothing can be sent any more: gone, or reply complete */
/* The handler is done: a missing reply becomes a 500, an open stream is finished. No on_gone after this. */
void http_req_end(struct http_req *req);
/* As above after a failure: a missing reply becomes a 500, an open stream is cut so that the client notices.
 */
void http_req_fail(struct http_req *req);

/* --- replying ------------------------------------------------------------------------------- *
 * All return ERR_CLOSED when the client is gone and ERR_INVALID for a status, name or value that HTTP cannot
 * carry, or a reply out of order. Content-Length, Date, Connection and Transfer-Encoding are the server's own
 * business: such fields are left out, except "Connection: close", which is honoured. */

/* The whole reply. shared (may be NULL) holds body and is then referenced, not copied. */
int http_reply_send(struct http_req *req, int status, const struct http_header *headers, size_t count,
                    const char *body, size_t body_len, struct bytes *shared, struct err *err);
int http_reply_start(struct http_req *req, int status, const struct http_header *headers, size_t count,
                     struct err *err);
/* Queues a piece of a started reply whatever the backlog: see http_reply_pending. */
int http_reply_write(struct http_req *req, const char *data, size_t len, struct bytes *shared,
                     struct err *err);
int http_reply_finish(struct http_req *req, struct err *err);
bool http_reply_is_started(const struct http_req *req);
size_t http_req_max_pending(const struct http_req *req); /* the server's max_pending_bytes */
size_t http_reply_pending(const struct http_req *req);   /* bytes that the kernel has not taken */

enum http_wait_kind {
    HTTP_WAIT_ROOM,   /* pending fell to half of max_pending_bytes or less */
    HTTP_WAIT_DRAIN,  /* pending fell to 0 */
    HTTP_WAIT_CLOSED, /* the exchange is over, one way or the other */
};

/* A waiter on a request, embedded in the caller's memory. fn runs once: err is NULL, ERR_CLOSED (the other
 * kinds, when the exchange ends first) or ERR_CANCELLED. */
struct http_wait {
    struct list node;
    enum http_wait_kind kind;
    void (*fn)(struct http_wait *wait, const struct err *err);
};

/* false: the condition already holds (or can never hold), fn will not run. */
bool http_req_wait(struct http_req *req, struct http_wait *wait, enum http_wait_kind kind,
                   void (*fn)(struct http_wait *wait, const struct err *err));
void http_wait_cancel(struct http_wait *wait); /* fn runs with ERR_CANCELLED */
