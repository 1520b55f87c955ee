/* The inside of journal_redis*.c. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "journal/journal_redis_link.h"
#include "journal/journal_store.h"
#include "redis/redis_url.h"

enum {
    JOURNAL_REDIS_READERS = 4, /* idle connections that are kept: the pool has that many threads */
    JOURNAL_REDIS_CRC = 4,     /* bytes in front of each record */
    JOURNAL_REDIS_VERSION = 1, /* of the format */
};

struct journal_redis {
    struct redis_url url;
    char *prefix; /* of all names in the server */
    int lease_ms;
    bool quarantine;
    char nonce[17];  /* of this opening */
    char owner[256]; /* who we are, for people, and the nonce */
    char epoch[48];  /* the fencing token, once the journal is ours */
    char group[48];  /* name of the last group that was applied; the writer's */
    bool is_held;
    struct journal_redis_link writer;
    struct journal_redis_args args; /* the writer's */
    bool has_barrier;               /* WAITAOF is worth asking for */
    pthread_t keeper;               /* renews the lease */
    bool has_keeper;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool is_closing;                                           /* under the mutex */
    struct err fenced;                                         /* under the mutex; code 0: not */
    struct journal_redis_link *readers[JOURNAL_REDIS_READERS]; /* under the mutex: those at rest */
    size_t reader_count;                                       /* under the mutex */
};

/* One of our own names in the server, e.g. "epoch", or the list of a key. */
static inline void journal_redis_add_name(struct journal_redis_args *args, const struct journal_redis *redis,
                                          const char *name)
{
    journal_redis_add_pair(args, redis->prefix, strlen(redis->prefix), name, strlen(name));
}

void journal_redis_add_log(struct journal_redis_args *args, const struct journal_redis *redis,
                           const char *key, size_t key_len);
uint32_t journal_redis_crc(const char *key, size_t key_len, uint64_t epoch, uint32_t index, const char *data,
                           size_t len);

/* Waits so long, or until the journal is being closed; true then. */
bool journal_redis_pause(struct journal_redis *redis, int ms);
bool journal_redis_is_closing(struct journal_redis *redis);
/* Nothing may be written any more, for this reason; logs it the first time. Returns ERR_FENCED in *err. */
int journal_redis_fence(struct journal_redis *redis, struct err *err);
/* 0, or the reason as above. */
int journal_redis_check_fence(struct journal_redis *redis, struct err *err);

/* journal_redis_server.c: what kind of server this is. First time (is_start): refuses those that cannot hold
 * a journal, and warns of what may be lost. */
int journal_redis_inspect(struct journal_redis *redis, struct journal_redis_link *link, bool is_start,
                          struct err *err);

/* journal_redis_lease.c */
int journal_redis_acquire(struct journal_redis *redis, struct journal_opened *opened, struct err *err);
int journal_redis_renew(struct journal_redis *redis, struct journal_redis_link *link, struct err *err);
void journal_redis_release(struct journal_redis *redis);
void journal_redis_keep(struct journal_redis *redis); /* starts the keeper */
/* What a script says about who may write: 0 for "ok", else the reason, as journal_redis_fence. */
int journal_redis_heed(struct journal_redis *redis, const redisReply *reply, struct err *err);

/* journal_redis_load.c: tells the store every key. */
int journal_redis_load(struct journal_redis *redis, struct journal_store *store, struct err *err);

/* journal_redis_write.c, journal_redis_read.c: as in struct journal_driver */
int journal_redis_write(void *self, const struct journal_batch *batch, struct err *err);
int journal_redis_read(void *self, struct journal_range *ranges, size_t count, size_t max_bytes,
                       struct buf *out, struct err *err);
