/* Blocking work on the pool; see work.h. */
#include "loop/work.h"

#include <stdlib.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/loop.h"

struct work {
    uv_work_t req;
    work_fn run;
    work_fn done;
    void *arg;
};

static void on_run(uv_work_t *req)
{
    struct work *work = req->data;
    work->run(work->arg);
}

static void on_done(uv_work_t *req, int status)
{
    struct work *work = req->data;
    work_fn done = work->done;
    void *arg = work->arg;
    free(work);
    done(arg);
}

void work_queue(struct loop *loop, work_fn run, work_fn done, void *arg)
{
    struct work *work = xcalloc(1, sizeof(*work));
    work->req.data = work;
    work->run = run;
    work->done = done;
    work->arg = arg;
    if (uv_queue_work(loop_uv(loop), &work->req, on_run, on_done) != 0) {
        abort(); /* only fails without a function */
    }
}
