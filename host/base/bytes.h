/* Immutable, reference-counted bytes: one encoded frame, many sockets. Counts are atomic (thread-safe). */
#pragma once

#include <stddef.h>

struct bytes {
    unsigned refs; /* atomic */
    size_t len;
    char data[];
};

struct bytes *bytes_new(const void *data, size_t len); /* one reference, owned by the caller */
struct bytes *bytes_alloc(size_t len);                 /* as above, content to be filled before sharing */
struct bytes *bytes_ref(struct bytes *bytes);          /* returns bytes */
void bytes_unref(struct bytes *bytes);                 /* NULL is fine */
