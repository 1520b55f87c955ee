/* host.http, the side of the server: listen, serve, drain, close. Requests are in l_http_res.c. */
#include "lua/l_http.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

#define SERVER_META "host.http.server"

struct l_server {
    struct http_server *server; /* NULL once closed */
    lua_State *L;               /* the main state */
    int ref;                    /* anchors this userdata while the server is open */
    int handler_ref;
    int on_error_ref;
};

/* Names that nearly every request carries; kept alive so that their strings are not made anew each time. */
static const char *const common_names[] = {
    "host",          "user-agent",    "accept",         "accept-encoding",   "accept-language",
    "connection",    "content-type",  "content-length", "authorization",     "cookie",
    "origin",        "referer",       "x-request-id",   "x-forwarded-for",   "x-api-key",
    "last-event-id", "if-none-match", "cache-control",  "transfer-encoding", "traceparent",
};

static struct l_server *check_server(lua_State *L)
{
    return luaL_checkudata(L, 1, SERVER_META);
}

static struct l_server *check_open(lua_State *L)
{
    struct l_server *box = check_server(L);
    if (box->server == NULL) {
        luaL_error(L, "the server is closed");
    }
    return box;
}

/* --- requests and errors of the host ----------------------------------------------------------- */

static void on_request(void *arg, struct http_req *req, const struct http_msg *msg)
{
    struct l_server *box = arg;
    l_http_spawn(box->L, box->handler_ref, req, msg);
}

/* A refusal on its way through Lua. */
struct refusal {
    struct l_server *box;
    struct http_req *req;
    const struct http_msg *msg;
    const char *reason;
    int status;
};

/* on_error(status, reason, headers of the request) -> headers, body. Protected: raises what goes wrong. */
static int send_refusal(lua_State *L)
{
    struct refusal *refusal = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, refusal->box->on_error_ref);
    lua_pushinteger(L, refusal->status);
    lua_pushstring(L, refusal->reason);
    l_http_push_headers(L, refusal->msg);
    lua_call(L, 3, 2);
    struct l_headers headers;
    struct err err;
    size_t len;
    l_http_read_headers(L, 2, &headers); /* stack: refusal, headers, body */
    const char *body = luaL_checklstring(L, 3, &len);
    if (http_reply_send(refusal->req, refusal->status, headers.list, headers.count, body, len, NULL, &err) !=
        0) {
        return luaL_error(L, "%s", err.text);
    }
    return 0;
}

static void on_error(void *arg, struct http_req *req, int status, const char *reason,
                     const struct http_msg *msg)
{
    struct l_server *box = arg;
    lua_State *L = box->L;
    struct refusal refusal = {.box = box, .req = req, .msg = msg, .reason = reason, .status = status};
    lua_pushcfunction(L, send_refusal);
    lua_pushlightuserdata(L, &refusal);
    if (lua_pcall(L, 1, 0, 0) != 0) {
        log_line(LOG_ERROR, "http.on_error_failed", "%s",
                 lua_isstring(L, -1) ? lua_tostring(L, -1) : "(error without a message)");
        lua_pop(L, 1);
    }
}

/* --- http.listen ---------------------------------------------------------------------------- */

static void read_opts(lua_State *L, struct http_server_opts *opts)
{
    enum { MAX_MS = 86400000 };
    const int64_t max_bytes = 1 << 30;
    opts->host = arg_opt_str(L, 1, "host", NULL, NULL);
    opts->port = (int)arg_opt_int(L, 1, "port", 0, 0, 65535);
    opts->backlog = (int)arg_opt_int(L, 1, "backlog", 0, 1, 65535);
    opts->reuseport = arg_opt_bool(L, 1, "reuseport", false);
    opts->max_head_bytes = (size_t)arg_opt_int(L, 1, "max_head_bytes", 0, 256, max_bytes);
    opts->max_headers = (size_t)arg_opt_int(L, 1, "max_headers", 0, 1, 10000);
    opts->max_body_bytes = (size_t)arg_opt_int(L, 1, "max_body_bytes", 0, 1, max_bytes);
    opts->max_connections = (size_t)arg_opt_int(L, 1, "max_connections", 0, 1, 1000000);
    opts->max_pending_bytes = (size_t)arg_opt_int(L, 1, "max_pending_bytes", 0, 1, max_bytes);
    opts->header_timeout_ms = (unsigned)arg_opt_int(L, 1, "header_timeout_ms", 0, 1, MAX_MS);
    opts->body_timeout_ms = (unsigned)arg_opt_int(L, 1, "body_timeout_ms", 0, 1, MAX_MS);
    opts->idle_timeout_ms = (unsigned)arg_opt_int(L, 1, "idle_timeout_ms", 0, 1, MAX_MS);
    opts->write_timeout_ms = (unsigned)arg_opt_int(L, 1, "write_timeout_ms", 0, 1, MAX_MS);
    opts->half_close_ms = (unsigned)arg_opt_int(L, 1, "half_close_ms", 0, 1, MAX_MS);
}

