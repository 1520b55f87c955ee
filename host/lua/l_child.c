/* host.child: child processes for Lua. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/child.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

#define META "host.child"

/* A task that waits for output; pattern of the read it wants. */
struct reader {
    struct task_wait *wait; /* NULL: nobody waits */
    struct proc *proc;
    int stream;
    bool by_line;
    size_t max;
};

struct proc {
    struct child *child; /* NULL once closed */
    int pid;
    bool has_exited;
    int64_t code;
    int signal;
    struct task_wait *exit_wait;
    struct reader readers[3];
};

static struct proc *check_proc(lua_State *L)
{
    return luaL_checkudata(L, 1, META);
}

/* --- exit ----------------------------------------------------------------------------------- */

static int push_exit(lua_State *L, void *arg)
{
    const struct proc *proc = arg;
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (lua_Number)proc->code);
    lua_setfield(L, -2, "code");
    if (proc->signal != 0) {
        lua_pushinteger(L, proc->signal);
        lua_setfield(L, -2, "signal");
    }
    return 1;
}

static void on_ended(void *arg, int64_t code, int signal)
{
    struct proc *proc = arg;
    proc->has_exited = true;
    proc->code = code;
    proc->signal = signal;
    if (proc->exit_wait != NULL) {
        struct task_wait *wait = proc->exit_wait;
        proc->exit_wait = NULL;
        task_wake(wait, push_exit, proc);
    }
}

static void cancel_exit(void *op)
{
    struct proc *proc = op;
    struct err err;
    err_set(&err, ERR_CANCELLED, "waiting for the process was cancelled");
    struct task_wait *wait = proc->exit_wait;
    proc->exit_wait = NULL;
    task_wake_err(wait, &err);
}

/* proc:wait() -> { code=, signal= } | nil, err        (yields) */
static int l_wait(lua_State *L)
{
    struct proc *proc = check_proc(L);
    if (proc->has_exited) {
        return push_exit(L, proc);
    }
    if (proc->exit_wait != NULL) {
        return luaL_error(L, "another task already waits for this process");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_exit);
    proc->exit_wait = wait;
    task_wait_set_op(wait, proc);
    return task_wait_yield(L, wait);
}

/* --- reading -------------------------------------------------------------------------------- */

/* How many bytes the reader may take now; 0: not enough yet. */
static size_t ready_bytes(const struct reader *reader)
{
    const struct buf *data = child_output(reader->proc->child, reader->stream);
    if (data->len == 0) {
        return 0;
    }
    if (!reader->by_line) {
        return data->len < reader->max ? data->len : reader->max;
    }
    const char *end = memchr(data->data, '\n', data->len);
    if (end != NULL) {
        return (size_t)(end - data->data) + 1;
    }
    bool is_last = child_output_ended(reader->proc->child, reader->stream) || data->len >= reader->max;
    return is_last ? data->len : 0;
}

/* Pushes what is ready, nil at the end of the stream; the caller has checked that it is one of them. */
static int push_output(lua_State *L, void *arg)
{
    struct reader *reader = arg;
    size_t len = ready_bytes(reader);
    if (len == 0) {
        lua_pushnil(L);
        return 1;
    }
    const struct buf *data = child_output(reader->proc->child, reader->stream);
    size_t text = reader->by_line && data->data[len - 1] == '\n' ? len - 1 : len;
    lua_pushlstring(L, data->data, text);
    child_consume(reader->proc->child, reader->stream, len);
    return 1;
}

static bool can_answer(const struct reader *reader)
{
    return ready_bytes(reader) > 0 || child_output_ended(reader->proc->child, reader->stream);
}

static void on_data(void *arg, int stream)
{
    struct proc *proc = arg;
    struct reader *reader = &proc->readers[stream];
    if (reader->wait != NULL && can_answer(reader)) {
        struct task_wait *wait = reader->wait;
        reader->wait = NULL;
        task_wake(wait, push_output, reader);
    }
}

