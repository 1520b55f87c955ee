/* Allocation that aborts the process when memory runs out (sizes from outside are limited before). */
#pragma once

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len); /* copies len bytes and terminates */
