/* Holds many streams of one method open, reads them as fast as they come and counts messages. Each stream
 * sends the request once and reads. Prints "ready" when every stream has --ready messages, and one line of
 * JSON when each has --messages more, or nothing came for ten seconds.
 *
 *     rpc_drain --target 127.0.0.1:50051 --method /pkg.Svc/M --request-file F --streams 100 --messages 1000
 *               [--ready 1] [--channels 1] [--metadata key:value] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "rpc/rpc_stream.h"

enum { REQUEST_MAX = 65536, CHANNELS_MAX = 64, TICK_MS = 500, IDLE_TICKS = 20 };

struct drain;

struct sub {
    struct drain *drain;
    struct rpc_stream *stream;
    uint64_t messages;
};

struct drain {
    const char *target;
    const char *method;
    const char *metadata;
    char request[REQUEST_MAX];
    size_t request_len;
    uint64_t streams;
    uint64_t wanted; /* per stream, after it is ready */
    uint64_t ready;
    uint64_t channels;
    struct rpc_client *clients[CHANNELS_MAX];
    struct sub *subs;
    struct timer *ticker;
    uint64_t ready_streams;
    uint64_t complete;
    uint64_t total; /* after every stream was ready */
    uint64_t first_ns;
    uint64_t last_ns;
    uint64_t seen_at_tick;
    int idle_ticks;
};

static void die(const char *text, const char *what)
{
    (void)fprintf(stderr, "rpc_drain: %s%s\n", text, what);
    exit(2);
}

static void finish(struct drain *drain)
{
    double seconds = (double)(drain->last_ns - drain->first_ns) / 1e9;
    (void)printf("{\"messages\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"complete\":%llu}\n",
                 (unsigned long long)drain->total, seconds, seconds > 0 ? (double)drain->total / seconds : 0,
                 (unsigned long long)drain->complete);
    (void)fflush(stdout);
    exit(drain->complete == drain->streams ? 0 : 1); /* the process is the connection's end */
}

static void count(struct sub *sub)
{
    struct drain *drain = sub->drain;
    sub->messages++;
    if (sub->messages == drain->ready && ++drain->ready_streams == drain->streams) {
        (void)puts("ready");
        (void)fflush(stdout);
    }
    if (sub->messages > drain->ready) {
        drain->last_ns = loop_mono_ns();
        drain->first_ns = drain->first_ns == 0 ? drain->last_ns : drain->first_ns;
        drain->total++;
    }
    if (sub->messages == drain->ready + drain->wanted && ++drain->complete == drain->streams) {
        finish(drain);
    }
}

static void on_readable(void *arg)
{
    struct sub *sub = arg;
    grpc_slice slice;
    enum rpc_read status;
    while ((status = rpc_stream_read(sub->stream, &slice)) == RPC_READ_MESSAGE) {
        grpc_slice_unref(slice);
        count(sub);
    }
    if (status == RPC_READ_END || status == RPC_READ_FAILED) {
        const char *message;
        size_t len;
        int code = (int)rpc_stream_status(sub->stream, &message, &len);
        (void)fprintf(stderr, "rpc_drain: a stream ended with status %d: %.*s\n", code, (int)len, message);
        exit(2);
    }
}

static void on_tick(void *arg)
{
    struct drain *drain = arg;
    drain->idle_ticks = drain->total == drain->seen_at_tick ? drain->idle_ticks + 1 : 0;
    drain->seen_at_tick = drain->total;
    if (drain->idle_ticks >= IDLE_TICKS) {
        finish(drain);
    }
}

static void read_request(struct drain *drain, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die("cannot read ", path);
    }
    drain->request_len = fread(drain->request, 1, sizeof(drain->request), file);
    (void)fclose(file); /* read only */
}

static void read_options(struct drain *drain, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {
        {"--streams", &drain->streams},
        {"--messages", &drain->wanted},
        {"--ready", &drain->ready},
        {"--channels", &drain->channels},
    };
    for (int i = 1; i + 1 < argc; i += 2) {
        bool is_known = true;
        if (strcmp(argv[i], "--target") == 0) {
            drain->target = argv[i + 1];
        } else if (strcmp(argv[i], "--method") == 0) {
            drain->method = argv[i + 1];
        } else if (strcmp(argv[i], "--metadata") == 0) {
            drain->metadata = argv[i + 1];
        } else if (strcmp(argv[i], "--request-file") == 0) {
            read_request(drain, argv[i + 1]);
        } else {
            is_known = false;
        }
        for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]) && !is_known; k++) {
            if (strcmp(argv[i], numbers[k].name) == 0) {
                is_known = num_parse_u64(argv[i + 1], strlen(argv[i + 1]), numbers[k].value);
            }
        }
        if (!is_known) {
            die("unknown option or bad value: ", argv[i]);
        }
    }
    if (drain->target == NULL || drain->method == NULL || drain->streams == 0 || drain->wanted == 0 ||
        drain->ready == 0 || drain->channels == 0 || drain->channels > CHANNELS_MAX) {
        die("see the head of the source for the options", "");
    }
}

static void open_stream(struct drain *drain, uint64_t number)
{
    static const struct rpc_call_events events = {.readable = on_readable};
    struct sub *sub = &drain->subs[number];
    struct rpc_metadata metadata;
    struct err err;
    sub->drain = drain;
    rpc_metadata_init(&metadata);
    const char *colon = drain->metadata == NULL ? NULL : strchr(drain->metadata, ':');
    if (colon != NULL && rpc_metadata_add(&metadata, drain->metadata, (size_t)(colon - drain->metadata),
                                          colon + 1, strlen(colon + 1), &err) != 0) {
        die(err.text, "");
    }
    struct rpc_stream_opts opts = {
        .method = drain->method,
        .metadata = &metadata,
        .waits_for_ready = true,
    };
    struct rpc_client *client = drain->clients[number % drain->channels];
    if (rpc_stream_open(client, &opts, &events, sub, &sub->stream, &err) != 0) {
        die(err.text, "");
    }
    grpc_slice request = grpc_slice_from_copied_buffer(drain->request, drain->request_len);
    if (rpc_call_write(rpc_stream_base(sub->stream), request) != 0) {
        die("the request is not accepted", "");
    }
}

int main(int argc, char **argv)
{
    static struct drain drain = {.ready = 1, .channels = 1};
    struct err err;
    struct loop *loop;
    read_options(&drain, argc, argv);
    if (loop_open(&loop, &err) != 0) {
        die(err.text, "");
    }
    const struct rpc_client_opts opts = {.target = drain.target, .has_own_connection = drain.channels > 1};
    for (uint64_t i = 0; i < drain.channels; i++) {
        if (rpc_client_open(loop, &opts, &drain.clients[i], &err) != 0) {
            die(err.text, "");
        }
    }
    drain.subs = xcalloc(drain.streams, sizeof(*drain.subs));
    for (uint64_t i = 0; i < drain.streams; i++) {
        open_stream(&drain, i);
    }
    drain.ticker = timer_open(loop, on_tick, &drain);
    timer_start(drain.ticker, TICK_MS, TICK_MS);
    (void)loop_run(loop); /* finish exits */
    return 1;
}
