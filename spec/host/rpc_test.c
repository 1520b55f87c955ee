/* host/rpc over loopback, server and client on one loop. Every case ends with the gRPC core shut down: a
 * call, channel or server that was not given back would keep it alive. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
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

static void on_call(void *arg, struct rpc_server_call *call);

static void open_world(struct world *world, const struct rpc_call_limits *limits)
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

static void on_server_closed(void *arg)
{
    ((struct world *)arg)->server_closed++;
}

static void close_both(struct world *world)
{
    rpc_client_close(world->client, NULL, NULL);
    rpc_server_close(world->server, on_server_closed, world);
}

/* Threads of the core may still let go of the last channel when we are done; a leak never ends. */
static void check_core_is_down(void)
{
    for (int i = 0; i < 2000 && grpc_is_initialized(); i++) {
        usleep(1000);
    }
    CHECK_INT(grpc_is_initialized(), 0);
}

/* Runs until nothing is left, then checks that nothing is. */
static void end_world(struct world *world)
{
    (void)loop_run(world->loop);
    CHECK_INT(world->server_closed, 1);
    check_core_is_down();
    CHECK_INT(loop_close(world->loop), 0);
}

/* --- the server's side -------------------------------------------------------------------------- */

static void release_held(struct world *world)
{
    struct rpc_server_call *call = world->held;
    world->held = NULL;
    rpc_server_call_release(call);
}

static void on_held_closed(void *arg)
{
    struct world *world = arg;
    world->closed_events++;
    CHECK(rpc_server_call_is_cancelled(world->held));
}

static const struct rpc_call_events held_events = {.closed = on_held_closed};

static void send_shared(void *arg)
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

static void on_call(void *arg, struct rpc_server_call *call)
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

static void note(struct world *world, const struct rpc_outcome *outcome)
{
    CHECK(!world->is_starting); /* never before the starting function has returned */
    CHECK((outcome->response != NULL) == (outcome->status == GRPC_STATUS_OK));
    world->replies++;
    world->last_status = (int)outcome->status;
    (void)snprintf(world->last_text, sizeof(world->last_text), "%.*s", (int)outcome->message_len,
                   outcome->message);
}

static void on_reply_note(void *arg, const struct rpc_outcome *outcome)
{
    note(arg, outcome);
}

static void on_reply_close(void *arg, const struct rpc_outcome *outcome)
{
    note(arg, outcome);
    close_both(arg);
}

static struct rpc_unary *call_unary(struct world *world, const char *method, const char *text,
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

static void on_until(void *arg)
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

static void run_when(struct world *world, bool (*probe)(struct world *world), void (*fn)(struct world *world))
{
    struct until *until = xcalloc(1, sizeof(*until));
    until->world = world;
    until->probe = probe;
    until->fn = fn;
    until->timer = timer_open(world->loop, on_until, until);
    timer_start(until->timer, 2, 2);
}

static bool has_held(struct world *world)
{
    return world->held != NULL;
}

static bool has_closed_event(struct world *world)
{
    return world->closed_events > 0;
}

static bool has_reply(struct world *world)
{
    return world->replies == 1;
}

static void release_and_close(struct world *world)
{
    release_held(world);
    close_both(world);
}

/* --- cases -------------------------------------------------------------------------------------- */

TEST(starts_and_stops_the_core)
{
    struct world world;
    open_world(&world, NULL);
    CHECK(grpc_is_initialized() != 0);
    close_both(&world);
    end_world(&world);
}

TEST(echoes)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "hello", 0, on_reply_close);
    end_world(&world);
    CHECK_INT(world.replies, 1);
    CHECK_INT(world.last_status, GRPC_STATUS_OK);
}

TEST(says_which_method_is_unknown)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Nothing", "x", 0, on_reply_close);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_UNIMPLEMENTED);
    CHECK_STR(world.last_text, "unknown method /t.S/Nothing");
    CHECK_INT(world.calls, 0);
}

