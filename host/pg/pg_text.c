/* Statement texts; see pg_text.h. The hash looks at the length and three windows only: texts are written by
 * programmers, and this runs for every statement of every unit. */
#include "pg/pg_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

enum { BUCKETS = 1024, WINDOW = 16 };

struct pg_texts {
    unsigned refs;
    struct pg_text *buckets[BUCKETS];
};

static uint32_t mix_window(uint32_t hash, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)data[i]) * 16777619U;
    }
    return hash;
}

static uint32_t hash_text(const char *text, size_t len)
{
    uint32_t hash = 2166136261U ^ (uint32_t)len;
    if (len <= 3 * WINDOW) {
        return mix_window(hash, text, len);
    }
    hash = mix_window(hash, text, WINDOW);
    hash = mix_window(hash, text + len / 2, WINDOW);
    return mix_window(hash, text + len - WINDOW, WINDOW);
}

struct pg_texts *pg_texts_new(void)
{
    struct pg_texts *texts = xcalloc(1, sizeof(*texts));
    texts->refs = 1;
    return texts;
}

struct pg_texts *pg_texts_ref(struct pg_texts *texts)
{
    texts->refs++;
    return texts;
}

void pg_texts_unref(struct pg_texts *texts)
{
    if (--texts->refs == 0) {
        free(texts); /* who refers to a text refers to the table as well, so it is empty */
    }
}

struct pg_text *pg_texts_get(struct pg_texts *texts, const char *data, size_t len)
{
    uint32_t hash = hash_text(data, len);
    struct pg_text **bucket = &texts->buckets[hash % BUCKETS];
    for (struct pg_text *text = *bucket; text != NULL; text = text->next) {
        if (text->hash == hash && text->len == len && memcmp(text->text, data, len) == 0) {
            return pg_text_ref(text);
        }
    }
    struct pg_text *text = xcalloc(1, sizeof(*text) + len + 1);
    text->refs = 1;
    text->hash = hash;
    text->len = len;
    memcpy(text->text, data, len);
    text->next = *bucket;
    *bucket = text;
    return text;
}

struct pg_text *pg_text_ref(struct pg_text *text)
{
    text->refs++;
    return text;
}

void pg_text_unref(struct pg_texts *texts, struct pg_text *text)
{
    if (text == NULL || --text->refs > 0) {
        return;
    }
    struct pg_text **link = &texts->buckets[text->hash % BUCKETS];
    while (*link != text) {
        link = &(*link)->next;
    }
    *link = text->next;
    free(text);
}
