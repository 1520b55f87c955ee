/* What task.c and l_task.c share: the parts of a task that only the scheduler and its own binding may touch.
 */
#pragma once

#include "base/list.h"
#include "lua/gc_pace.h"
#include "lua/task.h"

struct timer;

/* The one pending wait of a task. */
struct task_wait {
    struct task *task;
    task_cancel_fn cancel; /* NULL: the operation cannot be undone and ends soon */
    void *op;
    bool is_open;    /* between task_wait_begin and the wake */
    bool is_yielded; /* the coroutine is suspended in it */
    bool cancel_called;
    int reason; /* ERR_CANCELLED or ERR_TIMEOUT, once cancel_called */
};

/* One `with_deadline` scope of a task; innermost first. */
struct task_deadline {
    struct task_deadline *outer;
    struct task *task;
    struct timer *timer;
    int shield; /* shield depth when it was made: it still acts inside that shield */
    bool has_fired;
};

/* The Lua-visible side of a task (userdata "host.task"); outlives the task. */
struct task_handle {
    struct task *task;   /* NULL once over */
    struct list joiners; /* struct task_joiner */
    const char *status;  /* running, done, failed, cancelled */
    int result_count;    /* results are in the userdata's environment table, 1..n */
    bool is_observed;    /* somebody takes the error: do not log it */
};

struct task_joiner {
    struct list node;
    struct task_wait *wait;
    struct task_handle *handle;
    int handle_ref; /* set while joiners are woken */
};

struct task {
    struct list node;        /* in sched->live */
    struct list ready_node;  /* in sched->ready while queued */
    struct list cancel_node; /* in sched->interrupts while its wait is to be cancelled */
    struct task_sched *sched;
    lua_State *co;
    int co_ref;       /* registry reference that anchors co */
    int resume_count; /* values on co for the next resume */
    bool is_cancelled;
    int shield; /* depth of task.shield scopes */
    struct task_wait wait;
    struct task_deadline *deadlines;
    struct task_handle *handle; /* NULL when nobody in Lua asked for one */
    int handle_ref;             /* keeps the handle alive while the task runs */
    task_done_fn done;
    void *done_arg;
    int scope_ref;             /* registry reference of the table that task.set_scope gave; 0: none */
    task_describe_fn describe; /* NULL: its log lines have nothing in common */
    void *describe_arg;
};

struct task_sched {
    lua_State *L; /* the main state */
    struct loop *loop;
    struct gc_pace *pace;
    struct list live;
    struct list ready;
    struct list interrupts;
    struct task *current;
    int live_count;
    bool is_scheduled;
    bool is_closed; /* the state is going or gone: wakes do nothing */
    int *pool;      /* registry references of finished coroutines */
    int pool_len;
};

struct task_sched *task_sched_of(lua_State *L);
/* The task that runs L, or NULL. */
struct task *task_current(lua_State *L);
/* Calls the pending wait's cancel if the task is cancelled or past a deadline that acts here. */
void task_interrupt(struct task *task);
/* With the handle's userdata on top of L: pushes what a join returns and counts it. */
int task_push_outcome(lua_State *L, struct task_handle *handle);
