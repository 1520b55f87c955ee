/* The table of parked keys; see journal_parked.h. Many small tables instead of a large one, each growing by a
 * seventh when it is nine tenths full: so little of the memory is empty, and no step takes long. Linear
 * probing from a position that follows the order of the fingerprints, and backward-shift removal. */
#include "journal/journal_parked.h"

#include <assert.h>
#include <stdlib.h>

#include "base/xmem.h"

enum { SHARDS = 256, SHARD_SHIFT = 56, SPARE = 8, COUNT_BITS = 24 };

#define PRINT_BITS (((uint64_t)1 << SHARD_SHIFT) - 1) /* the rest of a fingerprint is the shard's number */

/* A key; the count 0 is an empty slot. */
struct slot {
    uint64_t print_place; /* 56 bits of the fingerprint, the upper 8 of the place */
    uint64_t place_count; /* the lower 40 of the place, 24 of the count */
};

struct shard {
    struct slot *slots;
    uint32_t cap;
    uint32_t count;
};

struct journal_parked {
    struct shard shards[SHARDS];
    size_t count;
    size_t slots;
};

static uint64_t print_of(const struct slot *slot)
{
    return slot->print_place >> 8;
}

static bool is_empty(const struct slot *slot)
{
    return slot->place_count == 0;
}

static uint32_t home_of(const struct shard *shard, uint64_t print)
{
    return (uint32_t)((unsigned __int128)print * shard->cap >> SHARD_SHIFT);
}

static uint32_t next_of(const struct shard *shard, uint32_t at)
{
    return at + 1 == shard->cap ? 0 : at + 1;
}

/* Where the fingerprint is, or the empty slot where it would be. There is always an empty one. */
static uint32_t locate(const struct shard *shard, uint64_t print)
{
    uint32_t at = home_of(shard, print);
    while (!is_empty(&shard->slots[at]) && print_of(&shard->slots[at]) != print) {
        at = next_of(shard, at);
    }
    return at;
}

static void resize(struct journal_parked *parked, struct shard *shard)
{
    struct slot *old = shard->slots;
    uint32_t old_cap = shard->cap;
    shard->cap = shard->count + shard->count / 7 + SPARE;
    shard->slots = xcalloc(shard->cap, sizeof(*shard->slots));
    for (uint32_t i = 0; i < old_cap; i++) {
        if (!is_empty(&old[i])) {
            shard->slots[locate(shard, print_of(&old[i]))] = old[i];
        }
    }
    free(old);
    parked->slots = parked->slots - old_cap + shard->cap;
}

struct journal_parked *journal_parked_new(void)
{
    return xcalloc(1, sizeof(struct journal_parked));
}

void journal_parked_free(struct journal_parked *parked)
{
    if (parked == NULL) {
        return;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        free(parked->shards[i].slots);
    }
    free(parked);
}

bool journal_parked_add(struct journal_parked *parked, uint64_t print, struct journal_parked_item item)
{
    struct shard *shard = &parked->shards[print >> SHARD_SHIFT];
    assert(item.place > 0 && item.place <= JOURNAL_PARKED_MAX_PLACE);
    assert(item.count > 0 && item.count <= JOURNAL_PARKED_MAX_COUNT);
    if (((uint64_t)shard->count + 1) * 10 > (uint64_t)shard->cap * 9) {
        resize(parked, shard);
    }
    struct slot *slot = &shard->slots[locate(shard, print & PRINT_BITS)];
    if (!is_empty(slot)) {
        return false;
    }
    slot->print_place = (print & PRINT_BITS) << 8 | item.place >> 40;
    slot->place_count = item.place << COUNT_BITS | item.count;
    shard->count++;
    parked->count++;
    return true;
}

bool journal_parked_find(const struct journal_parked *parked, uint64_t print,
                         struct journal_parked_item *item)
{
    const struct shard *shard = &parked->shards[print >> SHARD_SHIFT];
    if (shard->count == 0) {
        return false;
    }
    const struct slot *slot = &shard->slots[locate(shard, print & PRINT_BITS)];
    if (is_empty(slot)) {
        return false;
    }
    item->place = (slot->print_place & 0xff) << 40 | slot->place_count >> COUNT_BITS;
    item->count = (uint32_t)(slot->place_count & JOURNAL_PARKED_MAX_COUNT);
    return true;
}

void journal_parked_remove(struct journal_parked *parked, uint64_t print)
{
    struct shard *shard = &parked->shards[print >> SHARD_SHIFT];
    assert(shard->count > 0);
    uint32_t hole = locate(shard, print & PRINT_BITS);
    assert(!is_empty(&shard->slots[hole]));
    for (uint32_t at = next_of(shard, hole); !is_empty(&shard->slots[at]); at = next_of(shard, at)) {
        uint32_t home = home_of(shard, print_of(&shard->slots[at]));
        uint32_t from_home = at >= home ? at - home : at + shard->cap - home;
        uint32_t from_hole = at >= hole ? at - hole : at + shard->cap - hole;
        if (from_home >= from_hole) {
            shard->slots[hole] = shard->slots[at];
            hole = at;
        }
    }
    shard->slots[hole] = (struct slot){0};
    shard->count--;
    parked->count--;
    if (shard->cap > 4 * SPARE && shard->count < shard->cap / 2) {
        resize(parked, shard);
    }
}

size_t journal_parked_size(const struct journal_parked *parked)
{
    return parked->count;
}

size_t journal_parked_bytes(const struct journal_parked *parked)
{
    return sizeof(*parked) + parked->slots * sizeof(struct slot);
}
