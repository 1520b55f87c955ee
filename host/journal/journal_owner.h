/* Who may write a directory: a locked file in it that names its holder, with an epoch that grows with every
 * holder. The lock keeps a second process out; the epoch tells a holder that the lock did not protect (the
 * file was removed, or the lock did not reach over a network file system) that somebody else has taken over.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct journal_owner;

/* Locks dir_fd/name, where dir is for messages. ERR_BUSY names the holder: process, host, time, epoch.
 * Blocks. */
int journal_owner_take(int dir_fd, const char *dir, const char *name, struct journal_owner **out,
                       struct err *err);
/* Writes this process down as the holder, durably, under an epoch above `known` and above that of the holder
 * before. Blocks. */
int journal_owner_publish(struct journal_owner *owner, uint64_t known, struct err *err);
uint64_t journal_owner_epoch(const struct journal_owner *owner);
/* ERR_FENCED when the file is not ours any more; for the thread that is about to write. A few microseconds.
 */
int journal_owner_check(const struct journal_owner *owner, struct err *err);
void journal_owner_drop(struct journal_owner *owner); /* unlocks; NULL is fine */
