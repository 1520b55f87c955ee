/* host.pg subscriptions to notifications. */
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/l_pg.h"
#include "lua/task.h"
#include "pg/pg_listen.h"

enum { MAX_CHANNEL = 63 }; /* the server cuts longer names */

struct l_sub {
    struct l_pool *pool; /* a reference */
    struct pg_sub *sub;  /* NULL when closed */
};

/* The wait for the server to listen. */
struct listen_op {
    struct task_wait *wait;
    struct l_pool *pool; /* a reference; moves to the subscription */
    struct pg_sub *sub;
};

static int push_sub(lua_State *L, void *arg)
{
    const struct listen_op *op = arg;
    struct l_sub *self = lua_newuserdata(L, sizeof(*self));
    *self = (struct l_sub){.pool = l_pool_ref(op->pool), .sub = op->sub};
    luaL_getmetatable(L, PG_SUB_META);
    lua_setmetatable(L, -2);
    return 1;
}

static void end_listen(struct listen_op *op, const struct err *err)
{
    if (err != NULL) {
        task_wake_err(op->wait, err);
        pg_sub_close(op->sub);
    } else {
        task_wake(op->wait, push_sub, op);
    }
    l_pool_unref(op->pool);
    free(op);
}

static void on_ready(void *arg, const struct err *err)
{
    end_listen(arg, err);
}

static void cancel_listen(void *arg)
{
    struct err err;
    (void)err_set(&err, ERR_CANCELLED, "the wait was cancelled");
    end_listen(arg, &err);
}

/* pool:listen(channel) -> sub | nil, err        (yields): from now on nothing is missed without a reset */
int l_pg_listen(lua_State *L)
{
    struct l_pool *pool = l_pool_check(L, 1);
    size_t len;
    const char *channel = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && len <= MAX_CHANNEL && strlen(channel) == len, 2,
                  "a channel has 1 to 63 bytes, none of them zero");
    struct task_wait *wait = task_wait_begin(L, cancel_listen);
    struct listen_op *op = xcalloc(1, sizeof(*op));
    op->wait = wait;
    op->pool = l_pool_ref(pool);
    op->sub = pg_listener_subscribe(pg_pool_listener(pool->pool), channel, on_ready, op);
    task_wait_set_op(wait, op);
    return task_wait_yield(L, wait);
}

static void push_notice_table(lua_State *L, bool is_reset, const char *payload)
{
    lua_createtable(L, 0, 1);
    if (is_reset) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "reset");
    } else {
        lua_pushstring(L, payload);
        lua_setfield(L, -2, "payload");
    }
}

static int push_notice(lua_State *L, void *arg)
{
    const struct pg_notice *notice = arg;
    push_notice_table(L, notice->is_reset, notice->payload);
    return 1;
}

static void on_notice(void *arg, const struct pg_notice *notice, const struct err *err)
{
    if (err != NULL) {
        task_wake_err(arg, err);
    } else {
        task_wake(arg, push_notice, (void *)notice);
    }
}

static void cancel_next(void *arg)
{
    pg_sub_cancel_next(arg);
}

/* sub:next() -> { payload = text } | { reset = true } | nil, err        (yields when nothing is there) */
static int l_next(lua_State *L)
{
    struct l_sub *self = luaL_checkudata(L, 1, PG_SUB_META);
    if (self->sub == NULL || self->pool->pool == NULL) {
        struct err err;
        (void)err_set(&err, ERR_CLOSED, "the subscription is closed");
        return arg_return_err(L, &err);
    }
    if (pg_sub_is_waiting(self->sub)) {
        return luaL_error(L, "another task waits for this subscription");
    }
    bool is_reset;
    char *payload;
    if (pg_sub_take(self->sub, &is_reset, &payload)) {
        push_notice_table(L, is_reset, payload);
        free(payload);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, cancel_next);
    pg_sub_next(self->sub, on_notice, wait);
    task_wait_set_op(wait, self->sub);
    return task_wait_yield(L, wait);
}

/* sub:close() */
static int l_close(lua_State *L)
{
    struct l_sub *self = luaL_checkudata(L, 1, PG_SUB_META);
    pg_sub_close(self->sub);
    self->sub = NULL;
    return 0;
}

static int l_gc(lua_State *L)
{
    struct l_sub *self = luaL_checkudata(L, 1, PG_SUB_META);
    (void)l_close(L);
    l_pool_unref(self->pool);
    self->pool = NULL;
    return 0;
}

void l_pg_register_sub(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"next", l_next},
        {"close", l_close},
        {NULL, NULL},
    };
    arg_class(L, PG_SUB_META, methods, l_gc);
}
