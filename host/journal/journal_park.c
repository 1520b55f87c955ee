/* Parking keys; see journal_park.h. An entry is written first and the key leaves the index when that is done,
 * unless it has changed meanwhile; so everything that is parked can be read. */
#include "journal/journal_park.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/siphash.h"
#include "base/xmem.h"
#include "journal/journal_park_state.h"
#include "loop/loop.h"
#include "loop/work.h"

enum { BATCH_BYTES = 64 << 10, BATCH_KEYS = 1024, RECENT = 2048 };

uint64_t journal_park_print(const struct journal_park *park, const char *name, size_t len)
{
    return siphash(park->hash_key, name, len) & park->print_mask;
}

struct journal_park *journal_park_new(const struct journal_park_opts *opts)
{
    struct journal_park *park = xcalloc(1, sizeof(*park));
    const struct journal_parking *tuning = &opts->tuning;
    park->loop = opts->loop;
    park->index = opts->index;
    park->parked = journal_parked_new();
    park->spill = journal_spill_new(opts->dir, tuning->chunk_bytes);
    if (getrandom(park->hash_key, sizeof(park->hash_key), GRND_NONBLOCK) != sizeof(park->hash_key)) {
        park->hash_key[0] = (uint64_t)(uintptr_t)park; /* early boot: better than nothing */
        park->hash_key[1] = (uint64_t)getpid() << 32 ^ uv_hrtime();
    }
    park->print_mask = tuning->print_bits == 0 ? UINT64_MAX : ((uint64_t)1 << tuning->print_bits) - 1;
    park->recent_max = tuning->recent == 0 ? RECENT : tuning->recent;
    park->is_eager = tuning->is_eager;
    park->busy = opts->busy;
    park->on_idle = opts->on_idle;
    park->arg = opts->arg;
    list_init(&park->waiting);
    list_init(&park->recent);
    return park;
}

void journal_park_free(struct journal_park *park)
{
    if (park == NULL) {
        return;
    }
    journal_parked_free(park->parked);
    journal_spill_free(park->spill);
    buf_deinit(&park->batch);
    buf_deinit(&park->walked);
    free(park);
}

void journal_park_close(struct journal_park *park)
{
    park->is_closing = true;
}

void journal_park_begin_job(struct journal_park *park)
{
    (*park->busy)++;
}

void journal_park_end_job(struct journal_park *park)
{
    (*park->busy)--;
    park->on_idle(park->arg);
}

/* --- out of memory ------------------------------------------------------------------------------------ */

/* Nothing of the key is under way: what is in the index is all there is to know. */
static bool rests(const struct journal_key *key)
{
    return key->count > 0 && key->pending == 0 && key->staged == NULL && key->next_count == key->count &&
           key->next_epoch == key->epoch && !key->is_damaged;
}

void journal_park_unlist(struct journal_park *park, struct journal_key *key)
{
    if (key->is_recent) {
        key->is_recent = false;
        park->recent_count--;
    }
    list_remove(&key->link);
}

void journal_park_forget(struct journal_park *park, struct journal_key *key)
{
    if (key->spilled != 0) {
        journal_spill_drop(park->spill, key->spilled);
        key->spilled = 0;
        key->is_spilling = false;
    }
}

void journal_park_drop(struct journal_park *park, struct journal_key *key)
{
    journal_park_forget(park, key);
    journal_park_unlist(park, key);
    journal_index_drop(park->index, key);
}

void journal_park_keep(struct journal_park *park, struct journal_key *key)
{
    journal_park_forget(park, key);
    key->is_idle = false;
}

/* The key's entry is written: now it leaves. */
static void leave(struct journal_park *park, struct journal_key *key)
{
    struct journal_parked_item item = {.place = key->spilled, .count = key->count};
    if (!journal_parked_add(park->parked, journal_park_print(park, key->name, key->len), item)) {
        journal_park_keep(park, key);
        return;
    }
    journal_park_unlist(park, key);
    journal_index_drop(park->index, key);
    journal_index_trim(park->index);
}

