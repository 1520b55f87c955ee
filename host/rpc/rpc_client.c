/* Channels and unary calls; see rpc_client.h. A unary call is one batch of all six operations and so one tag;
 * its object, metadata arrays included, is reused. */
#include "rpc/rpc_client_internal.h"

#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "base/xmem.h"

enum {
    POOL_MAX = 256,
    METHODS_MAX =
        256, /* registered names per channel; more are called unregistered, which costs a little more */
    DEFAULT_MESSAGE_BYTES = 4 << 20,
    DEFAULT_METADATA_BYTES = 64 << 10,
    KEEPALIVE_TIMEOUT_MS = 20000,
    RECONNECT_MS = 100, /* first pause after a lost connection; grows by 1.6 */
    RECONNECT_MAX_MS = 5000,
    MAX_ARGS = 16,
};

struct rpc_unary {
    struct list node;
    struct rpc_client *client;
    grpc_call *core;
    struct rpc_tag tag;
    rpc_unary_fn fn;
    void *arg;
    struct rpc_metadata metadata;
    grpc_metadata_array headers;
    grpc_metadata_array trailing;
    grpc_byte_buffer *response;
    grpc_status_code status;
    grpc_slice message;
    bool is_cancelled;
};

/* --- the channel ------------------------------------------------------------------------------- */

static void add_int(grpc_arg *args, size_t *count, const char *key, int value)
{
    args[*count].type = GRPC_ARG_INTEGER;
    args[*count].key = (char *)key;
    args[*count].value.integer = value;
    (*count)++;
}

