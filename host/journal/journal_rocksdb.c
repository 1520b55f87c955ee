/* The RocksDB backend: opening, writing and what happens when that fails; see journal_rocksdb_db.h.
 *
 * After a failed write RocksDB refuses every further one, and what it has in its log is anybody's guess. So
 * the database is opened again at once, which settles what the log holds, and a group that is in it after all
 * is removed before its waiters are told that it failed. When it cannot be opened (a full disk), reads go on
 * and the next write tries again before it does anything else. */
#include "journal/journal_rocksdb.h"

#include "journal/journal_rocksdb_db.h"

#ifdef MACP_ROCKSDB

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_segment.h"

static const char FORMAT[] = "macp-journal 1";
static const char FORMAT_NAME[] = "\0format";
static const char EPOCH_NAME[] = "\0epoch";
static const char LAST_NAME[] = "\0last";

enum {
    MAX_TRASH = 64,     /* logs removed by one batch */
    MEASURE_EVERY = 64, /* groups */
};

/* --- what a batch holds --------------------------------------------------------------------------------- */

static void put_record(struct journal_rocksdb *self, const char *key, size_t key_len, const char *data,
                       size_t len)
{
    uint32_t crc = rocksdb_db_crc(key, key_len, data, len);
    const char *parts[2] = {(const char *)&crc, data};
    size_t sizes[2] = {sizeof(crc), len};
    self->api->writebatch_putv(self->batch, 1, &key, &key_len, 2, parts, sizes);
}

static void put_trash(struct journal_rocksdb *self, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct rocksdb_trash *trash = &self->trash[i];
        char from[ROCKSDB_KEY_MAX];
        char to[ROCKSDB_KEY_MAX];
        size_t from_len = rocksdb_db_key(from, trash->key, trash->key_len, 0, 0);
        size_t to_len =
            rocksdb_db_key(to, trash->key, trash->key_len, trash->epoch, trash->with_mark ? 1 : 0);
        self->api->writebatch_delete_range(self->batch, from, from_len, to, to_len);
    }
}

static void drop_trash(struct journal_rocksdb *self, size_t count)
{
    if (count == 0) {
        return; /* the array may not exist */
    }
    self->trash_count -= count;
    memmove(self->trash, self->trash + count, self->trash_count * sizeof(*self->trash));
}

static void build(struct journal_rocksdb *self, const struct journal_batch *batch, size_t trash_count)
{
    self->api->writebatch_clear(self->batch);
    put_trash(self, trash_count);
    for (size_t i = 0; i < batch->count; i++) {
        const struct journal_write *write = &batch->writes[i];
        char key[ROCKSDB_KEY_MAX];
        size_t len = rocksdb_db_key(key, write->key, write->key_len, write->epoch,
                                    write->kind == JOURNAL_WRITE_RECORD ? write->index : 0);
        if (write->kind == JOURNAL_WRITE_RECORD) {
            put_record(self, key, len, write->data, write->len);
        } else if (write->kind == JOURNAL_WRITE_DROP) {
            put_record(self, key, len, "", 0);
        }
    }
    rocksdb_db_put_number(self, LAST_NAME, batch->last_lsn);
}

/* --- a write that failed -------------------------------------------------------------------------------- */

static void note_doubt(struct journal_rocksdb *self, const struct journal_batch *batch)
{
    self->doubt_lsn = batch->last_lsn;
    buf_clear(&self->doubt);
    for (size_t i = 0; i < batch->count; i++) {
        const struct journal_write *write = &batch->writes[i];
        char key[ROCKSDB_KEY_MAX];
        if (write->kind != JOURNAL_WRITE_BEGIN) {
            uint16_t len = (uint16_t)rocksdb_db_key(key, write->key, write->key_len, write->epoch,
                                                    write->kind == JOURNAL_WRITE_RECORD ? write->index : 0);
            buf_append(&self->doubt, &len, sizeof(len));
            buf_append(&self->doubt, key, len);
        }
    }
}

