/* Reading and writing the messages of a call from Lua; see l_rpc.h. */
#include "lua/l_rpc.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"

enum { READ_MANY_MAX = 4096 };

struct writer {
    struct list node;
    struct l_rpc_pipe *pipe;
    struct task_wait *wait;
    grpc_slice slice;
    size_t window;
};

static const struct err closed_err = {.code = ERR_CLOSED, .text = "the call is over"};
static const struct err cancelled_err = {.code = ERR_CANCELLED, .text = "cancelled"};

/* --- reading ----------------------------------------------------------------------------------- */

static enum rpc_read next(struct l_rpc_pipe *pipe, grpc_slice *slice)
{
    return pipe->call == NULL ? RPC_READ_FAILED : pipe->ops->read(pipe, slice);
}

static int push_end(lua_State *L, struct l_rpc_pipe *pipe)
{
    return pipe->call == NULL ? arg_return_err(L, &closed_err) : pipe->ops->push_end(L, pipe);
}

/* Pushes what a read returns; 0 when there is nothing to return yet. */
static int push_one(lua_State *L, struct l_rpc_pipe *pipe)
{
    grpc_slice slice;
    switch (next(pipe, &slice)) {
    case RPC_READ_EMPTY:
        return 0;
    case RPC_READ_MESSAGE:
        l_rpc_push_slice(L, &slice);
        grpc_slice_unref(slice);
        return 1;
    default:
        return push_end(L, pipe);
    }
}

