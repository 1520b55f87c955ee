/* host.fetch: HTTP requests to others. One libcurl client per Lua state, made at the first request. */
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "http/http_client.h"
#include "lua/arg.h"
#include "lua/l_http.h"
#include "lua/task.h"
#include "lua/vm.h"

#define CLIENT_META "host.fetch.client"
#define REPLY_META "host.fetch.reply"
#define UPLOAD_META "host.fetch.upload"

enum { MAX_ALLOW_HOSTS = 64 };

static char client_key; /* its address names the client in the registry */
static char pump_key;   /* ... and the function that feeds request bodies */

/* Runs in a task of its own: takes pieces from the caller's function until it returns nil. */
static const char pump_source[] = "local body, upload = ...\n"
                                  "for chunk in body do\n"
                                  "  if not upload:write(chunk) then return end\n"
                                  "end\n"
                                  "upload:finish()\n";

/* One transfer as Lua sees it. Shared by the waiting call or reply object and by the task that feeds the
 * body. */
struct transfer {
    struct http_fetch *fetch;    /* NULL once over */
    struct task_wait *wait;      /* the task that waits for the reply or its next piece */
    int wait_for;                /* events that end the wait, besides HTTP_FETCH_DONE */
    struct task_wait *room_wait; /* the pump, while the request body is held back */
    struct task *pump;           /* NULL: none, or over */
    bool is_open;                /* the reply is streamed through a reply object */
    int refs;
};

static void unref(struct transfer *transfer)
{
    if (--transfer->refs == 0) {
        free(transfer);
    }
}

static void wake_pump(struct transfer *transfer)
{
    if (transfer->room_wait != NULL) {
        struct task_wait *wait = transfer->room_wait;
        transfer->room_wait = NULL;
        task_wake_true(wait);
    }
}

/* Ends the transfer and tells the pump; the caller's reference stays. */
static void finish(struct transfer *transfer)
{
    http_fetch_close(transfer->fetch);
    transfer->fetch = NULL;
    wake_pump(transfer);
    if (transfer->pump != NULL) {
        task_cancel(transfer->pump);
    }
}