static grpc_channel *create_core(const struct rpc_client_opts *opts, grpc_channel_credentials *creds)
{
    grpc_arg args[MAX_ARGS];
    size_t count = 0;
    add_int(args, &count, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
            opts->max_message_bytes > 0 ? opts->max_message_bytes : DEFAULT_MESSAGE_BYTES);
    add_int(args, &count, GRPC_ARG_MAX_METADATA_SIZE,
            opts->max_metadata_bytes > 0 ? opts->max_metadata_bytes : DEFAULT_METADATA_BYTES);
    add_int(args, &count, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MS);
    add_int(args, &count, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MAX_MS);
    add_int(args, &count, GRPC_ARG_ENABLE_CHANNELZ, 0);
    add_int(args, &count, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1); /* no TXT look-ups */
    add_int(args, &count, GRPC_ARG_ENABLE_HTTP_PROXY, 0); /* a proxy variable must not divert us */
    if (opts->keepalive_ms > 0) {
        add_int(args, &count, GRPC_ARG_KEEPALIVE_TIME_MS, opts->keepalive_ms);
        add_int(args, &count, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
        add_int(args, &count, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
        add_int(args, &count, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    }
    if (opts->has_own_connection) {
        add_int(args, &count, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    }
    if (opts->tls != NULL && opts->tls->server_name != NULL) {
        args[count].type = GRPC_ARG_STRING;
        args[count].key = (char *)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG;
        args[count].value.string = (char *)opts->tls->server_name;
        count++;
    }
    grpc_channel_args channel_args = {.num_args = count, .args = args};
    return grpc_channel_create(opts->target, creds, &channel_args);
}

static void on_close(struct inbox_item *item);

int rpc_client_open(struct loop *loop, const struct rpc_client_opts *opts, struct rpc_client **out,
                    struct err *err)
{
    struct rpc_env *env = rpc_env_acquire(loop);
    grpc_channel_credentials *creds = rpc_creds_client(opts->tls, err);
    if (creds == NULL) {
        rpc_env_release(env);
        return err->code;
    }
    struct rpc_client *client = xcalloc(1, sizeof(*client));
    client->env = env;
    client->core = create_core(opts, creds);
    grpc_channel_credentials_release(creds);
    client->close_item.fn = on_close;
    list_init(&client->unaries);
    list_init(&client->streams);
    list_init(&client->pool);
    *out = client;
    return 0;
}

static void free_unary(struct rpc_unary *unary)
{
    grpc_metadata_array_destroy(&unary->headers);
    grpc_metadata_array_destroy(&unary->trailing);
    free(unary);
}

static void on_close(struct inbox_item *item)
{
    struct rpc_client *client = list_entry(item, struct rpc_client, close_item);
    grpc_channel_destroy(client->core);
    struct list *node;
    while ((node = list_pop_front(&client->pool)) != NULL) {
        free_unary(list_entry(node, struct rpc_unary, node));
    }
    for (size_t i = 0; i < client->method_count; i++) {
        free(client->methods[i].name);
    }
    free(client->methods);
    rpc_env_release(client->env);
    if (client->closed != NULL) {
        client->closed(client->closed_arg);
    }
    free(client);
}

void rpc_client_gone(struct rpc_client *client)
{
    client->live--;
    if (client->is_closing && client->live == 0) {
        rpc_env_defer(client->env, &client->close_item);
    }
}

void rpc_client_close(struct rpc_client *client, void (*done)(void *arg), void *arg)
{
    client->is_closing = true;
    client->closed = done;
    client->closed_arg = arg;
    list_each (node, &client->unaries) {
        rpc_unary_cancel(list_entry(node, struct rpc_unary, node));
    }
    list_each (node, &client->streams) {
        rpc_stream_abort(node);
    }
    if (client->live == 0) {
        rpc_env_defer(client->env, &client->close_item);
    }
}

enum rpc_state rpc_client_state(const struct rpc_client *client)
{
    if (client->is_closing) {
        return RPC_STATE_SHUTDOWN;
    }
    switch (grpc_channel_check_connectivity_state(client->core, 0)) {
    case GRPC_CHANNEL_CONNECTING:
        return RPC_STATE_CONNECTING;
    case GRPC_CHANNEL_READY:
        return RPC_STATE_READY;
    case GRPC_CHANNEL_TRANSIENT_FAILURE:
        return RPC_STATE_FAILURE;
    case GRPC_CHANNEL_SHUTDOWN:
        return RPC_STATE_SHUTDOWN;
    default:
        return RPC_STATE_IDLE;
    }
}

/* --- calls ------------------------------------------------------------------------------------- */

static void *find_method(struct rpc_client *client, const char *name)
{
    for (size_t i = 0; i < client->method_count; i++) {
        if (strcmp(client->methods[i].name, name) == 0) {
            return client->methods[i].registered;
        }
    }
    if (client->method_count == METHODS_MAX) {
        return NULL;
    }
    client->methods = xrealloc(client->methods, (client->method_count + 1) * sizeof(*client->methods));
    struct rpc_client_method *method = &client->methods[client->method_count++];
    method->name = xstrdup(name);
    method->registered = grpc_channel_register_call(client->core, method->name, NULL, NULL);
    return method->registered;
}

grpc_call *rpc_client_create_call(struct rpc_client *client, const char *method, int64_t timeout_ms,
                                  struct err *err)
{
    if (client->is_closing) {
        err_set(err, ERR_CLOSED, "the channel is closed");
        return NULL;
    }
    if (method[0] != '/') {
        err_set(err, ERR_INVALID, "method \"%s\" does not start with '/'", method);
        return NULL;
    }
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (timeout_ms > 0) {
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    }
    grpc_completion_queue *queue = rpc_env_queue(client->env);
    void *registered = find_method(client, method);
    grpc_call *call;
    if (registered != NULL) {
        call = grpc_channel_create_registered_call(client->core, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                                   registered, deadline, NULL);
    } else {
        grpc_slice name = grpc_slice_from_copied_string(method);
        call = grpc_channel_create_call(client->core, NULL, GRPC_PROPAGATE_DEFAULTS, queue, name, NULL,
                                        deadline, NULL);
        grpc_slice_unref(name);
    }
    client->live++;
    return call;
}

uint32_t rpc_client_headers_flags(bool waits_for_ready)
{
    return waits_for_ready
               ? GRPC_INITIAL_METADATA_WAIT_FOR_READY | GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET
               : 0;
}

static void recycle(struct rpc_unary *unary)
{
    struct rpc_client *client = unary->client;
    grpc_slice_unref(unary->message);
    rpc_metadata_deinit(&unary->metadata);
    grpc_call_unref(unary->core);
    list_remove(&unary->node);
    if (client->pool_len < POOL_MAX && !client->is_closing) {
        list_push_front(&client->pool, &unary->node);
        client->pool_len++;
    } else {
        free_unary(unary);
    }
    rpc_client_gone(client);
}

static void on_unary(struct inbox_item *item)
{
    static const char no_response[] = "the server sent no response message";
    struct rpc_unary *unary = list_entry(item, struct rpc_unary, tag.item);
    grpc_slice response = grpc_empty_slice();
    struct rpc_outcome outcome = {
        .status = unary->status,
        .message = (const char *)GRPC_SLICE_START_PTR(unary->message),
        .message_len = GRPC_SLICE_LENGTH(unary->message),
        .headers = &unary->headers,
        .trailing = &unary->trailing,
        .is_cancelled = unary->is_cancelled,
    };
    if (unary->response != NULL) {
        response = rpc_call_flatten(unary->response);
        unary->response = NULL;
        outcome.response = outcome.status == GRPC_STATUS_OK ? &response : NULL;
    } else if (outcome.status == GRPC_STATUS_OK) {
        outcome.status = GRPC_STATUS_INTERNAL;
        outcome.message = no_response;
        outcome.message_len = sizeof(no_response) - 1;
    }
    unary->fn(unary->arg, &outcome);
    grpc_slice_unref(response);
    recycle(unary);
}

static struct rpc_unary *take(struct rpc_client *client)
{
    struct list *node = list_pop_front(&client->pool);
    struct rpc_unary *unary;
    if (node != NULL) {
        unary = list_entry(node, struct rpc_unary, node);
        client->pool_len--;
        unary->headers.count = 0;
        unary->trailing.count = 0;
        unary->is_cancelled = false;
    } else {
        unary = xcalloc(1, sizeof(*unary));
        grpc_metadata_array_init(&unary->headers);
        grpc_metadata_array_init(&unary->trailing);
        unary->client = client;
        unary->tag.item.fn = on_unary;
    }
    unary->message = grpc_empty_slice();
    rpc_metadata_init(&unary->metadata);
    list_push_back(&client->unaries, &unary->node);
    return unary;
}

static grpc_call_error start_unary(struct rpc_unary *unary, struct rpc_unary_opts *opts)
{
    grpc_byte_buffer *request = grpc_raw_byte_buffer_create(&opts->request, 1);
    grpc_op ops[6];
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].flags = rpc_client_headers_flags(opts->waits_for_ready);
    ops[0].data.send_initial_metadata.count = unary->metadata.count;
    ops[0].data.send_initial_metadata.metadata = unary->metadata.items;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &unary->headers;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &unary->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &unary->trailing;
    ops[5].data.recv_status_on_client.status = &unary->status;
    ops[5].data.recv_status_on_client.status_details = &unary->message;
    grpc_call_error error = rpc_env_start(unary->client->env, unary->core, ops, 6, &unary->tag);
    grpc_byte_buffer_destroy(request); /* its slices have moved */
    return error;
}

int rpc_client_unary(struct rpc_client *client, struct rpc_unary_opts *opts, rpc_unary_fn fn, void *arg,
                     struct rpc_unary **out, struct err *err)
{
    grpc_call *core = rpc_client_create_call(client, opts->method, opts->timeout_ms, err);
    if (core == NULL) {
        grpc_slice_unref(opts->request);
        if (opts->metadata != NULL) {
            rpc_metadata_deinit(opts->metadata);
        }
        return err->code;
    }
    struct rpc_unary *unary = take(client);
    unary->core = core;
    unary->fn = fn;
    unary->arg = arg;
    rpc_metadata_move(&unary->metadata, opts->metadata);
    grpc_call_error error = start_unary(unary, opts);
    grpc_slice_unref(opts->request);
    if (error != GRPC_CALL_OK) {
        recycle(unary);
        return err_set(err, ERR_INTERNAL, "start call of %s: %s", opts->method,
                       grpc_call_error_to_string(error));
    }
    *out = unary;
    return 0;
}

void rpc_unary_cancel(struct rpc_unary *unary)
{
    unary->is_cancelled = true;
    (void)grpc_call_cancel(unary->core, NULL); /* harmless when it is over already */
}
