/* A connection to a Redis server that blocks nobody: commands are sent without waiting for what was said to
 * earlier ones, and replies are taken one by one, those of published messages among them. Nothing is read
 * that nobody takes: who is slow is felt by the server, not by this program's memory. Loop thread only. */
#pragma once

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    REDIS_CONN_MAX_UNSENT = 8 << 20, /* bytes of commands that wait for the kernel to take them */
    REDIS_CONN_MAX_REPLY = 16 << 20, /* bytes of one reply, with what came behind it */
};

struct loop;
struct redis_conn;

/* Runs once: connected, authenticated and at the URL's database, or not. ERR_DENIED: the server refuses user,
 * password or certificate; ERR_UNAVAILABLE, ERR_TIMEOUT: a later try may succeed. No text names a password.
 */
typedef void (*redis_conn_fn)(void *arg, const struct err *err);
/* reply is taken (freeReplyObject), NULL with an error. */
typedef void (*redis_reply_fn)(void *arg, redisReply *reply, const struct err *err);

/* Starts to connect, for timeout_ms at most. url is as of redis_url_parse. NULL: ERR_INVALID, the URL or its
 * files. */
struct redis_conn *redis_conn_open(struct loop *loop, const char *url, int timeout_ms, redis_conn_fn ready,
                                   void *arg, struct err *err);
/* Whoever waits gets ERR_CLOSED at once. NULL is fine. */
void redis_conn_close(struct redis_conn *conn);

/* Sends a command on this turn's end, together with others. ERR_LIMIT: too much waits to be sent, and this
 * command is not among it; otherwise the reason why the connection is lost. */
int redis_conn_send(struct redis_conn *conn, size_t count, const char *const *args, const size_t *lens,
                    struct err *err);
/* The next reply that has arrived, NULL in *reply for none. Fails for ever once the connection is lost and
 * what came before is taken. The caller frees *reply. */
int redis_conn_take(struct redis_conn *conn, redisReply **reply, struct err *err);
/* Calls fn with the next reply, when redis_conn_take has given none; one call at a time. */
void redis_conn_next(struct redis_conn *conn, redis_reply_fn fn, void *arg);
void redis_conn_cancel_next(struct redis_conn *conn); /* fn runs at once, with ERR_CANCELLED */
bool redis_conn_is_waiting(const struct redis_conn *conn);
