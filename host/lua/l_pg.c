/* host.pg: the pool. Transactions, units and subscriptions are in l_pg_lease.c, l_pg_unit.c and
 * l_pg_listen.c; tx, which calls a function of the caller, is in host/prelude/pg.lua. */
#include "lua/l_pg.h"

#include <stdlib.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "pg/pg_text.h"
#include "pg/pg_unit.h"

int luaopen_host_pg(lua_State *L);

struct l_pool *l_pool_ref(struct l_pool *self)
{
    self->refs++;
    return self;
}

void l_pool_unref(struct l_pool *self)
{
    if (self != NULL && --self->refs == 0) {
        free(self);
    }
}

struct l_pool *l_pool_check(lua_State *L, int idx)
{
    struct l_pool *self = *(struct l_pool **)luaL_checkudata(L, idx, PG_POOL_META);
    if (self->pool == NULL) {
        luaL_error(L, "the pool is closed");
    }
    return self;
}

static int submit(lua_State *L, struct l_request *op, struct pg_unit *unit, pg_done_fn fn)
{
    op->request = pg_request_new(unit, true, fn, op);
    pg_unit_unref(unit);
    pg_pool_submit(op->pool, op->request);
    return task_wait_yield(L, op->wait);
}

/* pool:query(text[, params]) -> result | nil, err        (yields) */
static int l_query(lua_State *L)
{
    struct pg_pool *pool = l_pool_check(L, 1)->pool;
    lua_settop(L, 3);
    struct pg_unit **box = l_pg_push_unit(L, pool);
    struct err err;
    int status = l_pg_add_stmt(L, 2, 3, *box, &err);
    struct pg_unit *unit = *box;
    *box = NULL;
    struct l_request *op = l_request_begin(L, pool);
    if (status != 0) {
        pg_unit_unref(unit);
        return l_request_fail(L, op, &err);
    }
    return submit(L, op, unit, l_request_on_one);
}

/* pool:batch({ {text, params}, ... }) -> array of results | nil, err with err.index        (yields) */
static int l_batch(lua_State *L)
{
    struct pg_pool *pool = l_pool_check(L, 1)->pool;
    lua_settop(L, 2);
    struct pg_unit **box = l_pg_push_unit(L, pool);
    struct err err;
    int status = l_pg_add_batch(L, 2, *box, &err);
    struct pg_unit *unit = *box;
    *box = NULL;
    struct l_request *op = l_request_begin(L, pool);
    if (status != 0) {
        pg_unit_unref(unit);
        return l_request_fail(L, op, &err);
    }
    return submit(L, op, unit, l_request_on_many);
}

/* pool:script(text) -> true | nil, err        (yields): several statements in one text, without parameters */
static int l_script(lua_State *L)
{
    struct pg_pool *pool = l_pool_check(L, 1)->pool;
    const char *text = luaL_checkstring(L, 2);
    struct l_request *op = l_request_begin(L, pool);
    op->request = pg_request_new_script(text, l_request_on_true, op);
    pg_pool_submit(pool, op->request);
    return task_wait_yield(L, op->wait);
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* pool:stats() -> table of numbers */
static int l_stats(lua_State *L)
{
    struct pg_pool_stats stats;
    pg_pool_stats(l_pool_check(L, 1)->pool, &stats);
    lua_createtable(L, 0, 9);
    set_number(L, "max", stats.max);
    set_number(L, "open", stats.open);
    set_number(L, "connecting", stats.connecting);
    set_number(L, "leased", stats.leased);
    set_number(L, "in_flight", stats.in_flight);
    set_number(L, "waiting", stats.waiting);
    set_number(L, "requests", (double)stats.requests);
    set_number(L, "connects", (double)stats.connects);
    set_number(L, "connect_failures", (double)stats.connect_failures);
    return 1;
}

static void on_closed(void *arg)
{
    if (arg != NULL) {
        task_wake_true(arg);
    }
}

/* pool:close() -> true        (yields) */
static int l_close(lua_State *L)
{
    struct l_pool *self = *(struct l_pool **)luaL_checkudata(L, 1, PG_POOL_META);
    struct pg_pool *pool = self->pool;
    if (pool == NULL) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, NULL);
    self->pool = NULL;
    pg_pool_close(pool, on_closed, wait);
    return task_wait_yield(L, wait);
}

static int l_gc(lua_State *L)
{
    struct l_pool **box = luaL_checkudata(L, 1, PG_POOL_META);
    struct l_pool *self = *box;
    if (self != NULL) {
        struct pg_pool *pool = self->pool;
        self->pool = NULL;
        *box = NULL;
        l_pool_unref(self);
        if (pool != NULL) {
            pg_pool_close(pool, on_closed, NULL);
        }
    }
    return 0;
}

