/* host.task: tasks, sleeping, conditions and deadlines for Lua. The parts that must call Lua functions across
 * waits (with_deadline, shield, group, every) are in host/prelude/task.lua. */
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "lua/arg.h"
#include "lua/task_internal.h"
#include "lua/vm.h"

#define TASK_META "host.task"
#define COND_META "host.task.cond"
#define DEADLINE_META "host.task.deadline"

/* --- sleep ---------------------------------------------------------------------------------- */

struct sleep {
    struct timer *timer;
    struct task_wait *wait;
};

static void end_sleep(struct sleep *sleep)
{
    timer_close(sleep->timer);
    free(sleep);
}

static void on_sleep_over(void *arg)
{
    struct sleep *sleep = arg;
    task_wake_true(sleep->wait);
    end_sleep(sleep);
}

static void cancel_sleep(void *op)
{
    struct sleep *sleep = op;
    struct err err;
    err_set(&err, ERR_CANCELLED, "sleep was cancelled");
    task_wake_err(sleep->wait, &err);
    end_sleep(sleep);
}

/* task.sleep(ms) -> true | nil, err        (yields) */
static int l_sleep(lua_State *L)
{
    lua_Number ms = luaL_checknumber(L, 1);
    struct task_wait *wait = task_wait_begin(L, cancel_sleep);
    struct sleep *sleep = xcalloc(1, sizeof(*sleep));
    sleep->wait = wait;
    sleep->timer = timer_open(task_loop(L), on_sleep_over, sleep);
    timer_start(sleep->timer, ms > 0 ? (uint64_t)(ms + 0.5) : 0, 0);
    task_wait_set_op(wait, sleep);
    return task_wait_yield(L, wait);
}

/* --- conditions ----------------------------------------------------------------------------- */

struct cond {
    struct list waiters; /* struct waiter */
};

struct waiter {
    struct list node;
    struct task_wait *wait;
    struct timer *timer; /* NULL without a timeout */
};

static void end_waiter(struct waiter *waiter)
{
    list_remove(&waiter->node);
    timer_close(waiter->timer);
    free(waiter);
}

static void fail_waiter(struct waiter *waiter, int code, const char *text)
{
    struct err err;
    err_set(&err, code, "%s", text);
    task_wake_err(waiter->wait, &err);
    end_waiter(waiter);
}

static void on_waiter_timeout(void *arg)
{
    fail_waiter(arg, ERR_TIMEOUT, "waited too long for a condition");
}

static void cancel_waiter(void *op)
{
    fail_waiter(op, ERR_CANCELLED, "wait was cancelled");
}

/* task.cond() -> condition */
static int l_cond(lua_State *L)
{
    struct cond *cond = lua_newuserdata(L, sizeof(*cond));
    list_init(&cond->waiters);
    luaL_getmetatable(L, COND_META);
    lua_setmetatable(L, -2);
    return 1;
}

/* cond:wait([timeout_ms]) -> true | nil, err        (yields) */
static int l_cond_wait(lua_State *L)
{
    struct cond *cond = luaL_checkudata(L, 1, COND_META);
    bool has_timeout = !lua_isnoneornil(L, 2);
    lua_Number timeout_ms = has_timeout ? luaL_checknumber(L, 2) : 0;
    struct task_wait *wait = task_wait_begin(L, cancel_waiter);
    struct waiter *waiter = xcalloc(1, sizeof(*waiter));
    waiter->wait = wait;
    if (has_timeout) {
        waiter->timer = timer_open(task_loop(L), on_waiter_timeout, waiter);
        timer_start(waiter->timer, timeout_ms > 0 ? (uint64_t)(timeout_ms + 0.5) : 0, 0);
    }
    list_push_back(&cond->waiters, &waiter->node);
    task_wait_set_op(wait, waiter);
    return task_wait_yield(L, wait);
}

static bool wake_first(struct cond *cond)
{
    if (list_is_empty(&cond->waiters)) {
        return false;
    }
    struct waiter *waiter = list_entry(cond->waiters.next, struct waiter, node);
    task_wake_true(waiter->wait);
    end_waiter(waiter);
    return true;
}

