/* The C heap is jemalloc's when it was found at configure time: a gRPC call is some thirty small allocations,
 * freed by another thread than the one that made them. Sanitizer builds keep their own heap. */
#include "base/heap.h"

#ifdef MACP_JEMALLOC
#include <jemalloc/jemalloc.h>

/* Read by jemalloc at its first allocation. One arena: the loop thread does nearly all of the work. */
const char *malloc_conf = "narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0";

#define PURGE_STRINGIZE(number) #number
#define PURGE_ARENA(number) "arena." PURGE_STRINGIZE(number) ".purge"

void heap_trim(void)
{
    (void)mallctl(PURGE_ARENA(MALLCTL_ARENAS_ALL), NULL, NULL, NULL, 0); /* purging cannot fail */
}

void *heap_resize(void *ptr, size_t old_size, size_t new_size)
{
    if (new_size == 0) {
        if (ptr != NULL) {
            sdallocx(ptr, old_size, 0);
        }
        return NULL;
    }
    return ptr == NULL ? mallocx(new_size, 0) : rallocx(ptr, new_size, 0);
}
#else
#include <malloc.h>
#include <stdlib.h>

void heap_trim(void)
{
    (void)malloc_trim(0); /* 0 only says that there was nothing to give */
}

void *heap_resize(void *ptr, size_t old_size, size_t new_size)
{
    (void)old_size; /* malloc knows it */
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}
#endif
