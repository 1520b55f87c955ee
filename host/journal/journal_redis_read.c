/* Reading records on pool threads, each on a connection of its own, so that no reader waits behind a write.
 * See journal_redis_state.h. */
#include <stdlib.h>

#include "base/xmem.h"
#include "journal/journal_redis_state.h"

static struct journal_redis_link *take_link(struct journal_redis *redis)
{
    struct journal_redis_link *link = NULL;
    (void)pthread_mutex_lock(&redis->mutex);
    if (redis->reader_count > 0) {
        link = redis->readers[--redis->reader_count];
    }
    (void)pthread_mutex_unlock(&redis->mutex);
    if (link == NULL) {
        link = xcalloc(1, sizeof(*link));
        link->url = &redis->url;
        link->timeout_ms = redis->writer.timeout_ms;
    }
    return link;
}

static void give_back(struct journal_redis *redis, struct journal_redis_link *link)
{
    (void)pthread_mutex_lock(&redis->mutex);
    if (link->context != NULL && redis->reader_count < JOURNAL_REDIS_READERS) {
        redis->readers[redis->reader_count++] = link;
        link = NULL;
    }
    (void)pthread_mutex_unlock(&redis->mutex);
    if (link != NULL) {
        journal_redis_disconnect(link);
        free(link);
    }
}

/* A connection at rest may have ended meanwhile: one more try on a new one. */
static redisReply *fetch(struct journal_redis *redis, const struct journal_redis_args *args, struct err *err)
{
    struct journal_redis_link *link = take_link(redis);
    redisReply *reply = NULL;
    if (link->context != NULL) {
        reply = journal_redis_eval(link, JOURNAL_REDIS_READ, args, err);
    }
    if (reply == NULL && journal_redis_connect(link, err) == 0) {
        reply = journal_redis_eval(link, JOURNAL_REDIS_READ, args, err);
    }
    give_back(redis, link);
    if (reply != NULL && journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static int corrupt(const struct journal_range *range, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "record %u of key \"%.*s\" does not match its checksum",
                   range->first + range->found, (int)range->key_len, range->key);
}

static int take_records(struct journal_range *range, const redisReply *reply, struct buf *out,
                        struct err *err)
{
    for (size_t i = 1; i < reply->elements && range->found < range->count; i++) {
        const redisReply *record = reply->element[i];
        if (record->str == NULL || record->len < JOURNAL_REDIS_CRC) {
            return corrupt(range, err);
        }
        const unsigned char *head = (const unsigned char *)record->str;
        uint32_t crc = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
        const char *data = record->str + JOURNAL_REDIS_CRC;
        size_t len = record->len - JOURNAL_REDIS_CRC;
        if (crc != journal_redis_crc(range->key, range->key_len, range->epoch, range->first + range->found,
                                     data, len)) {
            return corrupt(range, err);
        }
        range->extents[range->found++] = (struct journal_extent){out->len, len};
        buf_append(out, data, len);
    }
    range->is_missing = strcmp(journal_redis_word(reply), "missing") == 0;
    return 0;
}

int journal_redis_read(void *self, struct journal_range *ranges, size_t count, size_t max_bytes,
                       struct buf *out, struct err *err)
{
    struct journal_redis *redis = self;
    struct journal_redis_args args = {0};
    journal_redis_add_int(&args, count + 1);
    journal_redis_add_name(&args, redis, "keys");
    for (size_t i = 0; i < count; i++) {
        journal_redis_add_log(&args, redis, ranges[i].key, ranges[i].key_len);
    }
    journal_redis_add_int(&args, max_bytes);
    for (size_t i = 0; i < count; i++) {
        journal_redis_add(&args, ranges[i].key, ranges[i].key_len);
        journal_redis_add_int(&args, ranges[i].epoch);
        journal_redis_add_int(&args, ranges[i].first);
        journal_redis_add_int(&args, ranges[i].count);
    }
    redisReply *reply = fetch(redis, &args, err);
    buf_deinit(&args.body);
    if (reply == NULL) {
        return err->code;
    }
    int status = 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements > count) {
        status = err_set(err, ERR_PROTOCOL, "Redis at %s: malformed records", redis->url.shown);
    }
    for (size_t i = 0; status == 0 && i < reply->elements; i++) {
        status = take_records(&ranges[i], reply->element[i], out, err);
    }
    freeReplyObject(reply);
    return status;
}
