/* host.http, the side of one request: the request table, its task, and the reply object.
 *
 * A reply object is anchored while its task runs and lets go of the request when the task ends, so it needs
 * no finalizer and stays harmless for whoever keeps it longer. */
#include "lua/l_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"

#define RES_META "host.http.res"

struct l_res {
    struct http_req *req; /* NULL once the task is over */
    struct task *task;
    lua_State *L; /* the main state */
    int ref;      /* anchors this userdata */
};

/* --- the request table ---------------------------------------------------------------------- */

static void set_text(lua_State *L, const char *name, const char *text, size_t len)
{
    lua_pushlstring(L, text, len);
    lua_setfield(L, -2, name);
}

/* Repeats are joined (RFC 9110 section 5.2); cookies the way RFC 6265 joins them. */
void l_http_push_headers(lua_State *L, const struct http_msg *msg)
{
    lua_createtable(L, 0, (int)msg->field_count);
    for (size_t i = 0; i < msg->field_count; i++) {
        const struct http_field *field = &msg->fields[i];
        lua_pushlstring(L, http_msg_text(msg, field->name), field->name.len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3); /* stack: headers, name, earlier value or nil */
        bool is_repeat = !lua_isnil(L, -1);
        if (!is_repeat) {
            lua_pop(L, 1);
        } else {
            bool is_cookie =
                field->name.len == 6 && memcmp(http_msg_text(msg, field->name), "cookie", 6) == 0;
            lua_pushstring(L, is_cookie ? "; " : ", ");
        }
        lua_pushlstring(L, http_msg_text(msg, field->value), field->value.len);
        if (is_repeat) {
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

static void push_request(lua_State *L, struct http_req *req, const struct http_msg *msg)
{
    lua_createtable(L, 0, 8);
    lua_pushstring(L, msg->method);
    lua_setfield(L, -2, "method");
    set_text(L, "path", http_msg_text(msg, msg->path), msg->path.len);
    if (msg->has_query) {
        set_text(L, "query", http_msg_text(msg, msg->query), msg->query.len);
    }
    l_http_push_headers(L, msg);
    lua_setfield(L, -2, "headers");
    if (msg->has_body) {
        set_text(L, "body", msg->body.len == 0 ? "" : msg->body.data, msg->body.len);
    }
    lua_pushstring(L, http_req_peer(req));
    lua_setfield(L, -2, "peer");
    lua_pushstring(L, msg->minor == 0 ? "1.0" : "1.1");
    lua_setfield(L, -2, "version");
}

/* --- its task ------------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
    struct l_res *res = arg;
    task_cancel(res->task);
}

static void on_task_done(void *arg, const char *message)
{
    struct l_res *res = arg;
    struct http_req *req = res->req;
    res->req = NULL;
    res->task = NULL;
    if (message == NULL) {
        http_req_end(req);
    } else {
        if (!http_req_is_closed(req)) {
            log_line(LOG_ERROR, "http.handler_failed", "%s", message);
        }
        http_req_fail(req);
    }
    http_req_unref(req);
    luaL_unref(res->L, LUA_REGISTRYINDEX, res->ref); /* res may be collected from here on */
}

void l_http_spawn(lua_State *L, int handler_ref, struct http_req *req, const struct http_msg *msg)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, handler_ref);
    push_request(L, req, msg);
    struct l_res *res = lua_newuserdata(L, sizeof(*res));
    luaL_getmetatable(L, RES_META);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    *res = (struct l_res){.req = http_req_ref(req), .L = L, .ref = luaL_ref(L, LUA_REGISTRYINDEX)};
    /* stack: handler, req, res */
    res->task = task_spawn(L, 2, on_task_done, res);
    http_req_on_gone(req, on_gone, res);
}

/* --- replying ------------------------------------------------------------------------------- */

