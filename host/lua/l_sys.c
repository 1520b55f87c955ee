/* host.sys: the process and its surroundings: arguments, environment, clocks, memory, signals, standard
 * streams. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "base/fault.h"
#include "base/heap.h"
#include "base/xmem.h"
#include "embed/embed.h"
#include "loop/loop.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

extern char **environ;

static int l_now_ms(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)loop_now_ms());
    return 1;
}

static int l_mono_ms(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)loop_mono_ns() / 1e6);
    return 1;
}

/* sys.cpu_ms() -> user and system time of the process so far */
static int l_cpu_ms(lua_State *L)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail with these arguments */
    lua_pushnumber(L, (lua_Number)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                          (lua_Number)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3);
    return 1;
}

static int l_rss_bytes(lua_State *L)
{
    size_t bytes = 0;
    (void)uv_resident_set_memory(&bytes); /* stays 0 where /proc is missing */
    lua_pushnumber(L, (lua_Number)bytes);
    return 1;
}

/* sys.collect_for(bytes): does the collector's share of work for bytes that were taken in large pieces.
 * LuaJIT does a step whenever memory is taken, one for a string of any length: what large ones leave undone,
 * the next small ones would have to do, and whoever makes them is held up. Nothing happens between cycles. */
static int l_collect_for(lua_State *L)
{
    enum { STEP_BYTES = 1024 }; /* that a step stands for: GCSTEPSIZE */
    int64_t bytes = arg_check_int(L, 1, 0, INT64_C(1) << 30);
    for (int64_t done = 0; done < bytes; done += STEP_BYTES) {
        lua_pushliteral(L, "");
        lua_pop(L, 1);
    }
    return 0;
}

/* sys.raise_open_files() -> limit: lets this process (and its children) have as many files and sockets open
 * as the system allows it to ask for; nil when the system does not tell */
static int l_raise_open_files(lua_State *L)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        const struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit.rlim_cur = raised.rlim_cur;
        }
    }
    lua_pushnumber(L, (lua_Number)limit.rlim_cur);
    return 1;
}

static int l_lua_bytes(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)lua_gc(L, LUA_GCCOUNT, 0) * 1024 + lua_gc(L, LUA_GCCOUNTB, 0));
    return 1;
}

/* sys.trim(): gives free pages of the C heap and those of files inside the program back to the system; takes
 * milliseconds on a large heap */
static int l_trim(lua_State *L)
{
    embed_forget();
    heap_trim();
    return 0;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

static int l_uid(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)getuid());
    return 1;
}

static int l_env(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **entry = environ; *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals != NULL) {
            lua_pushlstring(L, *entry, (size_t)(equals - *entry));
            lua_pushstring(L, equals + 1);
            lua_rawset(L, -3);
        }
    }
    return 1;
}

static int l_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (lua_isnoneornil(L, 2)) {
        (void)unsetenv(name);
    } else if (setenv(name, luaL_checkstring(L, 2), 1) != 0) {
        return luaL_argerror(L, 1, "not a valid variable name");
    }
    return 0;
}

/* sys.exit(code): ordered shutdown; the caller goes on until it waits or returns */
static int l_exit(lua_State *L)
{
    vm_set_exit(L, (int)arg_check_int(L, 1, 0, 255));
    return 0;
}

/* sys.abort(code): ends at once, without any clean-up; for the second signal */
static int l_abort(lua_State *L)
{
    _exit((int)arg_check_int(L, 1, 0, 255));
}

static int l_hostname(lua_State *L)
{
    char name[256];
    size_t len = sizeof(name);
    if (uv_os_gethostname(name, &len) != 0) {
        lua_pushliteral(L, "localhost");
        return 1;
    }
    lua_pushlstring(L, name, len);
    return 1;
}

static int l_executable(lua_State *L)
{
    char path[4096];
    size_t len = sizeof(path);
    if (uv_exepath(path, &len) != 0) {
        return 0;
    }
    lua_pushlstring(L, path, len);
    return 1;
}

static int l_cwd(lua_State *L)
{
    char path[4096];
    size_t len = sizeof(path);
    if (uv_cwd(path, &len) != 0) {
        return 0;
    }
    lua_pushlstring(L, path, len);
    return 1;
}

static int l_is_tty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* sys.write(fd, text): all of it, for command output */
static int l_write(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            struct err err;
            err_set_errno(&err, errno, "write to descriptor %d", fd);
            return arg_return_err(L, &err);
        }
        text += n;
        len -= (size_t)n;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* --- signals -------------------------------------------------------------------------------- */

