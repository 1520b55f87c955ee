/* The application's Lua state; see vm.h. */
#include "lua/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/xmem.h"
#include "embed/embed.h"
#include "loop/loop.h"
#include "lua/gc_pace.h"
#include "lua/task.h"

/* The collector starts a cycle when a large heap has grown by 40 % (the default: doubled) and works faster
 * while it runs: a little more processor time for a much smaller peak, which the system would never get back
 * whole. */
enum { GC_PERCENT = 40, GC_ALLOWANCE = 6 << 20, GC_STEPMUL = 300 };

struct vm {
    lua_State *L;
    struct loop *loop;
    struct task_sched *tasks;
    struct gc_pace pace;
    char *root;
    int argc;
    char **argv;
    int exit_code;
};

static char vm_key; /* its address names the vm in the registry */

static struct vm *vm_of(lua_State *L)
{
    lua_pushlightuserdata(L, &vm_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct vm *vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return vm;
}

static const luaL_Reg modules[] = {
    {"host.task", luaopen_host_task},
    {"host.sys", luaopen_host_sys},
    {"host.log", luaopen_host_log},
    {"host.fs", luaopen_host_fs},
    {"host.child", luaopen_host_child},
    {"host.json", luaopen_host_json},
    {"host.bytes", luaopen_host_bytes},
    {"host.embed", luaopen_host_embed},
    {"host.crypto", luaopen_host_crypto},
    {"host.http", luaopen_host_http},
    {"host.gzip", luaopen_host_gzip},
    {"host.fetch", luaopen_host_fetch},
    {"host.gzip_stream", luaopen_host_gzip_stream},
    {"host.net", luaopen_host_net},
    {"host.pg", luaopen_host_pg},
    {"host.rpc", luaopen_host_rpc},
    {"host.proto", luaopen_host_proto},
    {"host.journal", luaopen_host_journal},
    {"host.isolate", luaopen_host_isolate},
    {"host.jws", luaopen_host_jws},
    {"host.x509", luaopen_host_x509},
    {"host.redis", luaopen_host_redis},
};

/* The text of a Lua source below root, or NULL. Blocking, which is fine: it serves start-up and development.
 */
static char *read_file(const char *root, const char *name, size_t *len)
{
    struct buf path;
    buf_init(&path);
    buf_printf(&path, "%s/%s", root, name);
    buf_append_byte(&path, '\0');
    FILE *file = fopen(path.data, "rb");
    buf_deinit(&path);
    if (file == NULL) {
        return NULL;
    }
    struct buf text;
    buf_init(&text);
    size_t n;
    do {
        n = fread(buf_reserve(&text, 65536), 1, 65536, file);
        text.len += n;
    } while (n > 0);
    (void)fclose(file); /* read only */
    return buf_take(&text, len);
}

/* The file of that name as a function. On disk are texts; inside the program modules are compiled. */
static int load_file(lua_State *L, const char *root, const char *name)
{
    char chunk[256];
    (void)snprintf(chunk, sizeof(chunk), "@%s", name);
    size_t len = 0;
    char *text = root == NULL ? NULL : read_file(root, name, &len);
    if (text != NULL) {
        int status = luaL_loadbufferx(L, text, len, chunk, "t");
        free(text);
        return status;
    }
    const struct embed_file *file = embed_find(name);
    return file == NULL ? LUA_ERRFILE : luaL_loadbufferx(L, file->data, file->len, chunk, "bt");
}

/* package.loaders entry: "macp.core.ids" -> lua/macp/core/ids.lua or lua/macp/core/ids/init.lua, disk before
 * embedded; "host.prelude.x" -> host/prelude/x.lua. */
static int search(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    const struct vm *vm = vm_of(L);
    char base[200];
    int n = snprintf(base, sizeof(base), "%s%s", strncmp(module, "host.", 5) == 0 ? "" : "lua/", module);
    if (n < 0 || (size_t)n >= sizeof(base)) {
        lua_pushfstring(L, "\n\tmodule name '%s' is too long", module);
        return 1;
    }
    for (char *p = base; *p != '\0'; p++) {
        if (*p == '.') {
            *p = '/';
        }
    }
    static const char *const endings[] = {".lua", "/init.lua"};
    for (size_t i = 0; i < 2; i++) {
        char name[216];
        (void)snprintf(name, sizeof(name), "%s%s", base, endings[i]);
        int status = load_file(L, vm->root, name);
        if (status == LUA_ERRFILE) {
            continue;
        }
        if (status != 0) {
            return luaL_error(L, "%s", lua_tostring(L, -1));
        }
        return 1;
    }
    lua_pushfstring(L, "\n\tno file '%s.lua' on disk or embedded", base);
    return 1;
}

static void install_search(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders"); /* stack: package, loaders */
    int count = (int)lua_objlen(L, -1);
    for (int i = count; i >= 2; i--) { /* after preload */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_getfield(L, -2, "preload"); /* stack: package, loaders, preload */
    for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
        lua_pushcfunction(L, modules[i].func);
        lua_setfield(L, -2, modules[i].name);
    }
    lua_pop(L, 3);
}

static int on_panic(lua_State *L)
{
    log_line(LOG_ERROR, "vm.panic", "%s", lua_tostring(L, -1));
    return 0; /* the library aborts */
}

#if defined(MACP_JEMALLOC) || defined(__SANITIZE_ADDRESS__)
/* Lua objects on the C heap. jemalloc keeps sizes apart, so that most pages of a burst are free again after
 * it; those of LuaJIT's own heap stay, each with something in it. And a sanitizer sees a binding that touches
 * a collected object. */
static void *allocate(void *ud, void *ptr, size_t old_size, size_t new_size)
{
    (void)ud;
    return heap_resize(ptr, old_size, new_size);
}

static lua_State *new_state(void)
{
    return lua_newstate(allocate, NULL);
}
#else
static lua_State *new_state(void)
{
    return luaL_newstate();
}
#endif

int vm_open(struct loop *loop, const char *root, int argc, char **argv, struct vm **out, struct err *err)
{
    lua_State *L = new_state();
    if (L == NULL) {
        return err_set(err, ERR_INTERNAL, "no memory for a Lua state");
    }
    struct vm *vm = xcalloc(1, sizeof(*vm));
    vm->L = L;
    vm->loop = loop;
    vm->root = root == NULL || *root == '\0' ? NULL : xstrdup(root);
    vm->argc = argc;
    vm->argv = argv;
    (void)lua_atpanic(L, on_panic);
    lua_pushlightuserdata(L, &vm_key);
    lua_pushlightuserdata(L, vm);
    lua_rawset(L, LUA_REGISTRYINDEX);
    luaL_openlibs(L);
    (void)lua_gc(L, LUA_GCSETSTEPMUL, GC_STEPMUL);
    gc_pace_start(&vm->pace, L, GC_ALLOWANCE, GC_PERCENT);
    vm->tasks = task_sched_new(L, loop, &vm->pace);
    install_search(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "host.prelude.pairs");
    if (lua_pcall(L, 1, 0, 0) != 0) {
        err_set(err, ERR_SCRIPT, "%s", lua_tostring(L, -1));
        lua_close(L);
        task_sched_free(vm->tasks);
        free(vm->root);
        free(vm);
        return err->code;
    }
    *out = vm;
    return 0;
}

static void on_main_done(void *arg, const char *message)
{
    struct vm *vm = arg;
    if (message != NULL) {
        log_line(LOG_ERROR, "main.failed", "%s", message);
        (void)fprintf(stderr, "macp: %s\n", message);
        vm->exit_code = 1;
    }
    loop_stop(vm->loop);
}

int vm_start(struct vm *vm, const char *module, struct err *err)
{
    lua_State *L = vm->L;
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        err_set(err, ERR_SCRIPT, "%s", lua_tostring(L, -1));
        (void)fprintf(stderr, "macp: %s\n", lua_tostring(L, -1));
        lua_pop(L, 1);
        return ERR_SCRIPT;
    }
    (void)task_spawn(L, 0, on_main_done, vm);
    return 0;
}

