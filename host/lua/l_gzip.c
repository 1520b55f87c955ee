/* host.gzip: gzip(text [, level = 1]) -> bytes | nil, err        (yields; the pool does the work) */
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

struct gzip_job {
    struct task_wait *wait;
    char *data;
    size_t len;
    int level;
    struct buf out;
    struct err err;
};

static void run(void *arg)
{
    struct gzip_job *job = arg;
    (void)gzip_compress(job->data, job->len, job->level, &job->out, &job->err);
}

static int push_bytes(lua_State *L, void *arg)
{
    const struct gzip_job *job = arg;
    lua_pushlstring(L, job->out.data, job->out.len);
    return 1;
}

static void on_done(void *arg)
{
    struct gzip_job *job = arg;
    if (job->err.code != 0) {
        task_wake_err(job->wait, &job->err);
    } else {
        task_wake(job->wait, push_bytes, job);
    }
    buf_deinit(&job->out);
    free(job->data);
    free(job);
}

static int l_gzip(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    int level = lua_isnoneornil(L, 2) ? 1 : (int)arg_check_int(L, 2, 1, 9);
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct gzip_job *job = xcalloc(1, sizeof(*job));
    job->wait = wait;
    job->data = xmalloc(len + 1);
    memcpy(job->data, text, len);
    job->len = len;
    job->level = level;
    buf_init(&job->out);
    work_queue(task_loop(L), run, on_done, job);
    return task_wait_yield(L, wait);
}

int luaopen_host_gzip(lua_State *L)
{
    lua_pushcfunction(L, l_gzip);
    return 1;
}
