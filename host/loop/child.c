/* Child processes; see child.h. */
#include "loop/child.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/loop.h"

enum { OUTPUT_MAX = 256 * 1024 };

struct pipe_end {
    uv_pipe_t uv;
    struct child *child;
    struct buf data;
    bool is_open;
    bool is_reading;
    bool has_ended;
    int stream;
};

struct child {
    uv_process_t process;
    struct pipe_end pipes[3];
    struct child_events events;
    bool is_closed; /* by the owner */
    int open_handles;
};

static void on_handle_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    if (--child->open_handles == 0 && child->is_closed) {
        for (int i = 0; i < 3; i++) {
            buf_deinit(&child->pipes[i].data);
        }
        free(child);
    }
}

static void close_pipe(struct pipe_end *end)
{
    if (end->is_open) {
        end->is_open = false;
        end->has_ended = true;
        uv_close((uv_handle_t *)&end->uv, on_handle_closed);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct child *child = handle->data;
    struct pipe_end *end = (struct pipe_end *)handle; /* uv is its first member */
    (void)child;
    out->base = buf_reserve(&end->data, 16384);
    out->len = 16384;
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct pipe_end *end = (struct pipe_end *)stream;
    struct child *child = end->child;
    if (len == 0) {
        return;
    }
    if (len > 0) {
        end->data.len += (size_t)len;
        if (end->data.len >= OUTPUT_MAX) {
            (void)uv_read_stop(stream); /* always 0 */
            end->is_reading = false;
        }
    } else {
        close_pipe(end);
    }
    if (!child->is_closed) {
        child->events.on_data(child->events.arg, end->stream);
    }
}

static void start_reading(struct pipe_end *end)
{
    if (end->is_open && !end->is_reading && end->stream != 0) {
        end->is_reading = uv_read_start((uv_stream_t *)&end->uv, on_alloc, on_read) == 0;
    }
}

static void on_ended(uv_process_t *process, int64_t code, int signal)
{
    struct child *child = process->data;
    if (!child->is_closed) {
        child->events.on_exit(child->events.arg, code, signal);
    }
    uv_close((uv_handle_t *)process, on_handle_closed);
}

int child_spawn(struct loop *loop, const struct child_opts *opts, const struct child_events *events,
                struct child **out, struct err *err)
{
    struct child *child = xcalloc(1, sizeof(*child));
    child->events = *events;
    uv_stdio_container_t stdio[3];
    for (int i = 0; i < 3; i++) {
        struct pipe_end *end = &child->pipes[i];
        end->child = child;
        end->stream = i;
        stdio[i].flags = UV_IGNORE;
        if (opts->streams[i] == CHILD_INHERIT) {
            stdio[i].flags = UV_INHERIT_FD;
            stdio[i].data.fd = i;
        } else if (opts->streams[i] == CHILD_PIPE) {
            (void)uv_pipe_init(loop_uv(loop), &end->uv, 0); /* always 0 */
            end->uv.data = child;
            end->is_open = true;
            child->open_handles++;
            stdio[i].flags = UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
            stdio[i].data.stream = (uv_stream_t *)&end->uv;
        }
    }
    uv_process_options_t process = {
        .exit_cb = on_ended,
        .file = opts->file,
        .args = opts->args,
        .env = opts->env,
        .cwd = opts->cwd,
        .stdio_count = 3,
        .stdio = stdio,
    };
    if (opts->set_user) {
        process.flags |= UV_PROCESS_SETUID | UV_PROCESS_SETGID;
        process.uid = opts->uid;
        process.gid = opts->gid;
    }
    if (opts->own_session) {
        process.flags |= UV_PROCESS_DETACHED;
    }
    child->process.data = child;
    child->open_handles++;
    int status = uv_spawn(loop_uv(loop), &child->process, &process);
    if (status != 0) {
        err_set_errno(err, status, "start %s", opts->file);
        child->is_closed = true;
        uv_close((uv_handle_t *)&child->process, on_handle_closed);
        for (int i = 0; i < 3; i++) {
            close_pipe(&child->pipes[i]);
        }
        return err->code;
    }
    start_reading(&child->pipes[1]);
    start_reading(&child->pipes[2]);
    *out = child;
    return 0;
}

int child_pid(const struct child *child)
{
    return child->process.pid;
}

int child_kill(struct child *child, int signo, struct err *err)
{
    int status = uv_process_kill(&child->process, signo);
    return status == 0 ? 0 : err_set_errno(err, status, "signal process %d", child->process.pid);
}

struct buf *child_output(struct child *child, int stream)
{
    return &child->pipes[stream].data;
}

bool child_output_ended(const struct child *child, int stream)
{
    return !child->pipes[stream].is_open;
}

void child_consume(struct child *child, int stream, size_t len)
{
    struct pipe_end *end = &child->pipes[stream];
    buf_consume(&end->data, len);
    if (end->data.len < OUTPUT_MAX) {
        start_reading(end);
    }
}

struct child_write_req {
    uv_write_t req;
    void (*done)(void *arg, int status);
    void *arg;
    char data[];
};

static void on_written(uv_write_t *req, int status)
{
    struct child_write_req *write = req->data;
    write->done(write->arg, status);
    free(write);
}

int child_write(struct child *child, const void *data, size_t len, void (*done)(void *arg, int status),
                void *arg, struct err *err)
{
    struct pipe_end *end = &child->pipes[0];
    if (!end->is_open) {
        return err_set(err, ERR_CLOSED, "the process has no open standard input");
    }
    struct child_write_req *write = xmalloc(sizeof(*write) + len);
    memcpy(write->data, data, len);
    write->req.data = write;
    write->done = done;
    write->arg = arg;
    uv_buf_t buf = uv_buf_init(write->data, (unsigned)len);
    int status = uv_write(&write->req, (uv_stream_t *)&end->uv, &buf, 1, on_written);
    if (status != 0) {
        free(write);
        return err_set_errno(err, status, "write to process %d", child->process.pid);
    }
    return 0;
}

void child_close_stdin(struct child *child)
{
    close_pipe(&child->pipes[0]);
}

void child_close(struct child *child)
{
    if (child == NULL || child->is_closed) {
        return;
    }
    child->is_closed = true;
    for (int i = 0; i < 3; i++) {
        close_pipe(&child->pipes[i]);
    }
    if (!uv_is_closing((uv_handle_t *)&child->process)) {
        /* Stop watching the process; it belongs to nobody now. */
        uv_close((uv_handle_t *)&child->process, on_handle_closed);
    } else if (child->open_handles == 0) {
        for (int i = 0; i < 3; i++) {
            buf_deinit(&child->pipes[i].data);
        }
        free(child);
    }
}