TEST(refuses_bad_arguments)
{
    struct world world;
    struct err err;
    struct rpc_unary *unary;
    struct rpc_metadata metadata;
    open_world(&world, NULL);
    struct rpc_unary_opts opts = {.method = "no-slash", .request = grpc_slice_from_copied_string("x")};
    CHECK_INT(rpc_client_unary(world.client, &opts, on_reply_note, &world, &unary, &err), ERR_INVALID);
    rpc_metadata_init(&metadata);
    CHECK_INT(rpc_metadata_add(&metadata, "Key", 3, "v", 1, &err), ERR_INVALID);
    CHECK_INT(rpc_metadata_add(&metadata, ":path", 5, "v", 1, &err), ERR_INVALID);
    CHECK_INT(rpc_metadata_add(&metadata, "grpc-timeout", 12, "1S", 2, &err), ERR_INVALID);
    CHECK_INT(rpc_metadata_add(&metadata, "te", 2, "x", 1, &err), ERR_INVALID);
    CHECK_INT(rpc_metadata_add(&metadata, "key", 3, "\x80", 1, &err), ERR_INVALID);
    CHECK_INT(metadata.count, 0);
    CHECK_INT(rpc_metadata_add(&metadata, "key-bin", 7, "\x80\0", 2, &err), 0);
    CHECK_INT(metadata.count, 1);
    rpc_metadata_deinit(&metadata);
    close_both(&world);
    opts = (struct rpc_unary_opts){.method = "/t.S/Unary", .request = grpc_slice_from_copied_string("x")};
    CHECK_INT(rpc_client_unary(world.client, &opts, on_reply_note, &world, &unary, &err), ERR_CLOSED);
    end_world(&world);
    CHECK_INT(world.replies, 0);
}

TEST(tells_the_handler_about_a_deadline)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "", 50, on_reply_note); /* an empty request is held */
    run_when(&world, has_closed_event, release_and_close);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_DEADLINE_EXCEEDED);
}

static struct rpc_unary *pending;

static void cancel_pending(struct world *world)
{
    rpc_unary_cancel(pending);
    rpc_unary_cancel(pending); /* harmless */
    run_when(world, has_closed_event, release_and_close);
}

TEST(tells_the_handler_about_a_cancel)
{
    struct world world;
    open_world(&world, NULL);
    pending = call_unary(&world, "/t.S/Unary", "", 0, on_reply_note);
    run_when(&world, has_held, cancel_pending);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_CANCELLED);
    CHECK_INT(world.replies, 1);
}

TEST(answers_for_a_handler_that_does_not)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "", 0, on_reply_close);
    run_when(&world, has_held, release_held);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_INTERNAL);
    CHECK_INT(world.closed_events, 0);
}

TEST(closes_with_a_live_call)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "", 0, on_reply_note);
    run_when(&world, has_held, close_both);
    run_when(&world, has_closed_event, release_held);
    end_world(&world);
    CHECK_INT(world.replies, 1);
}

static void on_drained(void *arg, bool has_ended)
{
    struct world *world = arg;
    world->drained = has_ended ? 1 : 2;
}

static bool has_drained(struct world *world)
{
    return world->drained != 0;
}

static void close_server(struct world *world)
{
    rpc_server_close(world->server, on_server_closed, world);
}

static void on_reply_close_client(void *arg, const struct rpc_outcome *outcome)
{
    struct world *world = arg;
    note(world, outcome);
    rpc_client_close(world->client, NULL, NULL);
}

static void drain_briefly(struct world *world)
{
    rpc_server_drain(world->server, 30, on_drained, world);
    run_when(world, has_drained, close_server);
    run_when(world, has_closed_event, release_held);
}

TEST(gives_up_draining_after_the_grace)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "", 0, on_reply_close_client);
    run_when(&world, has_held, drain_briefly);
    end_world(&world);
    CHECK_INT(world.drained, 2);
    CHECK_INT(world.last_status, GRPC_STATUS_UNAVAILABLE);
}

