/* A gRPC server and client over loopback on one loop, for the tests beside this file. Every case ends with
 * the gRPC core shut down: a call, channel or server that was not given back would keep it alive. */
#pragma once

#include <unistd.h>

#include "base/bytes.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "rpc/rpc_client.h"
#include "rpc/rpc_server.h"
#include "rpc/rpc_stream.h"
#include "test.h"

enum { STREAM_MESSAGES = 5000 };

static const struct rpc_method_opts methods[] = {
    {.name = "/t.S/Unary", .kind = RPC_UNARY},
    {.name = "/t.S/Down", .kind = RPC_SERVER_STREAM},
    {.name = "/t.S/Both", .kind = RPC_BIDI},
};

/* One loop with a server and a client; what handlers and callbacks saw. */
struct world {
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct rpc_server_call *held; /* a call that its handler keeps open */
    struct bytes *shared;
    int calls;
    int replies;
    int last_status;
    char last_text[256];
    int closed_events;
    int readable_events;
    int messages;
    int sent;
    int drained; /* 1 ended, 2 gave up */
    int server_closed;
    bool is_starting; /* inside rpc_client_unary */
    struct rpc_stream *stream;
};

static inline void on_call(void *arg, struct rpc_server_call *call);

static inline void open_world(struct world *world, const struct rpc_call_limits *limits)
{
    struct err err;
    char target[64];
    *world = (struct world){0};
    CHECK_INT(loop_open(&world->loop, &err), 0);
    struct rpc_server_opts opts = {
        .address = "127.0.0.1:0", .methods = methods, .method_count = 3, .max_concurrent_streams = 5000};
    if (limits != NULL) {
        opts.limits = *limits;
    }
    CHECK_INT(rpc_server_open(world->loop, &opts, &world->server, &err), 0);
    rpc_server_serve(world->server, on_call, world);
    (void)snprintf(target, sizeof(target), "127.0.0.1:%d", rpc_server_port(world->server));
    const struct rpc_client_opts client_opts = {.target = target, .has_own_connection = true};
    CHECK_INT(rpc_client_open(world->loop, &client_opts, &world->client, &err), 0);
}

static inline void on_server_closed(void *arg)
{
    ((struct world *)arg)->server_closed++;
}

static inline void close_both(struct world *world)
{
    rpc_client_close(world->client, NULL, NULL);
    rpc_server_close(world->server, on_server_closed, world);
}

/* Threads of the core may still let go of the last channel when we are done; a leak never ends. */
static inline void check_core_is_down(void)
{
    for (int i = 0; i < 2000 && grpc_is_initialized(); i++) {
        usleep(1000);
    }
    CHECK_INT(grpc_is_initialized(), 0);
}

/* Runs until nothing is left, then checks that nothing is. */
static inline void end_world(struct world *world)
{
    (void)loop_run(world->loop);
    CHECK_INT(world->server_closed, 1);
    check_core_is_down();
    CHECK_INT(loop_close(world->loop), 0);
}

/* --- the server's side -------------------------------------------------------------------------- */

static inline void release_held(struct world *world)
{
    struct rpc_server_call *call = world->held;
    world->held = NULL;
    rpc_server_call_release(call);
}

static inline void on_held_closed(void *arg)
{
    struct world *world = arg;
    world->closed_events++;
    CHECK(rpc_server_call_is_cancelled(world->held));
}

static const struct rpc_call_events held_events = {.closed = on_held_closed};

static inline void send_shared(void *arg)
{
    struct world *world = arg;
    struct rpc_call *base = rpc_server_call_base(world->held);
    while (world->sent < STREAM_MESSAGES) {
        grpc_slice slice = rpc_call_slice(world->shared->data, world->shared->len, world->shared);
        int status = rpc_call_write(base, slice);
        if (status != 0) {
            CHECK_INT(status, ERR_LIMIT);
            CHECK(base->out.len <= base->limits.out_messages);
            grpc_slice_unref(slice);
            return; /* writable goes on */
        }
        world->sent++;
    }
    CHECK_INT(rpc_server_call_finish(world->held, GRPC_STATUS_OK, "", 0, NULL), 0);
    release_held(world);
}

