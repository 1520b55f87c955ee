/* The scheduler of coroutines; see task.h. The only file that resumes or yields. */
#include "lua/task_internal.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "lua/arg.h"

enum {
    WAKES_PER_TURN = 256, /* so that sockets are not starved by busy tasks */
    POOL_MAX = 1024,      /* finished coroutines kept for reuse, about 1 KiB each */
};

static char sched_key; /* its address names the scheduler in the registry */

struct task_sched *task_sched_of(lua_State *L)
{
    lua_pushlightuserdata(L, &sched_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct task_sched *sched = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return sched;
}

struct loop *task_loop(lua_State *L)
{
    return task_sched_of(L)->loop;
}

int task_live_count(lua_State *L)
{
    return task_sched_of(L)->live_count;
}

struct task *task_current(lua_State *L)
{
    struct task *task = task_sched_of(L)->current;
    return task != NULL && task->co == L ? task : NULL;
}

bool task_can_wait(lua_State *L)
{
    return task_current(L) != NULL;
}

/* --- finishing ------------------------------------------------------------------------------ */

static void recycle(struct task_sched *sched, struct task *task, bool is_clean)
{
    if (is_clean && sched->pool_len < POOL_MAX) {
        lua_settop(task->co, 0);
        sched->pool[sched->pool_len++] = task->co_ref;
    } else {
        luaL_unref(sched->L, LUA_REGISTRYINDEX, task->co_ref);
    }
}

/* Leaves the text of the error on top of L: the message with its traceback. */
static const char *push_failure_text(lua_State *L, lua_State *co)
{
    const char *message = NULL;
    if (lua_isstring(co, -1)) {
        message = lua_tostring(co, -1);
    } else if (lua_istable(co, -1)) {
        lua_getfield(co, -1, "message");
        if (lua_isstring(co, -1)) {
            message = lua_tostring(co, -1); /* the table still refers to it */
        }
        lua_pop(co, 1);
    }
    luaL_traceback(L, co, message == NULL ? "(error without a message)" : message, 0);
    return lua_tostring(L, -1);
}

/* Moves results 1..n, or the error value, from co into the handle's environment table. */
static void keep_outcome(struct task_sched *sched, struct task *task, int status, const char *text)
{
    struct task_handle *handle = task->handle;
    lua_State *L = sched->L;
    int count = status == 0 ? lua_gettop(task->co) : 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->handle_ref);
    lua_createtable(L, count, 0);
    if (status == 0) {
        for (int i = count; i >= 1; i--) {
            lua_xmove(task->co, L, 1);
            lua_rawseti(L, -2, i);
        }
    } else if (lua_istable(task->co, -1)) {
        lua_xmove(task->co, L, 1);
        lua_rawseti(L, -2, 1);
    } else {
        struct err err;
        err_set(&err, ERR_INTERNAL, "%s", text);
        arg_push_err(L, &err); /* stack: handle, results, err */
        lua_pushliteral(L, "TASK_FAILED");
        lua_setfield(L, -2, "code");
        lua_pushstring(L, text);
        lua_setfield(L, -2, "message");
        lua_rawseti(L, -2, 1);
    }
    lua_setfenv(L, -2);
    lua_pop(L, 1);
    handle->result_count = count;
    handle->status = status != 0 ? "failed" : task->is_cancelled ? "cancelled" : "done";
    handle->task = NULL;
}

int task_push_outcome(lua_State *L, struct task_handle *handle)
{
    int base = lua_gettop(L); /* the handle */
    lua_getfenv(L, base);
    if (strcmp(handle->status, "failed") == 0) {
        lua_pushnil(L);
        lua_rawgeti(L, base + 1, 1);
        return 2;
    }
    luaL_checkstack(L, handle->result_count + 1, "too many results");
    for (int i = 1; i <= handle->result_count; i++) {
        lua_rawgeti(L, base + 1, i);
    }
    return handle->result_count;
}

static int push_joined(lua_State *L, void *arg)
{
    const struct task_joiner *joiner = arg;
    lua_rawgeti(L, LUA_REGISTRYINDEX, joiner->handle_ref);
    return task_push_outcome(L, joiner->handle);
}

static void wake_joiners(struct task_handle *handle, int handle_ref)
{
    struct list *node;
    while ((node = list_pop_front(&handle->joiners)) != NULL) {
        struct task_joiner *joiner = list_entry(node, struct task_joiner, node);
        joiner->handle_ref = handle_ref;
        task_wake(joiner->wait, push_joined, joiner);
        free(joiner);
    }
}

static void drop_deadlines(struct task *task)
{
    while (task->deadlines != NULL) {
        struct task_deadline *deadline = task->deadlines;
        task->deadlines = deadline->outer;
        timer_close(deadline->timer);
        deadline->timer = NULL; /* the memory belongs to a userdata */
        deadline->task = NULL;
    }
}

