/* The C heap as a whole. */
#pragma once

#include <stddef.h>

/* Gives free pages back to the system. Takes milliseconds on a large heap; any thread. */
void heap_trim(void);

/* Allocates (ptr is NULL), resizes or frees (new_size is 0) a block; old_size is exactly what was asked for
 * it last. NULL when it is freed or there is no memory, which leaves the block as it was. Any thread. */
void *heap_resize(void *ptr, size_t old_size, size_t new_size);
