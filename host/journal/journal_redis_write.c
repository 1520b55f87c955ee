/* Writing a group: one script call that does all of it or nothing, repeated until the server has answered.
 * See journal_redis_script.c for what makes a repetition harmless, journal_redis_state.h for the rest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_redis_state.h"
#include "loop/loop.h"

enum {
    FIRST_PAUSE_MS = 25,
    LONGEST_PAUSE_MS = 1000,
    KEPT_BYTES = 8 << 20, /* larger buffers are given back */
};

/* A change with its place in the batch, for sorting. */
struct place {
    const struct journal_write *write;
};

static int by_key(const void *a, const void *b)
{
    const struct journal_write *x = ((const struct place *)a)->write;
    const struct journal_write *y = ((const struct place *)b)->write;
    if (x->key != y->key) { /* one key has one name pointer */
        return (uintptr_t)x->key < (uintptr_t)y->key ? -1 : 1;
    }
    return x < y ? -1 : x > y;
}

/* All changes of one key in a group come down to: empty the list or know its length, then append. */
struct step {
    size_t first; /* of its records, after what was undone in the same group */
    size_t end;
    size_t records;
    size_t widest;
    uint32_t expected;
    bool is_reset;
    bool is_needed; /* false: the list never existed and shall not */
};

static struct step plan(const struct place *places, size_t begin, size_t end)
{
    const struct journal_write *first = places[begin].write;
    bool is_append = first->kind == JOURNAL_WRITE_RECORD;
    struct step step = {.first = begin, .end = end, .is_reset = !is_append};
    step.expected = is_append ? first->index - 1 : 0;
    for (size_t i = begin; i < end; i++) {
        const struct journal_write *write = places[i].write;
        if (write->kind != JOURNAL_WRITE_RECORD) {
            step.is_reset = true;
            step.first = i + 1;
            step.records = 0;
            step.widest = 0;
            continue;
        }
        step.records++;
        step.widest = write->len > step.widest ? write->len : step.widest;
    }
    step.is_needed = !(step.is_reset && step.records == 0 && is_append && step.expected == 0);
    return step;
}

static void add_step(struct journal_redis_args *args, const struct place *places, const struct step *step)
{
    const struct journal_write *last = places[step->end - 1].write;
    journal_redis_add(args, last->key, last->key_len);
    if (step->is_reset) {
        journal_redis_add(args, "", 0);
    } else {
        journal_redis_add_int(args, step->expected);
    }
    journal_redis_add_int(args, last->epoch);
    journal_redis_add_int(args, step->widest);
    journal_redis_add_int(args, step->records);
    for (size_t i = step->first; i < step->end; i++) {
        const struct journal_write *write = places[i].write;
        uint32_t crc = journal_redis_crc(write->key, write->key_len, write->epoch, write->index, write->data,
                                         write->len);
        unsigned char head[JOURNAL_REDIS_CRC] = {(unsigned char)crc, (unsigned char)(crc >> 8),
                                                 (unsigned char)(crc >> 16), (unsigned char)(crc >> 24)};
        journal_redis_add_pair(args, head, sizeof(head), write->data, write->len);
    }
}

/* The arguments of the commit script; `name` is the group's. */
static void encode(struct journal_redis *redis, const struct journal_batch *batch, const char *name)
{
    struct place *places = xmalloc(batch->count * sizeof(*places));
    struct step *steps = xmalloc(batch->count * sizeof(*steps));
    for (size_t i = 0; i < batch->count; i++) {
        places[i].write = &batch->writes[i];
    }
    qsort(places, batch->count, sizeof(*places), by_key);
    size_t step_count = 0;
    size_t records = 0;
    for (size_t begin = 0, end; begin < batch->count; begin = end) {
        for (end = begin + 1; end < batch->count && places[end].write->key == places[begin].write->key;) {
            end++;
        }
        steps[step_count] = plan(places, begin, end);
        records += steps[step_count].records;
        step_count += steps[step_count].is_needed ? 1 : 0;
    }
    struct journal_redis_args *args = &redis->args;
    journal_redis_clear(args);
    journal_redis_add_int(args, step_count + 4);
    journal_redis_add_name(args, redis, "epoch");
    journal_redis_add_name(args, redis, "lock");
    journal_redis_add_name(args, redis, "group");
    journal_redis_add_name(args, redis, "keys");
    for (size_t i = 0; i < step_count; i++) {
        const struct journal_write *write = places[steps[i].end - 1].write;
        journal_redis_add_log(args, redis, write->key, write->key_len);
    }
    journal_redis_add_str(args, redis->epoch);
    journal_redis_add_str(args, redis->owner);
    journal_redis_add_int(args, (uint64_t)redis->lease_ms);
    journal_redis_add_str(args, redis->group);
    journal_redis_add_str(args, name);
    journal_redis_add_str(args, records == 0 ? "1" : "0");
    for (size_t i = 0; i < step_count; i++) {
        add_step(args, places, &steps[i]);
    }
    free(steps);
    free(places);
}

/* How one try ended. */
enum outcome {
    DURABLE,
    FAILED,  /* for good, and nothing was stored */
    UNKNOWN, /* no answer: it may have been stored */
    NOT_NOW, /* nothing was stored; try again */
};

