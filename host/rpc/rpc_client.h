/* A gRPC channel and its unary calls; streams are in rpc_stream.h. Methods are names, messages are bytes.
 * Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_creds.h"
#include "rpc/rpc_metadata.h"

struct loop;
struct rpc_client;
struct rpc_unary;

struct rpc_client_opts {
    const char *target;        /* "host:port", "dns:///...", "unix:path"; borrowed, as all below */
    const struct rpc_tls *tls; /* NULL: plaintext */
    int max_message_bytes;     /* 0: 4 MiB; a larger response ends its call with RESOURCE_EXHAUSTED */
    int max_metadata_bytes;    /* 0: 64 KiB */
    int keepalive_ms;          /* 0: no pings; at least 10 000 with servers that count strikes */
    bool has_own_connection;   /* do not share a TCP connection with other channels to the same target */
};

struct rpc_unary_opts {
    const char *method;            /* "/pkg.Service/Method"; borrowed */
    grpc_slice request;            /* taken, also on failure */
    struct rpc_metadata *metadata; /* content taken, also on failure; NULL: none */
    int64_t timeout_ms;            /* 0: none */
    bool waits_for_ready;          /* wait for a connection instead of failing with UNAVAILABLE at once */
};

/* How a call ended. Everything is borrowed for the duration of the callback. */
struct rpc_outcome {
    grpc_status_code status;
    const char *message; /* not terminated */
    size_t message_len;
    const grpc_metadata_array *headers;
    const grpc_metadata_array *trailing;
    const grpc_slice *response; /* set exactly when status is OK */
    bool is_cancelled;          /* by rpc_unary_cancel or rpc_client_close */
};

typedef void (*rpc_unary_fn)(void *arg, const struct rpc_outcome *outcome);

enum rpc_state {
    RPC_STATE_IDLE,
    RPC_STATE_CONNECTING,
    RPC_STATE_READY,
    RPC_STATE_FAILURE,
    RPC_STATE_SHUTDOWN
};

/* Connects lazily, with the first call. */
int rpc_client_open(struct loop *loop, const struct rpc_client_opts *opts, struct rpc_client **out,
                    struct err *err);
/* Cancels what is live; done (may be NULL) runs when the last call is over. Unreleased streams stay valid. */
void rpc_client_close(struct rpc_client *client, void (*done)(void *arg), void *arg);
enum rpc_state rpc_client_state(const struct rpc_client *client);

/* fn runs exactly once. *out is valid until then. */
int rpc_client_unary(struct rpc_client *client, struct rpc_unary_opts *opts, rpc_unary_fn fn, void *arg,
                     struct rpc_unary **out, struct err *err);
void rpc_unary_cancel(struct rpc_unary *unary);