static const struct rpc_call_events sender_events = {.writable = send_shared};

static inline void on_call(void *arg, struct rpc_server_call *call)
{
    struct world *world = arg;
    const grpc_slice *request = rpc_server_call_request(call);
    world->calls++;
    if (strcmp(rpc_server_call_method(call), "/t.S/Down") == 0) {
        world->held = call;
        rpc_server_call_set_events(call, &sender_events, world);
        send_shared(world);
    } else if (rpc_server_call_kind(call) == RPC_UNARY && GRPC_SLICE_LENGTH(*request) > 0) {
        CHECK_INT(rpc_server_call_reply(call, grpc_slice_ref(*request), NULL), 0);
        CHECK_INT(rpc_server_call_finish(call, GRPC_STATUS_INTERNAL, "", 0, NULL), ERR_CLOSED);
        rpc_server_call_release(call);
    } else {
        world->held = call;
        rpc_server_call_set_events(call, &held_events, world);
    }
}

/* --- the client's side -------------------------------------------------------------------------- */

static inline void note(struct world *world, const struct rpc_outcome *outcome)
{
    CHECK(!world->is_starting); /* never before the starting function has returned */
    CHECK((outcome->response != NULL) == (outcome->status == GRPC_STATUS_OK));
    world->replies++;
    world->last_status = (int)outcome->status;
    (void)snprintf(world->last_text, sizeof(world->last_text), "%.*s", (int)outcome->message_len,
                   outcome->message);
}

static inline void on_reply_note(void *arg, const struct rpc_outcome *outcome)
{
    note(arg, outcome);
}

static inline void on_reply_close(void *arg, const struct rpc_outcome *outcome)
{
    note(arg, outcome);
    close_both(arg);
}

static inline struct rpc_unary *call_unary(struct world *world, const char *method, const char *text,
                                           int64_t timeout_ms, rpc_unary_fn fn)
{
    struct err err;
    struct rpc_unary *unary = NULL;
    struct rpc_unary_opts opts = {
        .method = method, .request = grpc_slice_from_copied_string(text), .timeout_ms = timeout_ms};
    world->is_starting = true;
    CHECK_INT(rpc_client_unary(world->client, &opts, fn, world, &unary, &err), 0);
    world->is_starting = false;
    return unary;
}

/* Runs fn(world) once probe(world) is true; five seconds at most. */
struct until {
    struct timer *timer;
    struct world *world;
    bool (*probe)(struct world *world);
    void (*fn)(struct world *world);
    int ticks;
};

static inline void on_until(void *arg)
{
    struct until *until = arg;
    CHECK(++until->ticks < 2500);
    if (until->probe(until->world)) {
        struct world *world = until->world;
        void (*fn)(struct world *) = until->fn;
        timer_close(until->timer);
        free(until);
        fn(world);
    }
}

static inline void run_when(struct world *world, bool (*probe)(struct world *world),
                            void (*fn)(struct world *world))
{
    struct until *until = xcalloc(1, sizeof(*until));
    until->world = world;
    until->probe = probe;
    until->fn = fn;
    until->timer = timer_open(world->loop, on_until, until);
    timer_start(until->timer, 2, 2);
}

static inline bool has_held(struct world *world)
{
    return world->held != NULL;
}

static inline bool has_closed_event(struct world *world)
{
    return world->closed_events > 0;
}

static inline bool has_reply(struct world *world)
{
    return world->replies == 1;
}

static inline void release_and_close(struct world *world)
{
    release_held(world);
    close_both(world);
}

static inline void on_drained(void *arg, bool has_ended)
{
    struct world *world = arg;
    world->drained = has_ended ? 1 : 2;
}
