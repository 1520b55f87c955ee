/* The database below the RocksDB backend, shared by journal_rocksdb_*.c.
 *
 *   00 "format"                              "macp-journal 1"
 *   00 "epoch"                               epoch of the last holder, 8 bytes big endian
 *   00 "last"                                last lsn of the last group, 8 bytes big endian; in every batch
 *   01 length key epoch index                crc32c (little endian, of key and data) data
 *
 * length is one byte, epoch and index are 8 bytes big endian: a key's records lie together, in order. The log
 * of a key is that with the highest epoch; index 0 stands there alone and says that the key has no log. So a
 * batch only adds, and what it puts to an end is removed by a later one: a write whose outcome is in doubt
 * can be taken back. */
#pragma once

#ifdef MACP_ROCKSDB

#include <pthread.h>
#include <stdbool.h>

#include "base/buf.h"
#include "journal/journal_owner.h"
#include "journal/journal_rocksdb_api.h"
#include "journal/journal_store.h"

enum { ROCKSDB_KEY_MAX = 2 + JOURNAL_KEY_MAX + 16, ROCKSDB_CRC = 4 };

/* Records to be removed: those of a key with an epoch below, and with_mark: also index 0 of that epoch. */
struct rocksdb_trash {
    uint64_t epoch;
    bool with_mark;
    uint8_t key_len;
    char key[JOURNAL_KEY_MAX];
};

struct journal_rocksdb {
    const struct rocksdb_api *api;
    char *dir;
    bool sync;
    bool quarantine;
    int dir_fd;
    struct journal_owner *owner;
    rocksdb_cache_t *cache;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read_options;
    rocksdb_writeoptions_t *write_options;
    rocksdb_writebatch_t *batch;
    pthread_rwlock_t lock; /* read: uses db; write: exchanges it */
    rocksdb_t *db;         /* NULL: could not be opened again; down says why */
    bool is_read_only;     /* it could be opened, but not for writing */
    struct err down;
    uint64_t last_lsn;  /* of the last group that is durable */
    uint64_t doubt_lsn; /* last lsn of a group that has failed and may be in the log; 0: none */
    struct buf doubt;   /* the keys it adds, each behind its length in 2 bytes */
    struct rocksdb_trash *trash;
    size_t trash_count;
    size_t trash_cap;
    uint64_t groups; /* written */
    uint64_t bytes;  /* atomic: size of the database, for stats */
};

/* journal_rocksdb_db.c. The options, once. */
void rocksdb_db_init(struct journal_rocksdb *self);
void rocksdb_db_deinit(struct journal_rocksdb *self);
/* Opens for writing, or else (is_reopen) for reading. The caller holds the lock or is alone. */
int rocksdb_db_open(struct journal_rocksdb *self, bool is_reopen, struct err *err);
/* A database that is not open (its files were away) is opened for readers, if it can be; a writer opens it
 * again for itself. Any thread. */
void rocksdb_db_open_for_reading(struct journal_rocksdb *self);
bool rocksdb_db_is_writable(struct journal_rocksdb *self); /* any thread */
void rocksdb_db_close(struct journal_rocksdb *self);
/* Takes the text (NULL: 0) and makes an error of it. */
int rocksdb_db_error(const struct journal_rocksdb *self, char *text, const char *what, struct err *err);
void rocksdb_db_add_trash(struct journal_rocksdb *self, const char *key, size_t key_len, uint64_t epoch,
                          bool with_mark);
void rocksdb_db_measure(struct journal_rocksdb *self); /* updates bytes */
/* A number under a name, 0 when it is not there. */
int rocksdb_db_get_number(struct journal_rocksdb *self, const char *name, uint64_t *value, struct err *err);
void rocksdb_db_put_number(struct journal_rocksdb *self, const char *name, uint64_t value); /* in batch */
int rocksdb_db_write(struct journal_rocksdb *self, bool sync, struct err *err);             /* batch */

/* Writes the stored form of a record's key; returns its length. */
size_t rocksdb_db_key(char out[ROCKSDB_KEY_MAX], const char *key, size_t key_len, uint64_t epoch,
                      uint64_t index);
uint32_t rocksdb_db_crc(const char *key, size_t key_len, const char *data, size_t len);
/* The parts of a stored key; false when it is none. */
bool rocksdb_db_parse(const char *stored, size_t len, const char **key, uint8_t *key_len, uint64_t *epoch,
                      uint64_t *index);

/* journal_rocksdb_load.c: tells the store every key, and checks every record. */
int rocksdb_load(struct journal_rocksdb *self, struct journal_store *store, struct err *err);
/* journal_rocksdb_read.c: as journal_driver.read. */
int rocksdb_read(void *arg, struct journal_range *ranges, size_t count, size_t max_bytes, struct buf *out,
                 struct err *err);

#endif
