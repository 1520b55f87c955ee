/* A server's call in Lua: one pooled task per call runs handler(call). See l_rpc_server.h. */
#include "lua/l_rpc_server.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/l_proto.h"
#include "rpc/rpc_trace.h"

static const char box_magic;

static const struct err cancelled_err = {.code = ERR_CANCELLED, .text = "cancelled"};
static const struct err over_err = {.code = ERR_CLOSED, .text = "the call is over"};

static struct l_rpc_call_box *check_box(lua_State *L)
{
    struct l_rpc_call_box *box = lua_touserdata(L, 1);
    if (box == NULL || lua_type(L, 1) != LUA_TUSERDATA || lua_objlen(L, 1) != sizeof(*box) ||
        box->magic != &box_magic) {
        luaL_typerror(L, 1, "host.rpc.call");
    }
    return box;
}

/* The call, or NULL when its handler has ended. */
static struct l_rpc_call *check_call(lua_State *L)
{
    return check_box(L)->state;
}

struct l_rpc_call *l_rpc_call_check(lua_State *L)
{
    return check_call(L);
}

/* --- facts ------------------------------------------------------------------------------------- */

/* call:metadata() -> table */
static int l_metadata(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        lua_newtable(L);
        return 1;
    }
    const grpc_metadata_array *metadata = rpc_server_call_metadata(state->call);
    l_rpc_push_metadata(L, metadata->metadata, metadata->count);
    return 1;
}

/* call:header(name) -> value | nil */
static int l_header(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    if (state == NULL) {
        lua_pushnil(L);
        return 1;
    }
    const grpc_metadata_array *metadata = rpc_server_call_metadata(state->call);
    l_rpc_push_header(L, metadata->metadata, metadata->count, name, len);
    return 1;
}

/* call:remaining_ms() -> number | nil (no deadline) */
static int l_remaining_ms(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    int64_t ms = state == NULL ? 0 : rpc_server_call_remaining_ms(state->call);
    if (ms < 0) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, (lua_Number)ms);
    }
    return 1;
}

/* call:cancelled() -> bool */
static int l_cancelled(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    lua_pushboolean(L, state == NULL || rpc_server_call_is_cancelled(state->call));
    return 1;
}

/* call:status() -> 0 to 16: what the call was ended with, or CANCELLED: the peer is gone | nil (neither) */
static int l_status(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    int status = state == NULL ? -1 : rpc_server_call_status(state->call);
    if (status < 0) {
        return 0;
    }
    lua_pushinteger(L, status);
    return 1;
}

/* call:request() -> bytes */
static int l_request(lua_State *L)
{
    const struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        lua_pushliteral(L, "");
    } else {
        l_rpc_push_slice(L, rpc_server_call_request(state->call));
    }
    return 1;
}

/* Of the call at 1; borrowed from it. Nothing when it is over. */
static const char *request_bytes(lua_State *L, size_t *len)
{
    const struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        *len = 0;
        return "";
    }
    const grpc_slice *request = rpc_server_call_request(state->call);
    *len = GRPC_SLICE_LENGTH(*request);
    return (const char *)GRPC_SLICE_START_PTR(*request);
}

/* call:decode(codec) -> the request as a table | nil, err: what codec:decode(call:request()) says, without
 * the string in between */
static int l_decode(lua_State *L)
{
    struct err err;
    size_t len;
    const char *data = request_bytes(L, &len);
    lua_settop(L, 2);
    return l_proto_decode(L, 2, data, len, NULL, &err) == 0 ? 1 : arg_return_err(L, &err);
}

/* call:decode_exact(codec) -> the request as a table, and its bytes when codec:encode would give just these
 * for the table, else nil; or nil, err */
static int l_decode_exact(lua_State *L)
{
    struct err err;
    size_t len;
    bool is_exact;
    const char *data = request_bytes(L, &len);
    lua_settop(L, 2);
    if (l_proto_decode(L, 2, data, len, &is_exact, &err) != 0) {
        return arg_return_err(L, &err);
    }
    if (!is_exact) {
        return 1;
    }
    lua_pushlstring(L, data, len);
    return 2;
}

/* --- answers ----------------------------------------------------------------------------------- */

