/* What every journal backend keeps to (journal/journal.h), as tests: contract_run runs all of them against
 * one. A backend joins with a program of its own that fills a struct contract_backend, or with an entry in
 * journal_contract_test.c. */
#pragma once

#include "journal/journal_help.h"

/* Part of the suite is only for backends that can do it. */
struct contract_backend {
    const char *name;
    struct journal_opts opts;            /* the same store for each open */
    void (*wipe)(void);                  /* empties the closed store */
    bool is_durable;                     /* records are there again after close and open */
    bool is_immediate;                   /* an append is durable at once: nothing is ever pending */
    bool is_exclusive;                   /* a second open is ERR_BUSY */
    void (*fail_writes)(bool is_broken); /* NULL: its writes cannot fail */
};

static const struct contract_backend *contract;

static inline struct journal *contract_open(void)
{
    struct err err;
    struct journal *journal = help_try_open(&contract->opts, &err);
    if (journal == NULL) {
        fprintf(stderr, "open %s: %s\n", contract->name, err.text);
        exit(1);
    }
    return journal;
}

static inline struct journal *contract_fresh(void)
{
    help_backend = contract->name;
    if (contract->wipe != NULL) {
        contract->wipe();
    }
    return contract_open();
}

static inline struct journal *contract_reopen(struct journal *journal)
{
    help_close(journal);
    return contract_open();
}

/* As help_replace of texts "a,b,c": not waited for. */
static inline uint64_t contract_replace(struct journal *journal, const char *key, const char *texts)
{
    struct journal_record records[64];
    size_t count = 0;
    for (const char *at = texts; *at != '\0';) {
        size_t len = strcspn(at, ",");
        records[count++] = (struct journal_record){.data = at, .len = len};
        at += len + (at[len] == ',' ? 1 : 0);
    }
    uint64_t lsn;
    struct err err;
    CHECK_INT(journal->ops->replace(journal, key, strlen(key), records, count, &lsn, &err), 0);
    return lsn;
}

static inline uint64_t contract_remove(struct journal *journal, const char *key)
{
    uint64_t lsn;
    struct err err;
    CHECK_INT(journal->ops->remove(journal, key, strlen(key), &lsn, &err), 0);
    return lsn;
}

static inline uint64_t contract_count(struct journal *journal, const char *key)
{
    return journal->ops->count(journal, key, strlen(key), NULL);
}

static inline uint64_t contract_with_pending(struct journal *journal, const char *key)
{
    uint64_t count;
    (void)journal->ops->count(journal, key, strlen(key), &count);
    return count;
}

/* --- scan --------------------------------------------------------------------------------------------- */

struct contract_scan {
    char keys[64][JOURNAL_KEY_MAX];
    size_t lens[64];
    struct buf texts[64];
    uint64_t next[64];
    size_t key_count;
    size_t count; /* of the last portion */
    int code;
    bool is_done;
};

static inline size_t contract_slot(struct contract_scan *scan, const char *key, size_t len)
{
    for (size_t i = 0; i < scan->key_count; i++) {
        if (scan->lens[i] == len && memcmp(scan->keys[i], key, len) == 0) {
            return i;
        }
    }
    CHECK(scan->key_count < 64);
    memcpy(scan->keys[scan->key_count], key, len);
    scan->lens[scan->key_count] = len;
    scan->next[scan->key_count] = 1;
    return scan->key_count++;
}

static inline void contract_on_scan(void *arg, const struct journal_record *records, size_t count,
                                    const struct err *err)
{
    struct contract_scan *scan = arg;
    scan->code = err == NULL ? 0 : err->code;
    scan->count = count;
    for (size_t i = 0; i < count; i++) {
        size_t slot = contract_slot(scan, records[i].key, records[i].key_len);
        CHECK_INT(records[i].index, scan->next[slot]++); /* each key in order, nothing twice */
        buf_append(&scan->texts[slot], records[i].data, records[i].len);
        buf_append_byte(&scan->texts[slot], ',');
    }
    scan->is_done = true;
}

static inline struct contract_scan *contract_scan_all(struct journal *journal)
{
    static struct contract_scan scan;
    for (size_t i = 0; i < 64; i++) {
        buf_deinit(&scan.texts[i]);
    }
    memset(&scan, 0, sizeof(scan));
    struct err err;
    struct journal_scan *handle = journal->ops->scan_open(journal, &err);
    CHECK(handle != NULL);
    do {
        scan.is_done = false;
        (void)journal->ops->scan_next(handle, contract_on_scan, &scan);
        help_run_until(&scan.is_done);
        CHECK_INT(scan.code, 0);
    } while (scan.count > 0);
    journal->ops->scan_close(handle);
    return &scan;
}

static inline size_t contract_key_count(struct journal *journal)
{
    size_t cursor = 0;
    size_t count = 0;
    const char *key;
    size_t len;
    const char *reason;
    while (journal->ops->next_key(journal, &cursor, &key, &len, &reason)) {
        CHECK(reason == NULL);
        count++;
    }
    return count;
}

void contract_run(const struct contract_backend *backend);

/* The same with keys that are in memory only while something of them is under way; and the model once more
 * with fingerprints of which many are equal. */
void contract_run_parking(const struct contract_backend *backend);
