/* Unary echoes per second of this gRPC server with a C handler: the yardstick for everything served over it.
 * The server runs in a process of its own. Prints one line of JSON.
 *
 *     rpc_echo [calls [in_flight [bytes]]]        default 100000 64 200
 *     rpc_echo serve ADDRESS                      only the server: /bench.Echo/Echo, until killed */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "rpc/rpc_client.h"
#include "rpc/rpc_server.h"

static const char method[] = "/bench.Echo/Echo";

static double cpu_seconds(int who)
{
    struct rusage usage;
    (void)getrusage(who, &usage); /* cannot fail for these two */
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* --- the server's process ---------------------------------------------------------------------- */

static void on_call(void *arg, struct rpc_server_call *call)
{
    (void)rpc_server_call_reply(call, grpc_slice_ref(*rpc_server_call_request(call)),
                                NULL); /* gone is gone */
    rpc_server_call_release(call);
}

static int serve(const char *address, int ready_fd)
{
    struct err err;
    struct loop *loop;
    struct rpc_server *server;
    const struct rpc_method_opts methods[] = {{.name = method, .kind = RPC_UNARY}};
    const struct rpc_server_opts opts = {
        .address = address, .methods = methods, .method_count = 1, .max_concurrent_streams = 4096};
    if (loop_open(&loop, &err) != 0 || rpc_server_open(loop, &opts, &server, &err) != 0) {
        (void)fprintf(stderr, "rpc_echo: %s\n", err.text);
        return 1;
    }
    rpc_server_serve(server, on_call, NULL);
    int port = rpc_server_port(server);
    if (ready_fd >= 0 && write(ready_fd, &port, sizeof(port)) != sizeof(port)) {
        return 1;
    }
    return loop_run(loop); /* until killed */
}

/* --- the client ---------------------------------------------------------------------------------- */

struct run {
    struct rpc_client *client;
    grpc_slice request;
    uint64_t calls;
    uint64_t started;
    uint64_t finished;
    uint64_t failed;
};

static void on_reply(void *arg, const struct rpc_outcome *outcome);

static void start_call(struct run *run)
{
    struct err err;
    struct rpc_unary *unary;
    struct rpc_unary_opts opts = {
        .method = method, .request = grpc_slice_ref(run->request), .waits_for_ready = true};
    run->started++;
    if (rpc_client_unary(run->client, &opts, on_reply, run, &unary, &err) != 0) {
        (void)fprintf(stderr, "rpc_echo: %s\n", err.text);
        exit(1);
    }
}

static void on_reply(void *arg, const struct rpc_outcome *outcome)
{
    struct run *run = arg;
    run->finished++;
    run->failed += outcome->status != GRPC_STATUS_OK || !grpc_slice_eq(*outcome->response, run->request);
    if (run->started < run->calls) {
        start_call(run);
    } else if (run->finished == run->calls) {
        rpc_client_close(run->client, NULL, NULL);
    }
}

static uint64_t number(int argc, char **argv, int index, uint64_t def)
{
    uint64_t value = def;
    if (argc > index && (!num_parse_u64(argv[index], strlen(argv[index]), &value) || value == 0)) {
        (void)fprintf(stderr, "usage: rpc_echo [calls [in_flight [bytes]]] | serve ADDRESS\n");
        exit(2);
    }
    return value;
}

static void measure(struct run *run, int port, uint64_t in_flight)
{
    struct err err;
    struct loop *loop;
    char target[32];
    (void)snprintf(target, sizeof(target), "127.0.0.1:%d", port); /* fits */
    const struct rpc_client_opts opts = {.target = target};
    if (loop_open(&loop, &err) != 0 || rpc_client_open(loop, &opts, &run->client, &err) != 0) {
        (void)fprintf(stderr, "rpc_echo: %s\n", err.text);
        exit(1);
    }
    for (uint64_t i = 0; i < in_flight && run->started < run->calls; i++) {
        start_call(run);
    }
    (void)loop_run(loop);
    (void)loop_close(loop);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        return serve(argv[2], -1);
    }
    struct run run = {.calls = number(argc, argv, 1, 100000)};
    uint64_t in_flight = number(argc, argv, 2, 64);
    size_t bytes = number(argc, argv, 3, 200);
    int fds[2];
    if (pipe(fds) != 0) {
        perror("rpc_echo");
        return 1;
    }
    pid_t child = fork(); /* before the gRPC core starts */
    if (child == 0) {
        return serve("127.0.0.1:0", fds[1]);
    }
    int port = 0;
    if (child < 0 || read(fds[0], &port, sizeof(port)) != sizeof(port)) {
        (void)fprintf(stderr, "rpc_echo: the server did not start\n");
        return 1;
    }
    run.request = grpc_slice_malloc(bytes);
    memset(GRPC_SLICE_START_PTR(run.request), 'x', bytes);
    uint64_t began = loop_mono_ns();
    measure(&run, port, in_flight);
    double seconds = (double)(loop_mono_ns() - began) / 1e9;
    (void)kill(child, SIGKILL); /* it has no way out of its loop */
    (void)waitpid(child, NULL, 0);
    (void)printf(
        "{\"calls\":%llu,\"failed\":%llu,\"in_flight\":%llu,\"bytes\":%zu,\"seconds\":%.3f,\"rate\":%.0f,"
        "\"client_us_per_call\":%.1f,\"server_us_per_call\":%.1f}\n",
        (unsigned long long)run.calls, (unsigned long long)run.failed, (unsigned long long)in_flight, bytes,
        seconds, (double)run.calls / seconds, cpu_seconds(RUSAGE_SELF) * 1e6 / (double)run.calls,
        cpu_seconds(RUSAGE_CHILDREN) * 1e6 / (double)run.calls);
    grpc_slice_unref(run.request);
    return run.failed == 0 ? 0 : 1;
}
