/* host.rpc channels and unary calls. */
#include "lua/l_rpc_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"

#define META "host.rpc.channel"

enum { UNARY_TIMEOUT_MS = 30000 };

/* Behind the userdata; survives it while calls are in flight. */
struct channel {
    struct rpc_client *client; /* NULL once closed */
    struct list ops;           /* waiting struct unary_op */
    struct list pool;
    bool is_dead; /* the Lua state goes away: touch it no more */
};

/* One waiting channel:unary. */
struct unary_op {
    struct list node;
    struct channel *channel;
    struct rpc_unary *unary;
    struct task_wait *wait;
    bool is_cancelled; /* by its task */
};

static struct channel *check_channel(lua_State *L)
{
    return *(struct channel **)luaL_checkudata(L, 1, META);
}

struct rpc_client *l_rpc_check_channel(lua_State *L)
{
    struct channel *channel = check_channel(L);
    if (channel->client == NULL) {
        luaL_error(L, "the channel is closed");
    }
    return channel->client;
}

/* --- the channel ------------------------------------------------------------------------------- */

/* tls = true or a table; the strings are borrowed from it, so it stays on the stack. */
static const struct rpc_tls *read_tls(lua_State *L, struct rpc_tls *tls)
{
    lua_getfield(L, 1, "tls");
    *tls = (struct rpc_tls){0};
    if (lua_isnil(L, -1) || (lua_isboolean(L, -1) && !lua_toboolean(L, -1))) {
        return NULL;
    }
    if (lua_isboolean(L, -1)) {
        return tls;
    }
    luaL_argcheck(L, lua_istable(L, -1), 1, "option 'tls': table or true expected");
    int idx = lua_gettop(L);
    tls->ca_pem = arg_opt_str(L, idx, "roots_pem", NULL, NULL);
    tls->cert_pem = arg_opt_str(L, idx, "cert_pem", NULL, NULL);
    tls->key_pem = arg_opt_str(L, idx, "key_pem", NULL, NULL);
    tls->server_name = arg_opt_str(L, idx, "server_name", NULL, NULL);
    return tls;
}

/* rpc.channel(opts) -> channel | nil, err */
int l_rpc_channel(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct rpc_tls tls;
    const struct rpc_client_opts opts = {
        .target = arg_need_str(L, 1, "target", NULL),
        .tls = read_tls(L, &tls),
        .max_message_bytes = (int)arg_opt_int(L, 1, "max_message_bytes", 0, 0, INT32_MAX),
        .max_metadata_bytes = (int)arg_opt_int(L, 1, "max_metadata_bytes", 0, 0, INT32_MAX),
        .keepalive_ms = (int)arg_opt_int(L, 1, "keepalive_ms", 0, 0, INT32_MAX),
        .has_own_connection = arg_opt_bool(L, 1, "own_connection", false),
    };
    struct channel **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    struct rpc_client *client;
    struct err err;
    if (rpc_client_open(task_loop(L), &opts, &client, &err) != 0) {
        return arg_return_err(L, &err);
    }
    *box = xcalloc(1, sizeof(**box));
    (*box)->client = client;
    list_init(&(*box)->ops);
    list_init(&(*box)->pool);
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1,
                    0); /* the environment refers to the channel; streams share it to keep the channel */
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 1);
    (void)lua_setfenv(L, -2);
    return 1;
}

static void free_channel(struct channel *channel)
{
    struct list *node;
    while ((node = list_pop_front(&channel->pool)) != NULL) {
        free(list_entry(node, struct unary_op, node));
    }
    free(channel);
}

static void on_closed(void *arg)
{
    free_channel(arg);
}

/* channel:close(): cancels what is in flight */
static int l_close(lua_State *L)
{
    struct channel *channel = check_channel(L);
    if (channel->client != NULL) {
        rpc_client_close(channel->client, NULL, NULL);
        channel->client = NULL;
    }
    return 0;
}

static int l_gc(lua_State *L)
{
    struct channel **box = luaL_checkudata(L, 1, META);
    struct channel *channel = *box;
    *box = NULL;
    if (channel == NULL) {
        return 0;
    }
    /* Somebody may still wait only if the Lua state goes away: a waiting task keeps the userdata on its
     * stack. */
    channel->is_dead = true;
    list_each (node, &channel->ops) {
        list_entry(node, struct unary_op, node)->wait = NULL;
    }
    if (channel->client != NULL) {
        rpc_client_close(channel->client, on_closed, channel);
    } else if (list_is_empty(&channel->ops)) {
        free_channel(channel);
    }
    return 0;
}

/* channel:state() -> "idle" | "connecting" | "ready" | "failure" | "shutdown" */
static int l_state(lua_State *L)
{
    static const char *const names[] = {"idle", "connecting", "ready", "failure", "shutdown"};
    struct channel *channel = check_channel(L);
    enum rpc_state state = channel->client == NULL ? RPC_STATE_SHUTDOWN : rpc_client_state(channel->client);
    lua_pushstring(L, names[state]);
    return 1;
}