static void finish(struct task *task, int status)
{
    struct task_sched *sched = task->sched;
    lua_State *L = sched->L;
    int top = lua_gettop(L);
    const char *text = status == 0 ? NULL : push_failure_text(L, task->co);
    bool is_taken = task->done != NULL;
    struct task_handle *handle = task->handle;
    if (handle != NULL) {
        is_taken = is_taken || handle->is_observed || !list_is_empty(&handle->joiners);
        keep_outcome(sched, task, status, text);
        wake_joiners(handle, task->handle_ref);
        luaL_unref(L, LUA_REGISTRYINDEX, task->handle_ref);
    }
    if (status != 0 && !is_taken) {
        log_line(LOG_ERROR, "task.failed", "%s", text);
    }
    if (task->done != NULL) {
        task->done(task->done_arg, text);
    }
    lua_settop(L, top);
    if (task->scope_ref != 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, task->scope_ref);
    }
    drop_deadlines(task);
    list_remove(&task->node);
    list_remove(&task->cancel_node);
    sched->live_count--;
    recycle(sched, task, status == 0);
    free(task);
}

/* --- running -------------------------------------------------------------------------------- */

static void resume(struct task *task)
{
    struct task_sched *sched = task->sched;
    int count = task->resume_count;
    sched->current = task;
    int status = lua_resume(task->co, count);
    sched->current = NULL;
    if (status == LUA_YIELD) {
        if (task->wait.is_open && task->wait.is_yielded) {
            return;
        }
        /* coroutine.yield in a task: nobody would ever resume it. */
        lua_settop(task->co, 0);
        lua_pushliteral(task->co,
                        "a task may only wait in functions of host modules, not in coroutine.yield");
        status = LUA_ERRRUN;
    }
    finish(task, status);
}

static void run_ready(void *arg);

static void schedule(struct task_sched *sched)
{
    if (!sched->is_scheduled) {
        sched->is_scheduled = true;
        loop_defer(sched->loop, run_ready, sched);
    }
}

static size_t heap_bytes(lua_State *L)
{
    return (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB, 0);
}

static void run_ready(void *arg)
{
    struct task_sched *sched = arg;
    sched->is_scheduled = false;
    if (sched->is_closed) {
        return;
    }
    struct list *node;
    while ((node = list_pop_front(&sched->interrupts)) != NULL) {
        task_interrupt(list_entry(node, struct task, cancel_node));
    }
    for (int i = 0; i < WAKES_PER_TURN; i++) {
        node = list_pop_front(&sched->ready);
        if (node == NULL) {
            return;
        }
        resume(list_entry(node, struct task, ready_node));
        gc_pace_look(sched->pace, sched->L, heap_bytes(sched->L));
    }
    if (!list_is_empty(&sched->ready)) {
        schedule(sched);
    }
}

static void make_ready(struct task *task, int count)
{
    task->resume_count = count;
    list_push_back(&task->sched->ready, &task->ready_node);
    schedule(task->sched);
}

static lua_State *take_coroutine(struct task_sched *sched, lua_State *L, int *ref)
{
    if (sched->pool_len > 0) {
        *ref = sched->pool[--sched->pool_len];
        lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);
        lua_State *co = lua_tothread(L, -1);
        lua_pop(L, 1);
        return co;
    }
    lua_State *co = lua_newthread(L);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return co;
}

struct task *task_spawn(lua_State *L, int nargs, task_done_fn done, void *arg)
{
    struct task_sched *sched = task_sched_of(L);
    struct task *task = xcalloc(1, sizeof(*task));
    task->sched = sched;
    task->co = take_coroutine(sched, L, &task->co_ref);
    task->done = done;
    task->done_arg = arg;
    list_init(&task->ready_node);
    list_init(&task->cancel_node);
    list_push_back(&sched->live, &task->node);
    sched->live_count++;
    if (!lua_checkstack(task->co, nargs + 2)) {
        abort(); /* a fresh coroutine always has room for a call of ours */
    }
    lua_xmove(L, task->co, nargs + 1);
    make_ready(task, nargs);
    return task;
}

void task_set_describe(struct task *task, task_describe_fn fn, void *arg)
{
    task->describe = fn;
    task->describe_arg = arg;
}

void task_push_scope(lua_State *L, struct buf *members)
{
    const struct task_sched *sched = task_sched_of(L);
    const struct task *task = sched == NULL ? NULL : sched->current;
    if (task != NULL && task->scope_ref != 0) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, task->scope_ref);
        return;
    }
    lua_pushnil(L);
    if (task != NULL && task->describe != NULL) {
        task->describe(task->describe_arg, members);
    }
}

/* --- waiting -------------------------------------------------------------------------------- */

struct task_wait *task_wait_begin(lua_State *L, task_cancel_fn cancel)
{
    struct task *task = task_current(L);
    if (task == NULL) {
        luaL_error(L, "this call waits: it must run inside a task (host.task.spawn)");
    }
    struct task_wait *wait = &task->wait;
    *wait = (struct task_wait){.task = task, .cancel = cancel, .is_open = true};
    return wait;
}

