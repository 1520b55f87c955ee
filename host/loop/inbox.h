/* Work posted from any thread, run on the loop thread in order of posting: a CAS stack and one uv_async. */
#pragma once

#include <stdbool.h>
#include <uv.h>

struct inbox;

/* Embed this in the thing that travels; it must stay valid until fn has run. */
struct inbox_item {
    struct inbox_item *next;             /* owned by the inbox while queued */
    void (*fn)(struct inbox_item *item); /* runs on the loop thread, once per post */
};

struct inbox *inbox_open(uv_loop_t *uv);
void inbox_close(
    struct inbox *inbox); /* runs what is queued, then closes its handle; nobody may post any more */
void inbox_post(struct inbox *inbox,
                struct inbox_item *item); /* thread-safe; wakes the loop only when it was empty */
void inbox_ref(struct inbox *inbox);      /* keeps loop_run alive while posts are expected (counted) */
void inbox_unref(struct inbox *inbox);
bool inbox_is_expecting(const struct inbox *inbox); /* referenced */
