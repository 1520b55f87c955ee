/* What memory keeps of parked keys: 16 bytes each (about 20 with the room of the table), however long their
 * names and logs are. A key is known by its fingerprint alone, 64 bits of a hash; what it is called and has
 * is at a place that the table only remembers. Not tied to a loop; one thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal_parked;

enum { JOURNAL_PARKED_MAX_COUNT = (1 << 24) - 1 };
#define JOURNAL_PARKED_MAX_PLACE (((uint64_t)1 << 48) - 1)

struct journal_parked_item {
    uint64_t place; /* 1 to JOURNAL_PARKED_MAX_PLACE */
    uint32_t count; /* records in the log: 1 to JOURNAL_PARKED_MAX_COUNT */
};

struct journal_parked *journal_parked_new(void);
void journal_parked_free(struct journal_parked *parked);
/* false: there is one with this fingerprint already. */
bool journal_parked_add(struct journal_parked *parked, uint64_t print, struct journal_parked_item item);
bool journal_parked_find(const struct journal_parked *parked, uint64_t print,
                         struct journal_parked_item *item);
void journal_parked_remove(struct journal_parked *parked, uint64_t print); /* which must be there */
size_t journal_parked_size(const struct journal_parked *parked);
size_t journal_parked_bytes(const struct journal_parked *parked); /* of memory */
