/* host/rpc over loopback: calls and answers, closing and draining, peers that make trouble. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "rpc_help.h"

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
    RUN(leaves_nothing_when_it_cannot_listen);
    RUN(survives_peers_that_do_not_speak_the_protocol);
    RUN(fails_fast_without_a_server);
    return 0;
}
