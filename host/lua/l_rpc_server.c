/* host.rpc servers: listen, serve, drain, close. */
#include "lua/l_rpc_server.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "lua/arg.h"

#define META "host.rpc.server"

enum {
    METHODS_MAX = 1024,
    DRAIN_MS = 10000,
};

static const struct err cancelled_err = {.code = ERR_CANCELLED, .text = "cancelled"};

static struct l_rpc_server *check_server(lua_State *L)
{
    return *(struct l_rpc_server **)luaL_checkudata(L, 1, META);
}

static struct l_rpc_server *check_open(lua_State *L)
{
    struct l_rpc_server *self = check_server(L);
    if (self->server == NULL || self->is_closing) {
        luaL_error(L, "the server is closed");
    }
    return self;
}

/* --- listen ------------------------------------------------------------------------------------ */

static enum rpc_kind read_kind(lua_State *L, const char *method, const char *kind)
{
    static const char *const names[] = {"unary", "server_stream", "client_stream", "bidi"};
    for (int i = 0; kind != NULL && i < 4; i++) {
        if (strcmp(kind, names[i]) == 0) {
            return (enum rpc_kind)i;
        }
    }
    luaL_error(L, "method %s: one of \"unary\", \"server_stream\", \"client_stream\", \"bidi\" expected",
               method);
    return RPC_UNARY;
}

/* methods: { ["/pkg.Svc/M"] = kind or { kind = kind, late_headers = bool } } at idx. */
static size_t read_methods(lua_State *L, int idx, struct rpc_method_opts *out)
{
    size_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_tostring(L, -2)[0] != '/') {
            luaL_error(L, "option 'methods': names like \"/package.Service/Method\" expected");
        }
        if (count == METHODS_MAX) {
            luaL_error(L, "option 'methods': more than %d methods", METHODS_MAX);
        }
        const char *name = lua_tostring(L, -2);
        struct rpc_method_opts *method = &out[count++];
        *method = (struct rpc_method_opts){.name = name};
        if (lua_istable(L, -1)) {
            int value = lua_gettop(L);
            method->kind = read_kind(L, name, arg_opt_str(L, value, "kind", NULL, NULL));
            method->has_late_headers = arg_opt_bool(L, value, "late_headers", false);
        } else {
            method->kind = read_kind(L, name, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL);
        }
        lua_pop(L, 1);
    }
    return count;
}

/* { cert_pem =, key_pem =, client_ca_pem =, client_auth = } at idx; the strings are borrowed from it. */
static const struct rpc_tls *read_tls_at(lua_State *L, int idx, struct rpc_tls *tls)
{
    static const char *const names[] = {"none", "optional", "require"};
    *tls = (struct rpc_tls){
        .cert_pem = arg_need_str(L, idx, "cert_pem", NULL),
        .key_pem = arg_need_str(L, idx, "key_pem", NULL),
        .ca_pem = arg_opt_str(L, idx, "client_ca_pem", NULL, NULL),
    };
    const char *auth = arg_opt_str(L, idx, "client_auth", tls->ca_pem != NULL ? "require" : "none", NULL);
    for (int i = 0; i < 3; i++) {
        if (strcmp(auth, names[i]) == 0) {
            tls->client_auth = (enum rpc_client_auth)i;
            return tls;
        }
    }
    luaL_error(L, "option 'client_auth': one of \"none\", \"optional\", \"require\" expected");
    return NULL;
}

/* The table stays on the stack. */
static const struct rpc_tls *read_tls(lua_State *L, struct rpc_tls *tls)
{
    lua_getfield(L, 1, "tls");
    if (lua_isnil(L, -1)) {
        return NULL;
    }
    luaL_argcheck(L, lua_istable(L, -1), 1, "option 'tls': table expected");
    return read_tls_at(L, lua_gettop(L), tls);
}

static struct l_rpc_server *new_server(lua_State *L, struct rpc_server *server,
                                       const struct rpc_server_opts *opts)
{
    struct l_rpc_server *self = xcalloc(1, sizeof(*self));
    self->server = server;
    self->L = task_main_state(L);
    self->handler_ref = LUA_NOREF;
    self->method_count = opts->method_count;
    self->method_refs = xcalloc(opts->method_count + 1, sizeof(*self->method_refs));
    for (size_t i = 0; i < opts->method_count; i++) {
        self->method_refs[i] = l_rpc_call_new_class(L, opts->methods[i].name);
    }
    list_init(&self->calls);
    list_init(&self->pool);
    return self;
}

