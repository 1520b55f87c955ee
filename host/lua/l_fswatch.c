/* fs.watch: changes of a directory tree, taken one by one. */
#include "lua/l_fswatch.h"

#include <stdlib.h>
#include <string.h>

#include "loop/fswatch.h"
#include "lua/arg.h"
#include "lua/task.h"

#define META "host.fs.watch"

struct watcher {
    struct fswatch *watch;  /* NULL once closed */
    struct task_wait *wait; /* the task in next(), or NULL */
    bool is_pending;        /* something changed while nobody waited */
};

static void on_change(void *arg)
{
    struct watcher *watcher = arg;
    if (watcher->wait != NULL) {
        struct task_wait *wait = watcher->wait;
        watcher->wait = NULL;
        task_wake_true(wait);
    } else {
        watcher->is_pending = true;
    }
}

static void fail_wait(struct watcher *watcher, int code, const char *text)
{
    if (watcher->wait != NULL) {
        struct err err;
        err_set(&err, code, "%s", text);
        struct task_wait *wait = watcher->wait;
        watcher->wait = NULL;
        task_wake_err(wait, &err);
    }
}

static void cancel_next(void *op)
{
    fail_wait(op, ERR_CANCELLED, "watching was cancelled");
}

/* watcher:next() -> true | nil, err        (yields) until something below the path has changed since the last
 * call */
static int l_next(lua_State *L)
{
    struct watcher *watcher = luaL_checkudata(L, 1, META);
    if (watcher->watch == NULL) {
        struct err err;
        err_set(&err, ERR_CLOSED, "the watcher is closed");
        return arg_return_err(L, &err);
    }
    if (watcher->is_pending) {
        watcher->is_pending = false;
        lua_pushboolean(L, 1);
        return 1;
    }
    if (watcher->wait != NULL) {
        return luaL_error(L, "another task already waits for this watcher");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_next);
    watcher->wait = wait;
    task_wait_set_op(wait, watcher);
    return task_wait_yield(L, wait);
}

/* watcher:close(); a waiting next() fails with CLOSED */
static int l_close(lua_State *L)
{
    struct watcher *watcher = luaL_checkudata(L, 1, META);
    fswatch_close(watcher->watch);
    watcher->watch = NULL;
    fail_wait(watcher, ERR_CLOSED, "the watcher was closed");
    return 0;
}

int l_fs_watch(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct fswatch_opts opts = {
        .path = path,
        .debounce_ms = (uint64_t)arg_opt_int(L, 2, "debounce_ms", 0, 0, 60000),
        .poll_ms = (uint64_t)arg_opt_int(L, 2, "poll_ms", 0, 0, 3600000),
    };
    struct watcher *watcher = lua_newuserdata(L, sizeof(*watcher));
    memset(watcher, 0, sizeof(*watcher));
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    struct err err;
    if (fswatch_open(task_loop(L), &opts, on_change, watcher, &watcher->watch, &err) != 0) {
        return arg_return_err(L, &err);
    }
    return 1;
}

void l_fswatch_register(lua_State *L)
{
    static const luaL_Reg methods[] = {{"next", l_next}, {"close", l_close}, {NULL, NULL}};
    arg_class(L, META, methods, l_close);
}
