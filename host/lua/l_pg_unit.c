/* host.pg units: statements collected without waiting, sent together. The busiest path into PostgreSQL:
 * adding a statement makes no Lua object and, once the buffers have grown, no allocation. */
#include <stdlib.h>

#include "lua/arg.h"
#include "lua/l_pg.h"
#include "lua/task.h"
#include "pg/pg_unit.h"

struct l_unit {
    struct l_pool *pool;  /* a reference */
    struct pg_unit *unit; /* NULL after a cancelled commit: the content went with it */
    bool is_busy;         /* a commit is in flight */
};

struct unit_op {
    struct l_request base; /* first */
    struct l_unit *self;   /* alive: it lies on the stack of the waiting task */
};

static struct l_unit *check_unit(lua_State *L)
{
    struct l_unit *self = luaL_checkudata(L, 1, PG_UNIT_META);
    if (self->pool->pool == NULL) {
        luaL_error(L, "the pool is closed");
    }
    if (self->is_busy) {
        luaL_error(L, "the unit is being committed");
    }
    if (self->unit == NULL) {
        self->unit = pg_pool_unit(self->pool->pool);
    }
    return self;
}

int l_pg_new_unit(lua_State *L)
{
    struct l_pool *pool = l_pool_check(L, 1);
    struct l_unit *self = lua_newuserdata(L, sizeof(*self));
    *self = (struct l_unit){.pool = l_pool_ref(pool), .unit = pg_pool_unit(pool->pool)};
    luaL_getmetatable(L, PG_UNIT_META);
    lua_setmetatable(L, -2);
    return 1;
}

/* Takes back what a failed add has left behind. */
static int undo(lua_State *L, struct pg_unit *unit, size_t data_len, const struct err *err)
{
    pg_unit_pop(unit, data_len);
    return arg_return_err(L, err);
}

/* unit:add(text, p1, p2, ...) -> true | nil, err: one statement; nil is NULL, a host.bytes value is bytea */
static int l_add(lua_State *L)
{
    struct l_unit *self = check_unit(L);
    struct pg_unit *unit = self->unit;
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    int top = lua_gettop(L);
    for (int i = 3; i <= top; i++) { /* before anything is added: these raise */
        l_pg_check_param(L, i);
    }
    size_t data_len = unit->data.len;
    pg_unit_begin(unit, text, len);
    for (int i = 3; i <= top; i++) {
        struct err err;
        if (l_pg_add_param(L, i, unit, &err) != 0) {
            return undo(L, unit, data_len, &err);
        }
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_committed(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    struct unit_op *op = arg;
    struct l_unit *self = op->self;
    self->is_busy = false;
    if (failure != NULL && failure->err.code == ERR_CANCELLED) {
        pg_unit_unref(self->unit); /* it may still be on its way */
        self->unit = NULL;
    }
    l_request_on_true(&op->base, results, count, failure);
}

static struct unit_op *begin_commit(lua_State *L, struct l_unit *self)
{
    struct l_request *base = l_request_begin(L, self->pool->pool);
    struct unit_op *op = realloc(base, sizeof(*op));
    if (op == NULL) {
        abort(); /* as xmalloc does */
    }
    op->self = self;
    task_wait_set_op(op->base.wait, op);
    op->base.request = pg_request_new(self->unit, false, on_committed, op);
    self->is_busy = true;
    return op;
}

/* unit:commit() -> true | nil, err with err.index        (yields): on any connection. The content stays until
 * clear */
static int l_commit(lua_State *L)
{
    struct l_unit *self = check_unit(L);
    struct unit_op *op = begin_commit(L, self);
    pg_pool_submit(self->pool->pool, op->base.request);
    return task_wait_yield(L, op->base.wait);
}

/* unit:commit_on(slot) -> true | nil, err with err.index        (yields): slot 1 or 2, in the order of the
 * calls */
static int l_commit_on(lua_State *L)
{
    struct l_unit *self = check_unit(L);
    int slot = (int)arg_check_int(L, 2, 1, PG_SLOTS);
    struct unit_op *op = begin_commit(L, self);
    pg_pool_submit_slot(self->pool->pool, slot - 1, op->base.request);
    return task_wait_yield(L, op->base.wait);
}

/* unit:clear(): no statements */
static int l_clear(lua_State *L)
{
    pg_unit_clear(check_unit(L)->unit);
    return 0;
}

/* unit:size() -> bytes */
static int l_size(lua_State *L)
{
    const struct l_unit *self = luaL_checkudata(L, 1, PG_UNIT_META);
    lua_pushnumber(L, self->unit == NULL ? 0 : (lua_Number)pg_unit_size(self->unit));
    return 1;
}

/* unit:count() -> statements */
static int l_count(lua_State *L)
{
    const struct l_unit *self = luaL_checkudata(L, 1, PG_UNIT_META);
    lua_pushnumber(L, self->unit == NULL ? 0 : (lua_Number)self->unit->count);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct l_unit *self = luaL_checkudata(L, 1, PG_UNIT_META);
    pg_unit_unref(self->unit);
    self->unit = NULL;
    l_pool_unref(self->pool);
    self->pool = NULL;
    return 0;
}

void l_pg_register_unit(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"add", l_add},     {"commit", l_commit}, {"commit_on", l_commit_on},
        {"clear", l_clear}, {"size", l_size},     {"count", l_count},
        {NULL, NULL},
    };
    arg_class(L, PG_UNIT_META, methods, l_gc);
}
