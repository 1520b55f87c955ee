/* The application's Lua state: libraries, module searchers, bindings. One per process, loop thread only. */
#pragma once

#include <lua.h>

#include "base/err.h"

struct loop;
struct vm;

/* A state with the host modules registered and `require` looking first below root (from MACP_ROOT; NULL for
 * none), then into the embedded files. */
int vm_open(struct loop *loop, const char *root, int argc, char **argv, struct vm **out, struct err *err);
/* Runs the function that require(module) returns in a task; the loop stops when it has returned. */
int vm_start(struct vm *vm, const char *module, struct err *err);
int vm_exit_code(const struct vm *vm);
lua_State *vm_state(struct vm *vm);       /* for fuzz targets, which call Lua outside of any task; borrowed */
void vm_set_exit(lua_State *L, int code); /* ends the program: stops the loop */
/* After the loop has ended: cancels every task and lets them finish, at most that long. */
void vm_drain(struct vm *vm, int timeout_ms);
/* Closes the state (finalizers run) and the loop; what waits for the loop's last callbacks goes after it.
 * Returns the number of tasks and handles that were left open. */
int vm_close(struct vm *vm);

const char *vm_root(lua_State *L); /* MACP_ROOT or NULL */
void vm_args(lua_State *L, int *argc, char ***argv);

int luaopen_host_task(lua_State *L);
int luaopen_host_sys(lua_State *L);
int luaopen_host_log(lua_State *L);
int luaopen_host_fs(lua_State *L);
int luaopen_host_child(lua_State *L);
int luaopen_host_json(lua_State *L);
int luaopen_host_bytes(lua_State *L);
int luaopen_host_embed(lua_State *L);
int luaopen_host_crypto(lua_State *L);
int luaopen_host_gzip(lua_State *L);
int luaopen_host_gzip_stream(lua_State *L);
int luaopen_host_jws(lua_State *L);
int luaopen_host_x509(lua_State *L);
int luaopen_host_http(lua_State *L);
int luaopen_host_fetch(lua_State *L);
int luaopen_host_net(lua_State *L);
int luaopen_host_pg(lua_State *L);
int luaopen_host_rpc(lua_State *L);
int luaopen_host_proto(lua_State *L);
int luaopen_host_journal(lua_State *L);
int luaopen_host_isolate(lua_State *L);
int luaopen_host_redis(lua_State *L);
