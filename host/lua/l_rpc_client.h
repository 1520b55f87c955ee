/* What l_rpc_client.c and l_rpc_stream.c share. */
#pragma once

#include "lua/l_rpc.h"
#include "rpc/rpc_client.h"

/* The channel at index 1; raises when it is closed. */
struct rpc_client *l_rpc_check_channel(lua_State *L);
/* Options shared by all calls, from the table at idx (or nil). A metadata problem is an error; wrong types
 * raise. */
struct l_rpc_call_opts {
    struct rpc_metadata metadata;
    int64_t timeout_ms;
    bool waits_for_ready;
};
int l_rpc_read_call_opts(lua_State *L, int idx, int64_t timeout_ms, struct l_rpc_call_opts *opts,
                         struct err *err);

/* channel:stream(method[, opts]) and channel:server_stream(method, request[, opts]) */
int l_rpc_channel_stream(lua_State *L);
int l_rpc_channel_server_stream(lua_State *L);
