/* host.rpc client streams. */
#include "lua/l_rpc_client.h"

#include <stdlib.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "rpc/rpc_stream.h"

#define META "host.rpc.stream"

/* Behind the userdata, which owns it. */
struct stream {
    struct rpc_stream *stream;
    struct l_rpc_pipe pipe;
    struct task_wait *headers_wait;
};

static const struct err cancelled_err = {.code = ERR_CANCELLED, .text = "cancelled"};

static struct stream *check_stream(lua_State *L)
{
    return *(struct stream **)luaL_checkudata(L, 1, META);
}

static void push_status(lua_State *L, struct rpc_stream *stream)
{
    const char *message;
    size_t len;
    size_t count;
    grpc_status_code status = rpc_stream_status(stream, &message, &len);
    const grpc_metadata *trailing = rpc_stream_trailing(stream, &count);
    l_rpc_push_status(L, status, message, len, trailing, count);
}

/* --- events ------------------------------------------------------------------------------------ */

static enum rpc_read read_next(struct l_rpc_pipe *pipe, grpc_slice *out)
{
    return rpc_stream_read(list_entry(pipe, struct stream, pipe)->stream, out);
}

static int push_end(lua_State *L, struct l_rpc_pipe *pipe)
{
    struct rpc_stream *stream = list_entry(pipe, struct stream, pipe)->stream;
    grpc_slice none;
    lua_pushnil(L);
    if (rpc_stream_read(stream, &none) == RPC_READ_END) {
        return 1;
    }
    if (rpc_stream_is_cancelled(stream)) {
        arg_push_err(L, &cancelled_err);
    } else {
        push_status(L, stream);
    }
    return 2;
}

static const struct l_rpc_pipe_ops pipe_ops = {.read = read_next, .push_end = push_end};

static void on_readable(void *arg)
{
    struct stream *self = arg;
    l_rpc_pipe_readable(&self->pipe);
}

static void on_writable(void *arg)
{
    struct stream *self = arg;
    l_rpc_pipe_writable(&self->pipe);
}

/* Pushes what stream:headers returns; 0 when it has to wait. */
static int push_headers(lua_State *L, void *arg)
{
    struct rpc_stream *stream = arg;
    size_t count;
    const grpc_metadata *headers = rpc_stream_headers(stream, &count);
    if (rpc_stream_has_headers(stream)) {
        l_rpc_push_metadata(L, headers, count);
        return 1;
    }
    if (!rpc_stream_has_status(stream)) {
        return 0;
    }
    lua_pushnil(L); /* it failed before the server said anything */
    push_status(L, stream);
    return 2;
}

static void wake_headers(struct stream *self)
{
    struct task_wait *wait = self->headers_wait;
    self->headers_wait = NULL;
    if (wait != NULL) {
        task_wake(wait, push_headers, self->stream);
    }
}

static void on_headers(void *arg)
{
    wake_headers(arg);
}

static void on_closed(void *arg)
{
    struct stream *self = arg;
    wake_headers(self);
    l_rpc_pipe_readable(&self->pipe);
    l_rpc_pipe_writable(&self->pipe);
}

static const struct rpc_call_events events = {
    .readable = on_readable, .writable = on_writable, .headers = on_headers, .closed = on_closed};

/* --- opening ----------------------------------------------------------------------------------- */

static int open_stream(lua_State *L, int opts_idx, bool has_request)
{
    struct rpc_client *client = l_rpc_check_channel(L);
    const char *method = luaL_checkstring(L, 2);
    struct rpc_stream_opts call = {.method = method, .has_request = has_request};
    struct l_rpc_call_opts opts;
    struct err err;
    if (!lua_isnoneornil(L, opts_idx)) {
        luaL_checktype(L, opts_idx, LUA_TTABLE);
        l_rpc_read_limits(L, opts_idx, &call.limits);
    }
    if (has_request) {
        size_t len;
        struct bytes *shared;
        (void)arg_check_bytes(L, 3, &len, &shared); /* raises before anything is allocated */
    }
    struct stream **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    if (l_rpc_read_call_opts(L, opts_idx, 0, &opts, &err) != 0) {
        return arg_return_err(L, &err);
    }
    if (has_request) {
        call.request = l_rpc_check_slice(L, 3);
    }
    call.metadata = &opts.metadata;
    call.timeout_ms = opts.timeout_ms;
    call.waits_for_ready = opts.waits_for_ready;
    struct stream *self = xcalloc(1, sizeof(*self));
    if (rpc_stream_open(client, &call, &events, self, &self->stream, &err) != 0) {
        free(self);
        return arg_return_err(L, &err);
    }
    l_rpc_pipe_init(&self->pipe, rpc_stream_base(self->stream), &pipe_ops);
    *box = self;
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    lua_getfenv(L, 1); /* refers to the channel: it lives as long as its streams */
    (void)lua_setfenv(L, -2);
    return 1;
}

