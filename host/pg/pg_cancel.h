/* Asks a server to stop what one of its connections runs. PQcancel connects and waits for an answer without
 * any limit, for ever when the server is frozen: each call has a thread of its own, so that neither the loop
 * nor the threads of the pool wait for it. Loop thread only. */
#pragma once

#include <libpq-fe.h>

struct loop;
struct pg_cancel_call;

/* Takes cancel. done(arg) runs later on the loop thread, when the server has taken the request or cannot be
 * reached. NULL, and no done, when no thread can be had. */
struct pg_cancel_call *pg_cancel_start(struct loop *loop, PGcancel *cancel, void (*done)(void *arg),
                                       void *arg);
/* done will not run; the thread ends by itself, whenever the server lets it. Before done only; NULL is fine.
 */
void pg_cancel_abandon(struct pg_cancel_call *call);
