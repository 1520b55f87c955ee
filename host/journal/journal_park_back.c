/* Bringing parked keys back; see journal_park.h. Nothing is lost by it: the entry stays and holds until the
 * key changes, so that it can leave again without being written. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_park_state.h"
#include "loop/loop.h"
#include "loop/work.h"

static int damaged_entry(struct err *err)
{
    return err_set(err, ERR_CORRUPT,
                   "what was put aside of a parked key has changed; a restart makes it anew");
}

/* Brings a key back from its entry. */
static int bring_back(struct journal_park *park, const struct journal_spill_item *item, uint64_t place,
                      struct err *err)
{
    uint64_t *places = NULL;
    if (item->places_len > 0) {
        places = journal_spill_places(item);
        if (places == NULL) {
            return damaged_entry(err);
        }
    }
    journal_parked_remove(park->parked, journal_park_print(park, item->name, item->name_len));
    struct journal_key *key = journal_index_add(park->index, item->name, item->name_len);
    key->epoch = item->epoch;
    key->count = item->count;
    key->next_epoch = item->epoch;
    key->next_count = item->count;
    key->places = places;
    key->cap = places == NULL ? 0 : item->count;
    key->scan_end = item->count;
    key->spilled = place;
    key->is_idle = true;
    return 0;
}

/* Brings back the key whose entry has been read for somebody who asked for `name`; when that is another one,
 * it stays, so that the name is known to be free. Its key is found in the index afterwards. */
static int take_entry(struct journal_park *park, const struct buf *entry, uint64_t place, const char *name,
                      size_t len, struct err *err)
{
    struct journal_spill_item item;
    size_t size;
    if (!journal_spill_decode(entry->data, entry->len, &item, &size) ||
        journal_park_print(park, item.name, item.name_len) != journal_park_print(park, name, len)) {
        return damaged_entry(err);
    }
    int status = bring_back(park, &item, place, err);
    if (status == 0 && (item.name_len != len || memcmp(item.name, name, len) != 0)) {
        journal_park_keep(park, journal_index_find(park->index, item.name, item.name_len));
    }
    return status;
}

/* Where the key's entry is, if it is parked. */
static bool locate(const struct journal_park *park, const char *name, size_t len,
                   struct journal_parked_item *item)
{
    return journal_parked_size(park->parked) > 0 &&
           journal_parked_find(park->parked, journal_park_print(park, name, len), item);
}

int journal_park_get(struct journal_park *park, const char *name, size_t len, struct journal_key **key,
                     struct err *err)
{
    *key = journal_index_find(park->index, name, len);
    struct journal_parked_item item;
    if (*key != NULL || !locate(park, name, len, &item)) {
        return 0;
    }
    struct buf entry = {0};
    int status = journal_spill_read(park->spill, item.place, &entry, err);
    if (status == 0) {
        status = take_entry(park, &entry, item.place, name, len, err);
    }
    buf_deinit(&entry);
    if (status == 0) {
        *key = journal_index_find(park->index, name, len);
    }
    return status;
}

int journal_park_add(struct journal_park *park, const char *name, size_t len, struct journal_key **key,
                     struct err *err)
{
    int status = journal_park_get(park, name, len, key, err);
    if (status == 0 && *key == NULL) {
        *key = journal_index_add(park->index, name, len);
    }
    return status;
}

uint64_t journal_park_count(const struct journal_park *park, const char *name, size_t len,
                            uint64_t *with_pending)
{
    const struct journal_key *key = journal_index_find(park->index, name, len);
    struct journal_parked_item item = {0};
    if (key == NULL && !locate(park, name, len, &item)) {
        item.count = 0;
    }
    if (with_pending != NULL) {
        *with_pending = key == NULL ? item.count : key->next_count;
    }
    return key == NULL ? item.count : key->count;
}