/* Adds the key's entry to the batch. false: it does not fit behind the others. */
static bool add_entry(struct journal_park *park, struct journal_key *key)
{
    bool is_first = park->batch.len == 0;
    size_t before = park->batch.len;
    size_t size = journal_spill_encode(&park->batch, key);
    uint64_t place = journal_spill_reserve(park->spill, size, is_first);
    if (place == 0) {
        park->batch.len = before;
        if (is_first) {
            journal_park_keep(park, key); /* larger than a chunk */
        }
        return is_first;
    }
    if (is_first) {
        park->batch_place = place;
    }
    key->spilled = place;
    key->is_spilling = true;
    return true;
}

/* Fills the batch from those that wait. */
static void fill_batch(struct journal_park *park)
{
    buf_clear(&park->batch);
    for (int i = 0; i < BATCH_KEYS && park->batch.len < BATCH_BYTES && !list_is_empty(&park->waiting); i++) {
        struct journal_key *key = journal_park_linked(park->waiting.next);
        bool may_leave = key->is_idle && rests(key);
        if (may_leave && key->spilled == 0 && key->count <= JOURNAL_PARKED_MAX_COUNT &&
            !add_entry(park, key)) {
            return;
        }
        journal_park_unlist(park, key);
        if (may_leave && key->spilled != 0 && !key->is_spilling) {
            leave(park, key);
        }
    }
}

static void run_batch(void *arg)
{
    struct journal_park *park = arg;
    (void)journal_spill_write(park->spill, park->batch_place, park->batch.data, park->batch.len,
                              &park->batch_err);
}

void journal_park_each(struct journal_park *park, const char *data, size_t len, uint64_t place,
                       journal_park_entry_fn fn)
{
    struct journal_spill_item item;
    size_t size;
    for (size_t at = 0; at < len && journal_spill_decode(data + at, len - at, &item, &size); at += size) {
        fn(park, &item, place + at / 8);
    }
}

static void on_entry_written(struct journal_park *park, const struct journal_spill_item *item, uint64_t place)
{
    struct journal_key *key = journal_index_find(park->index, item->name, item->name_len);
    if (key == NULL || key->spilled != place) {
        return; /* changed or gone meanwhile */
    }
    key->is_spilling = false;
    if (park->batch_err.code != 0) {
        journal_park_keep(park, key);
    } else if (!park->is_suspended) {
        journal_park_try(park, key);
    }
}

static void kick(struct journal_park *park);

static void on_batch(void *arg)
{
    struct journal_park *park = arg;
    park->is_under_way = false;
    if (park->batch_err.code != 0) {
        park->is_broken = true;
        log_line(LOG_WARN, "journal.parking_stopped", "keys stay in memory until the next start: %s",
                 park->batch_err.text);
    }
    journal_park_each(park, park->batch.data, park->batch.len, park->batch_place, on_entry_written);
    kick(park);
    journal_park_end_job(park);
}

static void on_batch_due(void *arg)
{
    struct journal_park *park = arg;
    park->is_under_way = false;
    if (!park->is_suspended && !park->is_broken && !park->is_closing) {
        fill_batch(park);
        if (park->batch.len > 0) {
            park->is_under_way = true;
            park->batch_err = (struct err){0};
            journal_park_begin_job(park);
            work_queue(park->loop, run_batch, on_batch, park);
        } else {
            kick(park);
        }
    }
    journal_park_end_job(park);
}

/* A batch is made when the loop turn ends, of whatever waits by then. */
static void kick(struct journal_park *park)
{
    if (!park->is_under_way && !park->is_suspended && !park->is_broken && !park->is_closing &&
        !list_is_empty(&park->waiting)) {
        park->is_under_way = true;
        journal_park_begin_job(park);
        loop_defer(park->loop, on_batch_due, park);
    }
}

void journal_park_try(struct journal_park *park, struct journal_key *key)
{
    if (list_is_empty(&key->link) && !key->is_spilling && key->is_idle && rests(key) && !park->is_broken &&
        !park->is_closing) {
        list_push_back(&park->waiting, &key->link);
        kick(park);
    }
}

void journal_park_key(struct journal_park *park, const char *name, size_t len)
{
    struct journal_key *key = journal_index_find(park->index, name, len);
    if (key != NULL) {
        key->is_idle = true;
        journal_park_try(park, key);
    }
}

void journal_park_suspend(struct journal_park *park)
{
    park->is_suspended = true;
}

void journal_park_resume(struct journal_park *park)
{
    park->is_suspended = false;
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(park->index, &cursor)) != NULL;) {
        journal_park_settled(park, key);
    }
    kick(park);
}
