/* An HTTP client: libcurl's multi interface on the loop. Loop thread only.
 *
 * A client without transfers owns no loop handle; connections are kept for reuse. Names are resolved on
 * libcurl's own threads. Proxies from the environment are ignored: the address guard must see the real
 * target. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "http/http_server.h" /* struct http_header */

struct loop;
struct http_client;
struct http_fetch;

int http_client_new(struct loop *loop, struct http_client **out, struct err *err);
/* Transfers that are still open keep what they need; close them too. */
void http_client_free(struct http_client *client);

struct http_fetch_opts {
    const char *url;    /* http or https */
    const char *method; /* NULL: GET */
    const struct http_header *headers;
    size_t header_count;
    const char *body; /* copied; NULL: none */
    size_t body_len;
    bool streams_body;              /* the body comes through http_fetch_feed; body is ignored */
    bool streams_reply;             /* the reply is taken in pieces and held back when nobody takes them */
    unsigned timeout_ms;            /* 0: 10 s, for everything, or up to the head when the reply streams */
    unsigned connect_timeout_ms;    /* 0: 3 s, name resolution included */
    size_t max_body_bytes;          /* of the reply; 0: 1 MiB, or no limit when it streams */
    bool public_only;               /* refuse targets that http_guard refuses, before connecting */
    const char *const *allow_hosts; /* exempt from public_only, lower case */
    size_t allow_host_count;
    unsigned follow;    /* redirects followed at most; each target is guarded */
    const char *ca_pem; /* NULL: the system's roots */
    size_t ca_pem_len;
    const char *user_agent; /* NULL: "macp/<version>" */
};

enum http_fetch_event {
    HTTP_FETCH_HEAD = 1, /* status and headers are known */
    HTTP_FETCH_DATA = 2, /* there is something to take */
    HTTP_FETCH_ROOM = 4, /* the request body may go on */
    HTTP_FETCH_DONE = 8, /* the last event: complete, or failed (http_fetch_error) */
};

/* events is a union of enum http_fetch_event. Runs on the loop, never inside a call of this module; may
 * close. */
typedef void (*http_fetch_fn)(void *arg, int events);

int http_fetch_start(struct http_client *client, const struct http_fetch_opts *opts, http_fetch_fn fn,
                     void *arg, struct http_fetch **out, struct err *err);
/* Ends the transfer wherever it is, frees it; fn does not run any more. NULL is fine. */
void http_fetch_close(struct http_fetch *fetch);

/* true when the host of url is written as an address that the guard refuses, in whatever notation. Names are
 * not resolved, and what is no URL is not judged. */
bool http_fetch_names_closed_address(const char *url);

bool http_fetch_is_done(const struct http_fetch *fetch);
const struct err *http_fetch_error(const struct http_fetch *fetch); /* NULL: no failure (so far) */
int http_fetch_status(const struct http_fetch *fetch);              /* 0 before the head */
const char *http_fetch_ip(const struct http_fetch *fetch);          /* of the server; "" when unknown */
/* "name\0value\0name\0value\0", names in lower case, in order of arrival. */
const struct buf *http_fetch_headers(const struct http_fetch *fetch);
struct buf *http_fetch_data(struct http_fetch *fetch); /* what has arrived; the caller may empty it, then: */
void http_fetch_took(struct http_fetch *fetch);        /* lets a held-back reply go on */

/* Request body in pieces. Each returns whether more is welcome now; else wait for HTTP_FETCH_ROOM. */
bool http_fetch_feed(struct http_fetch *fetch, const char *data, size_t len);
void http_fetch_feed_end(struct http_fetch *fetch);
void http_fetch_fail(struct http_fetch *fetch, const struct err *err); /* the body cannot be produced */