/* Waits until the server's own disk has what this connection wrote. */
static enum outcome pass_barrier(struct journal_redis *redis, struct err *err)
{
    struct journal_redis_args args = {0};
    journal_redis_add_str(&args, "WAITAOF");
    journal_redis_add_int(&args, 1);
    journal_redis_add_int(&args, 0);
    journal_redis_add_int(&args, (uint64_t)redis->writer.timeout_ms / 2);
    enum outcome outcome = UNKNOWN;
    while (outcome == UNKNOWN) {
        redisReply *reply = journal_redis_call(&redis->writer, &args, err);
        if (reply == NULL) {
            break;
        }
        if (reply->type == REDIS_REPLY_ERROR) {
            log_line(LOG_ERROR, "redis.durability", "WAITAOF is refused, and not asked for any more: %s",
                     reply->str);
            redis->has_barrier = false;
            outcome = DURABLE;
        } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
                   reply->element[0]->integer > 0) {
            outcome = DURABLE;
        } else if (journal_redis_is_closing(redis)) {
            (void)err_set(err, ERR_TIMEOUT, "Redis at %s does not get its file to the disk",
                          redis->url.shown);
            freeReplyObject(reply);
            break;
        }
        freeReplyObject(reply);
    }
    buf_deinit(&args.body);
    return outcome;
}

/* After a refusal of what may have been stored by an earlier try. */
static enum outcome look_up(struct journal_redis *redis, const char *name, const struct err *refusal,
                            struct err *err)
{
    struct journal_redis_args args = {0};
    journal_redis_add_str(&args, "GET");
    journal_redis_add_name(&args, redis, "group");
    redisReply *reply = journal_redis_call(&redis->writer, &args, err);
    buf_deinit(&args.body);
    if (reply == NULL) {
        return UNKNOWN;
    }
    enum outcome outcome = UNKNOWN;
    if (journal_redis_judge(reply, err) == JOURNAL_REDIS_FINE) {
        bool is_stored = reply->type == REDIS_REPLY_STRING && strcmp(reply->str, name) == 0;
        outcome = is_stored ? UNKNOWN : FAILED; /* what is stored gets durable with a later try */
        *err = *refusal;
    }
    freeReplyObject(reply);
    return outcome;
}

static enum outcome try_once(struct journal_redis *redis, const char *name, bool is_unsure, struct err *err)
{
    if (redis->writer.context == NULL) {
        if (journal_redis_connect(&redis->writer, err) != 0 ||
            journal_redis_inspect(redis, &redis->writer, false, err) != 0) {
            return NOT_NOW;
        }
    }
    if (fault_hit("redis.send")) {
        journal_redis_disconnect(&redis->writer);
        (void)err_set(err, ERR_UNAVAILABLE, "the connection ended before a group was sent");
        return NOT_NOW;
    }
    redisReply *reply = journal_redis_eval(&redis->writer, JOURNAL_REDIS_COMMIT, &redis->args, err);
    if (reply != NULL && fault_hit("redis.applied")) {
        freeReplyObject(reply);
        reply = NULL;
        journal_redis_disconnect(&redis->writer);
        (void)err_set(err, ERR_UNAVAILABLE, "the connection ended before a group was answered");
    }
    if (reply == NULL) {
        return UNKNOWN;
    }
    enum outcome outcome = DURABLE;
    enum journal_redis_answer answer = journal_redis_judge(reply, err);
    if (answer == JOURNAL_REDIS_LATER) {
        outcome = NOT_NOW;
    } else if (answer == JOURNAL_REDIS_REFUSED) {
        struct err refusal = *err;
        outcome = is_unsure ? look_up(redis, name, &refusal, err) : FAILED;
    } else if (journal_redis_heed(redis, reply, err) != 0) {
        outcome = FAILED;
    }
    freeReplyObject(reply);
    return outcome == DURABLE && redis->has_barrier ? pass_barrier(redis, err) : outcome;
}

/* Tries until the server has decided. Only the end of the program ends that before: the group is then in the
 * same place as after a crash, unacknowledged. */
static int persist(struct journal_redis *redis, const char *name, struct err *err)
{
    uint64_t away_ns = 0;
    int pause_ms = FIRST_PAUSE_MS;
    bool is_unsure = false;
    for (;;) {
        int status = journal_redis_check_fence(redis, err);
        if (status != 0) {
            return status;
        }
        enum outcome outcome = try_once(redis, name, is_unsure, err);
        if (outcome == FAILED) {
            return err->code;
        }
        if (outcome == DURABLE) {
            if (away_ns != 0) {
                log_line(LOG_INFO, "redis.back", "%s was away for %.1f s; nothing is lost", redis->url.shown,
                         (double)(loop_mono_ns() - away_ns) / 1e9);
            }
            return 0;
        }
        is_unsure = is_unsure || outcome == UNKNOWN;
        if (away_ns == 0) {
            away_ns = loop_mono_ns();
            log_line(LOG_WARN, "redis.away", "what is accepted waits: %s", err->text);
        }
        if (journal_redis_is_closing(redis) && pause_ms >= LONGEST_PAUSE_MS) {
            return err_wrap(err, "the program ends while Redis is away");
        }
        (void)journal_redis_pause(redis, pause_ms);
        pause_ms = pause_ms * 2 < LONGEST_PAUSE_MS ? pause_ms * 2 : LONGEST_PAUSE_MS;
    }
}

int journal_redis_write(void *self, const struct journal_batch *batch, struct err *err)
{
    struct journal_redis *redis = self;
    char name[sizeof(redis->group)];
    (void)snprintf(name, sizeof(name), "%" PRIu64 "-%s", batch->last_lsn, redis->nonce);
    encode(redis, batch, name);
    int status = persist(redis, name, err);
    if (status == 0) {
        (void)snprintf(redis->group, sizeof(redis->group), "%s", name);
    }
    if (redis->args.body.cap > KEPT_BYTES) {
        buf_deinit(&redis->args.body);
    }
    return status;
}