/* http.listen(options) -> server | nil, err */
static int l_listen(lua_State *L)
{
    struct http_server_opts opts = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    read_opts(L, &opts);
    struct l_server *box = lua_newuserdata(L, sizeof(*box));
    *box = (struct l_server){
        .L = task_main_state(L), .ref = LUA_NOREF, .handler_ref = LUA_NOREF, .on_error_ref = LUA_NOREF};
    luaL_getmetatable(L, SERVER_META);
    lua_setmetatable(L, -2);
    struct err err;
    if (http_server_open(task_loop(L), &opts, &box->server, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushvalue(L, -1);
    box->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* --- methods -------------------------------------------------------------------------------- */

static void set_ref(lua_State *L, int *ref, int idx)
{
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    lua_pushvalue(L, idx);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* server:serve(handler, on_error|nil) */
static int l_serve(lua_State *L)
{
    struct l_server *box = check_open(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    bool has_on_error = !lua_isnoneornil(L, 3);
    if (has_on_error) {
        luaL_checktype(L, 3, LUA_TFUNCTION);
        set_ref(L, &box->on_error_ref, 3);
    }
    set_ref(L, &box->handler_ref, 2);
    http_server_serve(box->server, on_request, has_on_error ? on_error : NULL, box);
    return 0;
}

/* server:respond_static(path, status, headers|nil, body) */
static int l_respond_static(lua_State *L)
{
    struct l_server *box = check_open(L);
    const char *path = luaL_checkstring(L, 2);
    int status = (int)arg_check_int(L, 3, 200, 599);
    struct l_headers headers;
    l_http_read_headers(L, 4, &headers);
    size_t len;
    const char *body = luaL_checklstring(L, 5, &len);
    struct err err;
    if (http_server_respond_static(box->server, path, status, headers.list, headers.count, body, len, &err) !=
        0) {
        return luaL_error(L, "%s", err.text);
    }
    return 0;
}

/* server:port() -> number */
static int l_port(lua_State *L)
{
    lua_pushinteger(L, http_server_port(check_open(L)->server));
    return 1;
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* server:stats() -> table */
static int l_stats(lua_State *L)
{
    struct http_server_stats stats;
    http_server_get_stats(check_open(L)->server, &stats);
    lua_createtable(L, 0, 9);
    set_number(L, "connections", (double)stats.connections);
    set_number(L, "in_flight", (double)stats.in_flight);
    set_number(L, "accepted", (double)stats.accepted);
    set_number(L, "rejected", (double)stats.rejected);
    set_number(L, "requests", (double)stats.requests);
    set_number(L, "bad_requests", (double)stats.bad_requests);
    set_number(L, "timeouts", (double)stats.timeouts);
    set_number(L, "bytes_in", (double)stats.bytes_in);
    set_number(L, "bytes_out", (double)stats.bytes_out);
    return 1;
}

/* server:stop_listening() : connections that are open stay */
static int l_stop_listening(lua_State *L)
{
    http_server_stop_listening(check_open(L)->server);
    return 0;
}

static void on_done(void *arg)
{
    task_wake_true(arg);
}

/* server:drain(ms) -> true        (yields until the last connection is closed; after ms what is left is cut)
 */
static int l_drain(lua_State *L)
{
    struct l_server *box = check_open(L);
    unsigned timeout_ms = (unsigned)arg_check_int(L, 2, 0, 86400000);
    struct task_wait *wait = task_wait_begin(L, NULL);
    http_server_drain(box->server, timeout_ms, on_done, wait);
    return task_wait_yield(L, wait);
}

static void release(lua_State *L, struct l_server *box)
{
    box->server = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, box->handler_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, box->on_error_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, box->ref);
}

/* server:close() -> true        (yields until every connection is cut and no handle is left) */
static int l_close(lua_State *L)
{
    struct l_server *box = check_server(L);
    if (box->server == NULL) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct http_server *server = box->server;
    release(L, box);
    http_server_serve(server, NULL, NULL, NULL);
    http_server_close(server, on_done, wait);
    return task_wait_yield(L, wait);
}

/* Only at the end of the state, because an open server is anchored: nobody may be told any more. */
static int l_gc(lua_State *L)
{
    struct l_server *box = check_server(L);
    if (box->server != NULL) {
        http_server_abandon(box->server);
        box->server = NULL;
    }
    return 0;
}

int luaopen_host_http(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"serve", l_serve},
        {"respond_static", l_respond_static},
        {"port", l_port},
        {"stats", l_stats},
        {"stop_listening", l_stop_listening},
        {"drain", l_drain},
        {"close", l_close},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"listen", l_listen}, {NULL, NULL}};
    arg_class(L, SERVER_META, methods, l_gc);
    l_http_res_open(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_createtable(L, sizeof(common_names) / sizeof(common_names[0]), 0);
    for (size_t i = 0; i < sizeof(common_names) / sizeof(common_names[0]); i++) {
        lua_pushstring(L, common_names[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    (void)luaL_ref(L, LUA_REGISTRYINDEX); /* for as long as the state lives */
    return 1;
}