void task_wait_set_op(struct task_wait *wait, void *op)
{
    wait->op = op;
}

/* 0, or the reason why waits of this task end early. */
static int interrupt_reason(const struct task *task)
{
    for (const struct task_deadline *d = task->deadlines; d != NULL; d = d->outer) {
        if (d->has_fired && d->shield >= task->shield) {
            return ERR_TIMEOUT;
        }
    }
    return task->is_cancelled && task->shield == 0 ? ERR_CANCELLED : 0;
}

void task_interrupt(struct task *task)
{
    struct task_wait *wait = &task->wait;
    int reason = interrupt_reason(task);
    if (reason == 0 || !wait->is_open || !wait->is_yielded || wait->cancel_called) {
        return;
    }
    wait->cancel_called = true;
    wait->reason = reason;
    if (wait->cancel != NULL) {
        wait->cancel(wait->op);
    }
}

int task_wait_yield(lua_State *L, struct task_wait *wait)
{
    wait->is_yielded = true;
    if (interrupt_reason(wait->task) != 0) {
        /* Not from here: the operation may complete inside its cancel, and we have not yielded yet. */
        list_push_back(&wait->task->sched->interrupts, &wait->task->cancel_node);
        schedule(wait->task->sched);
    }
    /* Yielding the arguments keeps them on the stack: what is not yielded is cut off, and a userdata whose
     * operation runs would be collected under it. The resume ignores what lies below the results. */
    return lua_yield(L, lua_gettop(L));
}

int task_wait_fail(lua_State *L, struct task_wait *wait, const struct err *err)
{
    wait->is_open = false;
    return arg_return_err(L, err);
}

void task_wake(struct task_wait *wait, task_push_fn push, void *arg)
{
    struct task *task = wait->task;
    wait->is_open = false;
    wait->is_yielded = false;
    list_remove(&task->cancel_node);
    if (task->sched->is_closed) {
        return;
    }
    int count = 0;
    if (push != NULL) {
        if (!lua_checkstack(task->co, 16)) {
            abort(); /* only with a stack of a million values */
        }
        count = push(task->co, arg);
    }
    make_ready(task, count);
}

static int push_err(lua_State *L, void *arg)
{
    return arg_return_err(L, arg);
}

void task_wake_err(struct task_wait *wait, const struct err *err)
{
    struct err copy = *err;
    if (err->code == ERR_CANCELLED && wait->cancel_called) {
        copy.code = wait->reason;
        if (wait->reason == ERR_TIMEOUT) {
            err_set(&copy, ERR_TIMEOUT, "the deadline has passed");
        }
    }
    task_wake(wait, push_err, &copy);
}

static int push_true(lua_State *L, void *arg)
{
    lua_pushboolean(L, 1);
    return 1;
}

void task_wake_true(struct task_wait *wait)
{
    task_wake(wait, push_true, NULL);
}

void task_cancel(struct task *task)
{
    task->is_cancelled = true;
    /* Deferred, so that a task may cancel itself and so that cancel never runs inside the caller's own
     * operation. */
    if (task->wait.is_open && task->wait.is_yielded && list_is_empty(&task->cancel_node)) {
        list_push_back(&task->sched->interrupts, &task->cancel_node);
        schedule(task->sched);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

struct task_sched *task_sched_new(lua_State *L, struct loop *loop, struct gc_pace *pace)
{
    struct task_sched *sched = xcalloc(1, sizeof(*sched));
    sched->L = L;
    sched->loop = loop;
    sched->pace = pace;
    sched->pool = xcalloc(POOL_MAX, sizeof(*sched->pool));
    list_init(&sched->live);
    list_init(&sched->ready);
    list_init(&sched->interrupts);
    lua_pushlightuserdata(L, &sched_key);
    lua_pushlightuserdata(L, sched);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return sched;
}

void task_sched_free(struct task_sched *sched)
{
    if (sched == NULL) {
        return;
    }
    list_each_safe (node, &sched->live) { /* leaks, reported */
        free(list_entry(node, struct task, node));
    }
    free(sched->pool);
    free(sched);
}

void task_cancel_all(lua_State *L)
{
    struct task_sched *sched = task_sched_of(L);
    list_each_safe (node, &sched->live) {
        task_cancel(list_entry(node, struct task, node));
    }
}

void task_report_leaks(lua_State *L)
{
    struct task_sched *sched = task_sched_of(L);
    list_each_safe (node, &sched->live) {
        struct task *task = list_entry(node, struct task, node);
        luaL_traceback(L, task->co, "task still waits", 0);
        log_line(LOG_ERROR, "task.leak", "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        if (task->handle != NULL) {
            task->handle->task = NULL;
        }
        drop_deadlines(task);
    }
    sched->is_closed = true;
}

lua_State *task_main_state(lua_State *L)
{
    return task_sched_of(L)->L;
}
