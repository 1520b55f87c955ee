/* A server's calls; see rpc_server.h.
 *
 * A unary call that is answered at once costs one batch. Only a call that stays open for a moment gets a
 * second one, RECV_CLOSE alone, which reports that the client has gone: fresh calls are looked at every
 * AGE_MS, and those that were there the last time are armed. Streams are armed from the start. Armed unary
 * calls are under the server's timeout, which is the same for all, so that they expire in the order in which
 * they were armed. */
#include "rpc/rpc_server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"

enum {
    AGE_MS = 10,
    POOL_MAX = 512,
    NS_PER_MS = 1000000,
};

static const char drain_text[] = "the server is shutting down";

/* --- ending ------------------------------------------------------------------------------------ */

static void leave_if_over(struct rpc_server_call *call)
{
    if (!call->is_close_seen || call->base.batches > 0 || call->is_held) {
        return;
    }
    struct rpc_server *server = call->server;
    if (call->is_refused) {
        server->refusing--;
    } else {
        server->stats.live--;
    }
    list_remove(&call->node);
    rpc_server_call_recycle(call);
    rpc_server_call_gone(server);
}

static void tell_closed(struct rpc_server_call *call)
{
    if (!call->is_closed_told && call->base.events != NULL && call->base.events->closed != NULL) {
        call->is_closed_told = true;
        call->base.events->closed(call->base.arg);
    }
}

static void on_close_seen(struct rpc_server_call *call)
{
    call->is_close_seen = true;
    if (call->cancelled) {
        call->server->stats.cancelled++;
        rpc_call_kill(&call->base);
    }
    tell_closed(call);
}

static void on_close_tag(struct inbox_item *item)
{
    struct rpc_server_call *call = list_entry(item, struct rpc_server_call, close_tag.item);
    on_close_seen(call);
    rpc_call_done(&call->base);
}

static void start_expiring(struct rpc_server *server, uint64_t delay_ms)
{
    server->is_expiring = true;
    timer_start(server->expire_timer, delay_ms, 0);
}

static void limit_time(struct rpc_server_call *call)
{
    struct rpc_server *server = call->server;
    if (server->unary_timeout_ms == 0 || call->method == NULL || call->method->kind != RPC_UNARY) {
        return;
    }
    call->expires_ns = loop_mono_ns() + server->unary_timeout_ms * NS_PER_MS;
    list_push_back(&server->slow, &call->age_node);
    if (!server->is_expiring) {
        start_expiring(server, server->unary_timeout_ms);
    }
}

static void arm_close(struct rpc_server_call *call)
{
    limit_time(call);
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->is_close_armed = true;
    if (!rpc_call_start(&call->base, &op, 1, &call->close_tag)) {
        call->is_close_seen = true; /* nothing else would ever end it */
        rpc_call_kill(&call->base);
    }
}

void rpc_server_call_watch(struct rpc_server_call *call)
{
    if (!call->is_close_armed && !call->base.is_end_sent) {
        list_remove(&call->age_node);
        arm_close(call);
    }
}

