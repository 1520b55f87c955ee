/* The index of keys; see journal_index.h. Open addressing with linear probing and backward-shift removal. The
 * hash is seeded: keys may be chosen by clients. */
#include "journal/journal_index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/xmem.h"

struct journal_index {
    struct journal_key **slots;
    size_t mask; /* slots - 1, a power of two minus one */
    size_t count;
    uint64_t seed;
    bool makes_idle;
};

enum { MIN_SLOTS = 1024 };

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash_name(const struct journal_index *index, const char *name, size_t len)
{
    uint64_t state = index->seed ^ len;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, name, sizeof(word));
        state = mix(state ^ word, 0x9e3779b97f4a7c15U);
        name += 8;
        len -= 8;
    }
    uint64_t tail = 0;
    memcpy(&tail, name, len);
    state = mix(state ^ tail, 0xd6e8feb86659fd93U ^ index->seed);
    return (uint32_t)(state ^ state >> 32);
}

struct journal_index *journal_index_new(bool makes_idle)
{
    struct journal_index *index = xcalloc(1, sizeof(*index));
    index->makes_idle = makes_idle;
    index->mask = MIN_SLOTS - 1;
    index->slots = xcalloc(index->mask + 1, sizeof(*index->slots));
    if (getrandom(&index->seed, sizeof(index->seed), GRND_NONBLOCK) != sizeof(index->seed)) {
        index->seed = (uint64_t)(uintptr_t)index ^ (uint64_t)getpid()
                                                       << 32; /* early boot: better than nothing */
    }
    return index;
}

static void free_key(struct journal_key *key)
{
    journal_key_unstage(key);
    free(key->places);
    free(key);
}

void journal_index_free(struct journal_index *index)
{
    if (index == NULL) {
        return;
    }
    for (size_t i = 0; i <= index->mask; i++) {
        if (index->slots[i] != NULL) {
            free_key(index->slots[i]);
        }
    }
    free(index->slots);
    free(index);
}

static size_t locate(const struct journal_index *index, uint32_t hash, const char *name, size_t len)
{
    size_t at = hash & index->mask;
    for (;;) {
        const struct journal_key *key = index->slots[at];
        if (key == NULL || (key->hash == hash && key->len == len && memcmp(key->name, name, len) == 0)) {
            return at;
        }
        at = (at + 1) & index->mask;
    }
}

struct journal_key *journal_index_find(const struct journal_index *index, const char *name, size_t len)
{
    return index->slots[locate(index, hash_name(index, name, len), name, len)];
}

static void resize(struct journal_index *index, size_t slots)
{
    struct journal_key **old = index->slots;
    size_t old_size = index->mask + 1;
    index->mask = slots - 1;
    index->slots = xcalloc(index->mask + 1, sizeof(*index->slots));
    for (size_t i = 0; i < old_size; i++) {
        struct journal_key *key = old[i];
        if (key != NULL) {
            index->slots[locate(index, key->hash, key->name, key->len)] = key;
        }
    }
    free(old);
}

struct journal_key *journal_index_add(struct journal_index *index, const char *name, size_t len)
{
    uint32_t hash = hash_name(index, name, len);
    size_t at = locate(index, hash, name, len);
    if (index->slots[at] != NULL) {
        return index->slots[at];
    }
    if ((index->count + 1) * 4 > (index->mask + 1) * 3) {
        resize(index, (index->mask + 1) * 2);
        at = locate(index, hash, name, len);
    }
    struct journal_key *key = xcalloc(1, sizeof(*key) + len);
    key->hash = hash;
    key->is_idle = index->makes_idle;
    key->len = (uint8_t)len;
    list_init(&key->link);
    memcpy(key->name, name, len);
    index->slots[at] = key;
    index->count++;
    return key;
}

void journal_index_drop(struct journal_index *index, struct journal_key *key)
{
    size_t hole = locate(index, key->hash, key->name, key->len);
    free_key(key);
    index->slots[hole] = NULL;
    index->count--;
    for (size_t at = (hole + 1) & index->mask; index->slots[at] != NULL; at = (at + 1) & index->mask) {
        size_t home = index->slots[at]->hash & index->mask;
        if (((at - home) & index->mask) >= ((at - hole) & index->mask)) {
            index->slots[hole] = index->slots[at];
            index->slots[at] = NULL;
            hole = at;
        }
    }
}

void journal_index_trim(struct journal_index *index)
{
    if (index->mask >= MIN_SLOTS && index->count * 8 < index->mask) {
        resize(index, (index->mask + 1) / 2);
    }
}

size_t journal_index_size(const struct journal_index *index)
{
    return index->count;
}

struct journal_key *journal_index_next(const struct journal_index *index, size_t *cursor)
{
    while (*cursor <= index->mask) {
        struct journal_key *key = index->slots[(*cursor)++];
        if (key != NULL) {
            return key;
        }
    }
    return NULL;
}

/* Room for n places; the growth is gentle because most logs stay short. */
static uint64_t *reserve(uint64_t *places, size_t *cap, size_t n)
{
    if (n <= *cap) {
        return places;
    }
    size_t wanted = *cap + *cap / 2 + 4;
    if (wanted < n) {
        wanted = n;
    }
    places = xrealloc(places, wanted * sizeof(*places));
    memset(places + *cap, 0, (wanted - *cap) * sizeof(*places));
    *cap = wanted;
    return places;
}

void journal_key_set(struct journal_key *key, uint32_t number, uint64_t place)
{
    size_t cap = key->cap;
    key->places = reserve(key->places, &cap, number);
    key->cap = (uint32_t)cap;
    key->places[number - 1] = place;
    if (number > key->count) {
        key->count = number;
    }
}

void journal_key_stage(struct journal_key *key, uint64_t epoch, uint32_t number, uint64_t place)
{
    if (key->staged != NULL && key->staged->epoch != epoch) {
        journal_key_unstage(key);
    }
    if (key->staged == NULL) {
        key->staged = xcalloc(1, sizeof(*key->staged));
        key->staged->epoch = epoch;
    }
    struct journal_staged *staged = key->staged;
    staged->places = reserve(staged->places, &staged->cap, number);
    staged->places[number - 1] = place;
    if (number > staged->count) {
        staged->count = number;
    }
}

void journal_key_unstage(struct journal_key *key)
{
    if (key->staged != NULL) {
        free(key->staged->places);
        free(key->staged);
        key->staged = NULL;
    }
}

void journal_key_clear(struct journal_key *key)
{
    free(key->places);
    key->places = NULL;
    key->count = 0;
    key->cap = 0;
}
