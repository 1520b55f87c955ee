/* Watches a directory tree: one call per quiet period after anything below it changed, or after ten such
 * periods without quiet. Events are only hints; the receiver re-reads and compares contents. Directories that
 * are replaced, linked elsewhere or created are followed, and a slow poll of the same scan backs up lost
 * events (watches belong to inodes, not to names). Loop thread only. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct loop;
struct fswatch;

struct fswatch_opts {
    const char *path;
    uint64_t debounce_ms; /* 0: 20 */
    uint64_t poll_ms;     /* 0: 2000 */
};

typedef void (*fswatch_fn)(void *arg);

int fswatch_open(struct loop *loop, const struct fswatch_opts *opts, fswatch_fn fn, void *arg,
                 struct fswatch **out, struct err *err);
void fswatch_close(struct fswatch *watch); /* fn will not run again; NULL is fine */