static struct http_client *client_of(lua_State *L, struct err *err)
{
    struct http_client *client = NULL;
    lua_pushlightuserdata(L, &client_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct http_client **box = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (box != NULL) {
        return *box;
    }
    if (http_client_new(task_loop(L), &client, err) != 0) {
        return NULL;
    }
    lua_pushlightuserdata(L, &client_key);
    box = lua_newuserdata(L, sizeof(*box));
    *box = client;
    luaL_getmetatable(L, CLIENT_META);
    lua_setmetatable(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return client;
}

static int l_client_gc(lua_State *L)
{
    struct http_client **box = luaL_checkudata(L, 1, CLIENT_META);
    http_client_free(*box);
    *box = NULL;
    return 0;
}

/* --- pushing replies ------------------------------------------------------------------------ */

static void push_headers(lua_State *L, const struct buf *headers)
{
    const char *at = headers->data;
    const char *end = at == NULL ? NULL : at + headers->len;
    lua_newtable(L);
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        lua_pushstring(L, at);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3); /* stack: headers, name, earlier value or nil */
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushstring(L, value);
        } else {
            lua_pushliteral(L, ", ");
            lua_pushstring(L, value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
        at = value + strlen(value) + 1;
    }
}

/* Sets status, headers and ip in the table on top. */
static void set_head(lua_State *L, struct http_fetch *fetch)
{
    lua_pushinteger(L, http_fetch_status(fetch));
    lua_setfield(L, -2, "status");
    push_headers(L, http_fetch_headers(fetch));
    lua_setfield(L, -2, "headers");
    lua_pushstring(L, http_fetch_ip(fetch));
    lua_setfield(L, -2, "ip");
}

static void push_data(lua_State *L, struct buf *data)
{
    lua_pushlstring(L, data->len == 0 ? "" : data->data, data->len);
}

static int push_whole(lua_State *L, void *arg)
{
    struct transfer *transfer = arg;
    lua_createtable(L, 0, 4);
    set_head(L, transfer->fetch);
    push_data(L, http_fetch_data(transfer->fetch));
    lua_setfield(L, -2, "body");
    return 1;
}

static int push_reply(lua_State *L, void *arg)
{
    struct transfer *transfer = arg;
    struct transfer **box = lua_newuserdata(L, sizeof(*box));
    *box = transfer;
    luaL_getmetatable(L, REPLY_META);
    lua_setmetatable(L, -2);
    lua_createtable(L, 0, 3);
    set_head(L, transfer->fetch);
    lua_setfenv(L, -2);
    return 1;
}

static int push_piece(lua_State *L, void *arg)
{
    struct transfer *transfer = arg;
    struct buf *data = http_fetch_data(transfer->fetch);
    const struct err *err = http_fetch_error(transfer->fetch);
    if (data->len > 0) {
        push_data(L, data);
        buf_deinit(data); /* an idle stream keeps no buffer */
        http_fetch_took(transfer->fetch);
        return 1;
    }
    if (err != NULL) {
        return arg_return_err(L, err);
    }
    lua_pushnil(L);
    return 1;
}

/* --- events --------------------------------------------------------------------------------- */

static void wake(struct transfer *transfer, task_push_fn push)
{
    struct task_wait *wait = transfer->wait;
    transfer->wait = NULL;
    task_wake(wait, push, transfer);
}

static void wake_err(struct transfer *transfer, const struct err *err)
{
    struct task_wait *wait = transfer->wait;
    transfer->wait = NULL;
    task_wake_err(wait, err);
}

/* The call that started the transfer is over: with a reply object, a whole reply, or an error. */
static void on_start_over(struct transfer *transfer)
{
    const struct err *err = http_fetch_error(transfer->fetch);
    if (err != NULL && (!transfer->is_open || http_fetch_status(transfer->fetch) == 0)) {
        wake_err(transfer, err);
    } else if (transfer->is_open) {
        wake(transfer, push_reply); /* takes the reference of this call */
        return;
    } else {
        wake(transfer, push_whole);
    }
    finish(transfer);
    unref(transfer);
}

static void on_event(void *arg, int events)
{
    struct transfer *transfer = arg;
    if ((events & (HTTP_FETCH_ROOM | HTTP_FETCH_DONE)) != 0) {
        wake_pump(transfer);
    }
    if (transfer->wait == NULL || (events & (transfer->wait_for | HTTP_FETCH_DONE)) == 0) {
        return;
    }
    if (transfer->wait_for != HTTP_FETCH_DATA) {
        on_start_over(transfer);
    } else if (http_fetch_data(transfer->fetch)->len > 0 || http_fetch_is_done(transfer->fetch)) {
        wake(transfer, push_piece); /* else the news is stale: an earlier read took it */
    }
}

static void cancel_start(void *arg)
{
    struct transfer *transfer = arg;
    struct err err;
    err_set(&err, ERR_CANCELLED, "request: cancelled");
    finish(transfer);
    wake_err(transfer, &err);
    unref(transfer);
}

static void cancel_read(void *arg)
{
    struct err err;
    err_set(&err, ERR_CANCELLED, "read: cancelled");
    wake_err(arg, &err);
}

/* --- request bodies in pieces ---------------------------------------------------------------- */

static void on_pump_done(void *arg, const char *message)
{
    struct transfer *transfer = arg;
    transfer->pump = NULL;
    if (message != NULL && transfer->fetch != NULL) {
        struct err err;
        err_set(&err, ERR_SCRIPT, "request body: %s", message);
        http_fetch_fail(transfer->fetch, &err);
    }
    unref(transfer);
}

static void cancel_room(void *arg)
{
    struct transfer *transfer = arg;
    struct err err;
    struct task_wait *wait = transfer->room_wait;
    err_set(&err, ERR_CANCELLED, "request body: cancelled");
    transfer->room_wait = NULL;
    task_wake_err(wait, &err);
}

/* upload:write(chunk) -> true | false when nobody wants it any more        (yields) */
static int l_upload_write(lua_State *L)
{
    struct transfer **box = luaL_checkudata(L, 1, UPLOAD_META);
    struct transfer *transfer = *box;
    if (lua_type(L, 2) != LUA_TSTRING) {
        return luaL_error(L, "the body function returns strings and then nil, got a %s", luaL_typename(L, 2));
    }
    size_t len;
    const char *data = lua_tolstring(L, 2, &len);
    if (transfer->fetch == NULL || http_fetch_is_done(transfer->fetch)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (http_fetch_feed(transfer->fetch, data, len)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, cancel_room);
    transfer->room_wait = wait;
    task_wait_set_op(wait, transfer);
    return task_wait_yield(L, wait);
}

/* upload:finish() */
static int l_upload_finish(lua_State *L)
{
    struct transfer **box = luaL_checkudata(L, 1, UPLOAD_META);
    if ((*box)->fetch != NULL) {
        http_fetch_feed_end((*box)->fetch);
    }
    return 0;
}

static int l_upload_gc(lua_State *L)
{
    struct transfer **box = luaL_checkudata(L, 1, UPLOAD_META);
    if (*box != NULL) {
        unref(*box);
        *box = NULL;
    }
    return 0;
}

/* The body function is at the top of L; pops it. */
static void start_pump(lua_State *L, struct transfer *transfer)
{
    lua_pushlightuserdata(L, &pump_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_insert(L, -2); /* stack: pump, body */
    struct transfer **box = lua_newuserdata(L, sizeof(*box));
    *box = transfer;
    transfer->refs += 2; /* the upload object and the task */
    luaL_getmetatable(L, UPLOAD_META);
    lua_setmetatable(L, -2);
    transfer->pump = task_spawn(L, 2, on_pump_done, transfer);
}

/* --- options -------------------------------------------------------------------------------- */

struct fetch_args {
    struct http_fetch_opts opts;
    struct l_headers headers;
    const char *allow_hosts[MAX_ALLOW_HOSTS];
};

static void read_allow_hosts(lua_State *L, struct fetch_args *args)
{
    lua_getfield(L, 1, "allow_hosts");
    if (!lua_isnil(L, -1)) {
        luaL_checktype(L, -1, LUA_TTABLE);
        size_t count = lua_objlen(L, -1);
        if (count > MAX_ALLOW_HOSTS) {
            luaL_error(L, "option 'allow_hosts': at most %d names", MAX_ALLOW_HOSTS);
        }
        for (size_t i = 0; i < count; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            if (lua_type(L, -1) != LUA_TSTRING) {
                luaL_error(L, "option 'allow_hosts': an array of strings expected");
            }
            args->allow_hosts[i] = lua_tostring(L, -1); /* the option table keeps it alive */
            lua_pop(L, 1);
        }
        args->opts.allow_hosts = args->allow_hosts;
        args->opts.allow_host_count = count;
    }
    lua_pop(L, 1);
}

static void read_body(lua_State *L, struct http_fetch_opts *opts)
{
    lua_getfield(L, 1, "body");
    int type = lua_type(L, -1);
    if (type == LUA_TSTRING) {
        opts->body = lua_tolstring(L, -1, &opts->body_len); /* the option table keeps it alive */
    } else if (type == LUA_TFUNCTION) {
        opts->streams_body = true;
    } else if (type != LUA_TNIL) {
        luaL_error(L, "option 'body': a string or a function expected, got a %s", luaL_typename(L, -1));
    }
    lua_pop(L, 1);
}

static void read_args(lua_State *L, struct fetch_args *args)
{
    struct http_fetch_opts *opts = &args->opts;
    luaL_checktype(L, 1, LUA_TTABLE);
    memset(opts, 0, sizeof(*opts));
    opts->url = arg_need_str(L, 1, "url", NULL);
    opts->method = arg_opt_str(L, 1, "method", NULL, NULL);
    opts->user_agent = arg_opt_str(L, 1, "user_agent", NULL, NULL);
    opts->ca_pem = arg_opt_str(L, 1, "ca_pem", NULL, &opts->ca_pem_len);
    opts->timeout_ms = (unsigned)arg_opt_int(L, 1, "timeout_ms", 0, 1, 86400000);
    opts->connect_timeout_ms = (unsigned)arg_opt_int(L, 1, "connect_timeout_ms", 0, 1, 86400000);
    opts->max_body_bytes = (size_t)arg_opt_int(L, 1, "max_body_bytes", 0, 1, (int64_t)1 << 40);
    opts->follow = (unsigned)arg_opt_int(L, 1, "follow", 0, 0, 20);
    const char *guard = arg_opt_str(L, 1, "guard", "any", NULL);
    if (strcmp(guard, "any") != 0 && strcmp(guard, "public") != 0) {
        luaL_error(L, "option 'guard': 'any' or 'public' expected, got '%s'", guard);
    }
    opts->public_only = strcmp(guard, "public") == 0;
    read_allow_hosts(L, args);
    read_body(L, opts);
    lua_getfield(L, 1, "headers");
    l_http_read_headers(L, lua_gettop(L), &args->headers); /* texts stay alive through the option table */
    lua_pop(L, 1);
    opts->headers = args->headers.list;
    opts->header_count = args->headers.count;
}

static int start(lua_State *L, bool streams_reply)
{
    struct fetch_args args;
    struct err err;
    read_args(L, &args);
    args.opts.streams_reply = streams_reply;
    struct task_wait *wait = task_wait_begin(L, cancel_start);
    struct http_client *client = client_of(L, &err);
    if (client == NULL) {
        return task_wait_fail(L, wait, &err);
    }
    struct transfer *transfer = xcalloc(1, sizeof(*transfer));
    transfer->refs = 1;
    transfer->is_open = streams_reply;
    transfer->wait = wait;
    transfer->wait_for = streams_reply ? HTTP_FETCH_HEAD : HTTP_FETCH_DONE;
    if (http_fetch_start(client, &args.opts, on_event, transfer, &transfer->fetch, &err) != 0) {
        unref(transfer);
        return task_wait_fail(L, wait, &err);
    }
    if (args.opts.streams_body) {
        lua_getfield(L, 1, "body");
        start_pump(L, transfer);
    }
    task_wait_set_op(wait, transfer);
    return task_wait_yield(L, wait);
}

/* fetch.request(options) -> { status=, headers=, body=, ip= } | nil, err        (yields) */
static int l_request(lua_State *L)
{
    return start(L, false);
}

/* fetch.open(options) -> reply | nil, err        (yields until the head is there)
 * reply.status, reply.headers, reply.ip. timeout_ms covers the time up to the head. */
static int l_open(lua_State *L)
{
    return start(L, true);
}

/* fetch.names_closed_address(url) -> bool: the host is written as an address that guard = "public" refuses */
static int l_names_closed_address(lua_State *L)
{
    lua_pushboolean(L, http_fetch_names_closed_address(luaL_checkstring(L, 1)));
    return 1;
}

/* --- streamed replies ----------------------------------------------------------------------- */

/* reply:read() -> bytes | nil (end) | nil, err        (yields) */
static int l_reply_read(lua_State *L)
{
    struct transfer **box = luaL_checkudata(L, 1, REPLY_META);
    struct transfer *transfer = *box;
    if (transfer == NULL) {
        struct err err;
        err_set(&err, ERR_CLOSED, "the reply is closed");
        return arg_return_err(L, &err);
    }
    if (transfer->wait != NULL) {
        return luaL_error(L, "another task is reading this reply");
    }
    if (http_fetch_data(transfer->fetch)->len > 0 || http_fetch_is_done(transfer->fetch)) {
        return push_piece(L, transfer);
    }
    struct task_wait *wait = task_wait_begin(L, cancel_read);
    transfer->wait = wait;
    transfer->wait_for = HTTP_FETCH_DATA;
    task_wait_set_op(wait, transfer);
    return task_wait_yield(L, wait);
}

/* reply:close() : ends the transfer wherever it is */
static int l_reply_close(lua_State *L)
{
    struct transfer **box = luaL_checkudata(L, 1, REPLY_META);
    struct transfer *transfer = *box;
    if (transfer != NULL) {
        *box = NULL;
        if (transfer->wait != NULL) {
            struct err err;
            err_set(&err, ERR_CLOSED, "the reply was closed");
            wake_err(transfer, &err);
        }
        finish(transfer);
        unref(transfer);
    }
    return 0;
}

/* Methods first, then status, headers and ip from the environment table. */
static int l_reply_index(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (lua_isnil(L, -1)) {
        lua_getfenv(L, 1);
        lua_pushvalue(L, 2);
        lua_rawget(L, -2);
    }
    return 1;
}

static void open_reply_class(lua_State *L)
{
    static const luaL_Reg methods[] = {{"read", l_reply_read}, {"close", l_reply_close}, {NULL, NULL}};
    arg_class(L, REPLY_META, methods, l_reply_close);
    luaL_getmetatable(L, REPLY_META);
    lua_getfield(L, -1, "__index");
    lua_pushcclosure(L, l_reply_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_host_fetch(lua_State *L)
{
    static const luaL_Reg upload[] = {{"write", l_upload_write}, {"finish", l_upload_finish}, {NULL, NULL}};
    static const luaL_Reg nothing[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {{"request", l_request},
                                         {"open", l_open},
                                         {"names_closed_address", l_names_closed_address},
                                         {NULL, NULL}};
    arg_class(L, CLIENT_META, nothing, l_client_gc);
    arg_class(L, UPLOAD_META, upload, l_upload_gc);
    open_reply_class(L);
    lua_pushlightuserdata(L, &pump_key);
    if (luaL_loadbuffer(L, pump_source, sizeof(pump_source) - 1, "=host.fetch") != 0) {
        return lua_error(L);
    }
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
