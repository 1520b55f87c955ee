/* host.redis: connections to a Redis server that block nobody. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"
#include "redis/redis_url.h"

#ifdef MACP_WITH_REDIS

#include "base/xmem.h"
#include "redis/redis_conn.h"
#include "redis/redis_tls.h"

#define META "host.redis.connection"

enum { MAX_ARGS = 16, DEFAULT_TIMEOUT_MS = 5000 };

struct l_conn {
    struct redis_conn *conn; /* NULL when closed */
};

static struct l_conn *check_conn(lua_State *L)
{
    return luaL_checkudata(L, 1, META);
}

static int push_closed(lua_State *L)
{
    struct err err;
    (void)err_set(&err, ERR_CLOSED, "the connection to Redis is closed");
    return arg_return_err(L, &err);
}

/* --- connecting ----------------------------------------------------------------------------- */

struct connect_op {
    struct task_wait *wait;
    struct redis_conn *conn;
};

static int push_conn(lua_State *L, void *arg)
{
    struct l_conn *self = lua_newuserdata(L, sizeof(*self));
    self->conn = arg;
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    return 1;
}

static void end_connect(struct connect_op *op, const struct err *err)
{
    struct redis_conn *conn = op->conn;
    struct task_wait *wait = op->wait;
    free(op);
    if (err != NULL) {
        task_wake_err(wait, err);
        redis_conn_close(conn);
    } else {
        task_wake(wait, push_conn, conn);
    }
}

static void on_ready(void *arg, const struct err *err)
{
    struct connect_op *op = arg;
    if (op->wait != NULL) {
        end_connect(op, err);
    } else {
        free(op); /* cancelled: the connection is being closed */
    }
}

static void cancel_connect(void *arg)
{
    struct connect_op *op = arg;
    struct task_wait *wait = op->wait;
    struct err err;
    (void)err_set(&err, ERR_CANCELLED, "connect: cancelled");
    op->wait = NULL;
    redis_conn_close(op->conn); /* which calls on_ready */
    task_wake_err(wait, &err);
}

/* redis.connect(url[, {timeout_ms=5000}]) -> connection | nil, err        (yields): authenticated, and at the
 * URL's database */
static int l_connect(lua_State *L)
{
    const char *url = luaL_checkstring(L, 1);
    int timeout_ms = (int)arg_opt_int(L, 2, "timeout_ms", DEFAULT_TIMEOUT_MS, 1, 600000);
    struct task_wait *wait = task_wait_begin(L, cancel_connect);
    struct connect_op *op = xcalloc(1, sizeof(*op));
    struct err err;
    op->conn = redis_conn_open(task_loop(L), url, timeout_ms, on_ready, op, &err);
    if (op->conn == NULL) {
        free(op);
        return task_wait_fail(L, wait, &err);
    }
    op->wait = wait;
    task_wait_set_op(wait, op);
    return task_wait_yield(L, wait);
}

/* --- commands and replies ------------------------------------------------------------------- */

/* connection:send(command, ...) -> true | nil, err : strings and numbers; sent on this turn's end with
 * others. LIMIT: too much waits to be sent, and this is not among it */
static int l_send(lua_State *L)
{
    struct l_conn *self = check_conn(L);
    int count = lua_gettop(L) - 1;
    const char *args[MAX_ARGS];
    size_t lens[MAX_ARGS];
    luaL_argcheck(L, count >= 1 && count <= MAX_ARGS, 2, "1 to 16 words expected");
    for (int i = 0; i < count; i++) {
        args[i] = luaL_checklstring(L, i + 2, &lens[i]);
    }
    if (self->conn == NULL) {
        return push_closed(L);
    }
    struct err err;
    if (redis_conn_send(self->conn, (size_t)count, args, lens, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Pushes a reply: text, a number, false for nil, a list, { error = text } for an error. hiredis nests few
 * levels. */
static void push_value(lua_State *L, const redisReply *reply)
{
    luaL_checkstack(L, 4, "a reply");
    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        lua_pushlstring(L, reply->str, reply->len);
        break;
    case REDIS_REPLY_INTEGER:
        lua_pushnumber(L, (lua_Number)reply->integer);
        break;
    case REDIS_REPLY_ARRAY:
        lua_createtable(L, (int)reply->elements, 0);
        for (size_t i = 0; i < reply->elements; i++) {
            push_value(L, reply->element[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
        break;
    case REDIS_REPLY_ERROR:
        lua_createtable(L, 0, 1);
        lua_pushlstring(L, reply->str, reply->len);
        lua_setfield(L, -2, "error");
        break;
    default:
        lua_pushboolean(L, 0);
        break;
    }
}

static int push_reply(lua_State *L, void *arg)
{
    push_value(L, arg);
    return 1;
}

static void on_reply(void *arg, redisReply *reply, const struct err *err)
{
    if (err != NULL) {
        task_wake_err(arg, err);
    } else {
        task_wake(arg, push_reply, reply);
        freeReplyObject(reply);
    }
}

static void cancel_next(void *arg)
{
    redis_conn_cancel_next(arg);
}

/* connection:next() -> reply | nil, err        (yields when nothing is there): a reply, or a published
 * message */
static int l_next(lua_State *L)
{
    struct l_conn *self = check_conn(L);
    if (self->conn == NULL) {
        return push_closed(L);
    }
    if (redis_conn_is_waiting(self->conn)) {
        return luaL_error(L, "another task waits for a reply");
    }
    struct err err;
    redisReply *reply;
    if (redis_conn_take(self->conn, &reply, &err) != 0) {
        return arg_return_err(L, &err);
    }
    if (reply != NULL) {
        push_value(L, reply);
        freeReplyObject(reply);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, cancel_next);
    redis_conn_next(self->conn, on_reply, wait);
    task_wait_set_op(wait, self->conn);
    return task_wait_yield(L, wait);
}

/* connection:close() : whoever waits gets CLOSED */
static int l_close(lua_State *L)
{
    struct l_conn *self = check_conn(L);
    struct redis_conn *conn = self->conn;
    self->conn = NULL;
    redis_conn_close(conn);
    return 0;
}

static int check_files(const struct redis_url *url, struct err *err)
{
    SSL *ssl = NULL;
    int status = url->has_tls ? redis_tls_new(&ssl, url, err) : 0;
    SSL_free(ssl);
    return status;
}

static void add_connections(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"send", l_send},
        {"next", l_next},
        {"close", l_close},
        {NULL, NULL},
    };
    arg_class(L, META, methods, l_close);
    lua_pushcfunction(L, l_connect);
    lua_setfield(L, -2, "connect");
}

#else

static int check_files(const struct redis_url *url, struct err *err)
{
    return err_set(err, ERR_INVALID, "this program was built without Redis");
}

static void add_connections(lua_State *L)
{
}

#endif

/* redis.check(url) -> url without user and password | nil, err : whether a connection could be tried. Reads
 * the files of certificates, and blocks while it does */
static int l_check(lua_State *L)
{
    struct redis_url url;
    struct err err;
    if (redis_url_parse(&url, luaL_checkstring(L, 1), &err) != 0) {
        return arg_return_err(L, &err);
    }
    int status = check_files(&url, &err);
    lua_pushstring(L, url.shown);
    redis_url_deinit(&url);
    return status == 0 ? 1 : arg_return_err(L, &err);
}

int luaopen_host_redis(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_check);
    lua_setfield(L, -2, "check");
    add_connections(L); /* stack: module */
    return 1;
}
