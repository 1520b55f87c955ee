/* A request in the hands of its handler: references, waiters, and how it ends. */
#include "http/http_internal.h"

#include <stdlib.h>

#include "base/xmem.h"

enum { MAX_SPARE = 256 };

struct http_req *http_req_take(struct http_server *server)
{
    struct http_req *req = server->spare;
    if (req != NULL) {
        server->spare = req->next;
        server->spare_count--;
    } else {
        req = xcalloc(1, sizeof(*req));
    }
    struct http_msg msg = req->msg;
    *req = (struct http_req){.refs = 1, .server = server, .msg = msg};
    list_init(&req->waits);
    server->refs++;
    return req;
}

struct http_req *http_req_ref(struct http_req *req)
{
    req->refs++;
    return req;
}

void http_req_unref(struct http_req *req)
{
    if (--req->refs > 0) {
        return;
    }
    struct http_server *server = req->server;
    if (server->is_closing || server->spare_count >= MAX_SPARE) {
        http_msg_deinit(&req->msg);
        free(req);
    } else {
        http_msg_reset(&req->msg);
        req->next = server->spare;
        server->spare = req;
        server->spare_count++;
    }
    http_server_unref(server);
}

const char *http_req_peer(struct http_req *req)
{
    return req->conn == NULL ? "" : http_conn_peer(req->conn);
}

void http_req_on_gone(struct http_req *req, http_done_fn fn, void *arg)
{
    req->on_gone = fn;
    req->gone_arg = arg;
}

size_t http_req_max_pending(const struct http_req *req)
{
    return req->server->max_pending;
}

bool http_req_is_closed(const struct http_req *req)
{
    return req->conn == NULL;
}

/* --- waiters -------------------------------------------------------------------------------- */

static bool holds(const struct http_req *req, enum http_wait_kind kind)
{
    size_t pending = http_reply_pending(req);
    switch (kind) {
    case HTTP_WAIT_ROOM:
        return pending <= req->server->max_pending / 2;
    case HTTP_WAIT_DRAIN:
        return pending == 0;
    case HTTP_WAIT_CLOSED:
        break;
    }
    return false;
}

bool http_req_wait(struct http_req *req, struct http_wait *wait, enum http_wait_kind kind,
                   void (*fn)(struct http_wait *wait, const struct err *err))
{
    list_init(&wait->node);
    if (req->conn == NULL || holds(req, kind)) {
        return false;
    }
    wait->kind = kind;
    wait->fn = fn;
    list_push_back(&req->waits, &wait->node);
    return true;
}

void http_wait_cancel(struct http_wait *wait)
{
    struct err err;
    err_set(&err, ERR_CANCELLED, "cancelled while waiting for the client");
    list_remove(&wait->node);
    wait->fn(wait, &err);
}

void http_req_wake(struct http_req *req)
{
    list_each_safe (node, &req->waits) {
        struct http_wait *wait = list_entry(node, struct http_wait, node);
        if (holds(req, wait->kind)) {
            list_remove(node);
            wait->fn(wait, NULL);
        }
    }
}

/* --- ending --------------------------------------------------------------------------------- */

void http_req_detach(struct http_req *req, bool is_gone)
{
    struct err err;
    err_set(&err, ERR_CLOSED, is_gone ? "the client is gone" : "the reply is complete");
    req->conn = NULL;
    req->reply = HTTP_REPLY_DONE;
    struct list *node;
    while ((node = list_pop_front(&req->waits)) != NULL) {
        struct http_wait *wait = list_entry(node, struct http_wait, node);
        wait->fn(wait, wait->kind == HTTP_WAIT_CLOSED ? NULL : &err);
    }
    if (is_gone && req->on_gone != NULL) {
        http_done_fn fn = req->on_gone;
        req->on_gone = NULL;
        fn(req->gone_arg);
    }
    http_req_unref(req);
}

void http_req_end(struct http_req *req)
{
    struct err err;
    req->on_gone = NULL;
    if (req->conn == NULL) {
        return;
    }
    if (req->reply == HTTP_REPLY_NONE) {
        http_reply_error(req, 500, "the handler did not reply");
    } else {
        (void)http_reply_finish(req, &err); /* it is open, so this cannot fail */
    }
}

void http_req_fail(struct http_req *req)
{
    req->on_gone = NULL;
    if (req->conn == NULL) {
        return;
    }
    if (req->reply == HTTP_REPLY_NONE) {
        http_reply_error(req, 500, "the handler failed");
    } else {
        http_conn_cut(req->conn);
    }
}