static int return_status(lua_State *L, int status)
{
    if (status != 0) {
        return arg_return_err(L, &over_err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* call:reply(bytes[, trailing]) -> true | nil, err: the one response of unary and client-streaming calls */
static int l_reply(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    struct rpc_metadata trailing;
    struct err err;
    if (l_rpc_read_metadata(L, 3, &trailing, &err) != 0) {
        return arg_return_err(L, &err);
    }
    grpc_slice slice = l_rpc_check_slice(L, 2);
    if (state == NULL) {
        grpc_slice_unref(slice);
        rpc_metadata_deinit(&trailing);
        return return_status(L, ERR_CLOSED);
    }
    int status = rpc_server_call_reply(state->call, slice, &trailing);
    rpc_metadata_deinit(&trailing);
    return return_status(L, status);
}

/* call:reply_with(codec, table) -> true | nil, err: call:reply(codec:encode(table)) without the string in
 * between. Raises when the table does not encode. */
static int l_reply_with(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    struct err err;
    lua_settop(L, 3);
    const struct buf *out = l_proto_encode(L, 2, 3, &err);
    if (out == NULL) {
        return luaL_error(L, "%s", err.text);
    }
    if (state == NULL) {
        return return_status(L, ERR_CLOSED);
    }
    return return_status(L,
                         rpc_server_call_reply(state->call, rpc_call_slice(out->data, out->len, NULL), NULL));
}

static int finish(lua_State *L, int lowest)
{
    struct l_rpc_call *state = check_call(L);
    int code = (int)arg_check_int(L, 2, lowest, 16);
    size_t len;
    const char *message = luaL_optlstring(L, 3, "", &len);
    struct rpc_metadata trailing;
    struct err err;
    if (l_rpc_read_metadata(L, 4, &trailing, &err) != 0) {
        return arg_return_err(L, &err);
    }
    int status = ERR_CLOSED;
    if (state != NULL) {
        status = rpc_server_call_finish(state->call, (grpc_status_code)code, message, len, &trailing);
    }
    rpc_metadata_deinit(&trailing);
    return return_status(L, status);
}

/* call:fail(status, message[, trailing]) -> true | nil, err */
static int l_fail(lua_State *L)
{
    return finish(L, 1);
}

/* call:finish(status[, message[, trailing]]) -> true | nil, err: ends a stream after what is queued */
static int l_finish(lua_State *L)
{
    return finish(L, 0);
}

/* call:set_headers(metadata) -> true | nil, err: initial metadata, before the first answer */
static int l_set_headers(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    struct rpc_metadata headers;
    struct err err = over_err;
    int status = l_rpc_read_metadata(L, 2, &headers, &err);
    if (status == 0) {
        status = state == NULL ? ERR_CLOSED : rpc_server_call_set_headers(state->call, &headers, &err);
        rpc_metadata_deinit(&headers);
    }
    if (status != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* --- messages ---------------------------------------------------------------------------------- */

static bool has_request_stream(const struct l_rpc_call *state)
{
    enum rpc_kind kind = rpc_server_call_kind(state->call);
    return kind == RPC_CLIENT_STREAM || kind == RPC_BIDI;
}

static int over(lua_State *L)
{
    return arg_return_err(L, &over_err);
}

/* call:read() -> bytes | nil (the client has finished) | nil, err      (yields) */
static int l_read(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state != NULL && !has_request_stream(state)) {
        return luaL_error(L, "%s has no request stream: use call:request()",
                          rpc_server_call_method(state->call));
    }
    return state == NULL ? over(L) : l_rpc_pipe_read(L, &state->pipe);
}

/* call:read_many([max]) -> array | nil | nil, err      (yields) */
static int l_read_many(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state != NULL && !has_request_stream(state)) {
        return luaL_error(L, "%s has no request stream: use call:request()",
                          rpc_server_call_method(state->call));
    }
    return state == NULL ? over(L) : l_rpc_pipe_read_many(L, &state->pipe);
}

static void check_can_write(lua_State *L, const struct l_rpc_call *state)
{
    enum rpc_kind kind = rpc_server_call_kind(state->call);
    if (kind == RPC_UNARY || kind == RPC_CLIENT_STREAM) {
        luaL_error(L, "%s has no response stream: use call:reply()", rpc_server_call_method(state->call));
    }
}

/* call:write(bytes[, window]) -> true | nil, err      (yields while the queue is full, or holds more than
 * window bytes with this message) */
static int l_write(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        return over(L);
    }
    check_can_write(L, state);
    return l_rpc_pipe_write(L, &state->pipe);
}

/* call:offer(bytes) -> true | false, "full" | "closed" */
static int l_offer(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "closed");
        return 2;
    }
    check_can_write(L, state);
    return l_rpc_pipe_offer(L, &state->pipe);
}