static void add_header(lua_State *L, struct l_headers *headers, const char *name, size_t name_len)
{
    if (headers->count == L_HTTP_MAX_HEADERS) {
        luaL_error(L, "a reply has at most %d header fields", L_HTTP_MAX_HEADERS);
    }
    struct http_header *header = &headers->list[headers->count++];
    header->name = name;
    header->name_len = name_len;
    if (lua_type(L, -1) == LUA_TSTRING) {
        header->value = lua_tolstring(L, -1, &header->value_len);
    } else if (lua_type(L, -1) == LUA_TNUMBER && headers->number_count < L_HTTP_MAX_NUMBERS) {
        char *text = headers->numbers[headers->number_count++];
        header->value_len = (size_t)snprintf(text, sizeof(headers->numbers[0]), "%.14g", lua_tonumber(L, -1));
        header->value = text;
    } else {
        luaL_error(L, "header '%s': a string, a number or an array of strings expected, got %s", name,
                   luaL_typename(L, -1));
    }
}

void l_http_read_headers(lua_State *L, int idx, struct l_headers *headers)
{
    headers->count = 0;
    headers->number_count = 0;
    if (lua_isnoneornil(L, idx)) {
        return;
    }
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) { /* stack: ..., name, value */
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "header names are strings, got a %s", luaL_typename(L, -2));
        }
        size_t len;
        const char *name = lua_tolstring(L, -2, &len);
        if (lua_istable(L, -1)) {
            int count = (int)lua_objlen(L, -1);
            for (int i = 1; i <= count; i++) {
                lua_rawgeti(L, -1, i);
                add_header(L, headers, name, len);
                lua_pop(L, 1);
            }
        } else {
            add_header(L, headers, name, len);
        }
        lua_pop(L, 1);
    }
}

static struct l_res *check_res(lua_State *L)
{
    return luaL_checkudata(L, 1, RES_META);
}

/* true | false, "closed"; raises when the handler did what no client could have caused. */
static int push_result(lua_State *L, int status, const struct err *err)
{
    if (status == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (status != ERR_CLOSED) {
        return luaL_error(L, "%s", err->text);
    }
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "closed");
    return 2;
}

static int push_closed(lua_State *L)
{
    struct err err;
    return push_result(L, err_set(&err, ERR_CLOSED, "closed"), &err);
}

/* res:send(status, headers|nil, body|nil) -> true | false, "closed" */
static int l_send(lua_State *L)
{
    struct l_res *res = check_res(L);
    int status = (int)arg_check_int(L, 2, 100, 999);
    size_t len = 0;
    struct bytes *shared = NULL;
    struct bytes *copy = NULL;
    const char *body = "";
    struct l_headers headers;
    l_http_read_headers(L, 3, &headers);
    if (!lua_isnoneornil(L, 4)) {
        body = arg_check_bytes(L, 4, &len, &shared);
    }
    if (res->req == NULL) {
        return push_closed(L);
    }
    if (shared == NULL && len > 16384) { /* one block for a big text instead of many small ones */
        copy = bytes_new(body, len);
        shared = copy;
        body = copy->data;
    }
    struct err err;
    int result = http_reply_send(res->req, status, headers.list, headers.count, body, len, shared, &err);
    bytes_unref(copy);
    return push_result(L, result, &err);
}

/* res:start(status, headers|nil) -> true | false, "closed" */
static int l_start(lua_State *L)
{
    struct l_res *res = check_res(L);
    int status = (int)arg_check_int(L, 2, 100, 999);
    struct l_headers headers;
    l_http_read_headers(L, 3, &headers);
    if (res->req == NULL) {
        return push_closed(L);
    }
    struct err err;
    return push_result(L, http_reply_start(res->req, status, headers.list, headers.count, &err), &err);
}

/* --- waiting -------------------------------------------------------------------------------- */

/* One suspended call of a reply object. */
struct res_wait {
    struct http_wait wait;
    struct task_wait *task_wait;
};

static void on_wait_over(struct http_wait *wait, const struct err *err)
{
    struct res_wait *op = (struct res_wait *)wait;
    if (err == NULL) {
        task_wake_true(op->task_wait);
    } else {
        task_wake_err(op->task_wait, err);
    }
    free(op);
}

static void cancel_wait(void *arg)
{
    struct res_wait *op = arg;
    http_wait_cancel(&op->wait);
}

