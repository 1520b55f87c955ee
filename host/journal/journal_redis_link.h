/* One connection to a Redis server and commands on it. Blocks: for one thread at a time, never the loop's. */
#pragma once

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "journal/journal_redis_script.h"
#include "journal/journal_redis_tls.h"
#include "redis/redis_url.h"

struct journal_redis_link {
    const struct redis_url *url;   /* kept */
    int timeout_ms;                /* of connecting, and of one answer */
    redisContext *context;         /* NULL: not connected */
    struct journal_redis_tls *tls; /* on its socket; NULL: none */
    char shas[JOURNAL_REDIS_SCRIPT_COUNT][41];
};

/* Arguments of a command, encoded as they are added, so that one that has to be repeated is the same. */
struct journal_redis_args {
    struct buf body;
    size_t count;
};

/* What an error reply means for the command that got it. */
enum journal_redis_answer {
    JOURNAL_REDIS_FINE,    /* no error */
    JOURNAL_REDIS_LATER,   /* not executed; the server may do it in a while (loading, failing over) */
    JOURNAL_REDIS_REFUSED, /* not executed, and a repetition would not help by itself */
};

void journal_redis_add(struct journal_redis_args *args, const void *data, size_t len);
/* One argument of two parts. */
void journal_redis_add_pair(struct journal_redis_args *args, const void *head, size_t head_len,
                            const void *data, size_t len);
void journal_redis_add_str(struct journal_redis_args *args, const char *text);
void journal_redis_add_int(struct journal_redis_args *args, uint64_t value);
void journal_redis_clear(struct journal_redis_args *args); /* keeps the memory */

/* Connects, authenticates, selects the database and loads the scripts. ERR_UNAVAILABLE or ERR_TIMEOUT: a
 * later try may succeed; ERR_DENIED: user, password or permissions. */
int journal_redis_connect(struct journal_redis_link *link, struct err *err);
void journal_redis_disconnect(struct journal_redis_link *link);

/* Sends a command. The reply, also an error reply, is to be freed with freeReplyObject; NULL when there is
 * none: the link is then disconnected, and whether the command was executed is not known. */
redisReply *journal_redis_call(struct journal_redis_link *link, const struct journal_redis_args *args,
                               struct err *err);
/* Runs a script; args begin with the number of keys. As journal_redis_call; loads the script when the server
 * has forgotten it. */
redisReply *journal_redis_eval(struct journal_redis_link *link, enum journal_redis_script script,
                               const struct journal_redis_args *args, struct err *err);
/* What reply says; fills err (with the server's words) unless it is JOURNAL_REDIS_FINE. */
enum journal_redis_answer journal_redis_judge(const redisReply *reply, struct err *err);
/* The first word of a script's reply, "" when it is something else. */
const char *journal_redis_word(const redisReply *reply);
/* Element i of an array reply as text, "" when there is none. Borrowed from the reply. */
const char *journal_redis_text(const redisReply *reply, size_t i);