/* rpc.listen(opts) -> server | nil, err */
int l_rpc_listen(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct rpc_tls tls;
    struct rpc_server_opts opts = {
        .address = arg_opt_str(L, 1, "address", "127.0.0.1:0", NULL),
        .tls = read_tls(L, &tls),
        .max_message_bytes = (int)arg_opt_int(L, 1, "max_message_bytes", 0, 0, INT32_MAX),
        .max_metadata_bytes = (int)arg_opt_int(L, 1, "max_metadata_bytes", 0, 0, INT32_MAX),
        .max_concurrent_streams = (int)arg_opt_int(L, 1, "max_concurrent_streams", 0, 0, INT32_MAX),
        .max_calls = (int)arg_opt_int(L, 1, "max_calls", 0, 0, INT32_MAX),
        .keepalive_ms = (int)arg_opt_int(L, 1, "keepalive_ms", 0, 0, INT32_MAX),
        .unary_timeout_ms = (int)arg_opt_int(L, 1, "unary_timeout_ms", 0, 0, INT32_MAX),
    };
    l_rpc_read_limits(L, 1, &opts.limits);
    lua_getfield(L, 1, "methods");
    luaL_argcheck(L, lua_istable(L, -1), 1, "option 'methods': table expected");
    /* Memory that an error cannot leak: it belongs to the collector. */
    int table = lua_gettop(L);
    struct rpc_method_opts *methods = lua_newuserdata(L, METHODS_MAX * sizeof(*methods));
    opts.methods = methods;
    opts.method_count = read_methods(L, table, methods);
    struct l_rpc_server **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    struct rpc_server *server;
    struct err err;
    if (rpc_server_open(task_loop(L), &opts, &server, &err) != 0) {
        return arg_return_err(L, &err);
    }
    *box = new_server(L, server, &opts);
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    (*box)->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* --- methods ----------------------------------------------------------------------------------- */

/* server:port() -> number (0 for unix sockets) */
static int l_port(lua_State *L)
{
    lua_pushinteger(L, rpc_server_port(check_open(L)->server));
    return 1;
}

/* server:set_tls(tls) -> true | nil, err: certificate, key and client CA of connections made from now on */
static int l_set_tls(lua_State *L)
{
    struct rpc_server *server = check_open(L)->server;
    luaL_checktype(L, 2, LUA_TTABLE);
    struct rpc_tls tls;
    struct err err;
    if (rpc_server_set_tls(server, read_tls_at(L, 2, &tls), &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_call(void *arg, struct rpc_server_call *call)
{
    l_rpc_call_start(arg, call);
}

/* server:serve(handler): handler(call) runs in a task of its own for every call */
static int l_serve(lua_State *L)
{
    struct l_rpc_server *self = check_open(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (self->handler_ref != LUA_NOREF) {
        return luaL_error(L, "the server is served already");
    }
    lua_settop(L, 2);
    self->handler_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    rpc_server_serve(self->server, on_call, self);
    return 0;
}

static int push_drained(lua_State *L, void *arg)
{
    const bool *has_ended = arg;
    if (*has_ended) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct err err;
    err_set(&err, ERR_TIMEOUT, "calls are still live");
    return arg_return_err(L, &err);
}

static void on_drained(void *arg, bool has_ended)
{
    struct l_rpc_server *self = arg;
    struct task_wait *wait = self->drain_wait;
    self->drain_wait = NULL;
    if (wait != NULL) {
        task_wake(wait, push_drained, &has_ended);
    }
}

static void cancel_drain(void *op)
{
    struct l_rpc_server *self = op;
    struct task_wait *wait = self->drain_wait;
    self->drain_wait = NULL; /* the server goes on draining */
    if (wait != NULL) {
        task_wake_err(wait, &cancelled_err);
    }
}

/* server:drain([ms]) -> true | nil, err: refuses new calls, ends streams, waits for live calls      (yields)
 */
static int l_drain(lua_State *L)
{
    struct l_rpc_server *self = check_open(L);
    uint64_t ms = lua_isnoneornil(L, 2) ? DRAIN_MS : (uint64_t)arg_check_int(L, 2, 0, INT32_MAX);
    if (self->is_draining) {
        return luaL_error(L, "the server is draining already");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_drain);
    self->is_draining = true;
    self->drain_wait = wait;
    task_wait_set_op(wait, self);
    rpc_server_drain(self->server, ms, on_drained, self);
    return task_wait_yield(L, wait);
}

static void free_server(struct l_rpc_server *self)
{
    struct list *node;
    while ((node = list_pop_front(&self->pool)) != NULL) {
        free(list_entry(node, struct l_rpc_call, node));
    }
    free(self->method_refs);
    free(self);
}

static void on_closed(void *arg)
{
    struct l_rpc_server *self = arg;
    self->server = NULL;
    if (self->is_dead) {
        free_server(self);
        return;
    }
    struct task_wait *wait = self->close_wait;
    self->close_wait = NULL;
    if (wait != NULL) {
        task_wake_true(wait);
    }
    for (size_t i = 0; i < self->method_count; i++) {
        luaL_unref(self->L, LUA_REGISTRYINDEX, self->method_refs[i]);
    }
    luaL_unref(self->L, LUA_REGISTRYINDEX, self->handler_ref);
    luaL_unref(self->L, LUA_REGISTRYINDEX, self->self_ref); /* from now on the collector may take it */
}

static void cancel_close(void *op)
{
    struct l_rpc_server *self = op;
    struct task_wait *wait = self->close_wait;
    self->close_wait = NULL; /* the server goes on closing */
    if (wait != NULL) {
        task_wake_err(wait, &cancelled_err);
    }
}

/* server:close() -> true: cancels what is live and waits until nothing is left      (yields) */
static int l_close(lua_State *L)
{
    struct l_rpc_server *self = check_server(L);
    if (self->server == NULL) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (self->close_wait != NULL) {
        return luaL_error(L, "another task already waits for the end of this server");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_close);
    self->close_wait = wait;
    task_wait_set_op(wait, self);
    if (!self->is_closing) {
        self->is_closing = true;
        rpc_server_close(self->server, on_closed, self);
    }
    return task_wait_yield(L, wait);
}

/* server:stats() -> { calls=, refused=, unknown=, cancelled=, timed_out=, live= } */
static int l_stats(lua_State *L)
{
    struct rpc_server_stats stats;
    rpc_server_read_stats(check_open(L)->server, &stats);
    lua_createtable(L, 0, 6);
    lua_pushnumber(L, (lua_Number)stats.calls);
    lua_setfield(L, -2, "calls");
    lua_pushnumber(L, (lua_Number)stats.refused);
    lua_setfield(L, -2, "refused");
    lua_pushnumber(L, (lua_Number)stats.unknown);
    lua_setfield(L, -2, "unknown");
    lua_pushnumber(L, (lua_Number)stats.cancelled);
    lua_setfield(L, -2, "cancelled");
    lua_pushnumber(L, (lua_Number)stats.timed_out);
    lua_setfield(L, -2, "timed_out");
    lua_pushnumber(L, stats.live);
    lua_setfield(L, -2, "live");
    return 1;
}

/* An open server is anchored, so this runs for a closed one, or because the Lua state itself goes away. */
static int l_gc(lua_State *L)
{
    struct l_rpc_server **box = luaL_checkudata(L, 1, META);
    struct l_rpc_server *self = *box;
    *box = NULL;
    if (self == NULL) {
        return 0;
    }
    if (self->server == NULL) {
        free_server(self);
        return 0;
    }
    self->is_dead = true;
    self->drain_wait = NULL;
    self->close_wait = NULL;
    while (!list_is_empty(&self->calls)) {
        l_rpc_call_forget(list_entry(self->calls.next, struct l_rpc_call, node));
    }
    if (!self->is_closing) {
        rpc_server_close(self->server, on_closed, self);
    }
    return 0;
}

void l_rpc_open_server(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"port", l_port},   {"serve", l_serve}, {"set_tls", l_set_tls}, {"drain", l_drain},
        {"close", l_close}, {"stats", l_stats}, {NULL, NULL},
    };
    arg_class(L, META, methods, l_gc);
}
