/* Work from other threads; see inbox.h. Posters push on a lock-free stack; only the post that finds it empty
 * wakes the loop, so that one wake-up carries whatever has gathered. */
#include "loop/inbox.h"

#include <stdlib.h>

#include "base/xmem.h"

struct inbox {
    uv_async_t async;
    struct inbox_item *top; /* atomic; newest first */
    int refs;
};

static void drain(struct inbox *inbox)
{
    struct inbox_item *item = __atomic_exchange_n(&inbox->top, NULL, __ATOMIC_ACQUIRE);
    struct inbox_item *first = NULL;
    while (item != NULL) { /* newest first: reverse */
        struct inbox_item *next = item->next;
        item->next = first;
        first = item;
        item = next;
    }
    while (first != NULL) {
        struct inbox_item *next = first->next; /* fn may post the item again or free it */
        first->fn(first);
        first = next;
    }
}

static void on_async(uv_async_t *handle)
{
    drain(handle->data);
}

struct inbox *inbox_open(uv_loop_t *uv)
{
    struct inbox *inbox = xcalloc(1, sizeof(*inbox));
    if (uv_async_init(uv, &inbox->async, on_async) != 0) {
        abort(); /* out of descriptors before anything has started */
    }
    inbox->async.data = inbox;
    uv_unref((uv_handle_t *)&inbox->async);
    return inbox;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void inbox_close(struct inbox *inbox)
{
    drain(inbox);
    uv_close((uv_handle_t *)&inbox->async, on_closed);
}

void inbox_post(struct inbox *inbox, struct inbox_item *item)
{
    struct inbox_item *top = __atomic_load_n(&inbox->top, __ATOMIC_RELAXED);
    do {
        item->next = top;
    } while (!__atomic_compare_exchange_n(&inbox->top, &top, item, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    if (top == NULL) {
        (void)uv_async_send(&inbox->async); /* only fails on a closed handle, which the contract rules out */
    }
}

void inbox_ref(struct inbox *inbox)
{
    if (inbox->refs++ == 0) {
        uv_ref((uv_handle_t *)&inbox->async);
    }
}

void inbox_unref(struct inbox *inbox)
{
    if (--inbox->refs == 0) {
        uv_unref((uv_handle_t *)&inbox->async);
    }
}

bool inbox_is_expecting(const struct inbox *inbox)
{
    return inbox->refs > 0;
}
