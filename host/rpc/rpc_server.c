/* The server: listening, accepting, draining, closing; see rpc_server.h. Order of shutdown: refuse and end
 * calls ourselves (calls that reach a core in shutdown fail with CANCELLED, which clients do not retry), then
 * shut the core down, wait for its tag and for our own count of calls and slots, destroy. */
#include "rpc/rpc_server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/support/alloc.h>

#include "base/xmem.h"
#include "loop/timer.h"

enum {
    FIRST_SLOTS = 2, /* of a method; doubled up to MAX_SLOTS */
    MAX_SLOTS = 64,
    UNKNOWN_SLOTS = 2,
    DEFAULT_MESSAGE_BYTES = 4 << 20,
    DEFAULT_METADATA_BYTES = 64 << 10,
    DEFAULT_STREAMS = 128,
    DEFAULT_CALLS = 10000,
    DEFAULT_KEEPALIVE_MS = 60000,
    KEEPALIVE_TIMEOUT_MS = 20000,
    MIN_PING_MS = 10000,
    HANDSHAKE_MS = 10000,
    MAX_ARGS = 16,
};

static const char draining[] = "the server is shutting down";

static bool request_call(struct rpc_server *server, struct rpc_method *method);
static void finish_if_down(struct rpc_server *server);

/* --- accepting --------------------------------------------------------------------------------- */

static void on_unknown(struct rpc_server_call *call)
{
    char text[160];
    char *method = grpc_slice_to_c_string(call->details->method);
    (void)snprintf(text, sizeof(text), "unknown method %.120s", method); /* cut on purpose */
    gpr_free(method);
    call->server->stats.unknown++;
    rpc_server_call_refuse(call, GRPC_STATUS_UNIMPLEMENTED, text);
}

static void deliver(struct rpc_server_call *call)
{
    struct rpc_server *server = call->server;
    if (server->is_draining) {
        server->stats.refused++;
        rpc_server_call_refuse(call, GRPC_STATUS_UNAVAILABLE, draining);
        return;
    }
    if (server->stats.live >= server->max_calls) {
        server->stats.refused++;
        rpc_server_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "too many calls in progress");
        return;
    }
    bool needs_request = call->method->kind == RPC_UNARY || call->method->kind == RPC_SERVER_STREAM;
    if (needs_request && call->payload == NULL) {
        /* Oversized (the core has already ended it) or closed without a message. */
        rpc_server_call_refuse(call, GRPC_STATUS_INTERNAL, "the request message is missing");
        return;
    }
    server->stats.calls++;
    server->stats.live++;
    list_push_back(&server->live, &call->node);
    call->is_held = true;
    rpc_server_call_begin(call);
    server->fn(server->arg, call);
}

/* Debian's core searches all outstanding tags at every completion, so each slot costs every call a little: a
 * method has few until a burst has used them all up. Calls beyond the slots wait in the core meanwhile. */
static void refill(struct rpc_server *server, struct rpc_method *method)
{
    if (method == NULL) {
        (void)request_call(server, NULL);
        return;
    }
    method->empty--;
    if (method->empty == 0 && method->slots < MAX_SLOTS) {
        method->slots *= 2;
    }
    while (method->empty < method->slots && request_call(server, method)) {
        method->empty++;
    }
}

static void on_new(struct inbox_item *item)
{
    struct rpc_server_call *call = list_entry(item, struct rpc_server_call, new_tag.item);
    struct rpc_server *server = call->server;
    server->requested--;
    if (!call->new_tag.ok) { /* the server shuts down */
        rpc_server_call_free(call);
        finish_if_down(server);
        return;
    }
    if (!server->is_closing) {
        refill(server, call->method);
    }
    if (call->method == NULL) {
        on_unknown(call);
    } else {
        deliver(call);
    }
}

/* Gives the core one more slot; false when it takes none. */
static bool request_call(struct rpc_server *server, struct rpc_method *method)
{
    struct rpc_server_call *call = rpc_server_call_take(server, method);
    grpc_completion_queue *queue = rpc_env_queue(server->env);
    grpc_call_error error;
    call->new_tag.item.fn = on_new;
    rpc_env_enter(server->env, &call->new_tag);
    if (method == NULL) {
        call->details = xcalloc(1, sizeof(*call->details));
        grpc_call_details_init(call->details);
        error = grpc_server_request_call(server->core, &call->base.core, call->details, &call->metadata,
                                         queue, queue, &call->new_tag);
    } else {
        bool has_payload = method->kind == RPC_UNARY || method->kind == RPC_SERVER_STREAM;
        error = grpc_server_request_registered_call(
            server->core, method->registered, &call->base.core, &call->deadline, &call->metadata,
            has_payload ? &call->payload : NULL, queue, queue, &call->new_tag);
    }
    rpc_env_leave(server->env);
    if (error != GRPC_CALL_OK) {
        rpc_server_call_free(call); /* cannot happen with valid arguments; one slot less */
        return false;
    }
    server->requested++;
    return true;
}

