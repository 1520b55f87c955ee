/* One child process with piped or inherited standard streams. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct loop;
struct child;

enum child_stream { CHILD_NULL, CHILD_INHERIT, CHILD_PIPE };

struct child_opts {
    const char *file; /* looked up in PATH when it holds no slash */
    char **args;      /* NULL-terminated, args[0] is the program's name */
    char **env;       /* NULL-terminated "NAME=value"; NULL: ours */
    const char *cwd;  /* NULL: ours */
    bool set_user;    /* run as uid and gid, without supplementary groups */
    unsigned uid;
    unsigned gid;
    bool own_session; /* not reached by the terminal's Ctrl-C */
    enum child_stream streams[3];
};

struct child_events {
    void (*on_exit)(void *arg, int64_t code, int signal); /* once */
    void (*on_data)(void *arg, int stream); /* stream 1 or 2 has more in child_output, or ended */
    void *arg;
};

int child_spawn(struct loop *loop, const struct child_opts *opts, const struct child_events *events,
                struct child **out, struct err *err);
int child_pid(const struct child *child);
int child_kill(struct child *child, int signo, struct err *err);
/* What has arrived on stream 1 or 2 and was not consumed; consume with child_consume. Bounded: the pipe is
 * not read while 256 KiB wait. */
struct buf *child_output(struct child *child, int stream);
bool child_output_ended(const struct child *child, int stream);
void child_consume(struct child *child, int stream, size_t len);
int child_write(struct child *child, const void *data, size_t len, void (*done)(void *arg, int status),
                void *arg, struct err *err); /* data is copied */
void child_close_stdin(struct child *child);
/* Gives up the handle: a live process goes on on its own, its pipes close; no callback runs any more. NULL is
 * fine. */
void child_close(struct child *child);
