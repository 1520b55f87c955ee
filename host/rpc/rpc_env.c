/* The gRPC environment; see rpc_env.h. */
#include "rpc/rpc_env.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"

enum {
    ITEMS_PER_TURN = 512, /* deferred items run before sockets and timers get their chance */
};

#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"

struct rpc_env {
    struct loop *loop;
    grpc_completion_queue *queue;
    pthread_t poller;
    int users;
    struct inbox_item *first; /* deferred to the end of the turn, in order */
    struct inbox_item *last;
    bool is_scheduled;     /* run_deferred is queued on the loop */
    bool is_stopped;       /* the core is gone; free when nothing is scheduled */
    struct inbox_item end; /* posted by the poller as its last act */
};

/* The environment that new users join. The core itself is process-wide (style C15). */
static struct rpc_env *current;

static _Thread_local char captured[160];
static _Thread_local bool is_capturing;

/* What people need of an error of the core: what the system said (os_error:"...", deep inside), or else its
 * first words, without the places in the core's sources that follow in braces. */
static void capture(const char *message)
{
    static const char cause[] = "os_error:\"";
    const char *from = strstr(message, cause);
    size_t len;
    if (from != NULL) {
        from += sizeof(cause) - 1;
        len = strcspn(from, "\"");
    } else {
        const char *places = strstr(message, " {");
        from = message;
        len = places != NULL ? (size_t)(places - message) : strlen(message);
    }
    (void)snprintf(captured, sizeof(captured), "%.*s", (int)len, from);
}

static void on_core_log(gpr_log_func_args *args)
{
    if (is_capturing && args->severity == GPR_LOG_SEVERITY_ERROR) {
        capture(args->message);
        return;
    }
    log_line(args->severity == GPR_LOG_SEVERITY_ERROR ? LOG_WARN : LOG_DEBUG, "rpc.core", "%s",
             args->message);
}

void rpc_env_capture_begin(void)
{
    captured[0] = '\0';
    is_capturing = true;
}

const char *rpc_env_capture_end(void)
{
    is_capturing = false;
    return captured;
}

/* The packaged core looks for a roots file that the package does not contain; the system has one. */
static grpc_ssl_roots_override_result load_system_roots(char **pem)
{
    FILE *file = fopen(SYSTEM_ROOTS, "rb");
    if (file == NULL) {
        return GRPC_SSL_ROOTS_OVERRIDE_FAIL;
    }
    size_t cap = 1 << 20;
    char *text = gpr_malloc(cap);
    size_t len = fread(text, 1, cap - 1, file);
    (void)fclose(file); /* read only */
    text[len] = '\0';
    *pem = text;
    return GRPC_SSL_ROOTS_OVERRIDE_OK;
}

/* --- the way to the loop ----------------------------------------------------------------------- */

static void free_if_done(struct rpc_env *env)
{
    if (env->is_stopped && !env->is_scheduled) {
        free(env);
    }
}

static void run_deferred(void *arg)
{
    struct rpc_env *env = arg;
    for (int i = 0; i < ITEMS_PER_TURN && env->first != NULL; i++) {
        struct inbox_item *item = env->first;
        env->first = item->next;
        if (env->first == NULL) {
            env->last = NULL;
        }
        item->fn(item);
    }
    env->is_scheduled = false;
    if (env->first != NULL) {
        env->is_scheduled = true;
        loop_defer(env->loop, run_deferred, env);
    }
    free_if_done(env);
}

void rpc_env_defer(struct rpc_env *env, struct inbox_item *item)
{
    item->next = NULL;
    if (env->last == NULL) {
        env->first = item;
    } else {
        env->last->next = item;
    }
    env->last = item;
    if (!env->is_scheduled) {
        env->is_scheduled = true;
        loop_defer(env->loop, run_deferred, env);
    }
}

