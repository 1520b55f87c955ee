/* A growable byte buffer. data may be NULL while len is 0. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_init(struct buf *buf);
void buf_deinit(struct buf *buf);             /* frees; leaves an empty, usable buffer */
void buf_clear(struct buf *buf);              /* len = 0, keeps the memory */
void buf_grow(struct buf *buf, size_t extra); /* makes room for extra bytes that do not fit */
void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_str(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *buf, size_t count); /* drops count bytes from the front */
char *buf_take(struct buf *buf, size_t *len);    /* NUL-terminated; the caller frees; buf becomes empty */

/* Room for extra bytes behind len; returns the end. Inline, like what follows: encoders put bytes one by one.
 */
static inline char *buf_reserve(struct buf *buf, size_t extra)
{
    if (extra > buf->cap - buf->len) {
        buf_grow(buf, extra);
    }
    return buf->data + buf->len;
}

static inline void buf_append_byte(struct buf *buf, unsigned char byte)
{
    *buf_reserve(buf, 1) = (char)byte;
    buf->len++;
}