/* cond:signal() -> bool: wakes the task that waits longest */
static int l_cond_signal(lua_State *L)
{
    lua_pushboolean(L, wake_first(luaL_checkudata(L, 1, COND_META)));
    return 1;
}

/* cond:broadcast(): wakes all that wait now */
static int l_cond_broadcast(lua_State *L)
{
    struct cond *cond = luaL_checkudata(L, 1, COND_META);
    while (wake_first(cond)) {
    }
    return 0;
}

/* --- tasks ---------------------------------------------------------------------------------- */

/* task.spawn(fn, ...) -> task: starts at the end of this loop turn */
static int l_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int nargs = lua_gettop(L) - 1;
    struct task *task = task_spawn(L, nargs, NULL, NULL);
    struct task_handle *handle = lua_newuserdata(L, sizeof(*handle));
    memset(handle, 0, sizeof(*handle));
    handle->task = task;
    handle->status = "running";
    list_init(&handle->joiners);
    luaL_getmetatable(L, TASK_META);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    task->handle = handle;
    task->handle_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static struct task_handle *check_handle(lua_State *L)
{
    return luaL_checkudata(L, 1, TASK_META);
}

static void cancel_join(void *op)
{
    struct task_joiner *joiner = op;
    struct err err;
    err_set(&err, ERR_CANCELLED, "join was cancelled");
    list_remove(&joiner->node);
    task_wake_err(joiner->wait, &err);
    free(joiner);
}

/* task:join() -> results of its function | nil, err        (yields) */
static int l_join(lua_State *L)
{
    struct task_handle *handle = check_handle(L);
    if (handle->task == NULL) {
        lua_settop(L, 1);
        return task_push_outcome(L, handle);
    }
    if (task_current(L) == handle->task) {
        return luaL_error(L, "a task cannot join itself");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_join);
    struct task_joiner *joiner = xcalloc(1, sizeof(*joiner));
    joiner->wait = wait;
    joiner->handle = handle;
    list_push_back(&handle->joiners, &joiner->node);
    task_wait_set_op(wait, joiner);
    return task_wait_yield(L, wait);
}

/* task:cancel(): its pending and later waits fail with CANCELLED */
static int l_cancel(lua_State *L)
{
    struct task_handle *handle = check_handle(L);
    if (handle->task != NULL) {
        task_cancel(handle->task);
    }
    return 0;
}

/* task:cancelled() -> bool */
static int l_cancelled(lua_State *L)
{
    const struct task_handle *handle = check_handle(L);
    lua_pushboolean(L, handle->task != NULL ? handle->task->is_cancelled
                                            : strcmp(handle->status, "cancelled") == 0);
    return 1;
}

/* task:status() -> "running" | "done" | "failed" | "cancelled" */
static int l_status(lua_State *L)
{
    lua_pushstring(L, check_handle(L)->status);
    return 1;
}

/* task:observe() -> task: somebody takes its error, so it is not logged */
static int l_observe(lua_State *L)
{
    check_handle(L)->is_observed = true;
    lua_settop(L, 1);
    return 1;
}

/* task.cancelled() -> bool: whether the calling task was cancelled; for long pure loops */
static int l_is_cancelled(lua_State *L)
{
    const struct task *task = task_current(L);
    lua_pushboolean(L, task != NULL && task->is_cancelled && task->shield == 0);
    return 1;
}

/* task.current() -> task | nil (nil also for tasks that Lua never got a handle of) */
static int l_current(lua_State *L)
{
    const struct task *task = task_current(L);
    if (task == NULL || task->handle == NULL) {
        return 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->handle_ref);
    return 1;
}

/* task.inside() -> bool: whether waiting is possible here */
static int l_inside(lua_State *L)
{
    lua_pushboolean(L, task_can_wait(L));
    return 1;
}

/* task.set_scope(table | nil): the string keys of the table are part of every log line that the calling task
 * writes from now on; what a line says itself comes first. Array items are not logged. Members of a
 * task.group share the scope of who starts them, other spawned tasks do not. */
