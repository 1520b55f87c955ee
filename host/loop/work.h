/* Blocking work on the libuv pool, finished on the loop thread. */
#pragma once

struct loop;

typedef void (*work_fn)(void *arg);

/* run(arg) on a pool thread, then done(arg) on the loop thread, exactly once. */
void work_queue(struct loop *loop, work_fn run, work_fn done, void *arg);
