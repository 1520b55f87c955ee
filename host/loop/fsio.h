/* File operations that block: for pool threads (work_queue) and start-up, never on the loop. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* The whole file, appended to out; ERR_LIMIT beyond max_bytes. */
int fsio_read(const char *path, size_t max_bytes, struct buf *out, struct err *err);
/* Replaces path in one step: temporary file beside it, optional fsync, rename, fsync of the directory. */
int fsio_write(const char *path, const void *data, size_t len, mode_t mode, bool sync, struct err *err);
int fsio_append(const char *path, const void *data, size_t len, struct err *err);
int fsio_mkdir_p(const char *path, mode_t mode, struct err *err);
/* Exchanges a name within a directory, which is flushed when sync is true. */
int fsio_rename(const char *from, const char *to, bool sync, struct err *err);
int fsio_remove(const char *path, struct err *err);      /* a file, link or empty directory */
int fsio_remove_tree(const char *path, struct err *err); /* does not follow links; a missing path is fine */
