/* Who may write: a lock with a lease, and the fencing token that every write carries. See
 * journal_redis_script.c for how they keep two programs apart.
 *
 * A crashed holder's lock lasts until its lease ends. Whoever starts meanwhile watches it: a lock that is
 * renewed belongs to somebody alive, one that runs out is taken over. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "journal/journal_redis_state.h"
#include "loop/loop.h"

enum { LOADING_MS = 60000, LOOK_MS = 100, RETRY_MS = 250 };

/* A holder's own words without the part for machines. */
static int name_len(const char *owner)
{
    const char *id = strstr(owner, ", id ");
    return id == NULL ? (int)strnlen(owner, 120) : (int)(id - owner);
}

int journal_redis_heed(struct journal_redis *redis, const redisReply *reply, struct err *err)
{
    const char *word = journal_redis_word(reply);
    const char *first = journal_redis_text(reply, 1);
    if (strcmp(word, "ok") == 0) {
        return 0;
    }
    if (strcmp(word, "stale") == 0) {
        (void)err_set(err, ERR_FENCED, "the journal at %s was taken over by %.*s", redis->url.shown,
                      first[0] == '\0' ? 20 : name_len(first), first[0] == '\0' ? "somebody else" : first);
    } else if (strcmp(word, "lost") == 0) {
        (void)err_set(err, ERR_FENCED,
                      "Redis at %s has lost records that were stored: the last group was `%s`, found `%.48s`",
                      redis->url.shown, redis->group, first);
    } else if (strcmp(word, "diverged") == 0) {
        (void)err_set(err, ERR_FENCED,
                      "Redis at %s: the list of key \"%.40s\" was changed: length %s expected, found %.48s",
                      redis->url.shown, first, journal_redis_text(reply, 2), journal_redis_text(reply, 3));
    } else {
        return err_set(err, ERR_PROTOCOL, "Redis at %s: a script answered `%.32s`", redis->url.shown, word);
    }
    return journal_redis_fence(redis, err);
}