void rpc_env_enter(struct rpc_env *env, struct rpc_tag *tag)
{
    __atomic_store_n(&tag->turn, 1, __ATOMIC_RELEASE);
    grpc_completion_queue_thread_local_cache_init(env->queue);
}

void rpc_env_leave(struct rpc_env *env)
{
    void *tag = NULL;
    int ok = 0;
    if (grpc_completion_queue_thread_local_cache_flush(env->queue, &tag, &ok)) {
        struct rpc_tag *done = tag;
        done->ok = ok != 0;
        rpc_env_defer(env, &done->item);
    }
}

grpc_call_error rpc_env_start(struct rpc_env *env, grpc_call *call, const grpc_op *ops, size_t count,
                              struct rpc_tag *tag)
{
    rpc_env_enter(env, tag);
    grpc_call_error error = grpc_call_start_batch(call, ops, count, tag, NULL);
    rpc_env_leave(env);
    return error;
}

static void *poll_queue(void *arg)
{
    struct rpc_env *env = arg;
    struct inbox *inbox = loop_inbox(env->loop);
    const gpr_timespec forever = gpr_inf_future(GPR_CLOCK_REALTIME);
    for (;;) {
        grpc_event event = grpc_completion_queue_next(env->queue, forever, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            break;
        }
        if (event.type == GRPC_OP_COMPLETE) {
            struct rpc_tag *tag = event.tag;
            (void)__atomic_load_n(&tag->turn, __ATOMIC_ACQUIRE); /* see rpc_env.h */
            tag->ok = event.success != 0;
            inbox_post(inbox, &tag->item);
        }
    }
    inbox_post(inbox, &env->end);
    return NULL;
}

/* --- life -------------------------------------------------------------------------------------- */

static void on_poller_end(struct inbox_item *item)
{
    struct rpc_env *env = (struct rpc_env *)((char *)item - offsetof(struct rpc_env, end));
    (void)pthread_join(env->poller, NULL); /* it has nothing left to do: no wait */
    grpc_completion_queue_destroy(env->queue);
    grpc_shutdown();
    inbox_unref(loop_inbox(env->loop));
    env->is_stopped = true;
    free_if_done(env);
}

static void start_poller(struct rpc_env *env)
{
    /* Signals belong to the loop: the poller blocks all of them. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);                            /* cannot fail */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* cannot fail with these arguments */
    if (pthread_create(&env->poller, NULL, poll_queue, env) != 0) {
        abort(); /* no thread to be had before anything has started */
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Debian builds the core's locks with their search for deadlocks on: a graph of all locks, kept at every
 * lock. Off when the library has that switch under the name it has in Debian 12. */
static void stop_deadlock_search(void)
{
    typedef void (*set_mode_fn)(int mode);
    enum { IGNORE = 0 };
    set_mode_fn set_mode;
    *(void **)&set_mode =
        dlsym(RTLD_DEFAULT, "_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE");
    if (set_mode != NULL) {
        set_mode(IGNORE);
    }
}

struct rpc_env *rpc_env_acquire(struct loop *loop)
{
    if (current != NULL && current->loop == loop) {
        current->users++;
        return current;
    }
    gpr_set_log_function(on_core_log);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    grpc_set_ssl_roots_override_callback(load_system_roots);
    stop_deadlock_search();
    grpc_init();
    struct rpc_env *env = xcalloc(1, sizeof(*env));
    env->loop = loop;
    env->users = 1;
    env->queue = grpc_completion_queue_create_for_next(NULL);
    env->end.fn = on_poller_end;
    inbox_ref(loop_inbox(loop));
    start_poller(env);
    current = env;
    return env;
}

void rpc_env_release(struct rpc_env *env)
{
    if (--env->users > 0) {
        return;
    }
    if (current == env) {
        current = NULL; /* a new user starts afresh; the core counts its initialisations */
    }
    grpc_completion_queue_shutdown(env->queue);
}

grpc_completion_queue *rpc_env_queue(const struct rpc_env *env)
{
    return env->queue;
}
