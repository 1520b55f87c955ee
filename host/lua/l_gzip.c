/* host.gzip: gzip(text [, level = 1]) -> bytes | nil, err        (yields; the pool does the work)
 *
 * host.gzip_stream: gzip_stream([level = 1]) -> stream | nil, err
 *   stream:write(text [, is_last]) -> bytes | nil, err        (yields; the pool does the work)
 * The bytes of all writes together are the compressed text; those of one may be none. One write at a time,
 * and none after the last one: others raise. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "base/xmem.h"
#include "crypto/gzip.h"
#include "loop/work.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

#define META "host.gzip_stream"

/* What a stream object holds. A job that runs keeps it alive beyond the object. */
struct stream_box {
    struct gzip_stream *stream;
    bool is_busy;
    bool is_over; /* the last bytes were written */
    bool is_gone; /* the object is */
};

struct gzip_job {
    struct task_wait *wait;
    struct stream_box *box; /* NULL: everything at once */
    char *data;
    size_t len;
    int level;
    bool is_last;
    struct buf out;
    struct err err;
};

static void run(void *arg)
{
    struct gzip_job *job = arg;
    if (job->box == NULL) {
        (void)gzip_compress(job->data, job->len, job->level, &job->out, &job->err);
    } else {
        (void)gzip_stream_write(job->box->stream, job->data, job->len, job->is_last, &job->out, &job->err);
    }
}

static int push_bytes(lua_State *L, void *arg)
{
    const struct gzip_job *job = arg;
    lua_pushlstring(L, job->out.data == NULL ? "" : job->out.data, job->out.len);
    return 1;
}

static void free_box(struct stream_box *box)
{
    gzip_stream_free(box->stream);
    free(box);
}

static void on_done(void *arg)
{
    struct gzip_job *job = arg;
    struct stream_box *box = job->box;
    if (box != NULL) {
        box->is_busy = false;
        if (box->is_gone) {
            free_box(box);
        }
    }
    if (job->err.code != 0) {
        task_wake_err(job->wait, &job->err);
    } else {
        task_wake(job->wait, push_bytes, job);
    }
    buf_deinit(&job->out);
    free(job->data);
    free(job);
}

/* A job for the text at the index; the wait has begun. */
static struct gzip_job *new_job(lua_State *L, int idx, struct task_wait *wait)
{
    size_t len;
    const char *text = lua_tolstring(L, idx, &len);
    struct gzip_job *job = xcalloc(1, sizeof(*job));
    job->wait = wait;
    job->data = xmalloc(len + 1);
    memcpy(job->data, text, len);
    job->len = len;
    buf_init(&job->out);
    return job;
}

static int l_gzip(lua_State *L)
{
    (void)luaL_checkstring(L, 1);
    int level = lua_isnoneornil(L, 2) ? 1 : (int)arg_check_int(L, 2, 1, 9);
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct gzip_job *job = new_job(L, 1, wait);
    job->level = level;
    work_queue(task_loop(L), run, on_done, job);
    return task_wait_yield(L, wait);
}

static int l_write(lua_State *L)
{
    struct stream_box *box = *(struct stream_box **)luaL_checkudata(L, 1, META);
    (void)luaL_checkstring(L, 2);
    bool is_last = lua_toboolean(L, 3);
    if (box->is_busy || box->is_over) {
        return luaL_error(L, box->is_busy ? "another write is under way" : "the stream is over");
    }
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct gzip_job *job = new_job(L, 2, wait);
    job->box = box;
    job->is_last = is_last;
    box->is_busy = true;
    box->is_over = is_last;
    work_queue(task_loop(L), run, on_done, job);
    return task_wait_yield(L, wait);
}

static int l_gc(lua_State *L)
{
    struct stream_box **at = luaL_checkudata(L, 1, META);
    struct stream_box *box = *at;
    *at = NULL;
    if (box != NULL && box->is_busy) {
        box->is_gone = true;
    } else if (box != NULL) {
        free_box(box);
    }
    return 0;
}

static int l_stream(lua_State *L)
{
    int level = lua_isnoneornil(L, 1) ? 1 : (int)arg_check_int(L, 1, 1, 9);
    struct stream_box **at = lua_newuserdata(L, sizeof(*at));
    *at = NULL;
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    struct gzip_stream *stream = gzip_stream_new(level);
    if (stream == NULL) {
        struct err err;
        err_set(&err, ERR_LIMIT, "no memory to compress");
        return arg_return_err(L, &err);
    }
    *at = xcalloc(1, sizeof(**at));
    (*at)->stream = stream;
    return 1;
}

int luaopen_host_gzip(lua_State *L)
{
    lua_pushcfunction(L, l_gzip);
    return 1;
}

int luaopen_host_gzip_stream(lua_State *L)
{
    static const luaL_Reg methods[] = {{"write", l_write}, {NULL, NULL}};
    arg_class(L, META, methods, l_gc);
    lua_pushcfunction(L, l_stream);
    return 1;
}
