/* What a Redis server is and does, as far as a journal depends on it; see journal_redis_state.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_redis_state.h"

enum { OLDEST_MAJOR = 6, BARRIER_MAJOR = 7, BARRIER_MINOR = 2 };

/* A field of INFO's "name:value\r\n" lines, copied into value; false when there is none. */
static bool find_field(const char *info, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);
    for (const char *line = info; line != NULL; line = strchr(line, '\n')) {
        line += line[0] == '\n' ? 1 : 0;
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            (void)snprintf(value, size, "%.*s", (int)strcspn(line + len + 1, "\r\n"), line + len + 1);
            return true;
        }
    }
    return false;
}

/* The reply to a command of words; NULL when there is none or it is an error. */
static redisReply *ask(struct journal_redis_link *link, const char *const *words, struct err *err)
{
    struct journal_redis_args args = {0};
    for (; *words != NULL; words++) {
        journal_redis_add_str(&args, *words);
    }
    redisReply *reply = journal_redis_call(link, &args, err);
    buf_deinit(&args.body);
    if (reply != NULL && journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static int refuse_unfit(const struct journal_redis *redis, const char *info, int major, struct err *err)
{
    char value[64];
    if (major < OLDEST_MAJOR) {
        (void)find_field(info, "redis_version", value, sizeof(value));
        return err_set(err, ERR_INVALID, "Redis at %s is version %.20s; %d.0 is the oldest that will do",
                       redis->url.shown, value, OLDEST_MAJOR);
    }
    if (find_field(info, "cluster_enabled", value, sizeof(value)) && strcmp(value, "1") == 0) {
        return err_set(err, ERR_INVALID, "Redis at %s is a cluster: a journal needs a single server",
                       redis->url.shown);
    }
    if (find_field(info, "role", value, sizeof(value)) && strcmp(value, "slave") == 0) {
        return err_set(err, ERR_INVALID, "Redis at %s is a replica: name the server it follows",
                       redis->url.shown);
    }
    if (find_field(info, "maxmemory_policy", value, sizeof(value)) && strncmp(value, "allkeys", 7) == 0) {
        return err_set(err, ERR_INVALID,
                       "Redis at %s would discard records when its memory is full (maxmemory-policy %.24s): "
                       "set noeviction",
                       redis->url.shown, value);
    }
    return 0;
}

/* Says what of the acknowledged may be lost, and when. */
static void warn(const struct journal_redis *redis, bool has_aof, const char *fsync, bool has_barrier)
{
    const char *shown = redis->url.shown;
    if (!has_aof) {
        log_line(
            LOG_WARN, "redis.durability",
            "Redis at %s has no append-only file: what came after its last snapshot is lost when it ends "
            "(set appendonly yes and appendfsync always)",
            shown);
    } else if (fsync[0] == '\0') {
        log_line(LOG_WARN, "redis.durability",
                 "Redis at %s does not tell its appendfsync (CONFIG GET is refused): unless it is `always`, "
                 "a power loss may lose acknowledged messages",
                 shown);
    } else if (strcmp(fsync, "always") != 0 && !has_barrier) {
        log_line(LOG_WARN, "redis.durability",
                 "Redis at %s has appendfsync %s: a power loss may lose %s acknowledged messages "
                 "(set appendfsync always, or use Redis 7.2, which can be waited for)",
                 shown, fsync, strcmp(fsync, "everysec") == 0 ? "the last second of" : "any number of");
    } else if (has_barrier) {
        log_line(
            LOG_INFO, "redis.durability",
            "Redis at %s has appendfsync %s: each acknowledgement waits for the file to reach the disk, up "
            "to a second (appendfsync always is sooner)",
            shown, fsync);
    }
}

int journal_redis_inspect(struct journal_redis *redis, struct journal_redis_link *link, bool is_start,
                          struct err *err)
{
    redisReply *reply = ask(link, (const char *const[]){"INFO", NULL}, err);
    if (reply == NULL) {
        return err_wrap(err, "INFO");
    }
    char value[64] = "";
    int major = 0;
    int minor = 0;
    if (find_field(reply->str, "redis_version", value, sizeof(value))) {
        char *rest = value;
        major = (int)strtol(value, &rest, 10);
        minor = *rest == '.' ? (int)strtol(rest + 1, NULL, 10) : 0;
    }
    bool has_aof = find_field(reply->str, "aof_enabled", value, sizeof(value)) && strcmp(value, "1") == 0;
    int status = is_start ? refuse_unfit(redis, reply->str, major, err) : 0;
    freeReplyObject(reply);
    if (status != 0) {
        return status;
    }
    char fsync[16] = "";
    struct err ignored;
    reply = ask(link, (const char *const[]){"CONFIG", "GET", "appendfsync", NULL}, &ignored);
    if (reply != NULL) {
        (void)snprintf(fsync, sizeof(fsync), "%.15s", journal_redis_text(reply, 1));
        freeReplyObject(reply);
    } else if (link->context == NULL) {
        *err = ignored;
        return err->code;
    }
    bool can_wait = major > BARRIER_MAJOR || (major == BARRIER_MAJOR && minor >= BARRIER_MINOR);
    redis->has_barrier = has_aof && can_wait && strcmp(fsync, "always") != 0;
    if (is_start) {
        warn(redis, has_aof, fsync, redis->has_barrier);
    }
    return 0;
}
