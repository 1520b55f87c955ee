/* A gRPC server with methods known by name and messages known as bytes. Loop thread only.
 *
 * Life: open (listens), serve (calls are delivered), drain (new calls are refused, live ones end), close. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_creds.h"
#include "rpc/rpc_metadata.h"

struct loop;
struct rpc_server;
struct rpc_server_call;

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM, RPC_BIDI };

struct rpc_method_opts {
    const char *name; /* "/pkg.Service/Method" */
    enum rpc_kind kind;
    bool has_late_headers; /* streams: initial metadata waits for the first write, so that the handler can set
                              it */
};

struct rpc_server_opts {
    const char *address; /* "host:port" (port 0: any), "[::]:port" or "unix:path"; borrowed, as all below */
    const struct rpc_tls *tls; /* NULL: plaintext */
    const struct rpc_method_opts *methods;
    size_t method_count;
    int max_message_bytes;      /* 0: 4 MiB; a larger one ends its call with RESOURCE_EXHAUSTED */
    int max_metadata_bytes;     /* 0: 64 KiB, all headers of a call together */
    int max_concurrent_streams; /* 0: 128 per connection */
    int max_calls;              /* 0: 10 000 live ones of all connections; more get RESOURCE_EXHAUSTED */
    int keepalive_ms;           /* 0: 60 000; a peer that does not answer a ping within 20 s is dropped */
    int unary_timeout_ms;       /* 0: none; a unary call not answered by then ends with DEADLINE_EXCEEDED and
                                   is cancelled for the user, as when its client's deadline passes */
    struct rpc_call_limits limits; /* of every call's queues */
};

struct rpc_server_stats {
    uint64_t calls;     /* delivered */
    uint64_t refused;   /* while draining or beyond max_calls */
    uint64_t unknown;   /* no such method */
    uint64_t cancelled; /* ended by the peer, its deadline or a lost connection */
    uint64_t timed_out; /* ended by unary_timeout_ms */
    uint32_t live;
};

/* A new call: valid until rpc_server_call_release, which the user owes for every call. */
typedef void (*rpc_call_fn)(void *arg, struct rpc_server_call *call);
typedef void (*rpc_drained_fn)(void *arg, bool has_ended);

int rpc_server_open(struct loop *loop, const struct rpc_server_opts *opts, struct rpc_server **out,
                    struct err *err);
int rpc_server_port(const struct rpc_server *server); /* 0 for unix sockets */
/* New certificate, key and client CA for connections made from now on; see rpc_certs_set. ERR_INVALID on a
 * plaintext server. */
int rpc_server_set_tls(struct rpc_server *server, const struct rpc_tls *tls, struct err *err);
/* Starts to deliver calls; calls that came earlier have waited. Once. */
void rpc_server_serve(struct rpc_server *server, rpc_call_fn fn, void *arg);
/* Refuses new calls with UNAVAILABLE, ends live streams with UNAVAILABLE after what they have queued, and
 * waits for live calls at most grace_ms. fn runs once; has_ended is false when calls are still live. Ends at
 * once when closed. Once. */
void rpc_server_drain(struct rpc_server *server, uint64_t grace_ms, rpc_drained_fn fn, void *arg);
/* Cancels live calls with UNAVAILABLE, stops listening and frees the server once every call has been
 * released. */
void rpc_server_close(struct rpc_server *server, void (*done)(void *arg), void *arg);
bool rpc_server_is_draining(const struct rpc_server *server);
void rpc_server_read_stats(const struct rpc_server *server, struct rpc_server_stats *stats);

/* --- a call --- */

/* The shared half: rpc_call_write, rpc_call_read, queue lengths. */
struct rpc_call *rpc_server_call_base(struct rpc_server_call *call);
void rpc_server_call_set_events(struct rpc_server_call *call, const struct rpc_call_events *events,
                                void *arg);
const char *rpc_server_call_method(const struct rpc_server_call *call);
size_t rpc_server_call_method_index(const struct rpc_server_call *call); /* into opts.methods */
enum rpc_kind rpc_server_call_kind(const struct rpc_server_call *call);
/* The request of a unary or server-streaming call; empty otherwise. Borrowed. */
const grpc_slice *rpc_server_call_request(const struct rpc_server_call *call);
const grpc_metadata_array *rpc_server_call_metadata(const struct rpc_server_call *call); /* borrowed */
char *rpc_server_call_peer(struct rpc_server_call *call);                                /* gpr_free */
/* Milliseconds until the client's deadline (0 when past), -1 without one. */
int64_t rpc_server_call_remaining_ms(const struct rpc_server_call *call);
/* Properties of the peer's TLS identity (x509_common_name, x509_subject_alternative_name, ...). */
void rpc_server_call_each_property(struct rpc_server_call *call,
                                   void (*fn)(void *arg, const char *name, const char *value, size_t len),
                                   void *arg);
bool rpc_server_call_is_answered(const struct rpc_server_call *call);
/* What it was ended with; GRPC_STATUS_CANCELLED when the peer was gone before; -1 while it goes on. */
int rpc_server_call_status(const struct rpc_server_call *call);
bool rpc_server_call_is_over(
    const struct rpc_server_call *call); /* for the peer: answered and sent, or gone */
/* Makes sure that the closed event comes at once, not only for calls that take longer than some milliseconds.
 */
void rpc_server_call_watch(struct rpc_server_call *call);
bool rpc_server_call_is_cancelled(
    const struct rpc_server_call *call); /* by the peer, a deadline, a timeout or a drain */

/* Initial metadata; before the first write, on streams only with has_late_headers. ERR_CLOSED when already
 * sent. */
int rpc_server_call_set_headers(struct rpc_server_call *call, struct rpc_metadata *headers, struct err *err);
/* Unary and client-streaming: the one response, status OK. Takes slice and the content of trailing (may be
 * NULL). ERR_CLOSED when the call is over or answered. */
int rpc_server_call_reply(struct rpc_server_call *call, grpc_slice slice, struct rpc_metadata *trailing);
/* Ends the call after what is queued. Copies message; takes the content of trailing (may be NULL). */
int rpc_server_call_finish(struct rpc_server_call *call, grpc_status_code status, const char *message,
                           size_t len, struct rpc_metadata *trailing);
/* The user is done with call; an unanswered one ends with INTERNAL. No event follows. */
void rpc_server_call_release(struct rpc_server_call *call);
