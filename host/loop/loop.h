/* The process's event loop: a libuv loop, its inbox, and an ordered shutdown. One per process, loop thread
 * only. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct loop;
struct inbox;

int loop_open(struct loop **out, struct err *err);
int loop_run(struct loop *loop);   /* until loop_stop, or nothing is left to do */
void loop_stop(struct loop *loop); /* loop_run returns after the current turn */
/* Runs what is pending until every handle is closed; logs and counts handles that refuse to die. */
int loop_close(struct loop *loop); /* number of leaked handles; frees the loop */

uv_loop_t *loop_uv(struct loop *loop);
struct inbox *loop_inbox(struct loop *loop);

/* Runs fn(arg) on the next turn of the loop, in order of calls. Never from inside this call (style C30). */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);

/* For the next ns nanoseconds, or until loop_may_sleep, the loop polls for events instead of sleeping: for
 * what is due so soon that waking the thread up would take as long as the wait. Burns a core meanwhile. A
 * later call, of anybody, replaces the time. */
void loop_stay_awake(struct loop *loop, uint64_t ns);
void loop_may_sleep(struct loop *loop);

int64_t loop_now_ms(void);   /* wall clock, milliseconds since the epoch; thread-safe */
uint64_t loop_mono_ns(void); /* monotonic clock; thread-safe */
