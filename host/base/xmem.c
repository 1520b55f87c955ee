/* Allocation that aborts; see xmem.h. */
#include "base/xmem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_abort(void *ptr)
{
    if (ptr == NULL) {
        (void)fputs("out of memory\n", stderr); /* nothing better can be done */
        abort();
    }
    return ptr;
}

void *xmalloc(size_t size)
{
    return or_abort(malloc(size == 0 ? 1 : size));
}

void *xcalloc(size_t count, size_t size)
{
    return or_abort(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *xrealloc(void *ptr, size_t size)
{
    return or_abort(realloc(ptr, size == 0 ? 1 : size));
}

char *xstrdup(const char *text)
{
    return or_abort(strdup(text));
}

char *xstrndup(const char *text, size_t len)
{
    char *copy = xmalloc(len + 1);
    if (len > 0) {
        memcpy(copy, text, len);
    }
    copy[len] = '\0';
    return copy;
}