int vm_exit_code(const struct vm *vm)
{
    return vm->exit_code;
}

lua_State *vm_state(struct vm *vm)
{
    return vm->L;
}

void vm_set_exit(lua_State *L, int code)
{
    struct vm *vm = vm_of(L);
    vm->exit_code = code;
    loop_stop(vm->loop);
}

const char *vm_root(lua_State *L)
{
    return vm_of(L)->root;
}

void vm_args(lua_State *L, int *argc, char ***argv)
{
    const struct vm *vm = vm_of(L);
    *argc = vm->argc;
    *argv = vm->argv;
}

void vm_drain(struct vm *vm, int timeout_ms)
{
    uint64_t end_ns = loop_mono_ns() + (uint64_t)timeout_ms * 1000000;
    task_cancel_all(vm->L);
    while (task_live_count(vm->L) > 0 && loop_mono_ns() < end_ns) {
        (void)uv_run(loop_uv(vm->loop), UV_RUN_NOWAIT);
    }
}

int vm_close(struct vm *vm)
{
    int leaks = task_live_count(vm->L);
    task_report_leaks(vm->L);
    lua_close(vm->L); /* finalizers close what is still open; the loop finishes that */
    leaks += loop_close(vm->loop);
    task_sched_free(vm->tasks);
    free(vm->root);
    free(vm);
    return leaks;
}
