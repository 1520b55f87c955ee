/* The prepared statements of one connection: by text, least recently used first to go. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pg/pg_result.h"

struct pg_text;
struct pg_texts;

enum { PG_PREPARED_MAX = 256, PG_PREPARED_NAME = 16 };

struct pg_prepared {
    struct pg_text *text; /* a reference; NULL: free slot */
    bool is_usable;       /* the server has it, or will by the time the next message arrives */
    uint64_t used;        /* tick of the last use */
    char name[PG_PREPARED_NAME];
    struct pg_failure *failure; /* why preparing failed; kept for requests that relied on it */
};

struct pg_prepared_cache {
    struct pg_texts *texts;
    struct pg_prepared slots[PG_PREPARED_MAX];
    int count;
    uint64_t tick;
    uint32_t next_name;
};

void pg_prepared_init(struct pg_prepared_cache *cache, struct pg_texts *texts);
void pg_prepared_deinit(struct pg_prepared_cache *cache);
/* The slot of text, used now; NULL when there is none. */
struct pg_prepared *pg_prepared_find(struct pg_prepared_cache *cache, struct pg_text *text);
/* A slot for text with a fresh name. evicted (may be "") is the name of the statement that had to go. */
struct pg_prepared *pg_prepared_add(struct pg_prepared_cache *cache, struct pg_text *text,
                                    char evicted[PG_PREPARED_NAME]);
/* Renews an unusable slot: another name, usable again. */
void pg_prepared_renew(struct pg_prepared_cache *cache, struct pg_prepared *prepared);
/* Notes why preparing it failed. */
void pg_prepared_fail(struct pg_prepared *prepared, const struct pg_failure *failure);