static struct pg_pool_opts read_opts(lua_State *L)
{
    return (struct pg_pool_opts){
        .conninfo = arg_need_str(L, 1, "conninfo", NULL),
        .application_name = arg_opt_str(L, 1, "application_name", NULL, NULL),
        .max_conns = (int)arg_opt_int(L, 1, "size", 0, 0, 1000),
        .acquire_timeout_ms = (int)arg_opt_int(L, 1, "acquire_timeout_ms", 0, 0, INT32_MAX),
        .statement_timeout_ms = (int)arg_opt_int(L, 1, "statement_timeout_ms", 0, 0, INT32_MAX),
        .lock_timeout_ms = (int)arg_opt_int(L, 1, "lock_timeout_ms", 0, 0, INT32_MAX),
        .idle_tx_timeout_ms = (int)arg_opt_int(L, 1, "idle_tx_timeout_ms", 0, 0, INT32_MAX),
        .silence_timeout_ms = (int)arg_opt_int(L, 1, "silence_timeout_ms", 0, 0, INT32_MAX),
        .connect_timeout_ms = (int)arg_opt_int(L, 1, "connect_timeout_ms", 0, 0, INT32_MAX),
        .idle_close_ms = (int)arg_opt_int(L, 1, "idle_close_ms", 0, 0, INT32_MAX),
        .max_result_bytes = (size_t)arg_opt_int(L, 1, "max_result_bytes", 0, 0, INT64_C(1) << 40),
    };
}

/* pg.open{ conninfo =, ... } -> pool; it connects when first used */
static int l_open(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct pg_pool_opts opts = read_opts(L);
    struct l_pool **box = lua_newuserdata(L, sizeof(*box));
    *box = xcalloc(1, sizeof(**box));
    (*box)->refs = 1;
    luaL_getmetatable(L, PG_POOL_META);
    lua_setmetatable(L, -2);
    (*box)->pool = pg_pool_open(task_loop(L), &opts);
    return 1;
}

/* --- ping ----------------------------------------------------------------------------------- */

struct ping {
    struct task_wait *wait; /* NULL when it has been woken */
    struct pg_conn_opts opts;
    struct pg_texts *texts;
    struct pg_conn *conn;
    char *conninfo;
};

static void on_ping_closed(void *arg)
{
    struct ping *ping = arg;
    pg_texts_unref(ping->texts);
    free(ping->conninfo);
    free(ping);
}

static void end_ping(struct ping *ping)
{
    ping->wait = NULL;
    pg_conn_close(ping->conn, on_ping_closed, ping);
}

static void on_ping_ready(void *arg, struct pg_conn *conn)
{
    struct ping *ping = arg;
    task_wake_true(ping->wait);
    end_ping(ping);
}

static void on_ping_lost(void *arg, struct pg_conn *conn, const struct pg_failure *failure)
{
    struct ping *ping = arg;
    task_wake(ping->wait, l_pg_push_failure, (void *)failure);
    end_ping(ping);
}

static void on_ping_progress(void *arg, struct pg_conn *conn)
{
}

static void cancel_ping(void *arg)
{
    struct ping *ping = arg;
    struct err err;
    (void)err_set(&err, ERR_CANCELLED, "the ping was cancelled");
    task_wake_err(ping->wait, &err);
    end_ping(ping);
}

/* pg.ping(conninfo[, timeout_ms = 5000]) -> true | nil, err        (yields): can one connect? */
static int l_ping(lua_State *L)
{
    static const struct pg_conn_events events = {
        .on_ready = on_ping_ready,
        .on_lost = on_ping_lost,
        .on_progress = on_ping_progress,
    };
    const char *conninfo = luaL_checkstring(L, 1);
    int timeout_ms = lua_isnoneornil(L, 2) ? 5000 : (int)arg_check_int(L, 2, 1, INT32_MAX);
    struct task_wait *wait = task_wait_begin(L, cancel_ping);
    struct ping *ping = xcalloc(1, sizeof(*ping));
    ping->wait = wait;
    ping->texts = pg_texts_new();
    ping->conninfo = xstrdup(conninfo);
    ping->opts = (struct pg_conn_opts){
        .conninfo = ping->conninfo,
        .application_name = "ping",
        .connect_timeout_ms = timeout_ms,
    };
    ping->conn = pg_conn_open(task_loop(L), &ping->opts, ping->texts, &events, ping);
    task_wait_set_op(wait, ping);
    return task_wait_yield(L, wait);
}

static const luaL_Reg methods[] = {
    {"query", l_query},      {"batch", l_batch},    {"script", l_script},
    {"unit", l_pg_new_unit}, {"lease", l_pg_lease}, {"listen", l_pg_listen},
    {"stats", l_stats},      {"close", l_close},    {NULL, NULL},
};

static const luaL_Reg native[] = {
    {"open", l_open},
    {"ping", l_ping},
    {NULL, NULL},
};

int luaopen_host_pg(lua_State *L)
{
    arg_class(L, PG_POOL_META, methods, l_gc);
    l_pg_register_unit(L);
    l_pg_register_lease(L);
    l_pg_register_sub(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "host.prelude.pg");
    lua_call(L, 1, 1);
    lua_newtable(L);
    luaL_register(L, NULL, native);
    l_pg_register_values(L);
    luaL_getmetatable(L, PG_POOL_META);
    lua_getfield(L, -1, "__index");
    lua_remove(L, -2);
    lua_setfield(L, -2, "methods"); /* stack: prelude, native */
    lua_call(L, 1, 1);
    return 1;
}
