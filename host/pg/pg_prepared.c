/* Prepared statements; see pg_prepared.h. Names are never used twice on a connection, so that a statement the
 * server lost track of (an aborted prepare, a changed result type) cannot be taken for another. */
#include "pg/pg_prepared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "pg/pg_text.h"

void pg_prepared_init(struct pg_prepared_cache *cache, struct pg_texts *texts)
{
    memset(cache, 0, sizeof(*cache));
    cache->texts = texts;
}

static void release(struct pg_prepared_cache *cache, struct pg_prepared *prepared)
{
    pg_text_unref(cache->texts, prepared->text);
    free(prepared->failure);
    memset(prepared, 0, sizeof(*prepared));
}

void pg_prepared_deinit(struct pg_prepared_cache *cache)
{
    for (int i = 0; i < cache->count; i++) {
        release(cache, &cache->slots[i]);
    }
    cache->count = 0;
}

struct pg_prepared *pg_prepared_find(struct pg_prepared_cache *cache, struct pg_text *text)
{
    int slot = text->recent_slot;
    if (slot >= cache->count || cache->slots[slot].text != text) {
        for (slot = 0; slot < cache->count && cache->slots[slot].text != text; slot++) {
        }
        if (slot == cache->count) {
            return NULL;
        }
        text->recent_slot = slot;
    }
    cache->slots[slot].used = ++cache->tick;
    return &cache->slots[slot];
}

void pg_prepared_renew(struct pg_prepared_cache *cache, struct pg_prepared *prepared)
{
    (void)snprintf(prepared->name, sizeof(prepared->name), "s%u", ++cache->next_name);
    prepared->is_usable = true;
    prepared->used = ++cache->tick;
}

struct pg_prepared *pg_prepared_add(struct pg_prepared_cache *cache, struct pg_text *text,
                                    char evicted[PG_PREPARED_NAME])
{
    struct pg_prepared *slot = &cache->slots[0];
    evicted[0] = '\0';
    if (cache->count < PG_PREPARED_MAX) {
        slot = &cache->slots[cache->count++];
    } else {
        for (int i = 1; i < PG_PREPARED_MAX; i++) {
            if (cache->slots[i].used < slot->used) {
                slot = &cache->slots[i];
            }
        }
        if (slot->is_usable) {
            memcpy(evicted, slot->name, PG_PREPARED_NAME);
        }
        release(cache, slot);
    }
    slot->text = pg_text_ref(text);
    text->recent_slot = (int)(slot - cache->slots);
    pg_prepared_renew(cache, slot);
    return slot;
}

void pg_prepared_fail(struct pg_prepared *prepared, const struct pg_failure *failure)
{
    prepared->is_usable = false;
    if (prepared->failure == NULL) {
        prepared->failure = xmalloc(sizeof(*prepared->failure));
    }
    *prepared->failure = *failure;
}
