/* The database: options, opening, keys; see journal_rocksdb_db.h. */
#include "journal/journal_rocksdb_db.h"

#ifdef MACP_ROCKSDB

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/xmem.h"

enum {
    CACHE_BYTES = 8 << 20,
    BUFFER_BYTES = 16 << 20,
    BUFFERS = 3,
    OPEN_FILES = 256,
    INFO_LOGS = 2,
    INFO_LOG_NONE = 6,     /* above the highest level */
    FLUSH_BYTES = 1 << 20, /* background writes reach the disk in such steps, not all at once */
};

static void put_be(char *out, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        out[i] = (char)(value & 0xff);
        value >>= 8;
    }
}

static uint64_t get_be(const char *data)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | (uint8_t)data[i];
    }
    return value;
}

size_t rocksdb_db_key(char out[ROCKSDB_KEY_MAX], const char *key, size_t key_len, uint64_t epoch,
                      uint64_t index)
{
    out[0] = 1;
    out[1] = (char)key_len;
    memcpy(out + 2, key, key_len);
    put_be(out + 2 + key_len, epoch);
    put_be(out + 10 + key_len, index);
    return 18 + key_len;
}

bool rocksdb_db_parse(const char *stored, size_t len, const char **key, uint8_t *key_len, uint64_t *epoch,
                      uint64_t *index)
{
    if (len < 19 || stored[0] != 1 || len != 18 + (size_t)(uint8_t)stored[1]) {
        return false;
    }
    *key = stored + 2;
    *key_len = (uint8_t)stored[1];
    *epoch = get_be(stored + len - 16);
    *index = get_be(stored + len - 8);
    return true;
}

uint32_t rocksdb_db_crc(const char *key, size_t key_len, const char *data, size_t len)
{
    return crc32c(crc32c(0, key, key_len), data, len);
}

int rocksdb_db_error(const struct journal_rocksdb *self, char *text, const char *what, struct err *err)
{
    if (text == NULL) {
        return 0;
    }
    bool is_full = strstr(text, "No space left") != NULL;
    int code = strncmp(text, "Corruption", 10) == 0 ? ERR_CORRUPT
               : strstr(text, "lock") != NULL       ? ERR_BUSY
                                                    : ERR_IO;
    (void)err_set_detail(err, code,
                         is_full          ? ENOSPC
                         : code == ERR_IO ? EIO
                                          : 0,
                         "%s RocksDB %s: %s", what, self->dir, text);
    self->api->free(text);
    return code;
}

void rocksdb_db_init(struct journal_rocksdb *self)
{
    const struct rocksdb_api *api = self->api;
    rocksdb_block_based_table_options_t *table = api->block_based_options_create();
    self->cache = api->cache_create_lru(CACHE_BYTES);
    api->block_based_options_set_block_cache(table, self->cache);
    self->options = api->options_create();
    api->options_set_block_based_table_factory(self->options, table);
    api->block_based_options_destroy(table);
    api->options_set_create_if_missing(self->options, 1);
    api->options_set_paranoid_checks(self->options, 1);
    /* Without compression a flipped byte damages one record and not a block of them. */
    api->options_set_compression(self->options, rocksdb_no_compression);
    api->options_set_write_buffer_size(self->options, BUFFER_BYTES);
    api->options_set_max_write_buffer_number(self->options, BUFFERS);
    api->options_set_max_open_files(self->options, OPEN_FILES);
    api->options_set_max_background_jobs(self->options, 2);
    api->options_set_bytes_per_sync(self->options, FLUSH_BYTES);
    /* Its text log gets nothing but the heading: on a full disk the second line that cannot be written there
     * is a failed assertion (7.8 as Debian builds it). What matters comes back as errors. */
    api->options_set_info_log_level(self->options, INFO_LOG_NONE);
    api->options_set_keep_log_file_num(self->options, INFO_LOGS);
    api->options_set_stats_dump_period_sec(self->options, 0);
    api->options_set_stats_persist_period_sec(self->options, 0);
    self->read_options = api->readoptions_create();
    api->readoptions_set_verify_checksums(self->read_options, 0); /* each record has its own */
    self->write_options = api->writeoptions_create();
    self->batch = api->writebatch_create();
    (void)pthread_rwlock_init(&self->lock, NULL); /* cannot fail with default attributes */
}

void rocksdb_db_deinit(struct journal_rocksdb *self)
{
    const struct rocksdb_api *api = self->api;
    if (api == NULL) {
        return;
    }
    rocksdb_db_close(self);
    api->writebatch_destroy(self->batch);
    api->writeoptions_destroy(self->write_options);
    api->readoptions_destroy(self->read_options);
    api->options_destroy(self->options);
    api->cache_destroy(self->cache);
    (void)pthread_rwlock_destroy(&self->lock);
}

/* Threads that RocksDB starts here must not take the loop's signals. */
static rocksdb_t *open_quietly(struct journal_rocksdb *self, bool read_only, char **text)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rocksdb_t *db = read_only ? self->api->open_for_read_only(self->options, self->dir, 0, text)
                              : self->api->open(self->options, self->dir, text);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return db;
}

