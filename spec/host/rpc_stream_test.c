/* host/rpc over loopback: streams, bounded queues, and streams that live when the server drains. */
#include "rpc_help.h"

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

int main(void)
{
    RUN(streams_shared_bytes_through_a_bounded_queue);
    RUN(drains_live_streams);
    RUN(releases_a_live_stream);
    return 0;
}
