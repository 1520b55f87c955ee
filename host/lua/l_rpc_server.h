/* What l_rpc_server.c and l_rpc_call.c share: the server's Lua side and the state of one call. */
#pragma once

#include "lua/l_rpc.h"
#include "lua/task.h"
#include "rpc/rpc_server.h"

/* Behind the userdata "host.rpc.server"; outlives it while calls or the closing last. */
struct l_rpc_server {
    struct rpc_server *server; /* NULL once closed */
    lua_State *L;              /* the main state (task_main_state): calls arrive outside of any coroutine */
    int handler_ref;
    int self_ref;     /* keeps the userdata while the server is open */
    int *method_refs; /* per method: the metatable of its calls */
    size_t method_count;
    struct list calls; /* live struct l_rpc_call */
    struct list pool;
    struct task_wait *drain_wait;
    struct task_wait *close_wait;
    bool is_draining;
    bool is_closing;
    bool is_dead; /* the Lua state goes away: touch it no more */
};

/* A call while its handler runs. */
struct l_rpc_call {
    struct list node;
    struct l_rpc_server *owner;
    struct rpc_server_call *call;
    struct l_rpc_call_box *box;
    int box_ref;
    struct task *task;
    struct l_rpc_pipe pipe;
    struct task_wait *close_wait;
};

/* The userdata that Lua sees; emptied when the handler has ended. It is anchored until then and needs no
 * __gc. */
struct l_rpc_call_box {
    const void *magic; /* tells it from other userdata: every method has a metatable of its own */
    struct l_rpc_call *state;
};

/* Builds the metatable of calls of one method and returns its reference. */
int l_rpc_call_new_class(lua_State *L, const char *method);
/* Spawns the handler for call. */
void l_rpc_call_start(struct l_rpc_server *owner, struct rpc_server_call *call);
/* The Lua state goes away: gives the call back without waking anybody. */
void l_rpc_call_forget(struct l_rpc_call *state);
/* The call at 1, or NULL when its handler has ended. Raises for anything else. */
struct l_rpc_call *l_rpc_call_check(lua_State *L);
/* Methods of calls that tell who is calling. */
extern const luaL_Reg l_rpc_peer_methods[];