/* A record of RocksDB's log that does not verify: refuse, or (quarantine) go on with all that does. A record
 * that is merely incomplete at the end is the trace of a crash. */
static int open_for_writing(struct journal_rocksdb *self, struct err *err)
{
    char *text = NULL;
    self->api->options_set_wal_recovery_mode(self->options, rocksdb_tolerate_corrupted_tail_records_recovery);
    self->db = open_quietly(self, false, &text);
    int status = rocksdb_db_error(self, text, "open", err);
    if (status == ERR_CORRUPT && self->quarantine) {
        log_line(LOG_ERROR, "journal.damaged", "%s; what verifies is kept, acknowledged records may be lost",
                 err->text);
        text = NULL;
        self->api->options_set_wal_recovery_mode(self->options, rocksdb_skip_any_corrupted_records_recovery);
        self->db = open_quietly(self, false, &text);
        status = rocksdb_db_error(self, text, "open", err);
    }
    return status;
}

int rocksdb_db_open(struct journal_rocksdb *self, bool is_reopen, struct err *err)
{
    self->is_read_only = false;
    int status =
        is_reopen && fault_hit("rocksdb.reopen")
            ? err_set_detail(err, ERR_IO, EIO, "open RocksDB %s again: input/output error", self->dir)
            : open_for_writing(self, err);
    if (status != 0 && is_reopen) {
        char *text = NULL; /* what is stored can be read at least: a full disk allows that */
        struct err other;
        self->db = open_quietly(self, true, &text);
        (void)rocksdb_db_error(self, text, "open", &other);
        self->is_read_only = self->db != NULL;
        self->down = *err;
    }
    return status;
}

void rocksdb_db_open_for_reading(struct journal_rocksdb *self)
{
    (void)pthread_rwlock_wrlock(&self->lock);
    if (self->db == NULL) {
        char *text = NULL;
        struct err err;
        self->db = open_quietly(self, true, &text);
        if (rocksdb_db_error(self, text, "open", &err) != 0) {
            self->down = err;
        }
        self->is_read_only = self->db != NULL;
    }
    (void)pthread_rwlock_unlock(&self->lock);
}

bool rocksdb_db_is_writable(struct journal_rocksdb *self)
{
    (void)pthread_rwlock_rdlock(&self->lock);
    bool is_writable = self->db != NULL && !self->is_read_only;
    (void)pthread_rwlock_unlock(&self->lock);
    return is_writable;
}

void rocksdb_db_close(struct journal_rocksdb *self)
{
    if (self->db != NULL) {
        self->api->close(self->db);
        self->db = NULL;
    }
}

void rocksdb_db_add_trash(struct journal_rocksdb *self, const char *key, size_t key_len, uint64_t epoch,
                          bool with_mark)
{
    if (self->trash_count == self->trash_cap) {
        self->trash_cap = self->trash_cap == 0 ? 16 : self->trash_cap * 2;
        self->trash = xrealloc(self->trash, self->trash_cap * sizeof(*self->trash));
    }
    struct rocksdb_trash *trash = &self->trash[self->trash_count++];
    *trash = (struct rocksdb_trash){.epoch = epoch, .with_mark = with_mark, .key_len = (uint8_t)key_len};
    memcpy(trash->key, key, key_len);
}

void rocksdb_db_measure(struct journal_rocksdb *self)
{
    static const char *const parts[] = {"rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        uint64_t value = 0;
        if (self->db != NULL && self->api->property_int(self->db, parts[i], &value) == 0) {
            sum += value;
        }
    }
    __atomic_store_n(&self->bytes, sum, __ATOMIC_RELAXED);
}

int rocksdb_db_get_number(struct journal_rocksdb *self, const char *name, uint64_t *value, struct err *err)
{
    char *text = NULL;
    size_t len = 0;
    char *data = self->api->get(self->db, self->read_options, name, strlen(name + 1) + 1, &len, &text);
    int status = rocksdb_db_error(self, text, "read", err);
    *value = 0;
    if (status == 0 && data != NULL && len != 8) {
        status = err_set(err, ERR_CORRUPT, "RocksDB %s: the entry \"%s\" has %zu bytes, not 8", self->dir,
                         name + 1, len);
    } else if (status == 0 && data != NULL) {
        *value = get_be(data);
    }
    if (data != NULL) {
        self->api->free(data);
    }
    return status;
}

void rocksdb_db_put_number(struct journal_rocksdb *self, const char *name, uint64_t value)
{
    char bytes[8];
    put_be(bytes, value);
    self->api->writebatch_put(self->batch, name, strlen(name + 1) + 1, bytes, sizeof(bytes));
}

int rocksdb_db_write(struct journal_rocksdb *self, bool sync, struct err *err)
{
    char *text = NULL;
    self->api->writeoptions_set_sync(self->write_options, sync);
    self->api->write(self->db, self->write_options, self->batch, &text);
    return rocksdb_db_error(self, text, "write", err);
}

#endif
