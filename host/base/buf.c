/* A growable byte buffer; see buf.h. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

void buf_init(struct buf *buf)
{
    memset(buf, 0, sizeof(*buf));
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    buf_init(buf);
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
}

void buf_grow(struct buf *buf, size_t extra)
{
    if (extra > SIZE_MAX / 2 - buf->len) {
        abort(); /* sizes from outside are limited long before this */
    }
    size_t need = buf->len + extra;
    size_t cap = buf->cap == 0 ? 64 : buf->cap;
    while (cap < need) {
        cap *= 2;
    }
    buf->data = xrealloc(buf->data, cap);
    buf->cap = cap;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(buf_reserve(buf, len), data, len);
        buf->len += len;
    }
}

void buf_append_str(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (need > 0) {
        (void)vsnprintf(buf_reserve(buf, (size_t)need + 1), (size_t)need + 1, fmt, again);
        buf->len += (size_t)need;
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t count)
{
    if (count >= buf->len) {
        buf->len = 0;
        return;
    }
    memmove(buf->data, buf->data + count, buf->len - count);
    buf->len -= count;
}

char *buf_take(struct buf *buf, size_t *len)
{
    buf_append_byte(buf, '\0');
    if (len != NULL) {
        *len = buf->len - 1;
    }
    char *data = buf->data;
    buf_init(buf);
    return data;
}
