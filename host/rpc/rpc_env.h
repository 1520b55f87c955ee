/* The gRPC core of this process: one completion queue, one thread that polls it, and the way from there to
 * the loop. Started by its first user, stopped when the last one has gone: grpc_is_initialized() is 0 again
 * afterwards. Loop thread only.
 *
 * Completions travel as tags. A tag that completes while we are inside a core function on the loop thread
 * never goes through the poller: the core hands it back at once (its thread-local cache) and it runs at the
 * end of the turn. So bursts of messages cost no thread switches. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <grpc/grpc.h>

#include "loop/inbox.h"

struct loop;
struct rpc_env;

/* Embed one per batch that can be outstanding. item.fn runs on the loop thread, once per completion. */
struct rpc_tag {
    struct inbox_item item;
    bool ok;       /* what the core said about the batch */
    unsigned turn; /* atomic; written before the core gets the tag and read when it comes back: the order is
                      the core's doing, this makes it visible to ThreadSanitizer as well */
};

/* The environment of loop, started when there is none. Every user keeps it until rpc_env_release. */
struct rpc_env *rpc_env_acquire(struct loop *loop);
/* No tag of this user may be outstanding any more. */
void rpc_env_release(struct rpc_env *env);

grpc_completion_queue *rpc_env_queue(const struct rpc_env *env);

/* Runs item->fn at the end of this turn of the loop, first come first served. */
void rpc_env_defer(struct rpc_env *env, struct inbox_item *item);

/* grpc_call_start_batch. On anything but GRPC_CALL_OK the tag will not run. */
grpc_call_error rpc_env_start(struct rpc_env *env, grpc_call *call, const grpc_op *ops, size_t count,
                              struct rpc_tag *tag);

/* Brackets for other core functions that take tag and may complete one before they return. */
void rpc_env_enter(struct rpc_env *env, struct rpc_tag *tag);
void rpc_env_leave(struct rpc_env *env);

/* The core explains failures only in its log. Between these two calls the last error line of this thread is
 * kept; the second returns it ("" for none), valid until the next capture. Everything else goes to our log.
 */
void rpc_env_capture_begin(void);
const char *rpc_env_capture_end(void);
