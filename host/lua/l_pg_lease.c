/* host.pg transactions: a connection of one's own. pool:tx (host/prelude/pg.lua) is the way in. */
#include <stdlib.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/l_pg.h"
#include "lua/task.h"
#include "pg/pg_unit.h"

struct l_lease {
    struct l_pool *pool;    /* a reference */
    struct pg_lease *lease; /* NULL when released */
    bool has_begun;         /* BEGIN is sent with the first statement */
};

/* The wait for a connection. */
struct lease_op {
    struct task_wait *wait;
    struct l_pool *pool; /* a reference; moves to the lease */
    struct pg_lease *lease;
};

static int push_lease(lua_State *L, void *arg)
{
    const struct lease_op *op = arg;
    struct l_lease *self = lua_newuserdata(L, sizeof(*self));
    *self = (struct l_lease){.pool = l_pool_ref(op->pool), .lease = op->lease};
    luaL_getmetatable(L, PG_LEASE_META);
    lua_setmetatable(L, -2);
    return 1;
}

static void on_lease(void *arg, struct pg_lease *lease, const struct pg_failure *failure)
{
    struct lease_op *op = arg;
    op->lease = lease;
    if (failure == NULL) {
        task_wake(op->wait, push_lease, op);
    } else if (failure->err.code == ERR_CANCELLED) {
        task_wake_err(op->wait, &failure->err);
    } else {
        task_wake(op->wait, l_pg_push_failure, (void *)failure);
    }
    l_pool_unref(op->pool);
    free(op);
}

static void cancel_lease(void *arg)
{
    const struct lease_op *op = arg;
    pg_pool_lease_cancel(op->lease);
}

/* pool:lease() -> tx | nil, err        (yields) */
int l_pg_lease(lua_State *L)
{
    struct l_pool *pool = l_pool_check(L, 1);
    struct task_wait *wait = task_wait_begin(L, cancel_lease);
    struct lease_op *op = xcalloc(1, sizeof(*op));
    op->wait = wait;
    op->pool = l_pool_ref(pool);
    task_wait_set_op(wait, op);
    op->lease = pg_pool_lease(pool->pool, on_lease, op);
    return task_wait_yield(L, wait);
}

static struct l_lease *check_lease(lua_State *L)
{
    struct l_lease *self = luaL_checkudata(L, 1, PG_LEASE_META);
    if (self->lease == NULL) {
        luaL_error(L, "the transaction is over");
    }
    if (self->pool->pool == NULL) {
        luaL_error(L, "the pool is closed");
    }
    return self;
}

static void on_begun(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    /* When BEGIN fails the connection is broken and the statement behind it says so. */
}

static void begin_tx(struct l_lease *self)
{
    if (!self->has_begun) {
        self->has_begun = true;
        struct pg_unit *unit = pg_pool_unit(self->pool->pool);
        pg_unit_begin(unit, "begin", 5);
        pg_lease_submit(self->lease, pg_request_new(unit, false, on_begun, NULL));
        pg_unit_unref(unit);
    }
}

static int run(lua_State *L, struct l_lease *self, struct pg_unit **box, int status, const struct err *err,
               pg_done_fn fn)
{
    struct pg_unit *unit = *box;
    *box = NULL;
    struct l_request *op = l_request_begin(L, self->pool->pool);
    if (status != 0) {
        pg_unit_unref(unit);
        return l_request_fail(L, op, err);
    }
    begin_tx(self);
    op->request = pg_request_new(unit, true, fn, op);
    pg_unit_unref(unit);
    pg_lease_submit(self->lease, op->request);
    return task_wait_yield(L, op->wait);
}

/* tx:query(text[, params]) -> result | nil, err        (yields) */
static int l_query(lua_State *L)
{
    struct l_lease *self = check_lease(L);
    lua_settop(L, 3);
    struct pg_unit **box = l_pg_push_unit(L, self->pool->pool);
    struct err err;
    int status = l_pg_add_stmt(L, 2, 3, *box, &err);
    return run(L, self, box, status, &err, l_request_on_one);
}

/* tx:batch({ {text, params}, ... }) -> array of results | nil, err with err.index        (yields) */
static int l_batch(lua_State *L)
{
    struct l_lease *self = check_lease(L);
    lua_settop(L, 2);
    struct pg_unit **box = l_pg_push_unit(L, self->pool->pool);
    struct err err;
    int status = l_pg_add_batch(L, 2, *box, &err);
    return run(L, self, box, status, &err, l_request_on_many);
}

/* tx:script(text) -> true | nil, err        (yields): several statements in one text, without parameters */
static int l_script(lua_State *L)
{
    struct l_lease *self = check_lease(L);
    const char *text = luaL_checkstring(L, 2);
    struct l_request *op = l_request_begin(L, self->pool->pool);
    begin_tx(self);
    op->request = pg_request_new_script(text, l_request_on_true, op);
    pg_lease_submit(self->lease, op->request);
    return task_wait_yield(L, op->wait);
}

/* tx:commit() -> true | nil, err        (yields) */
static int l_commit(lua_State *L)
{
    struct l_lease *self = check_lease(L);
    if (!self->has_begun) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (pg_lease_in_failed_tx(self->lease)) { /* COMMIT would roll back and report success */
        struct pg_failure failure = {.sqlstate = "25P02"};
        (void)err_set(&failure.err, ERR_PG, "the transaction was aborted by an earlier error (25P02)");
        return l_pg_push_failure(L, &failure);
    }
    struct l_request *op = l_request_begin(L, self->pool->pool);
    struct pg_unit *unit = pg_pool_unit(self->pool->pool);
    pg_unit_begin(unit, "commit", 6);
    op->request = pg_request_new(unit, false, l_request_on_true, op);
    pg_unit_unref(unit);
    pg_lease_submit(self->lease, op->request);
    return task_wait_yield(L, op->wait);
}

/* tx:release(): gives the connection back; what is not committed is rolled back */
static int l_release(lua_State *L)
{
    struct l_lease *self = luaL_checkudata(L, 1, PG_LEASE_META);
    if (self->lease != NULL) {
        pg_lease_release(self->lease);
        self->lease = NULL;
    }
    return 0;
}

static int l_gc(lua_State *L)
{
    struct l_lease *self = luaL_checkudata(L, 1, PG_LEASE_META);
    (void)l_release(L);
    l_pool_unref(self->pool);
    self->pool = NULL;
    return 0;
}

void l_pg_register_lease(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"query", l_query},   {"batch", l_batch},     {"script", l_script},
        {"commit", l_commit}, {"release", l_release}, {NULL, NULL},
    };
    arg_class(L, PG_LEASE_META, methods, l_gc);
}