static size_t end_ops(struct rpc_call *base, grpc_op *ops)
{
    struct rpc_server_call *call = list_entry(base, struct rpc_server_call, base);
    size_t count = 0;
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = call->status;
    ops[count].data.send_status_from_server.status_details = &call->details_text;
    ops[count].data.send_status_from_server.trailing_metadata_count = call->trailing.count;
    ops[count].data.send_status_from_server.trailing_metadata = call->trailing.items;
    count++;
    if (!call->is_close_armed) {
        list_remove(&call->age_node);
        ops[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[count].data.recv_close_on_server.cancelled = &call->cancelled;
        count++;
    }
    return count;
}

static void on_sent(struct rpc_call *base, bool ok)
{
    struct rpc_server_call *call = list_entry(base, struct rpc_server_call, base);
    if (base->is_end_sent && !call->is_close_armed && !call->is_close_seen) {
        on_close_seen(call); /* RECV_CLOSE was part of the batch that has completed */
    }
}

static void on_idle(struct rpc_call *base)
{
    leave_if_over(list_entry(base, struct rpc_server_call, base));
}

static const struct rpc_call_class server_class = {.end_ops = end_ops, .sent = on_sent, .idle = on_idle};

/* --- beginning --------------------------------------------------------------------------------- */

static void age(struct rpc_server *server, struct rpc_server_call *call)
{
    list_push_back(&server->fresh, &call->age_node);
    if (!server->is_aging) {
        server->is_aging = true;
        timer_start(server->age_timer, AGE_MS, 0);
    }
}

void rpc_server_call_on_age(void *arg)
{
    struct rpc_server *server = arg;
    struct list *node;
    while ((node = list_pop_front(&server->waiting)) != NULL) {
        arm_close(list_entry(node, struct rpc_server_call, age_node));
    }
    while ((node = list_pop_front(&server->fresh)) != NULL) {
        list_push_back(&server->waiting, node);
    }
    server->is_aging = !list_is_empty(&server->waiting);
    if (server->is_aging) {
        timer_start(server->age_timer, AGE_MS, 0);
    }
}

void rpc_server_call_begin(struct rpc_server_call *call)
{
    const struct rpc_method *method = call->method;
    if (call->payload != NULL) {
        call->request = rpc_call_flatten(call->payload);
        call->payload = NULL;
    }
    if (method->kind == RPC_UNARY) {
        age(call->server, call);
        return;
    }
    arm_close(call);
    if (!method->has_late_headers) {
        call->base.wants_headers = true;
        rpc_call_flush(&call->base);
    }
    if (method->kind != RPC_SERVER_STREAM) {
        rpc_call_read_start(&call->base);
    }
}

/* The user is told as by a cancel of the client: nothing it does matters any more. */
static void cut(struct rpc_server_call *call, grpc_status_code status, const char *text)
{
    call->is_cut = true;
    (void)rpc_server_call_finish(call, status, text, strlen(text), NULL); /* or it has just been answered */
    tell_closed(call);
}

void rpc_server_call_on_expire(void *arg)
{
    struct rpc_server *server = arg;
    uint64_t now = loop_mono_ns();
    char text[80];
    (void)snprintf(text, sizeof(text), "the request took longer than %llu ms",
                   (unsigned long long)server->unary_timeout_ms);
    server->is_expiring = false;
    while (!list_is_empty(&server->slow)) {
        struct rpc_server_call *call = list_entry(server->slow.next, struct rpc_server_call, age_node);
        if (call->expires_ns > now) {
            start_expiring(server, (call->expires_ns - now) / NS_PER_MS + 1);
            return;
        }
        list_remove(&call->age_node);
        if (!call->is_answered && !call->is_close_seen) {
            server->stats.timed_out++;
            cut(call, GRPC_STATUS_DEADLINE_EXCEEDED, text);
        }
    }
}

void rpc_server_call_refuse(struct rpc_server_call *call, grpc_status_code status, const char *message)
{
    call->is_refused = true;
    call->server->refusing++;
    (void)rpc_server_call_finish(call, status, message, strlen(message),
                                 NULL); /* nothing can be in its way */
}

void rpc_server_call_drain(struct rpc_server_call *call)
{
    if (call->method->kind == RPC_UNARY || call->is_close_seen) {
        return;
    }
    cut(call, GRPC_STATUS_UNAVAILABLE, drain_text);
}

/* --- slots ------------------------------------------------------------------------------------- */

struct rpc_server_call *rpc_server_call_take(struct rpc_server *server, struct rpc_method *method)
{
    struct rpc_server_call *call;
    struct list *node = list_pop_front(&server->pool);
    if (node != NULL) {
        call = list_entry(node, struct rpc_server_call, node);
        server->pool_len--;
        memset(call, 0, sizeof(*call));
    } else {
        call = xcalloc(1, sizeof(*call));
    }
    rpc_call_init(&call->base, server->env, &server_class, &server->limits);
    call->server = server;
    call->method = method;
    call->close_tag.item.fn = on_close_tag;
    call->request = grpc_empty_slice();
    call->details_text = grpc_empty_slice();
    grpc_metadata_array_init(&call->metadata);
    list_init(&call->node);
    list_init(&call->age_node);
    return call;
}

static void release_content(struct rpc_server_call *call)
{
    list_remove(&call->age_node);
    grpc_metadata_array_destroy(&call->metadata); /* its slices belong to the core's call */
    if (call->details != NULL) {
        grpc_call_details_destroy(call->details);
        free(call->details);
    }
    if (call->payload != NULL) {
        grpc_byte_buffer_destroy(call->payload);
    }
    grpc_slice_unref(call->request);
    grpc_slice_unref(call->details_text);
    rpc_metadata_deinit(&call->headers);
    rpc_metadata_deinit(&call->trailing);
    rpc_call_deinit(&call->base);
}

void rpc_server_call_recycle(struct rpc_server_call *call)
{
    struct rpc_server *server = call->server;
    release_content(call);
    if (server->pool_len < POOL_MAX && !server->is_closing) {
        list_push_front(&server->pool, &call->node);
        server->pool_len++;
    } else {
        free(call);
    }
}

void rpc_server_call_free(struct rpc_server_call *call)
{
    release_content(call);
    free(call);
}

/* --- the user's side --------------------------------------------------------------------------- */

struct rpc_call *rpc_server_call_base(struct rpc_server_call *call)
{
    return &call->base;
}

void rpc_server_call_set_events(struct rpc_server_call *call, const struct rpc_call_events *events, void *arg)
{
    call->base.events = events;
    call->base.arg = arg;
}

const char *rpc_server_call_method(const struct rpc_server_call *call)
{
    return call->method->name;
}

size_t rpc_server_call_method_index(const struct rpc_server_call *call)
{
    return call->method->index;
}

enum rpc_kind rpc_server_call_kind(const struct rpc_server_call *call)
{
    return call->method->kind;
}

const grpc_slice *rpc_server_call_request(const struct rpc_server_call *call)
{
    return &call->request;
}

const grpc_metadata_array *rpc_server_call_metadata(const struct rpc_server_call *call)
{
    return &call->metadata;
}

char *rpc_server_call_peer(struct rpc_server_call *call)
{
    return grpc_call_get_peer(call->base.core);
}

int64_t rpc_server_call_remaining_ms(const struct rpc_server_call *call)
{
    gpr_timespec deadline = gpr_convert_clock_type(call->deadline, GPR_CLOCK_MONOTONIC);
    if (gpr_time_cmp(deadline, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0) {
        return -1;
    }
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_MONOTONIC));
    int64_t ms = left.tv_sec * 1000 + left.tv_nsec / 1000000;
    return ms < 0 ? 0 : ms;
}