/* Removes the failed group if it is in the database. */
static int take_back(struct journal_rocksdb *self, struct err *err)
{
    uint64_t last;
    int status = rocksdb_db_get_number(self, LAST_NAME, &last, err);
    if (status != 0 || last != self->doubt_lsn) {
        return status;
    }
    self->api->writebatch_clear(self->batch);
    for (size_t at = 0; at < self->doubt.len;) {
        uint16_t len;
        memcpy(&len, self->doubt.data + at, sizeof(len));
        self->api->writebatch_delete(self->batch, self->doubt.data + at + sizeof(len), len);
        at += sizeof(len) + len;
    }
    rocksdb_db_put_number(self, LAST_NAME, self->last_lsn);
    status = fault_hit("rocksdb.take_back")
                 ? err_set_detail(err, ERR_IO, EIO, "take back a group in RocksDB %s: input/output error",
                                  self->dir)
                 : rocksdb_db_write(self, self->sync, err);
    if (status == 0) {
        log_line(LOG_WARN, "journal.taken_back", "a group of RocksDB %s whose write had failed", self->dir);
    }
    return status;
}

/* Opens the database again and settles the group in doubt. */
static int recover(struct journal_rocksdb *self, struct err *err)
{
    (void)pthread_rwlock_wrlock(&self->lock); /* readers come and go within milliseconds */
    rocksdb_db_close(self);
    int status = rocksdb_db_open(self, true, err);
    (void)pthread_rwlock_unlock(&self->lock);
    if (status == 0 && self->doubt_lsn != 0) {
        status = take_back(self, err);
    }
    if (status == 0) {
        self->doubt_lsn = 0;
        buf_deinit(&self->doubt);
    }
    return status;
}

/* --- the driver ----------------------------------------------------------------------------------------- */

static int write_group(void *arg, const struct journal_batch *batch, struct err *err)
{
    struct journal_rocksdb *self = arg;
    int status = journal_owner_check(self->owner, err);
    if (status == 0 && (!rocksdb_db_is_writable(self) || self->doubt_lsn != 0)) {
        status = recover(self, err);
    }
    if (status != 0) {
        return status;
    }
    size_t trash_count = self->trash_count < MAX_TRASH ? self->trash_count : MAX_TRASH;
    build(self, batch, trash_count);
    (void)fault_hit("rocksdb.before_write");
    if (fault_hit("rocksdb.write")) {
        status = err_set_detail(err, ERR_IO, EIO, "write RocksDB %s: input/output error", self->dir);
    } else {
        status = rocksdb_db_write(self, self->sync, err);
    }
    (void)fault_hit("rocksdb.after_write");
    if (status == 0 && fault_hit("rocksdb.sync")) { /* stored, and then reported as failed */
        status = err_set_detail(err, ERR_IO, EIO, "sync RocksDB %s: input/output error", self->dir);
    }
    if (status != 0) {
        struct err other;
        note_doubt(self, batch);
        if (recover(self, &other) != 0) {
            log_line(LOG_ERROR, "journal.not_writable", "until a later write succeeds: %s", other.text);
        }
        return status;
    }
    self->last_lsn = batch->last_lsn;
    drop_trash(self, trash_count);
    for (size_t i = 0; i < batch->count; i++) {
        const struct journal_write *write = &batch->writes[i];
        if (write->kind != JOURNAL_WRITE_RECORD) {
            rocksdb_db_add_trash(self, write->key, write->key_len, write->epoch,
                                 write->kind == JOURNAL_WRITE_DROP);
        }
    }
    if (self->groups++ % MEASURE_EVERY == 0) { /* it takes the database's mutex */
        rocksdb_db_measure(self);
    }
    return 0;
}

/* A new database gets its format; another one must have ours, and nothing else in it. */
static int check_format(struct journal_rocksdb *self, struct err *err)
{
    char *text = NULL;
    size_t len = 0;
    char *data =
        self->api->get(self->db, self->read_options, FORMAT_NAME, sizeof(FORMAT_NAME) - 1, &len, &text);
    int status = rocksdb_db_error(self, text, "read", err);
    if (status != 0) {
        return status;
    }
    if (data != NULL) {
        if (len != sizeof(FORMAT) - 1 || memcmp(data, FORMAT, len) != 0) {
            status = err_set(err, ERR_CORRUPT, "RocksDB %s has format \"%.*s\", and not \"%s\"", self->dir,
                             (int)(len < 40 ? len : 40), data, FORMAT);
        }
        self->api->free(data);
        return status;
    }
    rocksdb_iterator_t *iterator = self->api->create_iterator(self->db, self->read_options);
    self->api->iter_seek(iterator, "", 0);
    if (self->api->iter_valid(iterator)) {
        status = err_set(err, ERR_CORRUPT, "RocksDB %s holds data and no journal", self->dir);
    }
    self->api->iter_destroy(iterator);
    return status;
}