int l_rpc_channel_stream(lua_State *L)
{
    lua_settop(L, 3);
    return open_stream(L, 3, false);
}

int l_rpc_channel_server_stream(lua_State *L)
{
    lua_settop(L, 4);
    return open_stream(L, 4, true);
}

/* --- methods ----------------------------------------------------------------------------------- */

/* stream:write(bytes) -> true | nil, err      (yields while the queue is full) */
static int l_write(lua_State *L)
{
    return l_rpc_pipe_write(L, &check_stream(L)->pipe);
}

/* stream:offer(bytes) -> true | false, "full" | "closed" */
static int l_offer(lua_State *L)
{
    return l_rpc_pipe_offer(L, &check_stream(L)->pipe);
}

/* stream:read() -> bytes | nil (clean end) | nil, err      (yields) */
static int l_read(lua_State *L)
{
    return l_rpc_pipe_read(L, &check_stream(L)->pipe);
}

/* stream:read_many([max]) -> array of what has arrived | nil | nil, err      (yields) */
static int l_read_many(lua_State *L)
{
    return l_rpc_pipe_read_many(L, &check_stream(L)->pipe);
}

/* stream:queued() -> messages, bytes */
static int l_queued(lua_State *L)
{
    return l_rpc_pipe_queued(L, &check_stream(L)->pipe);
}

/* stream:half_close(): no more messages from us, after what is queued */
static int l_half_close(lua_State *L)
{
    rpc_stream_half_close(check_stream(L)->stream);
    return 0;
}

static void cancel_headers(void *op)
{
    struct stream *self = op;
    struct task_wait *wait = self->headers_wait;
    self->headers_wait = NULL;
    if (wait != NULL) {
        task_wake_err(wait, &cancelled_err);
    }
}

/* stream:headers() -> table | nil, err: the server's initial metadata      (yields) */
static int l_headers(lua_State *L)
{
    struct stream *self = check_stream(L);
    if (rpc_stream_has_headers(self->stream) || rpc_stream_has_status(self->stream)) {
        return push_headers(L, self->stream);
    }
    if (self->headers_wait != NULL) {
        return luaL_error(L, "another task already waits for the headers of this stream");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_headers);
    self->headers_wait = wait;
    task_wait_set_op(wait, self);
    return task_wait_yield(L, wait);
}

/* stream:trailing() -> table: trailing metadata, empty before the end */
static int l_trailing(lua_State *L)
{
    size_t count;
    const grpc_metadata *trailing = rpc_stream_trailing(check_stream(L)->stream, &count);
    l_rpc_push_metadata(L, trailing, count);
    return 1;
}

/* stream:cancel() */
static int l_cancel(lua_State *L)
{
    rpc_stream_cancel(check_stream(L)->stream);
    return 0;
}

/* A task that waits keeps the userdata on its stack: waits are left only when the Lua state itself goes away.
 */
static int l_gc(lua_State *L)
{
    struct stream **box = luaL_checkudata(L, 1, META);
    struct stream *self = *box;
    *box = NULL;
    if (self != NULL) {
        l_rpc_pipe_forget(&self->pipe);
        rpc_stream_release(self->stream);
        free(self);
    }
    return 0;
}

void l_rpc_open_stream(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"write", l_write},   {"offer", l_offer},     {"read", l_read},         {"read_many", l_read_many},
        {"queued", l_queued}, {"headers", l_headers}, {"trailing", l_trailing}, {"half_close", l_half_close},
        {"cancel", l_cancel}, {NULL, NULL},
    };
    arg_class(L, META, methods, l_gc);
}
