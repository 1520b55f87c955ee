/* Queues and pumps shared by both ends of a call; see rpc_call.h. */
#include "rpc/rpc_call.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xmem.h"

enum {
    DEFAULT_MESSAGES = 256,
    DEFAULT_OUT_BYTES = 8 << 20,
    DEFAULT_IN_BYTES = 1 << 20,
    QUEUE_KEEP = 64, /* an empty queue larger than this gives its memory back */
    END_OPS = 3,
};

/* --- slices and queues ------------------------------------------------------------------------- */

static void release_bytes(void *arg)
{
    bytes_unref(arg);
}

grpc_slice rpc_call_slice(const void *data, size_t len, struct bytes *shared)
{
    if (shared != NULL && len >= GRPC_SLICE_INLINED_SIZE) {
        return grpc_slice_new_with_user_data(shared->data, len, release_bytes, bytes_ref(shared));
    }
    return grpc_slice_from_copied_buffer(data, len);
}

grpc_slice rpc_call_flatten(grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice slice = grpc_empty_slice();
    if (grpc_byte_buffer_reader_init(&reader, buffer)) {
        size_t total = grpc_byte_buffer_length(reader.buffer_out);
        if (total > 0 && grpc_byte_buffer_reader_next(&reader, &slice) && GRPC_SLICE_LENGTH(slice) < total) {
            grpc_slice whole = grpc_slice_malloc(total);
            size_t at = 0;
            do {
                memcpy(GRPC_SLICE_START_PTR(whole) + at, GRPC_SLICE_START_PTR(slice),
                       GRPC_SLICE_LENGTH(slice));
                at += GRPC_SLICE_LENGTH(slice);
                grpc_slice_unref(slice);
            } while (at < total && grpc_byte_buffer_reader_next(&reader, &slice));
            slice = whole;
        }
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(buffer);
    return slice;
}

static void queue_push(struct rpc_queue *queue, grpc_slice slice)
{
    if (queue->len == queue->cap) {
        uint32_t cap = queue->cap == 0 ? 8 : queue->cap * 2;
        grpc_slice *items = xmalloc(cap * sizeof(*items));
        for (uint32_t i = 0; i < queue->len; i++) {
            items[i] = queue->items[(queue->head + i) & (queue->cap - 1)];
        }
        free(queue->items);
        queue->items = items;
        queue->head = 0;
        queue->cap = cap;
    }
    queue->items[(queue->head + queue->len) & (queue->cap - 1)] = slice;
    queue->len++;
    queue->bytes += GRPC_SLICE_LENGTH(slice);
}

static grpc_slice queue_pop(struct rpc_queue *queue)
{
    grpc_slice slice = queue->items[queue->head];
    queue->head = (queue->head + 1) & (queue->cap - 1);
    queue->len--;
    queue->bytes -= GRPC_SLICE_LENGTH(slice);
    if (queue->len == 0 && queue->cap > QUEUE_KEEP) {
        free(queue->items);
        *queue = (struct rpc_queue){0};
    }
    return slice;
}

static void queue_clear(struct rpc_queue *queue)
{
    while (queue->len > 0) {
        grpc_slice_unref(queue_pop(queue));
    }
    free(queue->items);
    *queue = (struct rpc_queue){0};
}

/* --- batches ----------------------------------------------------------------------------------- */

bool rpc_call_start(struct rpc_call *call, const grpc_op *ops, size_t count, struct rpc_tag *tag)
{
    grpc_call_error error = rpc_env_start(call->env, call->core, ops, count, tag);
    if (error != GRPC_CALL_OK) {
        log_line(LOG_ERROR, "rpc.batch", "the core refused a batch: %s", grpc_call_error_to_string(error));
        (void)grpc_call_cancel(call->core, NULL); /* ends it for everybody; there is nothing better */
        return false;
    }
    call->batches++;
    return true;
}

void rpc_call_done(struct rpc_call *call)
{
    assert(call->batches > 0);
    if (--call->batches == 0) {
        call->class->idle(call);
    }
}

/* --- sending ----------------------------------------------------------------------------------- */

static bool is_full(const struct rpc_call *call, size_t len)
{
    return call->out.len > 0 &&
           (call->out.len >= call->limits.out_messages || call->out.bytes + len > call->limits.out_bytes);
}

/* Writers wake when half of the queue is free, not for every message that leaves. */
static bool has_room(const struct rpc_call *call)
{
    return call->out.len <= call->limits.out_messages / 2 && call->out.bytes <= call->limits.out_bytes / 2;
}

/* One batch at a time: initial metadata, the oldest message and the end, whatever of them is due. The hint
 * tells the transport that more follows, so that it gathers a burst into few frames. */
static void pump_send(struct rpc_call *call)
{
    if (call->is_sending || call->is_end_sent || call->is_dead) {
        return;
    }
    grpc_op ops[2 + END_OPS];
    memset(ops, 0, sizeof(ops));
    size_t count = 0;
    bool has_end = call->is_end_queued && call->out.len <= 1;
    if (!call->is_headers_sent && (call->wants_headers || call->out.len > 0 || has_end)) {
        ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
        ops[count].data.send_initial_metadata.count = call->header_count;
        ops[count].data.send_initial_metadata.metadata = call->headers;
        count++;
        call->is_headers_sent = true;
    }
    grpc_byte_buffer *buffer = NULL;
    if (call->out.len > 0) {
        grpc_slice slice = queue_pop(&call->out);
        buffer = grpc_raw_byte_buffer_create(&slice, 1);
        grpc_slice_unref(slice);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        /* Not together with the initial metadata: the transport would hold both back and complete neither. */
        ops[count].flags = call->out.len > 0 && count == 0 ? GRPC_WRITE_BUFFER_HINT : 0;
        ops[count].data.send_message.send_message = buffer;
        count++;
    }
    if (has_end) {
        count += call->class->end_ops(call, &ops[count]);
        call->is_end_sent = true;
    }
    if (count > 0) {
        call->is_sending = rpc_call_start(call, ops, count, &call->send_tag);
    }
    if (buffer != NULL) {
        grpc_byte_buffer_destroy(buffer); /* its slices have moved into the batch */
    }
}

static void on_sent(struct inbox_item *item)
{
    struct rpc_call *call = list_entry(item, struct rpc_call, send_tag.item);
    call->is_sending = false;
    call->class->sent(call, call->send_tag.ok);
    if (!call->send_tag.ok) {
        rpc_call_kill(call);
    }
    pump_send(call);
    if (call->was_full && (call->is_dead || has_room(call))) {
        call->was_full = false;
        if (call->events != NULL && call->events->writable != NULL) {
            call->events->writable(call->arg);
        }
    }
    rpc_call_done(call);
}

static void on_flush(struct inbox_item *item)
{
    struct rpc_call *call = list_entry(item, struct rpc_call, flush);
    call->is_flushing = false;
    pump_send(call);
    rpc_call_done(call);
}

/* The queued flush counts as a batch, so that the call cannot go away under it. */
void rpc_call_flush(struct rpc_call *call)
{
    if (!call->is_flushing && !call->is_sending && !call->is_dead) {
        call->is_flushing = true;
        call->batches++;
        rpc_env_defer(call->env, &call->flush);
    }
}

int rpc_call_write_last(struct rpc_call *call, grpc_slice slice)
{
    if (call->is_dead || call->is_end_queued) {
        return ERR_CLOSED;
    }
    queue_push(&call->out, slice);
    rpc_call_flush(call);
    return 0;
}

int rpc_call_write(struct rpc_call *call, grpc_slice slice)
{
    if (!call->is_dead && !call->is_end_queued && is_full(call, GRPC_SLICE_LENGTH(slice))) {
        call->was_full = true;
        return ERR_LIMIT;
    }
    return rpc_call_write_last(call, slice);
}

int rpc_call_write_within(struct rpc_call *call, grpc_slice slice, size_t window)
{
    bool is_over = call->out.len > 0 && call->out.bytes + GRPC_SLICE_LENGTH(slice) > window;
    if (is_over && !call->is_dead && !call->is_end_queued) {
        call->was_full = true;
        return ERR_LIMIT;
    }
    return rpc_call_write(call, slice);
}

void rpc_call_end(struct rpc_call *call)
{
    if (!call->is_end_queued) {
        call->is_end_queued = true;
        rpc_call_flush(call);
    }
}

void rpc_call_kill(struct rpc_call *call)
{
    call->is_dead = true;
    queue_clear(&call->out);
}

/* --- receiving --------------------------------------------------------------------------------- */

static void pump_recv(struct rpc_call *call)
{
    if (!call->is_reading || call->is_receiving || call->is_in_ended || call->core == NULL ||
        call->in.len >= call->limits.in_messages || call->in.bytes >= call->limits.in_bytes) {
        return;
    }
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->incoming;
    call->incoming = NULL;
    call->is_receiving = rpc_call_start(call, &op, 1, &call->recv_tag);
    if (!call->is_receiving) {
        call->is_in_ended = true;
        call->is_in_failed = true;
    }
}

static void tell_readable(struct rpc_call *call)
{
    if (call->events != NULL && call->events->readable != NULL) {
        call->events->readable(call->arg);
    }
}

/* What the transport holds already arrives message by message at the end of this turn: a reader of many waits
 * as long as the queue grows. */
static void on_notify(struct inbox_item *item)
{
    struct rpc_call *call = list_entry(item, struct rpc_call, notify);
    if (call->gathers && call->in.len > call->seen && call->in.len < call->limits.in_messages &&
        !call->is_in_ended) {
        call->seen = call->in.len;
        rpc_env_defer(call->env, &call->notify);
        return;
    }
    call->is_notifying = false;
    tell_readable(call);
    rpc_call_done(call);
}

static void notify_later(struct rpc_call *call)
{
    if (!call->is_notifying) {
        call->is_notifying = true;
        call->seen = 0;
        call->batches++; /* so that the call cannot go away under it */
        rpc_env_defer(call->env, &call->notify);
    }
}

static void on_received(struct inbox_item *item)
{
    struct rpc_call *call = list_entry(item, struct rpc_call, recv_tag.item);
    call->is_receiving = false;
    if (call->recv_tag.ok && call->incoming != NULL) {
        queue_push(&call->in, rpc_call_flatten(call->incoming));
    } else {
        if (call->incoming != NULL) {
            grpc_byte_buffer_destroy(call->incoming);
        }
        call->is_in_ended = true;
        call->is_in_failed = !call->recv_tag.ok || grpc_call_failed_before_recv_message(call->core) != 0;
    }
    call->incoming = NULL;
    pump_recv(call);
    if (call->gathers && !call->is_in_ended) {
        notify_later(call);
    } else {
        tell_readable(call);
    }
    rpc_call_done(call);
}

void rpc_call_read_start(struct rpc_call *call)
{
    call->is_reading = true;
    pump_recv(call);
}

enum rpc_read rpc_call_read(struct rpc_call *call, grpc_slice *out)
{
    if (call->in.len > 0) {
        *out = queue_pop(&call->in);
        pump_recv(call);
        return RPC_READ_MESSAGE;
    }
    if (call->is_in_ended) {
        return call->is_in_failed ? RPC_READ_FAILED : RPC_READ_END;
    }
    return RPC_READ_EMPTY;
}

/* --- life -------------------------------------------------------------------------------------- */

void rpc_call_init(struct rpc_call *call, struct rpc_env *env, const struct rpc_call_class *class,
                   const struct rpc_call_limits *limits)
{
    memset(call, 0, sizeof(*call));
    call->env = env;
    call->class = class;
    call->limits = *limits;
    if (call->limits.out_messages == 0) {
        call->limits.out_messages = DEFAULT_MESSAGES;
    }
    if (call->limits.out_bytes == 0) {
        call->limits.out_bytes = DEFAULT_OUT_BYTES;
    }
    if (call->limits.in_messages == 0) {
        call->limits.in_messages = DEFAULT_MESSAGES;
    }
    if (call->limits.in_bytes == 0) {
        call->limits.in_bytes = DEFAULT_IN_BYTES;
    }
    call->send_tag.item.fn = on_sent;
    call->recv_tag.item.fn = on_received;
    call->flush.fn = on_flush;
    call->notify.fn = on_notify;
}

void rpc_call_drop_core(struct rpc_call *call)
{
    assert(call->batches == 0);
    if (call->core != NULL) {
        grpc_call_unref(call->core);
        call->core = NULL;
    }
}

void rpc_call_deinit(struct rpc_call *call)
{
    rpc_call_drop_core(call);
    queue_clear(&call->out);
    queue_clear(&call->in);
}