void rpc_server_call_each_property(struct rpc_server_call *call,
                                   void (*fn)(void *arg, const char *name, const char *value, size_t len),
                                   void *arg)
{
    grpc_auth_context *context = grpc_call_auth_context(call->base.core);
    if (context == NULL) {
        return;
    }
    grpc_auth_property_iterator it = grpc_auth_context_property_iterator(context);
    const grpc_auth_property *property;
    while ((property = grpc_auth_property_iterator_next(&it)) != NULL) {
        fn(arg, property->name, property->value, property->value_length);
    }
    grpc_auth_context_release(context);
}

bool rpc_server_call_is_answered(const struct rpc_server_call *call)
{
    return call->is_answered;
}

bool rpc_server_call_is_over(const struct rpc_server_call *call)
{
    return call->is_close_seen;
}

bool rpc_server_call_is_cancelled(const struct rpc_server_call *call)
{
    /* A send that fails tells before the close does. */
    return call->is_cut || call->base.is_dead;
}

int rpc_server_call_status(const struct rpc_server_call *call)
{
    if (call->is_answered) {
        return (int)call->status;
    }
    return rpc_server_call_is_cancelled(call) ? (int)GRPC_STATUS_CANCELLED : -1;
}

int rpc_server_call_set_headers(struct rpc_server_call *call, struct rpc_metadata *headers, struct err *err)
{
    const struct rpc_call *base = &call->base;
    if (base->is_headers_sent || base->wants_headers || base->is_end_queued || base->is_dead ||
        base->out.len > 0) {
        return err_set(err, ERR_CLOSED, "the initial metadata of this call has been sent");
    }
    rpc_metadata_move(&call->headers, headers);
    call->base.headers = call->headers.items;
    call->base.header_count = call->headers.count;
    return 0;
}

static int finish(struct rpc_server_call *call, grpc_status_code status, grpc_slice text,
                  struct rpc_metadata *trailing)
{
    if (call->is_answered || call->base.is_dead) {
        grpc_slice_unref(text);
        return ERR_CLOSED;
    }
    call->is_answered = true;
    call->status = status;
    call->details_text = text;
    rpc_metadata_move(&call->trailing, trailing);
    rpc_call_end(&call->base);
    return 0;
}

int rpc_server_call_reply(struct rpc_server_call *call, grpc_slice slice, struct rpc_metadata *trailing)
{
    if (call->is_answered || rpc_call_write_last(&call->base, slice) != 0) {
        grpc_slice_unref(slice);
        return ERR_CLOSED;
    }
    return finish(call, GRPC_STATUS_OK, grpc_empty_slice(), trailing);
}

int rpc_server_call_finish(struct rpc_server_call *call, grpc_status_code status, const char *message,
                           size_t len, struct rpc_metadata *trailing)
{
    return finish(call, status, grpc_slice_from_copied_buffer(message, len), trailing);
}

void rpc_server_call_release(struct rpc_server_call *call)
{
    static const char text[] = "the handler ended without an answer";
    call->base.events = NULL;
    call->is_held = false;
    (void)rpc_server_call_finish(call, GRPC_STATUS_INTERNAL, text, sizeof(text) - 1,
                                 NULL); /* refused if answered */
    leave_if_over(call);
}