static int push_many(lua_State *L, struct l_rpc_pipe *pipe, int max)
{
    int count = push_one(L, pipe);
    if (count != 1 || lua_isnil(L, -1)) {
        return count;
    }
    lua_createtable(L, pipe->call->in.len < (uint32_t)max ? (int)pipe->call->in.len + 1 : max, 0);
    lua_insert(L, -2);
    lua_rawseti(L, -2, 1); /* stack: array */
    grpc_slice slice;
    for (int i = 2; i <= max && pipe->call->in.len > 0; i++) {
        if (next(pipe, &slice) != RPC_READ_MESSAGE) {
            break;
        }
        l_rpc_push_slice(L, &slice);
        grpc_slice_unref(slice);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static int push_read(lua_State *L, void *arg)
{
    struct l_rpc_pipe *pipe = arg;
    return pipe->read_max == 0 ? push_one(L, pipe) : push_many(L, pipe, pipe->read_max);
}

/* The reader is woken only when there is something to return. */
static void wake_reader(struct l_rpc_pipe *pipe)
{
    bool has_something = pipe->call == NULL || pipe->call->in.len > 0;
    if (!has_something) {
        grpc_slice slice;
        enum rpc_read state = next(pipe, &slice); /* takes nothing: the queue is empty */
        has_something = state != RPC_READ_EMPTY;
    }
    if (has_something) {
        struct task_wait *wait = pipe->reader;
        pipe->reader = NULL;
        task_wake(wait, push_read, pipe);
    }
}

void l_rpc_pipe_readable(struct l_rpc_pipe *pipe)
{
    if (pipe->reader != NULL) {
        wake_reader(pipe);
    }
}

static void cancel_read(void *op)
{
    struct l_rpc_pipe *pipe = op;
    struct task_wait *wait = pipe->reader;
    pipe->reader = NULL;
    if (wait != NULL) {
        task_wake_err(wait, &cancelled_err);
    }
}

static int read_or_wait(lua_State *L, struct l_rpc_pipe *pipe, int max)
{
    if (pipe->reader != NULL) {
        return luaL_error(L, "another task already reads this call");
    }
    pipe->read_max = max;
    if (pipe->call != NULL) {
        pipe->call->gathers = max > 0;
    }
    int count = push_read(L, pipe);
    if (count > 0) {
        return count;
    }
    struct task_wait *wait = task_wait_begin(L, cancel_read);
    pipe->reader = wait;
    task_wait_set_op(wait, pipe);
    return task_wait_yield(L, wait);
}

int l_rpc_pipe_read(lua_State *L, struct l_rpc_pipe *pipe)
{
    return read_or_wait(L, pipe, 0);
}

int l_rpc_pipe_read_many(lua_State *L, struct l_rpc_pipe *pipe)
{
    int max = lua_isnoneornil(L, 2) ? READ_MANY_MAX : (int)arg_check_int(L, 2, 1, READ_MANY_MAX);
    return read_or_wait(L, pipe, max);
}

/* --- writing ----------------------------------------------------------------------------------- */

/* Of a writer that is in no list any more. */
static void free_writer(struct writer *writer)
{
    grpc_slice_unref(writer->slice);
    free(writer);
}

void l_rpc_pipe_writable(struct l_rpc_pipe *pipe)
{
    struct list *node;
    while ((node = list_pop_front(&pipe->writers)) != NULL) {
        struct writer *writer = list_entry(node, struct writer, node);
        int status = ERR_CLOSED;
        if (pipe->call != NULL) {
            status = rpc_call_write_within(pipe->call, writer->slice, writer->window);
        }
        if (status == ERR_LIMIT) {
            list_push_front(&pipe->writers, node);
            return;
        }
        struct task_wait *wait = writer->wait;
        if (status == 0) {
            free(writer); /* its slice has moved into the queue */
            task_wake_true(wait);
        } else {
            free_writer(writer);
            task_wake_err(wait, &closed_err);
        }
    }
}

static void cancel_write(void *op)
{
    struct writer *writer = op;
    struct task_wait *wait = writer->wait;
    list_remove(&writer->node);
    free_writer(writer);
    task_wake_err(wait, &cancelled_err);
}

int l_rpc_pipe_write(lua_State *L, struct l_rpc_pipe *pipe)
{
    grpc_slice slice = l_rpc_check_slice(L, 2);
    size_t window = lua_isnoneornil(L, 3) ? SIZE_MAX : (size_t)arg_check_int(L, 3, 0, INT32_MAX);
    int status = ERR_CLOSED;
    if (pipe->call != NULL) {
        /* Nobody overtakes a task that waits already. */
        status = list_is_empty(&pipe->writers) ? rpc_call_write_within(pipe->call, slice, window) : ERR_LIMIT;
    }
    if (status == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (status == ERR_CLOSED || !task_can_wait(L)) {
        grpc_slice_unref(slice);
        return status == ERR_CLOSED ? arg_return_err(L, &closed_err)
                                    : luaL_error(L, "the queue is full and this is no task that could wait");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_write);
    struct writer *writer = xmalloc(sizeof(*writer));
    *writer = (struct writer){.pipe = pipe, .wait = wait, .slice = slice, .window = window};
    list_push_back(&pipe->writers, &writer->node);
    task_wait_set_op(wait, writer);
    return task_wait_yield(L, wait);
}

int l_rpc_pipe_offer(lua_State *L, struct l_rpc_pipe *pipe)
{
    grpc_slice slice = l_rpc_check_slice(L, 2);
    int status = ERR_CLOSED;
    if (pipe->call != NULL) {
        status = list_is_empty(&pipe->writers) ? rpc_call_write(pipe->call, slice) : ERR_LIMIT;
    }
    lua_pushboolean(L, status == 0);
    if (status == 0) {
        return 1;
    }
    grpc_slice_unref(slice);
    lua_pushstring(L, status == ERR_LIMIT ? "full" : "closed");
    return 2;
}

int l_rpc_pipe_queued(lua_State *L, struct l_rpc_pipe *pipe)
{
    lua_pushnumber(L, pipe->call == NULL ? 0 : pipe->call->out.len);
    lua_pushnumber(L, pipe->call == NULL ? 0 : (lua_Number)pipe->call->out.bytes);
    return 2;
}

/* --- life -------------------------------------------------------------------------------------- */

void l_rpc_pipe_init(struct l_rpc_pipe *pipe, struct rpc_call *call, const struct l_rpc_pipe_ops *ops)
{
    *pipe = (struct l_rpc_pipe){.call = call, .ops = ops};
    list_init(&pipe->writers);
}

void l_rpc_pipe_close(struct l_rpc_pipe *pipe)
{
    pipe->call = NULL;
    l_rpc_pipe_readable(pipe);
    l_rpc_pipe_writable(pipe);
}

void l_rpc_pipe_forget(struct l_rpc_pipe *pipe)
{
    pipe->call = NULL;
    pipe->reader = NULL;
    struct list *node;
    while ((node = list_pop_front(&pipe->writers)) != NULL) {
        free_writer(list_entry(node, struct writer, node));
    }
}
