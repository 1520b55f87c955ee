/* One-shot and repeating timers. Loop thread only. */
#pragma once

#include <stdint.h>

struct loop;
struct timer;

typedef void (*timer_fn)(void *arg);

/* A timer that does not run yet. It does not keep the loop alive unless started. */
struct timer *timer_open(struct loop *loop, timer_fn fn, void *arg);
void timer_start(struct timer *timer, uint64_t delay_ms, uint64_t repeat_ms); /* restarts when running */
void timer_stop(struct timer *timer);
void timer_close(struct timer *timer); /* fn will not run again; NULL is fine */