bool journal_park_holds(const struct journal_park *park, const char *name, size_t len)
{
    struct journal_parked_item item;
    return journal_parked_size(park->parked) > 0 && journal_index_find(park->index, name, len) == NULL &&
           locate(park, name, len, &item);
}

/* Stays in memory for a while. */
static void note_recent(struct journal_park *park, struct journal_key *key)
{
    if (!list_is_empty(&key->link)) {
        return;
    }
    list_push_back(&park->recent, &key->link);
    key->is_recent = true;
    park->recent_count++;
    if (park->recent_count > park->recent_max) {
        struct journal_key *oldest = journal_park_linked(park->recent.next);
        journal_park_unlist(park, oldest);
        journal_park_settled(park, oldest);
    }
}

struct fetch {
    struct journal_park *park;
    char name[JOURNAL_KEY_MAX];
    size_t len;
    uint64_t place;
    struct buf entry;
    struct err err;
    journal_park_fn fn;
    void *arg;
};

static void run_fetch(void *arg)
{
    struct fetch *fetch = arg;
    (void)journal_spill_read(fetch->park->spill, fetch->place, &fetch->entry, &fetch->err);
}

static void on_fetched(void *arg);

static void start_fetch(struct fetch *fetch, uint64_t place)
{
    fetch->place = place;
    journal_spill_hold(fetch->park->spill, 1);
    work_queue(fetch->park->loop, run_fetch, on_fetched, fetch);
}

static void on_fetched(void *arg)
{
    struct fetch *fetch = arg;
    struct journal_park *park = fetch->park;
    journal_spill_hold(park->spill, -1);
    struct journal_parked_item item;
    bool is_held =
        journal_park_holds(park, fetch->name, fetch->len) && locate(park, fetch->name, fetch->len, &item);
    if (is_held && item.place != fetch->place) { /* it was back, and has left again as another one */
        fetch->err = (struct err){0};
        start_fetch(fetch, item.place);
        return;
    }
    if (is_held && fetch->err.code == 0) {
        (void)take_entry(park, &fetch->entry, item.place, fetch->name, fetch->len, &fetch->err);
    }
    struct journal_key *key = journal_index_find(park->index, fetch->name, fetch->len);
    if (key != NULL && key->is_idle) {
        note_recent(park, key);
    }
    fetch->fn(fetch->arg, is_held && fetch->err.code != 0 ? &fetch->err : NULL);
    buf_deinit(&fetch->entry);
    free(fetch);
    journal_park_end_job(park);
}

void journal_park_fetch(struct journal_park *park, const char *name, size_t len, journal_park_fn fn,
                        void *arg)
{
    struct journal_parked_item item = {0};
    (void)locate(park, name, len, &item);
    struct fetch *fetch = xcalloc(1, sizeof(*fetch));
    fetch->park = park;
    fetch->len = len;
    memcpy(fetch->name, name, len);
    fetch->fn = fn;
    fetch->arg = arg;
    journal_park_begin_job(park);
    start_fetch(fetch, item.place);
}

/* --- all of them -------------------------------------------------------------------------------------- */

struct gathering {
    struct journal_park *park;
    size_t chunk;
    uint64_t place;
    size_t len;
    struct buf data;
    struct err err;
    journal_park_fn fn;
    void *arg;
};

/* Is this entry the one of a parked key? The place tells: a key has one. */
static bool is_parked(const struct journal_park *park, const struct journal_spill_item *item, uint64_t place)
{
    struct journal_parked_item found;
    return journal_parked_find(park->parked, journal_park_print(park, item->name, item->name_len), &found) &&
           found.place == place;
}

static void gather_entry(struct journal_park *park, const struct journal_spill_item *item, uint64_t place)
{
    struct err err;
    if (is_parked(park, item, place)) {
        (void)bring_back(park, item, place, &err); /* what stays behind is noticed at the end */
    }
}