struct watched_signal {
    uv_signal_t handle;
    lua_State *L; /* the main state, which outlives the watcher */
    int fn_ref;
};

static void on_signal(uv_signal_t *handle, int signo)
{
    struct watched_signal *watched = handle->data;
    lua_rawgeti(watched->L, LUA_REGISTRYINDEX, watched->fn_ref);
    lua_pushinteger(watched->L, signo);
    (void)task_spawn(watched->L, 1, NULL, NULL);
}

static void on_signal_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int l_signal_gc(lua_State *L)
{
    struct watched_signal **box = lua_touserdata(L, 1);
    if (*box != NULL) {
        uv_close((uv_handle_t *)&(*box)->handle, on_signal_closed);
        *box = NULL;
    }
    return 0;
}

static int signal_number(lua_State *L, const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"TERM", SIGTERM}, {"INT", SIGINT}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].number;
        }
    }
    return luaL_error(L, "unknown signal '%s' (TERM, INT, HUP, USR1 or USR2)", name);
}

/* sys.on_signal(name, fn): fn runs in a fresh task for each signal, as long as the program lives */
static int l_on_signal(lua_State *L)
{
    int signo = signal_number(L, luaL_checkstring(L, 1));
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct watched_signal **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    lua_newtable(L);
    lua_pushcfunction(L, l_signal_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    (void)luaL_ref(L, LUA_REGISTRYINDEX); /* lives as long as the state; closed by its finalizer */
    struct watched_signal *watched = xcalloc(1, sizeof(*watched));
    lua_pushvalue(L, 2);
    watched->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    watched->L = task_main_state(L);
    watched->handle.data = watched;
    int status = uv_signal_init(loop_uv(task_loop(L)), &watched->handle);
    *box = watched;
    if (status == 0) {
        status = uv_signal_start(&watched->handle, on_signal, signo);
    }
    uv_unref((uv_handle_t *)&watched->handle);
    if (status != 0) {
        struct err err;
        err_set_errno(&err, status, "watch signal %d", signo);
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* --- handles -------------------------------------------------------------------------------- */

static void count_handle(uv_handle_t *handle, void *arg)
{
    lua_State *L = arg;
    if (uv_is_closing(handle)) {
        return;
    }
    const char *name = uv_handle_type_name(handle->type);
    lua_getfield(L, -1, name);
    lua_Integer count = lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_pushinteger(L, count + 1);
    lua_setfield(L, -2, name);
}

/* sys.handles() -> { type = count }: the open handles of the loop, for leak checks */
static int l_handles(lua_State *L)
{
    lua_newtable(L);
    uv_walk(loop_uv(task_loop(L)), count_handle, L);
    return 1;
}

#ifdef MACP_FAULTS
/* sys.fault(name[, action[, after_hits]]): arms a fault point ("fail" or "kill"), disarms it without an
 * action. Absent from builds without fault points. */
static int l_fault(lua_State *L)
{
    fault_arm(luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL), (int)luaL_optinteger(L, 3, 0));
    return 0;
}

/* sys.fault_hit(name) -> bool: a fault point of the application; true: behave as if it failed. Absent like
 * fault. */
static int l_fault_hit(lua_State *L)
{
    lua_pushboolean(L, fault_hit(luaL_checkstring(L, 1)));
    return 1;
}
#endif

static void push_argv(lua_State *L)
{
    int argc;
    char **argv;
    vm_args(L, &argc, &argv);
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
}

int luaopen_host_sys(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"now_ms", l_now_ms},
        {"mono_ms", l_mono_ms},
        {"cpu_ms", l_cpu_ms},
        {"collect_for", l_collect_for},
        {"rss_bytes", l_rss_bytes},
        {"lua_bytes", l_lua_bytes},
        {"raise_open_files", l_raise_open_files},
        {"pid", l_pid},
        {"uid", l_uid},
        {"env", l_env},
        {"environ", l_environ},
        {"setenv", l_setenv},
        {"exit", l_exit},
        {"abort", l_abort},
        {"hostname", l_hostname},
        {"executable", l_executable},
        {"cwd", l_cwd},
        {"is_tty", l_is_tty},
        {"write", l_write},
        {"on_signal", l_on_signal},
        {"handles", l_handles},
        {"trim", l_trim},
#ifdef MACP_FAULTS
        {"fault", l_fault},
        {"fault_hit", l_fault_hit},
#endif
        {NULL, NULL},
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    push_argv(L);
    lua_setfield(L, -2, "argv");
    lua_pushliteral(L, MACP_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushliteral(L, MACP_BUILD);
    lua_setfield(L, -2, "build");
    return 1;
}