static int wait_for(lua_State *L, struct l_res *res, enum http_wait_kind kind)
{
    struct task_wait *task_wait = task_wait_begin(L, cancel_wait);
    struct res_wait *op = xcalloc(1, sizeof(*op));
    op->task_wait = task_wait;
    if (!http_req_wait(res->req, &op->wait, kind, on_wait_over)) {
        free(op);
        struct err err;
        err_set(&err, ERR_CLOSED, "the client is gone");
        return task_wait_fail(L, task_wait,
                              &err); /* callers have checked: the wait would not be over at once */
    }
    task_wait_set_op(task_wait, op);
    return task_wait_yield(L, task_wait);
}

/* res:write(string|bytes) -> true | nil, err        (yields while more than max_pending_bytes wait for the
 * client) */
static int l_write(lua_State *L)
{
    struct l_res *res = check_res(L);
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, 2, &len, &shared);
    struct err err;
    int status = res->req == NULL ? err_set(&err, ERR_CLOSED, "the reply is complete or the client is gone")
                                  : http_reply_write(res->req, data, len, shared, &err);
    if (status == ERR_CLOSED) {
        return arg_return_err(L, &err);
    }
    if (status != 0) {
        return luaL_error(L, "%s", err.text);
    }
    if (http_reply_pending(res->req) > http_req_max_pending(res->req)) {
        return wait_for(L, res, HTTP_WAIT_ROOM);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* res:offer(string|bytes) -> true | false, "full"|"closed" : never waits. A piece over max_pending_bytes is
 * taken when nothing is pending. */
static int l_offer(lua_State *L)
{
    struct l_res *res = check_res(L);
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, 2, &len, &shared);
    if (res->req == NULL) {
        return push_closed(L);
    }
    size_t pending = http_reply_pending(res->req);
    if (pending > 0 && pending + len > http_req_max_pending(res->req)) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "full");
        return 2;
    }
    struct err err;
    return push_result(L, http_reply_write(res->req, data, len, shared, &err), &err);
}

/* res:wait_closed() -> true | nil, err        (yields until the client is gone or the reply is complete) */
static int l_wait_closed(lua_State *L)
{
    struct l_res *res = check_res(L);
    if (res->req == NULL || http_req_is_closed(res->req)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return wait_for(L, res, HTTP_WAIT_CLOSED);
}

/* res:wait_drained() -> true | nil, err        (yields until nothing is pending) */
static int l_wait_drained(lua_State *L)
{
    struct l_res *res = check_res(L);
    if (res->req == NULL || http_req_is_closed(res->req)) {
        struct err err;
        err_set(&err, ERR_CLOSED, "the reply is complete or the client is gone");
        return arg_return_err(L, &err);
    }
    if (http_reply_pending(res->req) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return wait_for(L, res, HTTP_WAIT_DRAIN);
}

/* --- state ---------------------------------------------------------------------------------- */

/* res:finish() -> true | false, "closed" : ends a started reply */
static int l_finish(lua_State *L)
{
    struct l_res *res = check_res(L);
    if (res->req == NULL) {
        return push_closed(L);
    }
    struct err err;
    return push_result(L, http_reply_finish(res->req, &err), &err);
}

/* res:abort() : cuts a started reply, so that the client sees that it is not complete; 500 if it has not been
 * started */
static int l_abort(lua_State *L)
{
    struct l_res *res = check_res(L);
    if (res->req != NULL) {
        http_req_fail(res->req);
    }
    return 0;
}

/* res:pending() -> bytes that the client has not taken */
static int l_pending(lua_State *L)
{
    struct l_res *res = check_res(L);
    lua_pushnumber(L, res->req == NULL ? 0 : (lua_Number)http_reply_pending(res->req));
    return 1;
}

/* res:closed() -> boolean : nothing can be sent any more */
static int l_closed(lua_State *L)
{
    struct l_res *res = check_res(L);
    lua_pushboolean(L, res->req == NULL || http_req_is_closed(res->req));
    return 1;
}

void l_http_res_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"send", l_send},
        {"start", l_start},
        {"write", l_write},
        {"offer", l_offer},
        {"finish", l_finish},
        {"abort", l_abort},
        {"pending", l_pending},
        {"closed", l_closed},
        {"wait_closed", l_wait_closed},
        {"wait_drained", l_wait_drained},
        {NULL, NULL},
    };
    arg_class(L, RES_META, methods, NULL);
}