/* call:queued() -> messages, bytes */
static int l_queued(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state == NULL) {
        lua_pushnumber(L, 0);
        lua_pushnumber(L, 0);
        return 2;
    }
    return l_rpc_pipe_queued(L, &state->pipe);
}

static void cancel_wait_closed(void *op)
{
    struct l_rpc_call *state = op;
    struct task_wait *wait = state->close_wait;
    state->close_wait = NULL;
    if (wait != NULL) {
        task_wake_err(wait, &cancelled_err);
    }
}

/* call:wait_closed() -> true | nil, err: the client has gone or the answer has left      (yields) */
static int l_wait_closed(lua_State *L)
{
    struct l_rpc_call *state = check_call(L);
    if (state == NULL || rpc_server_call_is_over(state->call) || rpc_server_call_is_cancelled(state->call)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (state->close_wait != NULL) {
        return luaL_error(L, "another task already waits for the end of this call");
    }
    rpc_server_call_watch(state->call);
    struct task_wait *wait = task_wait_begin(L, cancel_wait_closed);
    state->close_wait = wait;
    task_wait_set_op(wait, state);
    return task_wait_yield(L, wait);
}

/* --- events ------------------------------------------------------------------------------------ */

static enum rpc_read read_next(struct l_rpc_pipe *pipe, grpc_slice *out)
{
    struct l_rpc_call *state = list_entry(pipe, struct l_rpc_call, pipe);
    enum rpc_read status = rpc_call_read(pipe->call, out);
    if (status != RPC_READ_MESSAGE && rpc_server_call_is_cancelled(state->call)) {
        return RPC_READ_FAILED;
    }
    return status;
}

static int push_end(lua_State *L, struct l_rpc_pipe *pipe)
{
    struct l_rpc_call *state = list_entry(pipe, struct l_rpc_call, pipe);
    grpc_slice none;
    if (read_next(pipe, &none) == RPC_READ_END) {
        lua_pushnil(L);
        return 1;
    }
    struct err err;
    if (rpc_server_is_draining(state->owner->server)) {
        err_set(&err, ERR_UNAVAILABLE, "the server is shutting down");
    } else {
        err_set(&err, ERR_CANCELLED, "the client has cancelled the call or is gone");
    }
    return arg_return_err(L, &err);
}

static const struct l_rpc_pipe_ops pipe_ops = {.read = read_next, .push_end = push_end};

static void on_readable(void *arg)
{
    struct l_rpc_call *state = arg;
    l_rpc_pipe_readable(&state->pipe);
}

static void on_writable(void *arg)
{
    struct l_rpc_call *state = arg;
    l_rpc_pipe_writable(&state->pipe);
}

static void wake_closer(struct l_rpc_call *state)
{
    struct task_wait *wait = state->close_wait;
    state->close_wait = NULL;
    if (wait != NULL) {
        task_wake_true(wait);
    }
}

static void on_closed(void *arg)
{
    struct l_rpc_call *state = arg;
    bool is_cancelled = rpc_server_call_is_cancelled(state->call);
    wake_closer(state);
    l_rpc_pipe_readable(&state->pipe);
    l_rpc_pipe_writable(&state->pipe);
    if (is_cancelled && state->task != NULL) {
        task_cancel(state->task);
    }
}

static const struct rpc_call_events call_events = {
    .readable = on_readable, .writable = on_writable, .closed = on_closed};

static void leave(struct l_rpc_call *state)
{
    state->box->state = NULL;
    rpc_server_call_release(state->call);
    list_remove(&state->node);
    list_push_front(&state->owner->pool, &state->node);
}

static void on_task_done(void *arg, const char *message)
{
    static const char text[] = "internal error";
    struct l_rpc_call *state = arg;
    bool is_cancelled = rpc_server_call_is_cancelled(state->call);
    state->task = NULL;
    if (message != NULL) {
        /* A handler that was cancelled usually ends by raising just that. */
        log_line(is_cancelled ? LOG_DEBUG : LOG_ERROR, "rpc.handler", "%s: %s",
                 rpc_server_call_method(state->call), message);
        (void)rpc_server_call_finish(state->call, GRPC_STATUS_INTERNAL, text, sizeof(text) - 1,
                                     NULL); /* or answered */
    } else if (!is_cancelled && !rpc_server_call_is_answered(state->call)) {
        log_line(LOG_ERROR, "rpc.handler", "%s: the handler ended without an answer",
                 rpc_server_call_method(state->call));
    }
    wake_closer(state);
    l_rpc_pipe_close(&state->pipe);
    luaL_unref(state->owner->L, LUA_REGISTRYINDEX, state->box_ref);
    leave(state);
}

static void describe_call(void *arg, struct buf *members)
{
    const struct l_rpc_call *state = arg;
    const char *id = rpc_trace_id(rpc_server_call_metadata(state->call));
    if (id != NULL) {
        buf_append_str(members, "\"trace_id\":\"");
        buf_append(members, id, RPC_TRACE_ID_LEN);
        buf_append_byte(members, '"');
    }
}

void l_rpc_call_start(struct l_rpc_server *owner, struct rpc_server_call *call)
{
    lua_State *L = owner->L;
    struct list *node = list_pop_front(&owner->pool);
    struct l_rpc_call *state =
        node != NULL ? list_entry(node, struct l_rpc_call, node) : xmalloc(sizeof(*state));
    luaL_checkstack(L, 6, "rpc call");
    lua_rawgeti(L, LUA_REGISTRYINDEX, owner->handler_ref);
    struct l_rpc_call_box *box = lua_newuserdata(L, sizeof(*box));
    *box = (struct l_rpc_call_box){.magic = &box_magic, .state = state};
    lua_rawgeti(L, LUA_REGISTRYINDEX, owner->method_refs[rpc_server_call_method_index(call)]);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    *state = (struct l_rpc_call){
        .owner = owner, .call = call, .box = box, .box_ref = luaL_ref(L, LUA_REGISTRYINDEX)};
    list_push_back(&owner->calls, &state->node);
    l_rpc_pipe_init(&state->pipe, rpc_server_call_base(call), &pipe_ops);
    rpc_server_call_set_events(call, &call_events, state);
    state->task = task_spawn(L, 1, on_task_done, state); /* takes handler and box from the stack */
    task_set_describe(state->task, describe_call, state);
}

void l_rpc_call_forget(struct l_rpc_call *state)
{
    state->task = NULL;
    state->close_wait = NULL;
    l_rpc_pipe_forget(&state->pipe);
    leave(state);
}

static const luaL_Reg methods[] = {
    {"metadata", l_metadata},
    {"header", l_header},
    {"remaining_ms", l_remaining_ms},
    {"cancelled", l_cancelled},
    {"status", l_status},
    {"request", l_request},
    {"decode", l_decode},
    {"decode_exact", l_decode_exact},
    {"reply", l_reply},
    {"reply_with", l_reply_with},
    {"fail", l_fail},
    {"finish", l_finish},
    {"set_headers", l_set_headers},
    {"read", l_read},
    {"read_many", l_read_many},
    {"write", l_write},
    {"offer", l_offer},
    {"queued", l_queued},
    {"wait_closed", l_wait_closed},
    {NULL, NULL},
};

int l_rpc_call_new_class(lua_State *L, const char *method)
{
    lua_newtable(L);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    luaL_register(L, NULL, l_rpc_peer_methods);
    lua_pushstring(L, method);
    lua_setfield(L, -2, "method");
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "host.rpc.call");
    lua_setfield(L, -2, "__metatable");
    return luaL_ref(L, LUA_REGISTRYINDEX);
}