static void run_gather(void *arg)
{
    struct gathering *gathering = arg;
    (void)journal_spill_load(gathering->park->spill, gathering->place, gathering->len, &gathering->data,
                             &gathering->err);
}

static void on_gathered(void *arg);

static void gather(struct gathering *gathering)
{
    struct journal_park *park = gathering->park;
    if (gathering->err.code == 0 && journal_parked_size(park->parked) > 0) {
        if (journal_spill_next(park->spill, &gathering->chunk, &gathering->place, &gathering->len)) {
            journal_spill_hold(park->spill, 1);
            work_queue(park->loop, run_gather, on_gathered, gathering);
            return;
        }
        (void)damaged_entry(&gathering->err);
    }
    gathering->fn(gathering->arg, gathering->err.code == 0 ? NULL : &gathering->err);
    buf_deinit(&gathering->data);
    free(gathering);
    journal_park_end_job(park);
}

static void on_gathered(void *arg)
{
    struct gathering *gathering = arg;
    struct journal_park *park = gathering->park;
    journal_spill_hold(park->spill, -1);
    if (gathering->err.code == 0) {
        journal_park_each(park, gathering->data.data, gathering->data.len, gathering->place, gather_entry);
    }
    gathering->chunk++;
    gather(gathering);
}

static void start_gather(void *arg)
{
    gather(arg);
}

void journal_park_fetch_all(struct journal_park *park, journal_park_fn fn, void *arg)
{
    struct gathering *gathering = xcalloc(1, sizeof(*gathering));
    gathering->park = park;
    gathering->fn = fn;
    gathering->arg = arg;
    journal_park_begin_job(park);
    loop_defer(park->loop, start_gather, gathering);
}

/* Walks the names of what is parked. The cursor: number of the chunk in the upper half, in the lower one how
 * far it was walked. */
static bool next_parked(struct journal_park *park, size_t *cursor, const char **name, size_t *len)
{
    for (;;) {
        size_t chunk = *cursor >> 32;
        size_t at = *cursor & UINT32_MAX;
        uint64_t place;
        size_t chunk_len;
        if (journal_parked_size(park->parked) == 0 ||
            !journal_spill_next(park->spill, &chunk, &place, &chunk_len)) {
            return false;
        }
        struct err err;
        if (at == 0 && journal_spill_load(park->spill, place, chunk_len, &park->walked, &err) != 0) {
            log_line(LOG_ERROR, "journal.keys_incomplete", "%s", err.text);
            return false;
        }
        struct journal_spill_item item;
        size_t size;
        while (at < park->walked.len &&
               journal_spill_decode(park->walked.data + at, park->walked.len - at, &item, &size)) {
            uint64_t entry = place + at / 8;
            at += size;
            if (is_parked(park, &item, entry)) {
                *cursor = chunk << 32 | at;
                *name = item.name;
                *len = item.name_len;
                return true;
            }
        }
        *cursor = (chunk + 1) << 32;
    }
}

#define WALKS_PARKED ((size_t)1 << 63) /* the index is done */

bool journal_park_walk(struct journal_park *park, size_t *cursor, const char **name, size_t *len,
                       const char **reason)
{
    const struct journal_key *key = NULL;
    while ((*cursor & WALKS_PARKED) == 0 && (key = journal_index_next(park->index, cursor)) != NULL) {
        if (key->count > 0 || key->is_damaged) {
            *name = key->name;
            *len = key->len;
            *reason = key->is_damaged ? "records of this key are damaged or missing" : NULL;
            return true;
        }
    }
    size_t parked = (*cursor & WALKS_PARKED) == 0 ? 0 : *cursor & ~WALKS_PARKED;
    bool is_found = next_parked(park, &parked, name, len);
    *cursor = parked | WALKS_PARKED;
    *reason = NULL;
    if (!is_found) {
        buf_deinit(&park->walked);
    }
    return is_found;
}

size_t journal_park_size(const struct journal_park *park)
{
    return journal_parked_size(park->parked);
}
