/* gzip (RFC 1952) of bytes that are all there, and of bytes that come in pieces. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct buf;
struct gzip_stream;

/* Appends to out. level 1 (fast) to 9 (small). Fails only without memory. Thread-safe. */
int gzip_compress(const void *data, size_t len, int level, struct buf *out, struct err *err);

/* A stream: about 256 KiB. The caller frees it. NULL without memory. */
struct gzip_stream *gzip_stream_new(int level);
void gzip_stream_free(struct gzip_stream *stream);
/* Appends to out what the stream has ready after these bytes, which may be nothing yet; all of it after the
 * last ones. On any thread, but one call at a time; none after the last one. */
int gzip_stream_write(struct gzip_stream *stream, const void *data, size_t len, bool is_last, struct buf *out,
                      struct err *err);
