/* Client streams; see rpc_stream.h. The status operation runs as a batch of its own from the start; the call
 * is given back when no batch is outstanding, and what the user may still ask for has been copied by then. */
#include "rpc/rpc_stream.h"

#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>

#include "base/xmem.h"
#include "rpc/rpc_client_internal.h"

struct rpc_stream {
    struct rpc_call base;
    struct list node;          /* in client->streams while live */
    struct rpc_client *client; /* NULL once over */
    struct rpc_tag headers_tag;
    struct rpc_tag status_tag;
    struct rpc_metadata metadata;
    grpc_metadata_array raw_headers; /* owned by the core's call */
    grpc_metadata_array raw_trailing;
    struct rpc_metadata headers; /* our copies */
    struct rpc_metadata trailing;
    grpc_status_code status;
    grpc_slice message;
    bool has_headers;
    bool has_status;
    bool is_cancelled;
    bool is_released;
};

static size_t end_ops(struct rpc_call *base, grpc_op *ops)
{
    ops[0].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    return 1;
}

static void on_sent(struct rpc_call *base, bool ok)
{
}

static void free_stream(struct rpc_stream *stream)
{
    rpc_call_deinit(&stream->base);
    grpc_metadata_array_destroy(&stream->raw_headers);
    grpc_metadata_array_destroy(&stream->raw_trailing);
    rpc_metadata_deinit(&stream->metadata);
    rpc_metadata_deinit(&stream->headers);
    rpc_metadata_deinit(&stream->trailing);
    grpc_slice_unref(stream->message);
    free(stream);
}

static void leave_if_over(struct rpc_stream *stream)
{
    if (stream->base.batches > 0 || !stream->has_status) {
        return;
    }
    struct rpc_client *client = stream->client;
    if (client != NULL) {
        stream->client = NULL;
        list_remove(&stream->node);
        rpc_call_drop_core(&stream->base);
        rpc_client_gone(client);
    }
    if (stream->is_released) {
        free_stream(stream);
    }
}

static void on_idle(struct rpc_call *base)
{
    leave_if_over(list_entry(base, struct rpc_stream, base));
}

static const struct rpc_call_class client_class = {.end_ops = end_ops, .sent = on_sent, .idle = on_idle};

static void on_headers(struct inbox_item *item)
{
    struct rpc_stream *stream = list_entry(item, struct rpc_stream, headers_tag.item);
    const struct rpc_call_events *events = stream->base.events;
    stream->has_headers = stream->headers_tag.ok;
    rpc_metadata_copy(&stream->headers, &stream->raw_headers);
    if (stream->has_headers && events != NULL && events->headers != NULL) {
        events->headers(stream->base.arg);
    }
    rpc_call_done(&stream->base);
}

static void on_status(struct inbox_item *item)
{
    struct rpc_stream *stream = list_entry(item, struct rpc_stream, status_tag.item);
    const struct rpc_call_events *events = stream->base.events;
    stream->has_status = true;
    rpc_metadata_copy(&stream->trailing, &stream->raw_trailing);
    rpc_call_kill(&stream->base); /* nobody reads what we would still send */
    /* The core reports the status after the transport has no message left, so at most one is still to be
     * fetched. */
    stream->base.limits.in_messages = UINT32_MAX;
    stream->base.limits.in_bytes = SIZE_MAX;
    rpc_call_read_start(&stream->base);
    if (events != NULL && events->closed != NULL) {
        events->closed(stream->base.arg);
    }
    rpc_call_done(&stream->base);
}

static struct rpc_stream *create(struct rpc_client *client, grpc_call *core, struct rpc_stream_opts *opts)
{
    struct rpc_stream *stream = xcalloc(1, sizeof(*stream));
    rpc_call_init(&stream->base, client->env, &client_class, &opts->limits);
    stream->base.core = core;
    stream->base.is_headers_sent = true; /* they leave with the first batch */
    stream->client = client;
    stream->headers_tag.item.fn = on_headers;
    stream->status_tag.item.fn = on_status;
    stream->message = grpc_empty_slice();
    grpc_metadata_array_init(&stream->raw_headers);
    grpc_metadata_array_init(&stream->raw_trailing);
    rpc_metadata_move(&stream->metadata, opts->metadata);
    list_push_back(&client->streams, &stream->node);
    return stream;
}

static bool start_status(struct rpc_stream *stream)
{
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op.data.recv_status_on_client.trailing_metadata = &stream->raw_trailing;
    op.data.recv_status_on_client.status = &stream->status;
    op.data.recv_status_on_client.status_details = &stream->message;
    return rpc_call_start(&stream->base, &op, 1, &stream->status_tag);
}