static void close_while_draining(struct world *world)
{
    rpc_server_drain(world->server, 60000, on_drained, world);
    close_both(world);
    run_when(world, has_closed_event, release_held);
}

TEST(ends_a_drain_when_closed)
{
    struct world world;
    open_world(&world, NULL);
    (void)call_unary(&world, "/t.S/Unary", "", 0, on_reply_note);
    run_when(&world, has_held, close_while_draining);
    end_world(&world);
    CHECK_INT(world.drained, 1);
}

/* --- streams ------------------------------------------------------------------------------------ */

static void on_readable(void *arg)
{
    struct world *world = arg;
    grpc_slice slice;
    enum rpc_read state;
    world->readable_events++;
    while ((state = rpc_stream_read(world->stream, &slice)) == RPC_READ_MESSAGE) {
        CHECK_INT(GRPC_SLICE_LENGTH(slice), world->shared->len);
        CHECK(memcmp(GRPC_SLICE_START_PTR(slice), world->shared->data, world->shared->len) == 0);
        grpc_slice_unref(slice);
        world->messages++;
    }
    if (state != RPC_READ_EMPTY) {
        CHECK_INT(state, RPC_READ_END);
        CHECK(rpc_stream_has_headers(world->stream));
        rpc_stream_release(world->stream);
        world->stream = NULL;
        close_both(world);
    }
}

static void on_stream_closed(void *arg)
{
    struct world *world = arg;
    if (world->stream != NULL) {
        on_readable(world);
    }
}

static const struct rpc_call_events reader_events = {.readable = on_readable, .closed = on_stream_closed};

static void open_stream(struct world *world, const char *method, bool has_request,
                        const struct rpc_call_events *events)
{
    struct err err;
    struct rpc_stream_opts opts = {.method = method, .has_request = has_request};
    if (has_request) {
        opts.request = grpc_slice_from_copied_string("go");
    }
    CHECK_INT(rpc_stream_open(world->client, &opts, events, world, &world->stream, &err), 0);
}

static void fill_shared(struct world *world, size_t len)
{
    world->shared = bytes_alloc(len);
    memset(world->shared->data, 'm', len);
}

TEST(streams_shared_bytes_through_a_bounded_queue)
{
    struct world world;
    const struct rpc_call_limits limits = {.out_messages = 8};
    open_world(&world, &limits);
    fill_shared(&world, 300);
    open_stream(&world, "/t.S/Down", true, &reader_events);
    end_world(&world);
    CHECK_INT(world.messages, STREAM_MESSAGES);
    CHECK_INT(world.shared->refs, 1); /* every slice has given its reference back */
    bytes_unref(world.shared);
}

static void on_live_stream_ended(void *arg)
{
    struct world *world = arg;
    grpc_slice slice;
    const char *message;
    size_t len;
    if (world->stream == NULL || rpc_stream_read(world->stream, &slice) == RPC_READ_EMPTY) {
        return; /* the end and the status may come in any order */
    }
    CHECK_INT(rpc_stream_read(world->stream, &slice), RPC_READ_FAILED);
    world->last_status = (int)rpc_stream_status(world->stream, &message, &len);
    rpc_stream_release(world->stream);
    world->stream = NULL;
    close_both(world);
}

static const struct rpc_call_events ended_events = {.closed = on_live_stream_ended,
                                                    .readable = on_live_stream_ended};

static void drain_streams(struct world *world)
{
    rpc_server_drain(world->server, 5000, on_drained, world);
    run_when(world, has_closed_event, release_held);
}

TEST(drains_live_streams)
{
    struct world world;
    open_world(&world, NULL);
    open_stream(&world, "/t.S/Both", false, &ended_events);
    run_when(&world, has_held, drain_streams);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_UNAVAILABLE);
    CHECK_INT(world.drained, 1);
}

