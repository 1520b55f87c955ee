/* Streaming calls of a client. Loop thread only. */
#pragma once

#include "rpc/rpc_client.h"

struct rpc_stream;

struct rpc_stream_opts {
    const char *method;            /* borrowed */
    struct rpc_metadata *metadata; /* content taken, also on failure; NULL: none */
    int64_t timeout_ms;            /* 0: none */
    bool waits_for_ready;
    bool has_request;   /* server streaming: request is the one message and the sending side ends with it */
    grpc_slice request; /* taken, also on failure */
    struct rpc_call_limits limits;
};

/* The stream is valid until rpc_stream_release. Events: see rpc_call.h; closed means that the status is
 * known. */
int rpc_stream_open(struct rpc_client *client, struct rpc_stream_opts *opts,
                    const struct rpc_call_events *events, void *arg, struct rpc_stream **out,
                    struct err *err);
struct rpc_call *rpc_stream_base(struct rpc_stream *stream); /* for rpc_call_write */
/* Takes the oldest message. The end is reported after every message has been taken and the status is known:
 * then RPC_READ_END for status OK, RPC_READ_FAILED for any other. */
enum rpc_read rpc_stream_read(struct rpc_stream *stream, grpc_slice *out);
void rpc_stream_half_close(struct rpc_stream *stream); /* after what is queued */
void rpc_stream_cancel(struct rpc_stream *stream);
bool rpc_stream_is_cancelled(const struct rpc_stream *stream); /* by rpc_stream_cancel or rpc_client_close */
bool rpc_stream_has_headers(const struct rpc_stream *stream); /* false for ever when the call failed before */
bool rpc_stream_has_status(const struct rpc_stream *stream);
/* Borrowed; empty before they have arrived. */
const grpc_metadata *rpc_stream_headers(const struct rpc_stream *stream, size_t *count);
const grpc_metadata *rpc_stream_trailing(const struct rpc_stream *stream, size_t *count);
grpc_status_code rpc_stream_status(const struct rpc_stream *stream, const char **message, size_t *len);
/* Cancels a live call; no event follows. */
void rpc_stream_release(struct rpc_stream *stream);