static bool start_headers(struct rpc_stream *stream, struct rpc_stream_opts *opts)
{
    grpc_op ops[4];
    memset(ops, 0, sizeof(ops));
    size_t count = 0;
    grpc_byte_buffer *request = NULL;
    ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[count].flags = rpc_client_headers_flags(opts->waits_for_ready);
    ops[count].data.send_initial_metadata.count = stream->metadata.count;
    ops[count].data.send_initial_metadata.metadata = stream->metadata.items;
    count++;
    ops[count].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[count].data.recv_initial_metadata.recv_initial_metadata = &stream->raw_headers;
    count++;
    if (opts->has_request) {
        request = grpc_raw_byte_buffer_create(&opts->request, 1);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count].data.send_message.send_message = request;
        count++;
        ops[count].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        count++;
        stream->base.is_end_queued = true;
        stream->base.is_end_sent = true;
    }
    bool is_started = rpc_call_start(&stream->base, ops, count, &stream->headers_tag);
    if (request != NULL) {
        grpc_byte_buffer_destroy(request);
    }
    return is_started;
}

static void drop_opts(struct rpc_stream_opts *opts)
{
    if (opts->has_request) {
        grpc_slice_unref(opts->request);
    }
    if (opts->metadata != NULL) {
        rpc_metadata_deinit(opts->metadata);
    }
}

int rpc_stream_open(struct rpc_client *client, struct rpc_stream_opts *opts,
                    const struct rpc_call_events *events, void *arg, struct rpc_stream **out, struct err *err)
{
    grpc_call *core = rpc_client_create_call(client, opts->method, opts->timeout_ms, err);
    if (core == NULL) {
        drop_opts(opts);
        return err->code;
    }
    struct rpc_stream *stream = create(client, core, opts);
    if (!start_status(stream)) {
        stream->has_status = true;
        rpc_stream_release(stream);
        drop_opts(opts);
        return err_set(err, ERR_INTERNAL, "start stream %s: the core refused it", opts->method);
    }
    stream->base.events = events;
    stream->base.arg = arg;
    (void)start_headers(stream, opts); /* a refusal has cancelled the call: the status will tell */
    drop_opts(opts);
    rpc_call_read_start(&stream->base);
    *out = stream;
    return 0;
}

struct rpc_call *rpc_stream_base(struct rpc_stream *stream)
{
    return &stream->base;
}

enum rpc_read rpc_stream_read(struct rpc_stream *stream, grpc_slice *out)
{
    enum rpc_read state = rpc_call_read(&stream->base, out);
    if (state == RPC_READ_MESSAGE || state == RPC_READ_EMPTY) {
        return state;
    }
    if (!stream->has_status) {
        return RPC_READ_EMPTY;
    }
    return stream->status == GRPC_STATUS_OK ? RPC_READ_END : RPC_READ_FAILED;
}

void rpc_stream_half_close(struct rpc_stream *stream)
{
    if (!stream->base.is_dead) {
        rpc_call_end(&stream->base);
    }
}

void rpc_stream_cancel(struct rpc_stream *stream)
{
    if (stream->client != NULL && !stream->has_status) {
        stream->is_cancelled = true;
        (void)grpc_call_cancel(stream->base.core, NULL); /* the status follows */
    }
}

bool rpc_stream_is_cancelled(const struct rpc_stream *stream)
{
    return stream->is_cancelled;
}

void rpc_stream_abort(struct list *node)
{
    rpc_stream_cancel(list_entry(node, struct rpc_stream, node));
}

bool rpc_stream_has_headers(const struct rpc_stream *stream)
{
    return stream->has_headers;
}

bool rpc_stream_has_status(const struct rpc_stream *stream)
{
    return stream->has_status;
}

const grpc_metadata *rpc_stream_headers(const struct rpc_stream *stream, size_t *count)
{
    *count = stream->headers.count;
    return stream->headers.items;
}

const grpc_metadata *rpc_stream_trailing(const struct rpc_stream *stream, size_t *count)
{
    *count = stream->trailing.count;
    return stream->trailing.items;
}

grpc_status_code rpc_stream_status(const struct rpc_stream *stream, const char **message, size_t *len)
{
    *message = (const char *)GRPC_SLICE_START_PTR(stream->message);
    *len = GRPC_SLICE_LENGTH(stream->message);
    return stream->status;
}

void rpc_stream_release(struct rpc_stream *stream)
{
    stream->base.events = NULL;
    stream->is_released = true;
    rpc_stream_cancel(stream);
    leave_if_over(stream);
}