static void release_stream(struct world *world)
{
    rpc_stream_release(world->stream); /* cancels it; no event may follow */
    run_when(world, has_closed_event, release_and_close);
}

TEST(releases_a_live_stream)
{
    struct world world;
    open_world(&world, NULL);
    open_stream(&world, "/t.S/Both", false, &ended_events);
    run_when(&world, has_held, release_stream);
    end_world(&world);
    CHECK_INT(world.last_status, 0);
}

/* --- trouble ------------------------------------------------------------------------------------ */

TEST(leaves_nothing_when_it_cannot_listen)
{
    struct err err;
    struct loop *loop;
    struct rpc_server *server = NULL;
    CHECK_INT(loop_open(&loop, &err), 0);
    const struct rpc_server_opts bad_address = {
        .address = "256.0.0.1:x", .methods = methods, .method_count = 3};
    CHECK_INT(rpc_server_open(loop, &bad_address, &server, &err), ERR_UNAVAILABLE);
    CHECK(strstr(err.text, "256.0.0.1:x") != NULL);
    const struct rpc_method_opts twice[] = {methods[0], methods[0]};
    const struct rpc_server_opts bad_methods = {
        .address = "127.0.0.1:0", .methods = twice, .method_count = 2};
    CHECK_INT(rpc_server_open(loop, &bad_methods, &server, &err), ERR_INVALID);
    (void)loop_run(loop);
    check_core_is_down();
    CHECK_INT(loop_close(loop), 0);
}

static int send_raw(int port, const void *data, size_t len)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    CHECK_INT(send(fd, data, len, MSG_NOSIGNAL), len);
    return fd;
}

TEST(survives_peers_that_do_not_speak_the_protocol)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char half[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x01\0\0\0\0\x01garbage";
    struct world world;
    int fds[3];
    unsigned char noise[4096];
    open_world(&world, NULL);
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (unsigned char)(i * 2654435761u >> 7);
    }
    int port = rpc_server_port(world.server);
    fds[0] = send_raw(port, http, sizeof(http) - 1);
    fds[1] = send_raw(port, half, sizeof(half) - 1);
    fds[2] = send_raw(port, noise, sizeof(noise));
    (void)call_unary(&world, "/t.S/Unary", "still here", 0, on_reply_close);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_OK);
    for (int i = 0; i < 3; i++) {
        (void)close(fds[i]);
    }
}

TEST(fails_fast_without_a_server)
{
    struct world world;
    struct err err;
    open_world(&world, NULL);
    rpc_client_close(world.client, NULL, NULL);
    const struct rpc_client_opts opts = {.target = "127.0.0.1:1", .has_own_connection = true};
    CHECK_INT(rpc_client_open(world.loop, &opts, &world.client, &err), 0);
    CHECK_INT(rpc_client_state(world.client), RPC_STATE_IDLE);
    (void)call_unary(&world, "/t.S/Unary", "x", 0, on_reply_note);
    run_when(&world, has_reply, close_both);
    end_world(&world);
    CHECK_INT(world.last_status, GRPC_STATUS_UNAVAILABLE);
}

int main(void)
{
    RUN(starts_and_stops_the_core);
    RUN(starts_and_stops_the_core); /* again in the same process */
    RUN(echoes);
    RUN(says_which_method_is_unknown);
    RUN(refuses_bad_arguments);
    RUN(tells_the_handler_about_a_deadline);
    RUN(tells_the_handler_about_a_cancel);
    RUN(answers_for_a_handler_that_does_not);
    RUN(closes_with_a_live_call);
    RUN(gives_up_draining_after_the_grace);
    RUN(ends_a_drain_when_closed);
    RUN(streams_shared_bytes_through_a_bounded_queue);
    RUN(drains_live_streams);
    RUN(releases_a_live_stream);
    RUN(leaves_nothing_when_it_cannot_listen);
    RUN(survives_peers_that_do_not_speak_the_protocol);
    RUN(fails_fast_without_a_server);
    return 0;
}