static void cancel_read(void *op)
{
    struct reader *reader = op;
    struct err err;
    err_set(&err, ERR_CANCELLED, "reading from the process was cancelled");
    struct task_wait *wait = reader->wait;
    reader->wait = NULL;
    task_wake_err(wait, &err);
}

static int read_stream(lua_State *L, bool by_line)
{
    static const char *const names[] = {"stdin", "stdout", "stderr", NULL};
    struct proc *proc = check_proc(L);
    int stream = luaL_checkoption(L, 2, "stdout", names);
    luaL_argcheck(L, stream != 0, 2, "stdout or stderr expected");
    if (proc->child == NULL) {
        return 0;
    }
    struct reader *reader = &proc->readers[stream];
    if (reader->wait != NULL) {
        return luaL_error(L, "another task already reads this stream");
    }
    reader->proc = proc;
    reader->stream = stream;
    reader->by_line = by_line;
    reader->max = (size_t)(lua_isnoneornil(L, 3) ? 65536 : arg_check_int(L, 3, 1, 1 << 20));
    if (can_answer(reader)) {
        return push_output(L, reader);
    }
    struct task_wait *wait = task_wait_begin(L, cancel_read);
    reader->wait = wait;
    task_wait_set_op(wait, reader);
    return task_wait_yield(L, wait);
}

/* proc:read("stdout"|"stderr"[, max]) -> bytes | nil at the end | nil, err        (yields) */
static int l_read(lua_State *L)
{
    return read_stream(L, false);
}

/* proc:read_line("stdout"|"stderr"[, max]) -> line without its newline | nil at the end | nil, err (yields)
 */
static int l_read_line(lua_State *L)
{
    return read_stream(L, true);
}

/* --- writing, signals ----------------------------------------------------------------------- */

static void on_written(void *arg, int status)
{
    struct task_wait *wait = arg;
    if (status == 0) {
        task_wake_true(wait);
    } else {
        struct err err;
        err_set_errno(&err, status, "write to a process");
        task_wake_err(wait, &err);
    }
}

/* proc:write(bytes) -> true | nil, err        (yields) until the pipe has taken it */
static int l_write(lua_State *L)
{
    struct proc *proc = check_proc(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct err err;
    if (proc->child == NULL) {
        err_set(&err, ERR_CLOSED, "the process is closed");
        return task_wait_fail(L, wait, &err);
    }
    if (child_write(proc->child, data, len, on_written, wait, &err) != 0) {
        return task_wait_fail(L, wait, &err);
    }
    return task_wait_yield(L, wait);
}

/* proc:close_stdin() */
static int l_close_stdin(lua_State *L)
{
    struct proc *proc = check_proc(L);
    if (proc->child != NULL) {
        child_close_stdin(proc->child);
    }
    return 0;
}

static int signal_of(lua_State *L, int idx)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"TERM", SIGTERM}, {"INT", SIGINT},   {"KILL", SIGKILL}, {"HUP", SIGHUP},
                 {"QUIT", SIGQUIT}, {"STOP", SIGSTOP}, {"CONT", SIGCONT}, {"USR1", SIGUSR1}};
    if (lua_type(L, idx) == LUA_TNUMBER) {
        return (int)arg_check_int(L, idx, 0, 64);
    }
    const char *name = luaL_optstring(L, idx, "TERM");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].number;
        }
    }
    return luaL_argerror(L, idx, "unknown signal");
}

