/* The Redis driver: what its parts share, opening and closing; see journal_redis.h. */
#include "journal/journal_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_redis_state.h"

enum { TIMEOUT_MS = 5000, LEASE_MS = 10000 };

void journal_redis_add_log(struct journal_redis_args *args, const struct journal_redis *redis,
                           const char *key, size_t key_len)
{
    char name[512];
    int len = snprintf(name, sizeof(name), "%.128slog:", redis->prefix);
    journal_redis_add_pair(args, name, (size_t)len, key, key_len);
}

uint32_t journal_redis_crc(const char *key, size_t key_len, uint64_t epoch, uint32_t index, const char *data,
                           size_t len)
{
    unsigned char place[12];
    for (int i = 0; i < 8; i++) {
        place[i] = (unsigned char)(epoch >> 8 * i);
    }
    for (int i = 0; i < 4; i++) {
        place[8 + i] = (unsigned char)(index >> 8 * i);
    }
    uint32_t crc = crc32c(0, key, key_len);
    crc = crc32c(crc, place, sizeof(place));
    return crc32c(crc, data, len);
}

bool journal_redis_pause(struct journal_redis *redis, int ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)ms * 1000000;
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    (void)pthread_mutex_lock(&redis->mutex);
    int status = 0;
    while (!redis->is_closing && status == 0) {
        status = pthread_cond_timedwait(&redis->wake, &redis->mutex, &until);
    }
    bool is_closing = redis->is_closing;
    (void)pthread_mutex_unlock(&redis->mutex);
    return is_closing;
}

bool journal_redis_is_closing(struct journal_redis *redis)
{
    (void)pthread_mutex_lock(&redis->mutex);
    bool is_closing = redis->is_closing;
    (void)pthread_mutex_unlock(&redis->mutex);
    return is_closing;
}

int journal_redis_fence(struct journal_redis *redis, struct err *err)
{
    err->code = ERR_FENCED;
    (void)pthread_mutex_lock(&redis->mutex);
    bool is_first = redis->fenced.code == 0;
    if (is_first) {
        redis->fenced = *err;
    } else {
        *err = redis->fenced;
    }
    (void)pthread_mutex_unlock(&redis->mutex);
    if (is_first) {
        log_line(LOG_ERROR, "redis.fenced", "nothing is accepted any more until a restart: %s", err->text);
    }
    return ERR_FENCED;
}

int journal_redis_check_fence(struct journal_redis *redis, struct err *err)
{
    (void)pthread_mutex_lock(&redis->mutex);
    if (redis->fenced.code != 0) {
        *err = redis->fenced;
    }
    int code = redis->fenced.code;
    (void)pthread_mutex_unlock(&redis->mutex);
    return code;
}

static void begin_close(void *self)
{
    struct journal_redis *redis = self;
    (void)pthread_mutex_lock(&redis->mutex);
    redis->is_closing = true;
    (void)pthread_cond_broadcast(&redis->wake);
    (void)pthread_mutex_unlock(&redis->mutex);
}

static void close_driver(void *self)
{
    struct journal_redis *redis = self;
    begin_close(redis);
    if (redis->has_keeper) {
        (void)pthread_join(redis->keeper, NULL);
    }
    journal_redis_release(redis);
    journal_redis_disconnect(&redis->writer);
    for (size_t i = 0; i < redis->reader_count; i++) {
        journal_redis_disconnect(redis->readers[i]);
        free(redis->readers[i]);
    }
    buf_deinit(&redis->args.body);
    (void)pthread_cond_destroy(&redis->wake);
    (void)pthread_mutex_destroy(&redis->mutex);
    redis_url_deinit(&redis->url);
    free(redis->prefix);
    free(redis);
}

static int check_owned(void *self, struct err *err)
{
    return journal_redis_check_fence(self, err);
}

static int open_driver(void *self, struct journal_store *store, struct journal_opened *opened,
                       struct err *err)
{
    struct journal_redis *redis = self;
    int status = journal_redis_connect(&redis->writer, err);
    if (status == 0) {
        status = journal_redis_inspect(redis, &redis->writer, true, err);
    }
    if (status == 0) {
        status = journal_redis_acquire(redis, opened, err);
    }
    if (status == 0) {
        journal_redis_keep(redis); /* loading may take longer than the lease */
        status = journal_redis_load(redis, store, err);
    }
    return status;
}

static const struct journal_driver redis_driver = {
    .name = "redis",
    .open = open_driver,
    .write = journal_redis_write,
    .read = journal_redis_read,
    .closing = begin_close,
    .owned = check_owned,
    .close = close_driver,
};

/* Names this opening, for the people who find it in the server. */
static void sign(struct journal_redis *redis)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        random = (uint64_t)time(NULL) << 24 ^ (uint64_t)getpid();
    }
    (void)snprintf(redis->nonce, sizeof(redis->nonce), "%016llx", (unsigned long long)random);
    char host[128] = "";
    (void)gethostname(host, sizeof(host) - 1); /* empty when it fails */
    char since[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    (void)strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    (void)snprintf(redis->owner, sizeof(redis->owner), "process %d on %s since %s, id %s", (int)getpid(),
                   host, since, redis->nonce);
}

int journal_redis_open(struct loop *loop, const struct journal_opts *opts, journal_open_fn fn, void *arg,
                       struct err *err)
{
    const char *name = opts->name == NULL ? "journal" : opts->name;
    if (opts->url == NULL) {
        return err_set(err, ERR_INVALID, "journal: the redis backend needs a URL");
    }
    if (name[0] == '\0' || strlen(name) > 64 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") < strlen(name)) {
        return err_set(err, ERR_INVALID,
                       "journal: the name of a redis journal has 1 to 64 small letters, digits, _ and -");
    }
    if (opts->lease_ms != 0 && (opts->lease_ms < 500 || opts->lease_ms > 600000)) {
        return err_set(err, ERR_INVALID, "journal: lease_ms must be between 500 and 600000");
    }
    struct redis_url url;
    int status = redis_url_parse(&url, opts->url, err);
    if (status != 0) {
        return status;
    }
    struct journal_redis *redis = xcalloc(1, sizeof(*redis));
    redis->url = url;
    struct buf prefix = {0};
    buf_printf(&prefix, "macp:%s:", name);
    redis->prefix = buf_take(&prefix, NULL);
    redis->lease_ms = opts->lease_ms == 0 ? LEASE_MS : (int)opts->lease_ms;
    redis->quarantine = opts->quarantine;
    redis->writer = (struct journal_redis_link){.url = &redis->url, .timeout_ms = TIMEOUT_MS};
    sign(redis);
    (void)pthread_mutex_init(&redis->mutex, NULL); /* these cannot fail with such attributes */
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&redis->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return journal_store_open(loop, opts, &redis_driver, redis, fn, arg);
}