void rpc_server_serve(struct rpc_server *server, rpc_call_fn fn, void *arg)
{
    server->fn = fn;
    server->arg = arg;
    for (size_t i = 0; i < server->method_count; i++) {
        struct rpc_method *method = &server->methods[i];
        method->slots = FIRST_SLOTS;
        while (method->empty < method->slots && request_call(server, method)) {
            method->empty++;
        }
    }
    for (int k = 0; k < UNKNOWN_SLOTS; k++) {
        (void)request_call(server, NULL);
    }
}

/* --- opening ----------------------------------------------------------------------------------- */

static grpc_server *create_core(const struct rpc_server_opts *opts)
{
    grpc_arg args[MAX_ARGS];
    size_t count = 0;
    const struct {
        const char *key;
        int value;
    } settings[] = {
        /* Off: a second program would bind the same port without an error and take half of the connections.
         */
        {GRPC_ARG_ALLOW_REUSEPORT, 0},
        {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         opts->max_message_bytes > 0 ? opts->max_message_bytes : DEFAULT_MESSAGE_BYTES},
        {GRPC_ARG_MAX_METADATA_SIZE,
         opts->max_metadata_bytes > 0 ? opts->max_metadata_bytes : DEFAULT_METADATA_BYTES},
        {GRPC_ARG_MAX_CONCURRENT_STREAMS,
         opts->max_concurrent_streams > 0 ? opts->max_concurrent_streams : DEFAULT_STREAMS},
        {GRPC_ARG_KEEPALIVE_TIME_MS, opts->keepalive_ms > 0 ? opts->keepalive_ms : DEFAULT_KEEPALIVE_MS},
        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
        /* Clients that ping idle streams are not thrown out. */
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, MIN_PING_MS},
        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0},
        {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS},
        {GRPC_ARG_ENABLE_CHANNELZ, 0},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        args[count].type = GRPC_ARG_INTEGER;
        args[count].key = (char *)settings[i].key;
        args[count].value.integer = settings[i].value;
        count++;
    }
    grpc_channel_args channel_args = {.num_args = count, .args = args};
    return grpc_server_create(&channel_args, NULL);
}

