/* Tasks: coroutines with a deadline, a cancel flag and at most one pending wait. Only this module resumes
 * or yields. Loop thread only.
 *
 * A binding's asynchronous function:
 *
 *     static int l_thing_get(lua_State *L)                        // (yields)
 *     {
 *         struct task_wait *wait = task_wait_begin(L, cancel_get);
 *         struct err err;
 *         struct op *op = thing_start(..., on_done, wait, &err);
 *         if (op == NULL) {
 *             return task_wait_fail(L, wait, &err);              // pushes nil, err
 *         }
 *         task_wait_set_op(wait, op);
 *         return task_wait_yield(L, wait);
 *     }
 *     static void on_done(void *arg, struct result *r, const struct err *err)   // later, from the loop
 *     {
 *         if (err != NULL) task_wake_err(arg, err); else task_wake(arg, push_result, r);
 *     }
 *
 * Cancelling a task calls cancel(op) of its pending wait once; the operation then completes through its
 * own callback with ERR_CANCELLED (style C14), which wakes the task. A cancel that came from a deadline shows
 * as code TIMEOUT in Lua, any other as CANCELLED. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"

struct buf;
struct gc_pace;
struct loop;
struct task;
struct task_sched;
struct task_wait;

typedef void (*task_cancel_fn)(void *op);
/* Pushes the results of the suspended call on L and returns how many; must not raise or yield. */
typedef int (*task_push_fn)(lua_State *L, void *arg);
/* The task is over. message is NULL on success, else the error text with traceback; the task is freed after.
 */
typedef void (*task_done_fn)(void *arg, const char *message);

/* Installs the scheduler for this state; called once by vm.c, which frees it when the loop is closed: until
 * then callbacks of operations that end late may still reach it. */
/* pace: the collector of L, looked at after each turn of a task; borrowed */
struct task_sched *task_sched_new(lua_State *L, struct loop *loop, struct gc_pace *pace);
void task_sched_free(struct task_sched *sched);
void task_cancel_all(lua_State *L);
/* Before lua_close: logs tasks that still wait. Nothing is resumed from now on. */
void task_report_leaks(lua_State *L);
struct loop *task_loop(lua_State *L); /* the loop that bindings of this state use */
int task_live_count(lua_State *L);
lua_State *task_main_state(lua_State *L); /* outlives every coroutine; for callbacks that spawn */

/* Pops a function and nargs arguments from L and runs them in a (pooled) coroutine, first on the current loop
 * turn's end. done may be NULL: an error is then logged as task.failed. The pointer is valid until done has
 * run. */
struct task *task_spawn(lua_State *L, int nargs, task_done_fn done, void *arg);
void task_cancel(struct task *task);

/* Adds what the log lines of a task have in common, as JSON members ("\"a\":1"), or nothing. Runs only when a
 * line is written. */
typedef void (*task_describe_fn)(void *arg, struct buf *members);
/* For tasks that a binding starts; a scope that Lua gives the task (task.set_scope) takes its place. */
void task_set_describe(struct task *task, task_describe_fn fn, void *arg);
/* Pushes the scope of the running task, or nil and adds what its describe says to members. */
void task_push_scope(lua_State *L, struct buf *members);

/* true when called inside a task (so that waiting is possible). */
bool task_can_wait(lua_State *L);

/* Starts a wait of the calling task; raises a Lua error outside of tasks. cancel may be NULL when the
 * operation ends by itself soon. */
struct task_wait *task_wait_begin(lua_State *L, task_cancel_fn cancel);
void task_wait_set_op(struct task_wait *wait, void *op);
int task_wait_yield(lua_State *L, struct task_wait *wait);
/* The operation did not start: ends the wait and pushes nil, err. Returns 2. */
int task_wait_fail(lua_State *L, struct task_wait *wait, const struct err *err);

/* Ends the wait: pushes results on the coroutine at once and queues it; it runs at the end of this loop turn,
 * first come first served, at most 256 per turn. wait is invalid afterwards. push NULL: no results. */
void task_wake(struct task_wait *wait, task_push_fn push, void *arg);
void task_wake_err(struct task_wait *wait, const struct err *err); /* nil, err */
void task_wake_true(struct task_wait *wait);                       /* true */
