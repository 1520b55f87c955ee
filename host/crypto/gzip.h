/* gzip (RFC 1952) of bytes that are all there. */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct buf;

/* Appends to out. level 1 (fast) to 9 (small). Fails only without memory. Thread-safe. */
int gzip_compress(const void *data, size_t len, int level, struct buf *out, struct err *err);