static redisReply *try_acquire(struct journal_redis *redis, struct err *err)
{
    struct journal_redis_args *args = &redis->args;
    journal_redis_clear(args);
    journal_redis_add_int(args, 4);
    journal_redis_add_name(args, redis, "version");
    journal_redis_add_name(args, redis, "epoch");
    journal_redis_add_name(args, redis, "lock");
    journal_redis_add_name(args, redis, "group");
    journal_redis_add_int(args, JOURNAL_REDIS_VERSION);
    journal_redis_add_str(args, redis->owner);
    journal_redis_add_str(args, redis->nonce);
    journal_redis_add_int(args, (uint64_t)redis->lease_ms);
    redisReply *reply = journal_redis_eval(&redis->writer, JOURNAL_REDIS_ACQUIRE, args, err);
    if (reply != NULL && journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

/* The lock as it was seen last. */
struct sight {
    char holder[256];
    long long left_ms;
    bool is_seen;
};

/* Somebody has the lock: ERR_BUSY when that one is alive, 0 to look again. */
static int watch_holder(struct journal_redis *redis, struct sight *sight, const redisReply *reply,
                        struct err *err)
{
    const char *holder = journal_redis_text(reply, 1);
    long long left_ms = reply->elements > 2 ? reply->element[2]->integer : -1;
    bool is_other = sight->is_seen && strncmp(sight->holder, holder, sizeof(sight->holder) - 1) != 0;
    bool is_renewed = sight->is_seen && left_ms + LOOK_MS / 2 > sight->left_ms;
    if (left_ms < 0 || is_other || is_renewed) {
        return err_set(err, ERR_BUSY, "the journal at %s is in use by %.*s", redis->url.shown,
                       name_len(holder), holder);
    }
    if (!sight->is_seen) {
        log_line(LOG_WARN, "redis.held",
                 "the journal at %s is held by %.*s; unless that one is alive it is taken over in %lld ms",
                 redis->url.shown, name_len(holder), holder, left_ms);
    }
    (void)snprintf(sight->holder, sizeof(sight->holder), "%s", holder);
    sight->left_ms = left_ms;
    sight->is_seen = true;
    return 0;
}

static int take(struct journal_redis *redis, const redisReply *reply, struct journal_opened *opened,
                struct err *err)
{
    const char *epoch = journal_redis_text(reply, 1);
    const char *group = journal_redis_text(reply, 2);
    if (strlen(epoch) >= sizeof(redis->epoch) || strlen(group) >= sizeof(redis->group)) {
        return err_set(err, ERR_PROTOCOL, "Redis at %s: the journal's epoch or group is malformed",
                       redis->url.shown);
    }
    (void)snprintf(redis->epoch, sizeof(redis->epoch), "%s", epoch);
    (void)snprintf(redis->group, sizeof(redis->group), "%s", group);
    opened->last_lsn = strtoull(group, NULL, 10);
    opened->epoch = strtoull(epoch, NULL, 10);
    redis->is_held = true;
    return 0;
}

int journal_redis_acquire(struct journal_redis *redis, struct journal_opened *opened, struct err *err)
{
    struct sight sight = {0};
    uint64_t start = loop_mono_ns();
    for (;;) {
        redisReply *reply = try_acquire(redis, err);
        int status = 0;
        if (reply == NULL) {
            bool is_loading = err->code == ERR_UNAVAILABLE && redis->writer.context != NULL;
            if (!is_loading || loop_mono_ns() - start > LOADING_MS * UINT64_C(1000000)) {
                return err->code;
            }
            (void)journal_redis_pause(redis, RETRY_MS);
            continue;
        }
        const char *word = journal_redis_word(reply);
        bool is_ours = strcmp(word, "ok") == 0;
        if (is_ours) {
            status = take(redis, reply, opened, err);
        } else if (strcmp(word, "held") == 0) {
            status = watch_holder(redis, &sight, reply, err);
        } else if (strcmp(word, "version") == 0) {
            status = err_set(err, ERR_CORRUPT, "the journal at %s has format %.16s, this program reads %d",
                             redis->url.shown, journal_redis_text(reply, 1), JOURNAL_REDIS_VERSION);
        } else {
            status =
                err_set(err, ERR_PROTOCOL, "Redis at %s: a script answered `%.32s`", redis->url.shown, word);
        }
        freeReplyObject(reply);
        if (is_ours || status != 0) {
            return status;
        }
        (void)journal_redis_pause(redis, LOOK_MS);
    }
}

int journal_redis_renew(struct journal_redis *redis, struct journal_redis_link *link, struct err *err)
{
    struct journal_redis_args args = {0};
    journal_redis_add_int(&args, 2);
    journal_redis_add_name(&args, redis, "epoch");
    journal_redis_add_name(&args, redis, "lock");
    journal_redis_add_str(&args, redis->epoch);
    journal_redis_add_str(&args, redis->owner);
    journal_redis_add_int(&args, (uint64_t)redis->lease_ms);
    redisReply *reply = journal_redis_eval(link, JOURNAL_REDIS_RENEW, &args, err);
    buf_deinit(&args.body);
    if (reply == NULL) {
        return err->code;
    }
    int status = journal_redis_judge(reply, err) == JOURNAL_REDIS_FINE ? journal_redis_heed(redis, reply, err)
                                                                       : err->code;
    freeReplyObject(reply);
    return status;
}

void journal_redis_release(struct journal_redis *redis)
{
    struct err err;
    if (!redis->is_held || journal_redis_check_fence(redis, &err) != 0) {
        return;
    }
    if (redis->writer.context == NULL && journal_redis_connect(&redis->writer, &err) != 0) {
        log_line(LOG_WARN, "redis.kept", "the lock stays until its lease ends: %s", err.text);
        return;
    }
    struct journal_redis_args *args = &redis->args;
    journal_redis_clear(args);
    journal_redis_add_int(args, 2);
    journal_redis_add_name(args, redis, "epoch");
    journal_redis_add_name(args, redis, "lock");
    journal_redis_add_str(args, redis->epoch);
    redisReply *reply = journal_redis_eval(&redis->writer, JOURNAL_REDIS_RELEASE, args, &err);
    if (reply == NULL) {
        log_line(LOG_WARN, "redis.kept", "the lock stays until its lease ends: %s", err.text);
        return;
    }
    freeReplyObject(reply);
}

/* Writing renews the lease, too; this is for times without writes, and tells an idle holder that it is none.
 */
static void *run_keeper(void *arg)
{
    struct journal_redis *redis = arg;
    struct journal_redis_link link = {.url = &redis->url, .timeout_ms = redis->writer.timeout_ms};
    bool was_away = false;
    while (!journal_redis_pause(redis, redis->lease_ms / 3)) {
        struct err err;
        int status = link.context == NULL ? journal_redis_connect(&link, &err) : 0;
        if (status == 0) {
            status = journal_redis_renew(redis, &link, &err);
        }
        if (status == ERR_FENCED) {
            break;
        }
        if ((status != 0) != was_away) {
            was_away = status != 0;
            log_line(was_away ? LOG_WARN : LOG_INFO, was_away ? "redis.away" : "redis.back", "%s",
                     was_away ? err.text : redis->url.shown);
        }
    }
    journal_redis_disconnect(&link);
    return NULL;
}

void journal_redis_keep(struct journal_redis *redis)
{
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals belong to the loop's thread */
    if (pthread_create(&redis->keeper, NULL, run_keeper, redis) != 0) {
        abort(); /* no thread at all: as out of memory */
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    redis->has_keeper = true;
}