static int l_set_scope(lua_State *L)
{
    struct task *task = task_current(L);
    if (task == NULL) {
        return luaL_error(L, "set_scope must run inside a task");
    }
    bool has_scope = !lua_isnoneornil(L, 1);
    if (has_scope) {
        luaL_checktype(L, 1, LUA_TTABLE);
    }
    if (task->scope_ref != 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, task->scope_ref);
        task->scope_ref = 0;
    }
    if (has_scope) {
        lua_settop(L, 1);
        task->scope_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    return 0;
}

/* task.scope() -> table | nil: what set_scope was given */
static int l_scope(lua_State *L)
{
    const struct task *task = task_current(L);
    if (task == NULL || task->scope_ref == 0) {
        return 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->scope_ref);
    return 1;
}

static int l_live(lua_State *L)
{
    lua_pushinteger(L, task_live_count(L));
    return 1;
}

/* --- deadlines and shields (used by the prelude) -------------------------------------------- */

static void on_deadline(void *arg)
{
    struct task_deadline *deadline = arg;
    deadline->has_fired = true;
    task_interrupt(deadline->task);
}

/* push_deadline(ms) -> deadline */
static int l_push_deadline(lua_State *L)
{
    lua_Number ms = luaL_checknumber(L, 1);
    struct task *task = task_current(L);
    if (task == NULL) {
        return luaL_error(L, "with_deadline must run inside a task");
    }
    struct task_deadline *deadline = lua_newuserdata(L, sizeof(*deadline));
    *deadline = (struct task_deadline){.outer = task->deadlines, .task = task, .shield = task->shield};
    luaL_getmetatable(L, DEADLINE_META);
    lua_setmetatable(L, -2);
    deadline->timer = timer_open(task_loop(L), on_deadline, deadline);
    timer_start(deadline->timer, ms > 0 ? (uint64_t)(ms + 0.5) : 0, 0);
    task->deadlines = deadline;
    return 1;
}

/* pop_deadline(deadline): ends the scope and every scope inside it */
static int l_pop_deadline(lua_State *L)
{
    struct task_deadline *deadline = luaL_checkudata(L, 1, DEADLINE_META);
    struct task *task = deadline->task;
    while (task != NULL && task->deadlines != NULL) {
        struct task_deadline *inner = task->deadlines;
        task->deadlines = inner->outer;
        timer_close(inner->timer);
        inner->timer = NULL;
        inner->task = NULL;
        if (inner == deadline) {
            break;
        }
    }
    return 0;
}

/* set_shield(delta): +1 enters, -1 leaves */
static int l_set_shield(lua_State *L)
{
    struct task *task = task_current(L);
    if (task == NULL) {
        return luaL_error(L, "shield must run inside a task");
    }
    task->shield += (int)luaL_checkinteger(L, 1);
    return 0;
}

int luaopen_host_task(lua_State *L)
{
    static const luaL_Reg task_methods[] = {
        {"join", l_join},     {"cancel", l_cancel},   {"cancelled", l_cancelled},
        {"status", l_status}, {"observe", l_observe}, {NULL, NULL},
    };
    static const luaL_Reg cond_methods[] = {
        {"wait", l_cond_wait}, {"signal", l_cond_signal}, {"broadcast", l_cond_broadcast}, {NULL, NULL}};
    static const luaL_Reg no_methods[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"spawn", l_spawn},
        {"sleep", l_sleep},
        {"cond", l_cond},
        {"current", l_current},
        {"cancelled", l_is_cancelled},
        {"inside", l_inside},
        {"live", l_live},
        {"scope", l_scope},
        {"set_scope", l_set_scope},
        {"push_deadline", l_push_deadline},
        {"pop_deadline", l_pop_deadline},
        {"set_shield", l_set_shield},
        {NULL, NULL},
    };
    arg_class(L, TASK_META, task_methods, NULL);
    arg_class(L, COND_META, cond_methods, NULL);
    arg_class(L, DEADLINE_META, no_methods, NULL);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "host.prelude.task");
    lua_call(L, 1, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_call(L, 1, 1);
    return 1;
}
