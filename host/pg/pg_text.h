/* Statement texts, stored once per pool: everything else refers to them by pointer. Loop thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct pg_texts;

/* One text. Alive while somebody holds a reference: units, and connections that have prepared it. */
struct pg_text {
    struct pg_text *next; /* in its bucket */
    unsigned refs;
    uint32_t hash;
    int recent_slot; /* where a connection found it last time: a hint */
    size_t len;
    char text[]; /* NUL-terminated */
};

struct pg_texts *pg_texts_new(void); /* one reference */
struct pg_texts *pg_texts_ref(struct pg_texts *texts);
void pg_texts_unref(struct pg_texts *texts);
/* The text with a reference for the caller. */
struct pg_text *pg_texts_get(struct pg_texts *texts, const char *text, size_t len);
struct pg_text *pg_text_ref(struct pg_text *text);
void pg_text_unref(struct pg_texts *texts, struct pg_text *text); /* NULL is fine */
