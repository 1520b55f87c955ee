/* Notifications of the server: one connection that listens, and comes back by itself. Loop thread only. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct loop;
struct pg_conn_opts;
struct pg_listener;
struct pg_sub;
struct pg_texts;

enum { PG_SUB_QUEUE = 1024 }; /* notifications kept for a subscriber that does not read */

/* What pg_sub_next hands out. */
struct pg_notice {
    const char *payload; /* NULL with is_reset */
    bool is_reset;       /* notifications may have been missed: after a reconnect, or the queue was full */
};

typedef void (*pg_notice_fn)(void *arg, const struct pg_notice *notice, const struct err *err);

/* opts and texts are kept. */
struct pg_listener *pg_listener_open(struct loop *loop, const struct pg_conn_opts *opts,
                                     struct pg_texts *texts);
/* Subscriptions end with ERR_CLOSED. */
void pg_listener_close(struct pg_listener *listener, void (*done)(void *arg), void *arg);

/* Subscribes to a channel. ready runs once, when the server listens or when the connection could not be made;
 * the subscription must be closed in either case, which also drops a ready that has not run. */
typedef void (*pg_ready_fn)(void *arg, const struct err *err);
struct pg_sub *pg_listener_subscribe(struct pg_listener *listener, const char *channel, pg_ready_fn ready,
                                     void *arg);
/* The next notification if there is one. The caller frees *payload (NULL for a reset). */
bool pg_sub_take(struct pg_sub *sub, bool *is_reset, char **payload);
/* Calls fn with the next notification, when pg_sub_take has given none; one call at a time. */
void pg_sub_next(struct pg_sub *sub, pg_notice_fn fn, void *arg);
void pg_sub_cancel_next(struct pg_sub *sub); /* fn runs at once, with ERR_CANCELLED */
bool pg_sub_is_waiting(const struct pg_sub *sub);
/* Ends the subscription and frees it; a waiting next gets ERR_CLOSED at once. NULL is fine. */
void pg_sub_close(struct pg_sub *sub);
