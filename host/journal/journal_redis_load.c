/* Which keys the server has: the noted facts of each, checked against the length of its list. Memory depends
 * on the portion, not on how much there is. See journal_redis_state.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "journal/journal_redis_state.h"

enum { PORTION = 1000 };

/* What is noted about a key: "length longest generation". */
struct facts {
    uint64_t count;
    uint64_t epoch;
};

/* A decimal number that ends with `end`; moves *text behind that. */
static bool parse_number(const char **text, char end, uint64_t *value)
{
    char *rest = NULL;
    bool is_digit = **text >= '0' && **text <= '9';
    *value = strtoull(*text, &rest, 10);
    if (!is_digit || *rest != end) {
        return false;
    }
    *text = rest + 1;
    return true;
}

static bool parse_facts(const redisReply *noted, struct facts *facts)
{
    const char *text = noted->str;
    struct facts read;
    uint64_t widest;
    if (text == NULL || !parse_number(&text, ' ', &read.count) || !parse_number(&text, ' ', &widest) ||
        !parse_number(&text, '\0', &read.epoch) || read.count == 0 || read.count >= UINT32_MAX) {
        return false;
    }
    *facts = read;
    return true;
}

/* The lengths of the lists of a portion: an array of integers. */
static redisReply *count_lists(struct journal_redis *redis, const redisReply *pairs, struct err *err)
{
    struct journal_redis_args *args = &redis->args;
    journal_redis_clear(args);
    journal_redis_add_int(args, pairs->elements / 2);
    for (size_t i = 0; i + 1 < pairs->elements; i += 2) {
        journal_redis_add_log(args, redis, pairs->element[i]->str, pairs->element[i]->len);
    }
    redisReply *reply = journal_redis_eval(&redis->writer, JOURNAL_REDIS_COUNT, args, err);
    if (reply != NULL && journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static int load_key(struct journal_redis *redis, struct journal_store *store, const redisReply *key,
                    const redisReply *noted, long long found, struct err *err)
{
    struct facts facts = {0};
    bool is_known = parse_facts(noted, &facts);
    bool is_damaged = !is_known || found < 0 || (uint64_t)found != facts.count;
    if (key->len == 0 || key->len > JOURNAL_KEY_MAX) {
        return err_set(err, ERR_CORRUPT, "the journal at %s has a key of %zu bytes", redis->url.shown,
                       key->len);
    }
    if (is_damaged) {
        (void)err_set(
            err, ERR_CORRUPT,
            "the journal at %s is damaged: the list of key \"%.*s\" has length %lld, noted is `%.48s`",
            redis->url.shown, (int)(key->len < 60 ? key->len : 60), key->str, found,
            noted->str == NULL ? "" : noted->str);
        if (!redis->quarantine) {
            return err->code;
        }
        log_line(LOG_ERROR, "journal.damaged", "%s", err->text);
    }
    journal_store_load(store, key->str, key->len, facts.epoch, (uint32_t)facts.count, is_damaged);
    return 0;
}

static int load_portion(struct journal_redis *redis, struct journal_store *store, const redisReply *pairs,
                        struct err *err)
{
    redisReply *lengths = count_lists(redis, pairs, err);
    if (lengths == NULL) {
        return err->code;
    }
    int status = 0;
    if (lengths->type != REDIS_REPLY_ARRAY || lengths->elements != pairs->elements / 2) {
        status = err_set(err, ERR_PROTOCOL, "Redis at %s: not as many lengths as lists", redis->url.shown);
    }
    for (size_t i = 0; i < pairs->elements / 2 && status == 0; i++) {
        status = load_key(redis, store, pairs->element[2 * i], pairs->element[2 * i + 1],
                          lengths->element[i]->integer, err);
    }
    freeReplyObject(lengths);
    return status;
}

static redisReply *scan(struct journal_redis *redis, const char *cursor, struct err *err)
{
    struct journal_redis_args *args = &redis->args;
    journal_redis_clear(args);
    journal_redis_add_str(args, "HSCAN");
    journal_redis_add_name(args, redis, "keys");
    journal_redis_add_str(args, cursor);
    journal_redis_add_str(args, "COUNT");
    journal_redis_add_int(args, PORTION);
    redisReply *reply = journal_redis_call(&redis->writer, args, err);
    if (reply != NULL && journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

int journal_redis_load(struct journal_redis *redis, struct journal_store *store, struct err *err)
{
    char cursor[32] = "0";
    do {
        redisReply *reply = scan(redis, cursor, err);
        if (reply == NULL) {
            return err_wrap(err, "read the keys");
        }
        int status = 0;
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
            reply->element[1]->type != REDIS_REPLY_ARRAY || reply->element[1]->elements % 2 != 0) {
            status = err_set(err, ERR_PROTOCOL, "Redis at %s: HSCAN gave no list of keys", redis->url.shown);
        } else {
            (void)snprintf(cursor, sizeof(cursor), "%s", journal_redis_text(reply, 0));
            status =
                reply->element[1]->elements == 0 ? 0 : load_portion(redis, store, reply->element[1], err);
        }
        freeReplyObject(reply);
        if (status != 0) {
            return status;
        }
    } while (strcmp(cursor, "0") != 0);
    return 0;
}
