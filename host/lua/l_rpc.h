/* Shared by the files of the host.rpc binding: conversions, and the message queues of a call as seen from
 * Lua. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "base/list.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_metadata.h"

struct task_wait;

/* --- conversions (l_rpc_convert.c) --- */

void l_rpc_push_slice(lua_State *L, const grpc_slice *slice);
/* Pushes { key = value }. Repeats of a key are joined by ", ", repeats of a -bin key become an array. */
void l_rpc_push_metadata(lua_State *L, const grpc_metadata *items, size_t count);
/* Pushes the value of one key as above, or nil; builds no table for a single value. */
void l_rpc_push_header(lua_State *L, const grpc_metadata *items, size_t count, const char *key, size_t len);
/* Fills out from the table { key = value or array of values } at idx (nil: nothing). A wrong type raises;
 * illegal content is an error and leaves out empty. */
int l_rpc_read_metadata(lua_State *L, int idx, struct rpc_metadata *out, struct err *err);
/* Pushes { code = "RPC", status = n, message = ..., trailing = {...} }. */
void l_rpc_push_status(lua_State *L, grpc_status_code status, const char *message, size_t len,
                       const grpc_metadata *trailing, size_t count);
/* A slice of the string or host.bytes at idx; the caller unrefs it. */
grpc_slice l_rpc_check_slice(lua_State *L, int idx);
/* Reads queue_messages, queue_bytes, prefetch_messages and prefetch_bytes of the options at idx. */
void l_rpc_read_limits(lua_State *L, int idx, struct rpc_call_limits *limits);

/* --- the queues of a call (l_rpc_pipe.c) --- */

struct l_rpc_pipe;

/* How a server call and a client stream differ. */
struct l_rpc_pipe_ops {
    enum rpc_read (*read)(struct l_rpc_pipe *pipe, grpc_slice *out);
    int (*push_end)(lua_State *L, struct l_rpc_pipe *pipe); /* nil, or nil and why; must not raise */
};

/* At most one task reads; any number may wait to write, first come first served. */
struct l_rpc_pipe {
    struct rpc_call *call; /* NULL once the call is gone for Lua */
    const struct l_rpc_pipe_ops *ops;
    struct task_wait *reader;
    int read_max; /* 0: the reader wants one message, else an array of up to so many */
    struct list writers;
};

void l_rpc_pipe_init(struct l_rpc_pipe *pipe, struct rpc_call *call, const struct l_rpc_pipe_ops *ops);
/* Events of the call. */
void l_rpc_pipe_readable(struct l_rpc_pipe *pipe);
void l_rpc_pipe_writable(struct l_rpc_pipe *pipe);
/* The call is gone: wakes everybody. */
void l_rpc_pipe_close(struct l_rpc_pipe *pipe);
/* As l_rpc_pipe_close when the Lua state is going away: forgets everybody. */
void l_rpc_pipe_forget(struct l_rpc_pipe *pipe);
/* Bodies of the Lua methods; the data is at index 2. */
int l_rpc_pipe_read(lua_State *L, struct l_rpc_pipe *pipe);
int l_rpc_pipe_read_many(lua_State *L, struct l_rpc_pipe *pipe);
int l_rpc_pipe_write(lua_State *L, struct l_rpc_pipe *pipe);
int l_rpc_pipe_offer(lua_State *L, struct l_rpc_pipe *pipe);
int l_rpc_pipe_queued(lua_State *L, struct l_rpc_pipe *pipe);

/* --- classes --- */

int l_rpc_listen(lua_State *L);  /* l_rpc_server.c */
int l_rpc_channel(lua_State *L); /* l_rpc_client.c */
void l_rpc_open_server(lua_State *L);
void l_rpc_open_client(lua_State *L);
void l_rpc_open_stream(lua_State *L);
