/* A fixed sequence of operations per key, for tests that crash a journal: what a key holds after the first n
 * of its operations is known, so whoever finds a key after a crash only has to look for an n, not smaller
 * than what was acknowledged, that explains what is there. */
#pragma once

#include <stdlib.h>

#include "journal/journal_help.h"

enum { SEQUENCE_KEYS = 8, SEQUENCE_AHEAD = 4 }; /* operations of a key that are under way at most */

enum sequence_kind { SEQUENCE_APPEND, SEQUENCE_REPLACE, SEQUENCE_REMOVE };

static inline unsigned sequence_hash(int key, unsigned op)
{
    unsigned h = (unsigned)key * 2654435761U ^ op * 2246822519U;
    h ^= h >> 13;
    h *= 3266489917U;
    return h ^ h >> 16;
}

static inline void sequence_name(char out[16], int key)
{
    (void)snprintf(out, 16, "key%d", key);
}

/* What operation number `op` of the key is; remove only when there is something. */
static inline enum sequence_kind sequence_kind_of(int key, unsigned op, size_t records)
{
    unsigned dice = sequence_hash(key, op) % 20;
    if (dice == 0 && records > 0) {
        return SEQUENCE_REMOVE;
    }
    return dice <= 2 ? SEQUENCE_REPLACE : SEQUENCE_APPEND;
}

static inline void sequence_text(char *out, size_t size, int key, unsigned op, int part)
{
    int pad = (int)(sequence_hash(key, op + 7) % 400);
    (void)snprintf(out, size, "k%d-%u-%d-%0*d", key, op, part, pad + 1, 0);
}

/* Applies operation `op` to a model: the texts of the key joined by commas. */
static inline void sequence_step(struct buf *model, size_t *records, int key, unsigned op)
{
    char text[512];
    enum sequence_kind kind = sequence_kind_of(key, op, *records);
    if (kind != SEQUENCE_APPEND) {
        buf_clear(model);
        *records = 0;
    }
    int count = kind == SEQUENCE_APPEND ? 1 : kind == SEQUENCE_REPLACE ? 3 : 0;
    for (int part = 0; part < count; part++) {
        sequence_text(text, sizeof(text), key, op, part);
        buf_append_str(model, text);
        buf_append_byte(model, ',');
        (*records)++;
    }
}

/* The operations of one key on a journal. */
struct sequence_worker {
    struct journal *journal;
    int key;
    unsigned issued;
    unsigned acked;
    size_t records;
    void (*done)(struct sequence_worker *worker, const struct err *err); /* after each, acked counted */
};

/* A worker that goes on behind the first `start` operations. */
static inline void sequence_begin(struct sequence_worker *worker, struct journal *journal, int key,
                                  unsigned start)
{
    worker->journal = journal;
    worker->key = key;
    worker->issued = 0;
    worker->acked = start;
    worker->records = 0;
    struct buf model = {0};
    for (; worker->issued < start; worker->issued++) {
        sequence_step(&model, &worker->records, key, worker->issued);
    }
    buf_deinit(&model);
}

static inline void sequence_on_durable(void *arg, const struct err *err)
{
    struct sequence_worker *worker = arg;
    if (err == NULL) {
        worker->acked++;
    }
    worker->done(worker, err);
}

/* Starts the next operation. */
static inline void sequence_issue(struct sequence_worker *worker)
{
    char name[16];
    sequence_name(name, worker->key);
    struct journal *journal = worker->journal;
    unsigned op = worker->issued;
    enum sequence_kind kind = sequence_kind_of(worker->key, op, worker->records);
    char texts[3][512];
    struct journal_record records[3];
    for (int part = 0; part < 3; part++) {
        sequence_text(texts[part], sizeof(texts[part]), worker->key, op, part);
        records[part] = (struct journal_record){.data = texts[part], .len = strlen(texts[part])};
    }
    uint64_t lsn;
    uint64_t index;
    struct err err;
    int status;
    if (kind == SEQUENCE_APPEND) {
        status =
            journal->ops->append(journal, name, strlen(name), texts[0], records[0].len, &lsn, &index, &err);
        worker->records++;
    } else if (kind == SEQUENCE_REPLACE) {
        status = journal->ops->replace(journal, name, strlen(name), records, 3, &lsn, &err);
        worker->records = 3;
    } else {
        status = journal->ops->remove(journal, name, strlen(name), &lsn, &err);
        worker->records = 0;
    }
    if (status != 0) {
        fprintf(stderr, "key %d, operation %u: %s\n", worker->key, op, err.text);
        _exit(4);
    }
    worker->issued++;
    (void)journal->ops->wait(journal, lsn, sequence_on_durable, worker);
}

/* How many operations explain what the journal holds for a key, at least `acked`; -1: none do. */
static inline long sequence_explain(struct journal *journal, int key, unsigned acked)
{
    char name[16];
    sequence_name(name, key);
    const char *found = help_read(journal, name);
    struct buf model = {0};
    size_t records = 0;
    long result = -1;
    for (unsigned op = 0; op <= acked + SEQUENCE_AHEAD && result < 0; op++) {
        if (op >= acked && model.len == strlen(found) &&
            (model.len == 0 || memcmp(model.data, found, model.len) == 0)) {
            result = (long)op;
        }
        sequence_step(&model, &records, key, op);
    }
    buf_deinit(&model);
    return result;
}
