/* Reference-counted bytes; see bytes.h. */
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

struct bytes *bytes_alloc(size_t len)
{
    struct bytes *bytes = xmalloc(sizeof(*bytes) + len);
    bytes->refs = 1;
    bytes->len = len;
    return bytes;
}

struct bytes *bytes_new(const void *data, size_t len)
{
    struct bytes *bytes = bytes_alloc(len);
    if (len > 0) {
        memcpy(bytes->data, data, len);
    }
    return bytes;
}

struct bytes *bytes_ref(struct bytes *bytes)
{
    __atomic_add_fetch(&bytes->refs, 1, __ATOMIC_RELAXED);
    return bytes;
}

void bytes_unref(struct bytes *bytes)
{
    if (bytes != NULL && __atomic_sub_fetch(&bytes->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        free(bytes);
    }
}