/* proc:kill([signal]) -> true | nil, err: TERM unless given, by name or number */
static int l_kill(lua_State *L)
{
    struct proc *proc = check_proc(L);
    int signo = signal_of(L, 2);
    struct err err;
    if (proc->child == NULL || proc->has_exited) {
        err_set(&err, ERR_NOT_FOUND, "the process has ended");
        return arg_return_err(L, &err);
    }
    if (child_kill(proc->child, signo, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, check_proc(L)->pid);
    return 1;
}

static int l_close(lua_State *L)
{
    struct proc *proc = check_proc(L);
    child_close(proc->child);
    proc->child = NULL;
    return 0;
}

/* --- spawning ------------------------------------------------------------------------------- */

/* An array of strings as char **, NULL-terminated; the strings stay owned by the Lua table. */
static char **string_list(lua_State *L, int table, const char *first)
{
    int count = table == 0 ? 0 : (int)lua_objlen(L, table);
    char **list = xcalloc((size_t)count + 2, sizeof(*list));
    int at = 0;
    if (first != NULL) {
        list[at++] = (char *)first;
    }
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, table, i);
        const char *text = lua_tostring(L, -1);
        lua_pop(L, 1);
        list[at++] = (char *)(text == NULL ? "" : text);
    }
    return list;
}

/* { NAME = value } as an array table of "NAME=value" on top of the stack. */
static void push_env(lua_State *L, int table)
{
    lua_newtable(L);
    int count = 0;
    lua_pushnil(L);
    while (lua_next(L, table) != 0) { /* stack: ..., list, name, value */
        lua_pushvalue(L, -2);
        lua_pushliteral(L, "=");
        lua_pushvalue(L, -3);
        lua_concat(L, 3);
        lua_rawseti(L, -4, ++count);
        lua_pop(L, 1);
    }
}

static enum child_stream stream_option(lua_State *L, const char *name)
{
    const char *text = arg_opt_str(L, 1, name, "null", NULL);
    if (strcmp(text, "pipe") == 0) {
        return CHILD_PIPE;
    }
    if (strcmp(text, "inherit") == 0) {
        return CHILD_INHERIT;
    }
    if (strcmp(text, "null") != 0) {
        luaL_error(L, "option '%s': 'pipe', 'inherit' or 'null' expected, got '%s'", name, text);
    }
    return CHILD_NULL;
}

/* child.spawn{ file=, args=, env=, cwd=, uid=, gid=, own_session=, stdin=, stdout=, stderr= } -> proc | nil,
 * err */
static int l_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct child_opts opts = {
        .file = arg_need_str(L, 1, "file", NULL),
        .cwd = arg_opt_str(L, 1, "cwd", NULL, NULL),
        .own_session = arg_opt_bool(L, 1, "own_session", false),
        .streams = {stream_option(L, "stdin"), stream_option(L, "stdout"), stream_option(L, "stderr")},
    };
    int64_t uid = arg_opt_int(L, 1, "uid", -1, 0, INT32_MAX);
    if (uid >= 0) {
        opts.set_user = true;
        opts.uid = (unsigned)uid;
        opts.gid = (unsigned)arg_opt_int(L, 1, "gid", uid, 0, INT32_MAX);
    }
    lua_getfield(L, 1, "args");
    int args_table = lua_istable(L, -1) ? lua_gettop(L) : 0;
    lua_getfield(L, 1, "env");
    int env_table = 0;
    if (lua_istable(L, -1)) {
        push_env(L, lua_gettop(L));
        env_table = lua_gettop(L);
    }
    struct proc *proc = lua_newuserdata(L, sizeof(*proc));
    memset(proc, 0, sizeof(*proc));
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    opts.args = string_list(L, args_table, opts.file);
    opts.env = env_table == 0 ? NULL : string_list(L, env_table, NULL);
    struct child_events events = {.on_exit = on_ended, .on_data = on_data, .arg = proc};
    struct err err;
    int status = child_spawn(task_loop(L), &opts, &events, &proc->child, &err);
    free(opts.args);
    free(opts.env);
    if (status != 0) {
        return arg_return_err(L, &err);
    }
    proc->pid = child_pid(proc->child);
    return 1;
}

int luaopen_host_child(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"wait", l_wait},   {"read", l_read},   {"read_line", l_read_line},
        {"write", l_write}, {"kill", l_kill},   {"close_stdin", l_close_stdin},
        {"pid", l_pid},     {"close", l_close}, {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"spawn", l_spawn}, {NULL, NULL}};
    arg_class(L, META, methods, l_close);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
