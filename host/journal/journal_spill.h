/* What parked keys are called and have, outside memory: a file without a name, in chunks of one size, that is
 * empty after each start. It is no part of the stored format and is never flushed: everything in it can be
 * made again from the records. Entries of a chunk are written one behind the other; a chunk whose entries are
 * all dropped is used again.
 *
 *   entry    crc:u32 size:u32 epoch:u64 count:u32 places_len:u32 name_len:u8 name places zero padding to 8
 *   places   what each place is ahead of the one before, in units of 7 bits, zigzag
 *
 * An entry's place is its offset / 8, never 0. Loop thread only, except where a comment says "blocks". */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct journal_key;
struct journal_spill;

/* An entry as fields; name and places point into it. */
struct journal_spill_item {
    uint64_t epoch;
    uint32_t count;
    uint8_t name_len;
    const char *name;
    const unsigned char *places;
    size_t places_len; /* 0: this journal needs none */
};

/* dir: where the file is to be, NULL: where temporary files are. chunk_bytes 0: 1 MiB. */
struct journal_spill *journal_spill_new(const char *dir, size_t chunk_bytes);
void journal_spill_free(struct journal_spill *spill); /* NULL is fine */

/* Appends the entry of a key to out; returns its size. */
size_t journal_spill_encode(struct buf *out, const struct journal_key *key);
/* false: no entry is at data. */
bool journal_spill_decode(const char *data, size_t avail, struct journal_spill_item *item, size_t *size);
/* The item's places as an array of count, which the caller frees; NULL: there are none, or they are damaged.
 */
uint64_t *journal_spill_places(const struct journal_spill_item *item);

/* The place of an entry of so many bytes that is going to be written. It follows the one reserved before,
 * unless that is the last of its chunk: then 0, unless may_move. 0 as well when it is larger than a chunk. */
uint64_t journal_spill_reserve(struct journal_spill *spill, size_t size, bool may_move);
void journal_spill_drop(struct journal_spill *spill, uint64_t place); /* the entry is not needed any more */

/* A reader is about to begin, or has ended: meanwhile no chunk is used again. */
void journal_spill_hold(struct journal_spill *spill, int delta);

/* Blocks. Writes len bytes of entries at place; the first one makes the file. */
int journal_spill_write(struct journal_spill *spill, uint64_t place, const char *data, size_t len,
                        struct err *err);
/* Blocks. The entry at place, alone in out. */
int journal_spill_read(const struct journal_spill *spill, uint64_t place, struct buf *out, struct err *err);

/* The next chunk with entries, from number *chunk on: *place and *len of all its entries. false: no more. */
bool journal_spill_next(const struct journal_spill *spill, size_t *chunk, uint64_t *place, size_t *len);
/* Blocks. So many bytes from place on; fewer when the file ends before. */
int journal_spill_load(const struct journal_spill *spill, uint64_t place, size_t len, struct buf *out,
                       struct err *err);
uint64_t journal_spill_bytes(const struct journal_spill *spill); /* of the file, at most */