static int register_methods(struct rpc_server *server, const struct rpc_server_opts *opts, struct err *err)
{
    server->methods = xcalloc(opts->method_count + 1, sizeof(*server->methods));
    for (size_t i = 0; i < opts->method_count; i++) {
        struct rpc_method *method = &server->methods[i];
        const struct rpc_method_opts *from = &opts->methods[i];
        *method = (struct rpc_method){.server = server,
                                      .name = xstrdup(from->name),
                                      .index = i,
                                      .kind = from->kind,
                                      .has_late_headers = from->has_late_headers};
        server->method_count++;
        bool has_payload = from->kind == RPC_UNARY || from->kind == RPC_SERVER_STREAM;
        method->registered = grpc_server_register_method(
            server->core, method->name, NULL,
            has_payload ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
        if (method->registered == NULL) {
            return err_set(err, ERR_INVALID, "method %s is registered twice", from->name);
        }
    }
    return 0;
}

static int bind_port(struct rpc_server *server, const struct rpc_server_opts *opts, struct err *err)
{
    if (opts->tls != NULL) {
        server->certs = rpc_certs_new(opts->tls, err);
        if (server->certs == NULL) {
            return err->code;
        }
    }
    grpc_server_credentials *creds = server->certs != NULL ? rpc_certs_credentials(server->certs)
                                                           : grpc_insecure_server_credentials_create();
    rpc_env_capture_begin();
    int port = grpc_server_add_http2_port(server->core, opts->address, creds);
    const char *reason = rpc_env_capture_end();
    grpc_server_credentials_release(creds);
    if (port == 0) {
        return err_set(err, ERR_UNAVAILABLE, "listen on %s: %s", opts->address,
                       *reason != '\0' ? reason : "the address cannot be bound");
    }
    server->port = strncmp(opts->address, "unix:", 5) == 0 ? 0 : port;
    return 0;
}

static void on_shutdown(struct inbox_item *item);
static void on_drain(struct inbox_item *item);
static void on_drain_timeout(void *arg);

int rpc_server_open(struct loop *loop, const struct rpc_server_opts *opts, struct rpc_server **out,
                    struct err *err)
{
    struct rpc_server *server = xcalloc(1, sizeof(*server));
    server->env = rpc_env_acquire(loop);
    server->limits = opts->limits;
    server->max_calls = opts->max_calls > 0 ? (uint32_t)opts->max_calls : DEFAULT_CALLS;
    list_init(&server->live);
    list_init(&server->fresh);
    list_init(&server->waiting);
    list_init(&server->slow);
    list_init(&server->pool);
    server->age_timer = timer_open(loop, rpc_server_call_on_age, server);
    server->unary_timeout_ms = opts->unary_timeout_ms > 0 ? (uint64_t)opts->unary_timeout_ms : 0;
    server->expire_timer = timer_open(loop, rpc_server_call_on_expire, server);
    server->drain_timer = timer_open(loop, on_drain_timeout, server);
    server->shutdown_tag.item.fn = on_shutdown;
    server->drain_item.fn = on_drain;
    server->core = create_core(opts);
    grpc_server_register_completion_queue(server->core, rpc_env_queue(server->env), NULL);
    int status = register_methods(server, opts, err);
    if (status == 0) {
        status = bind_port(server, opts, err);
    }
    /* Even a server that failed to bind has to be started and shut down before it may be destroyed. */
    grpc_server_start(server->core);
    if (status != 0) {
        rpc_server_close(server, NULL, NULL);
        return status;
    }
    *out = server;
    return 0;
}

/* --- draining and closing ---------------------------------------------------------------------- */

static void end_drain(struct rpc_server *server)
{
    if (server->drained == NULL) {
        return;
    }
    rpc_drained_fn fn = server->drained;
    server->drained = NULL;
    timer_stop(server->drain_timer);
    fn(server->drained_arg, server->stats.live == 0);
}

static void on_drain_timeout(void *arg)
{
    end_drain(arg);
}

/* Deferred, so that events never reach the user from inside its own call of rpc_server_drain. */
static void on_drain(struct inbox_item *item)
{
    struct rpc_server *server = list_entry(item, struct rpc_server, drain_item);
    list_each_safe (node, &server->live) {
        rpc_server_call_drain(list_entry(node, struct rpc_server_call, node));
    }
    rpc_server_call_gone(server);
}

void rpc_server_drain(struct rpc_server *server, uint64_t grace_ms, rpc_drained_fn fn, void *arg)
{
    server->is_draining = true;
    server->drained = fn;
    server->drained_arg = arg;
    timer_start(server->drain_timer, grace_ms, 0);
    rpc_env_defer(server->env, &server->drain_item);
}

static void destroy(struct rpc_server *server)
{
    end_drain(server);
    struct list *node;
    while ((node = list_pop_front(&server->pool)) != NULL) {
        free(list_entry(node, struct rpc_server_call, node));
    }
    grpc_server_destroy(server->core);
    rpc_certs_free(server->certs);
    rpc_env_release(server->env);
    timer_close(server->age_timer);
    timer_close(server->expire_timer);
    timer_close(server->drain_timer);
    for (size_t i = 0; i < server->method_count; i++) {
        free(server->methods[i].name);
    }
    free(server->methods);
    if (server->closed != NULL) {
        server->closed(server->closed_arg);
    }
    free(server);
}

static void finish_if_down(struct rpc_server *server)
{
    if (server->is_core_down && server->requested == 0 && server->stats.live == 0 && server->refusing == 0) {
        destroy(server);
    }
}

void rpc_server_call_gone(struct rpc_server *server)
{
    if (server->is_draining && server->stats.live == 0) {
        end_drain(server);
    }
    finish_if_down(server);
}

static void on_shutdown(struct inbox_item *item)
{
    struct rpc_server *server = list_entry(item, struct rpc_server, shutdown_tag.item);
    server->is_core_down = true;
    finish_if_down(server);
}

void rpc_server_close(struct rpc_server *server, void (*done)(void *arg), void *arg)
{
    server->is_closing = true;
    server->is_draining = true;
    server->closed = done;
    server->closed_arg = arg;
    list_each (node, &server->live) {
        struct rpc_server_call *call = list_entry(node, struct rpc_server_call, node);
        (void)grpc_call_cancel_with_status(call->base.core, GRPC_STATUS_UNAVAILABLE, draining,
                                           NULL); /* ends soon */
        rpc_server_call_watch(call);
    }
    rpc_env_enter(server->env, &server->shutdown_tag);
    grpc_server_shutdown_and_notify(server->core, rpc_env_queue(server->env), &server->shutdown_tag);
    rpc_env_leave(server->env);
    grpc_server_cancel_all_calls(server->core); /* those that were never delivered */
}

int rpc_server_set_tls(struct rpc_server *server, const struct rpc_tls *tls, struct err *err)
{
    if (server->certs == NULL) {
        return err_set(err, ERR_INVALID, "the server listens in plain text");
    }
    return rpc_certs_set(server->certs, tls, err);
}

int rpc_server_port(const struct rpc_server *server)
{
    return server->port;
}

bool rpc_server_is_draining(const struct rpc_server *server)
{
    return server->is_draining;
}

void rpc_server_read_stats(const struct rpc_server *server, struct rpc_server_stats *stats)
{
    *stats = server->stats;
}