static int open_db(void *arg, struct journal_store *store, struct journal_opened *opened, struct err *err)
{
    struct journal_rocksdb *self = arg;
    uint64_t known = 0;
    self->api = rocksdb_api_load(err);
    if (self->api == NULL) {
        return err->code;
    }
    rocksdb_db_init(self);
    int status = journal_dir_open(self->dir, &self->dir_fd, err);
    if (status == 0) {
        status = journal_owner_take(self->dir_fd, self->dir, "OWNER", &self->owner, err);
    }
    if (status == 0) {
        status = rocksdb_db_open(self, false, err);
    }
    if (status == 0) {
        status = check_format(self, err);
    }
    if (status == 0) {
        status = rocksdb_load(self, store, err);
    }
    if (status == 0) {
        status = rocksdb_db_get_number(self, LAST_NAME, &self->last_lsn, err);
    }
    if (status == 0) {
        status = rocksdb_db_get_number(self, EPOCH_NAME, &known, err);
    }
    if (status == 0) {
        status = journal_owner_publish(self->owner, known, err);
    }
    if (status == 0) {
        opened->last_lsn = self->last_lsn;
        opened->epoch = journal_owner_epoch(self->owner);
        self->api->writebatch_clear(self->batch);
        self->api->writebatch_put(self->batch, FORMAT_NAME, sizeof(FORMAT_NAME) - 1, FORMAT,
                                  sizeof(FORMAT) - 1);
        rocksdb_db_put_number(self, EPOCH_NAME, opened->epoch);
        status = rocksdb_db_write(self, true, err);
    }
    return status;
}

static void get_stats(void *arg, struct journal_stats *stats)
{
    const struct journal_rocksdb *self = arg;
    stats->bytes = __atomic_load_n(&self->bytes, __ATOMIC_RELAXED);
}

static void close_db(void *arg)
{
    struct journal_rocksdb *self = arg;
    struct err err;
    bool is_ours = self->owner != NULL && journal_owner_epoch(self->owner) > 0 &&
                   journal_owner_check(self->owner, &err) == 0;
    if (is_ours && self->doubt_lsn != 0) {
        (void)recover(self, &err); /* the last chance in this process; it has been told already */
    }
    if (is_ours && self->db != NULL && !self->is_read_only && self->trash_count > 0 && self->doubt_lsn == 0) {
        self->api->writebatch_clear(self->batch);
        put_trash(self, self->trash_count);
        if (rocksdb_db_write(self, false, &err) != 0) { /* the next start finds it again */
            log_line(LOG_WARN, "journal.garbage", "%s", err.text);
        }
    }
    rocksdb_db_deinit(self);
    journal_owner_drop(self->owner);
    if (self->dir_fd >= 0) {
        (void)close(self->dir_fd); /* a directory */
    }
    buf_deinit(&self->doubt);
    free(self->trash);
    free(self->dir);
    free(self);
}

static const struct journal_driver rocksdb_driver = {
    .name = "rocksdb",
    .open = open_db,
    .write = write_group,
    .read = rocksdb_read,
    .stats = get_stats,
    .close = close_db,
};

int journal_rocksdb_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                         struct err *err)
{
    if (opts->dir == NULL || opts->dir[0] == '\0') {
        return err_set(err, ERR_INVALID, "journal: the rocksdb backend needs a directory");
    }
    struct journal_rocksdb *self = xcalloc(1, sizeof(*self));
    self->dir = xstrdup(opts->dir);
    self->dir_fd = -1;
    self->sync = !opts->no_sync;
    self->quarantine = opts->quarantine;
    return journal_store_open(loop, opts, &rocksdb_driver, self, fn, arg);
}

#else

int journal_rocksdb_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                         struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "journal: this program was built without RocksDB (librocksdb-dev was not there)");
}

#endif
