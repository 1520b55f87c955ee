/* Reading a whole database at the start: one pass in order of the keys, in bounded memory; see
 * journal_rocksdb_db.h. */
#include "journal/journal_rocksdb_db.h"

#ifdef MACP_ROCKSDB

#include <string.h>

#include "base/log.h"

enum { READAHEAD = 2 << 20, MAX_REPORTS = 20 };

/* The key being read. */
struct loading {
    struct journal_rocksdb *self;
    struct journal_store *store;
    char key[JOURNAL_KEY_MAX];
    uint8_t key_len; /* 0: none yet */
    uint64_t epoch;  /* the highest so far; what lies below is done with */
    uint64_t count;  /* records of it */
    uint64_t last;   /* highest index */
    bool is_dropped;
    bool is_damaged;
    bool has_garbage;
    int reports;
};

/* Refuses, or (quarantine) notes the damage and returns 0. */
static int damaged(struct loading *loading, struct err *err, const char *what, uint64_t index)
{
    (void)err_set(err, ERR_CORRUPT, "RocksDB %s: record %llu of key \"%.*s\" %s", loading->self->dir,
                  (unsigned long long)index, (int)loading->key_len, loading->key, what);
    if (!loading->self->quarantine) {
        return err->code;
    }
    loading->is_damaged = true;
    if (loading->reports++ < MAX_REPORTS) {
        log_line(LOG_ERROR, "journal.damaged", "%s", err->text);
    }
    return 0;
}

static int finish_key(struct loading *loading, struct err *err)
{
    if (loading->key_len == 0) {
        return 0;
    }
    int status = 0;
    bool is_live = loading->last > 0; /* records may follow the mark only under a higher epoch */
    if (is_live && loading->count != loading->last) {
        status = damaged(loading, err, "or one before it is missing", loading->last);
    } else if (is_live && loading->last >= UINT32_MAX) {
        status = damaged(loading, err, "is beyond the longest log", loading->last);
    }
    if (loading->has_garbage || loading->is_dropped) {
        rocksdb_db_add_trash(loading->self, loading->key, loading->key_len, loading->epoch,
                             loading->is_dropped);
    }
    if (is_live || loading->is_damaged) {
        uint32_t count = loading->last < UINT32_MAX ? (uint32_t)loading->last : 1;
        journal_store_load(loading->store, loading->key, loading->key_len, loading->epoch, count,
                           loading->is_damaged);
    }
    return status;
}

static int take(struct loading *loading, const char *stored, size_t stored_len, const char *value, size_t len,
                struct err *err)
{
    const char *key;
    uint8_t key_len;
    uint64_t epoch;
    uint64_t index;
    if (!rocksdb_db_parse(stored, stored_len, &key, &key_len, &epoch, &index)) {
        (void)err_set(err, ERR_CORRUPT, "RocksDB %s: a key of %zu bytes is not one of a journal",
                      loading->self->dir, stored_len);
        log_line(LOG_ERROR, "journal.damaged", "%s", err->text);
        return loading->self->quarantine ? 0 : err->code;
    }
    int status = 0;
    if (key_len != loading->key_len || memcmp(key, loading->key, key_len) != 0) {
        status = finish_key(loading, err);
        int reports = loading->reports;
        *loading = (struct loading){.self = loading->self, .store = loading->store, .reports = reports};
        memcpy(loading->key, key, key_len);
        loading->key_len = key_len;
        loading->epoch = epoch;
    }
    if (status == 0 && epoch != loading->epoch) { /* a newer log: the older one is garbage, damaged or not */
        loading->has_garbage = true;
        loading->epoch = epoch;
        loading->count = 0;
        loading->last = 0;
        loading->is_dropped = false;
        loading->is_damaged = false;
    }
    uint32_t crc = 0;
    if (status == 0 && len >= sizeof(crc)) {
        memcpy(&crc, value, sizeof(crc));
    }
    if (status == 0 && (len < sizeof(crc) ||
                        crc != rocksdb_db_crc(stored, stored_len, value + ROCKSDB_CRC, len - ROCKSDB_CRC))) {
        status = damaged(loading, err, "does not match its checksum", index);
    }
    loading->is_dropped = loading->is_dropped || index == 0;
    loading->count += index == 0 ? 0 : 1;
    loading->last = index;
    return status;
}

static int pass(struct journal_rocksdb *self, struct loading *loading, struct err *err)
{
    const struct rocksdb_api *api = self->api;
    rocksdb_readoptions_t *options = api->readoptions_create();
    api->readoptions_set_fill_cache(options, 0);
    api->readoptions_set_readahead_size(options, READAHEAD);
    api->readoptions_set_verify_checksums(options, !self->quarantine);
    rocksdb_iterator_t *iterator = api->create_iterator(self->db, options);
    int status = 0;
    for (api->iter_seek(iterator, "\1", 1); status == 0 && api->iter_valid(iterator);
         api->iter_next(iterator)) {
        size_t key_len;
        size_t len;
        const char *key = api->iter_key(iterator, &key_len);
        const char *value = api->iter_value(iterator, &len);
        status = take(loading, key, key_len, value, len, err);
    }
    if (status == 0) {
        char *text = NULL;
        api->iter_get_error(iterator, &text);
        status = rocksdb_db_error(self, text, "read", err);
    }
    api->iter_destroy(iterator);
    api->readoptions_destroy(options);
    return status == 0 ? finish_key(loading, err) : status;
}

int rocksdb_load(struct journal_rocksdb *self, struct journal_store *store, struct err *err)
{
    struct loading loading = {.self = self, .store = store};
    return pass(self, &loading, err);
}

#endif
