/* Reading parts of logs; see journal_rocksdb_db.h. On pool threads, beside the writer. */
#include "journal/journal_rocksdb_db.h"

#ifdef MACP_ROCKSDB

#include <string.h>

/* Where a reader is. */
struct cursor {
    struct journal_rocksdb *self;
    rocksdb_iterator_t *iterator;
    size_t max_bytes;
    struct buf *out;
    bool is_full;
    bool has_any;
};

static int take(struct cursor *cursor, struct journal_range *range, uint64_t index, struct err *err)
{
    const struct rocksdb_api *api = cursor->self->api;
    size_t key_len;
    size_t len;
    const char *key = api->iter_key(cursor->iterator, &key_len);
    char wanted[ROCKSDB_KEY_MAX];
    size_t wanted_len = rocksdb_db_key(wanted, range->key, range->key_len, range->epoch, index);
    if (key_len != wanted_len || memcmp(key, wanted, key_len) != 0) {
        range->is_missing = true;
        return 0;
    }
    const char *value = api->iter_value(cursor->iterator, &len);
    uint32_t crc = 0;
    if (len >= sizeof(crc)) {
        memcpy(&crc, value, sizeof(crc));
    }
    if (len < sizeof(crc) || crc != rocksdb_db_crc(key, key_len, value + ROCKSDB_CRC, len - ROCKSDB_CRC)) {
        return err_set(err, ERR_CORRUPT,
                       "RocksDB %s: record %llu of key \"%.*s\" does not match its checksum",
                       cursor->self->dir, (unsigned long long)index, (int)range->key_len, range->key);
    }
    len -= ROCKSDB_CRC;
    if (cursor->has_any && cursor->out->len + len > cursor->max_bytes) {
        cursor->is_full = true;
        return 0;
    }
    range->extents[range->found++] = (struct journal_extent){cursor->out->len, len};
    buf_append(cursor->out, value + ROCKSDB_CRC, len);
    cursor->has_any = true;
    return 0;
}

static int read_range(struct cursor *cursor, struct journal_range *range, struct err *err)
{
    const struct rocksdb_api *api = cursor->self->api;
    char key[ROCKSDB_KEY_MAX];
    size_t len = rocksdb_db_key(key, range->key, range->key_len, range->epoch, range->first);
    api->iter_seek(cursor->iterator, key, len);
    int status = 0;
    for (uint32_t i = 0; i < range->count && status == 0 && !cursor->is_full && !range->is_missing; i++) {
        if (!api->iter_valid(cursor->iterator)) {
            char *text = NULL;
            api->iter_get_error(cursor->iterator, &text);
            status = rocksdb_db_error(cursor->self, text, "read", err);
            range->is_missing = status == 0;
            break;
        }
        status = take(cursor, range, (uint64_t)range->first + i, err);
        if (i + 1 < range->count) {
            api->iter_next(cursor->iterator);
        }
    }
    return status;
}

int rocksdb_read(void *arg, struct journal_range *ranges, size_t count, size_t max_bytes, struct buf *out,
                 struct err *err)
{
    struct journal_rocksdb *self = arg;
    int status = 0;
    (void)pthread_rwlock_rdlock(&self->lock);
    if (self->db == NULL) {
        /* Who lost records reads before writing again: readers must not wait for a writer. */
        (void)pthread_rwlock_unlock(&self->lock);
        rocksdb_db_open_for_reading(self);
        (void)pthread_rwlock_rdlock(&self->lock);
    }
    if (self->db == NULL) {
        *err = self->down;
        status = err->code;
    } else {
        struct cursor cursor = {
            .self = self,
            .iterator = self->api->create_iterator(self->db, self->read_options),
            .max_bytes = max_bytes,
            .out = out,
        };
        for (size_t i = 0; i < count && status == 0 && !cursor.is_full; i++) {
            status = read_range(&cursor, &ranges[i], err);
        }
        self->api->iter_destroy(cursor.iterator);
    }
    (void)pthread_rwlock_unlock(&self->lock);
    return status;
}

#endif