/* --- unary calls ------------------------------------------------------------------------------- */

int l_rpc_read_call_opts(lua_State *L, int idx, int64_t timeout_ms, struct l_rpc_call_opts *opts,
                         struct err *err)
{
    rpc_metadata_init(&opts->metadata);
    opts->timeout_ms = timeout_ms;
    opts->waits_for_ready = false;
    if (lua_isnoneornil(L, idx)) {
        return 0;
    }
    luaL_checktype(L, idx, LUA_TTABLE);
    opts->timeout_ms = arg_opt_int(L, idx, "timeout_ms", timeout_ms, 0, INT64_C(1) << 40);
    opts->waits_for_ready = arg_opt_bool(L, idx, "wait_for_ready", false);
    lua_getfield(L, idx, "metadata");
    int status = l_rpc_read_metadata(L, -1, &opts->metadata, err);
    lua_pop(L, 1);
    return status;
}

static int push_outcome(lua_State *L, void *arg)
{
    const struct rpc_outcome *outcome = arg;
    const grpc_metadata_array *trailing = outcome->trailing;
    if (outcome->status == GRPC_STATUS_OK) {
        l_rpc_push_slice(L, outcome->response);
        l_rpc_push_metadata(L, trailing->metadata, trailing->count);
        return 2;
    }
    lua_pushnil(L);
    l_rpc_push_status(L, outcome->status, outcome->message, outcome->message_len, trailing->metadata,
                      trailing->count);
    return 2;
}

static void wake(struct unary_op *op, const struct rpc_outcome *outcome)
{
    struct err err;
    if (op->is_cancelled) {
        err_set(&err, ERR_CANCELLED, "cancelled");
        task_wake_err(op->wait, &err);
    } else if (outcome->is_cancelled) {
        err_set(&err, ERR_CLOSED, "the channel was closed");
        task_wake_err(op->wait, &err);
    } else {
        task_wake(op->wait, push_outcome, (void *)outcome);
    }
}

static void on_outcome(void *arg, const struct rpc_outcome *outcome)
{
    struct unary_op *op = arg;
    struct channel *channel = op->channel;
    if (op->wait != NULL) {
        wake(op, outcome);
    }
    list_remove(&op->node);
    list_push_front(&channel->pool, &op->node);
    /* A channel whose client is open or closing with on_closed is freed there. */
    if (channel->is_dead && channel->client == NULL && list_is_empty(&channel->ops)) {
        free_channel(channel);
    }
}

static void cancel_unary(void *arg)
{
    struct unary_op *op = arg;
    op->is_cancelled = true;
    rpc_unary_cancel(op->unary);
}

static struct unary_op *take_op(struct channel *channel)
{
    struct list *node = list_pop_front(&channel->pool);
    struct unary_op *op = node != NULL ? list_entry(node, struct unary_op, node) : xmalloc(sizeof(*op));
    *op = (struct unary_op){.channel = channel};
    list_push_back(&channel->ops, &op->node);
    return op;
}

/* channel:unary(method, bytes[, { metadata=, timeout_ms=30000 (0: none), wait_for_ready= }])
 *     -> bytes, trailing | nil, err      (yields) */
static int l_unary(lua_State *L)
{
    struct rpc_client *client = l_rpc_check_channel(L);
    const char *method = luaL_checkstring(L, 2);
    struct l_rpc_call_opts opts;
    struct err err;
    size_t len;
    struct bytes *shared;
    (void)arg_check_bytes(L, 3, &len, &shared); /* raises before anything is allocated */
    struct task_wait *wait = task_wait_begin(L, cancel_unary);
    if (l_rpc_read_call_opts(L, 4, UNARY_TIMEOUT_MS, &opts, &err) != 0) {
        return task_wait_fail(L, wait, &err);
    }
    struct rpc_unary_opts call = {
        .method = method,
        .request = l_rpc_check_slice(L, 3),
        .metadata = &opts.metadata,
        .timeout_ms = opts.timeout_ms,
        .waits_for_ready = opts.waits_for_ready,
    };
    struct unary_op *op = take_op(check_channel(L));
    op->wait = wait;
    if (rpc_client_unary(client, &call, on_outcome, op, &op->unary, &err) != 0) {
        list_remove(&op->node);
        free(op);
        return task_wait_fail(L, wait, &err);
    }
    task_wait_set_op(wait, op);
    return task_wait_yield(L, wait);
}

void l_rpc_open_client(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"unary", l_unary},
        {"stream", l_rpc_channel_stream},
        {"server_stream", l_rpc_channel_server_stream},
        {"state", l_state},
        {"close", l_close},
        {NULL, NULL},
    };
    arg_class(L, META, methods, l_gc);
}
