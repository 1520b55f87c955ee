/* Unary load on any gRPC server: N calls of a method, M in flight, as fast as they are answered. Prints one
 * line of JSON with rate and latency percentiles.
 *
 *     rpc_load --target 127.0.0.1:50051 --method /pkg.Svc/M [--calls 10000] [--in-flight 64] [--groups 1]
 *              [--request-file F | --request-hex HEX] [--first 0] [--channels 1] [--timeout-ms 30000]
 *              [--metadata key:value]... [--ok-prefix-hex HEX]
 *
 * The request is a template. In it a run of four or more '%' bytes is replaced by the number of the call, and
 * a run of four or more '~' by that number modulo --groups, in decimal, padded with zeros to the width of the
 * run: lengths in front of it stay true. --first is the number of the first call. A reply that does not begin
 * with the bytes of --ok-prefix-hex counts as failed.
 *
 * With one call in flight the answer is awaited without sleeping: its latency is the server's, not that of
 * waking this program up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "rpc/rpc_client.h"

enum { RUN_MIN = 4, CHANNELS_MAX = 64, METADATA_MAX = 16 };

#define AWAKE_NS UINT64_C(100000000) /* for one answer */

struct options {
    const char *target;
    const char *method;
    const char *metadata[METADATA_MAX];
    size_t metadata_count;
    struct buf request;
    struct buf ok_prefix;
    uint64_t calls;
    uint64_t in_flight;
    uint64_t groups;
    uint64_t first;
    uint64_t channels;
    uint64_t timeout_ms;
};

/* A call in flight. */
struct slot {
    struct load *load;
    struct rpc_client *client;
    uint64_t began_ns;
};

struct load {
    struct options opts;
    struct loop *loop;
    struct rpc_client *clients[CHANNELS_MAX];
    struct slot *slots;
    uint32_t *latencies_us;
    uint64_t started;
    uint64_t finished;
    uint64_t failed;
    char first_failure[160];
};

static void die(const char *text, const char *what)
{
    (void)fprintf(stderr, "rpc_load: %s%s\n", text, what);
    exit(2);
}

/* --- options ----------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c | 0x20);
    return at == NULL ? -1 : (int)(at - digits);
}

static void read_hex(const char *text, struct buf *out)
{
    buf_clear(out);
    for (; *text != '\0'; text += 2) {
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0) {
            die("not hexadecimal: ", text);
        }
        buf_append_byte(out, (unsigned char)(high << 4 | low));
    }
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die("cannot read ", path);
    }
    size_t count;
    do {
        count = fread(buf_reserve(out, 65536), 1, 65536, file);
        out->len += count;
    } while (count > 0);
    (void)fclose(file); /* read only */
}

static uint64_t read_number(const char *name, const char *text)
{
    uint64_t value;
    if (!num_parse_u64(text, strlen(text), &value)) {
        die("a number is expected after ", name);
    }
    return value;
}

static bool read_text_option(struct options *opts, const char *name, const char *value)
{
    if (strcmp(name, "--target") == 0) {
        opts->target = value;
    } else if (strcmp(name, "--method") == 0) {
        opts->method = value;
    } else if (strcmp(name, "--request-hex") == 0) {
        read_hex(value, &opts->request);
    } else if (strcmp(name, "--ok-prefix-hex") == 0) {
        read_hex(value, &opts->ok_prefix);
    } else if (strcmp(name, "--request-file") == 0) {
        read_file(value, &opts->request);
    } else if (strcmp(name, "--metadata") == 0 && opts->metadata_count < METADATA_MAX) {
        opts->metadata[opts->metadata_count++] = value;
    } else {
        return false;
    }
    return true;
}

static void read_options(struct options *opts, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {
        {"--calls", &opts->calls}, {"--in-flight", &opts->in_flight}, {"--groups", &opts->groups},
        {"--first", &opts->first}, {"--channels", &opts->channels},   {"--timeout-ms", &opts->timeout_ms},
    };
    *opts =
        (struct options){.calls = 10000, .in_flight = 64, .groups = 1, .channels = 1, .timeout_ms = 30000};
    for (int i = 1; i + 1 < argc; i += 2) {
        bool is_known = read_text_option(opts, argv[i], argv[i + 1]);
        for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]) && !is_known; k++) {
            if (strcmp(argv[i], numbers[k].name) == 0) {
                *numbers[k].value = read_number(argv[i], argv[i + 1]);
                is_known = true;
            }
        }
        if (!is_known) {
            die("unknown option ", argv[i]);
        }
    }
    if (argc % 2 == 0 || opts->target == NULL || opts->method == NULL) {
        die("--target HOST:PORT and --method /pkg.Svc/M are needed; see the head of the source", "");
    }
    if (opts->calls == 0 || opts->in_flight == 0 || opts->groups == 0 || opts->channels == 0 ||
        opts->channels > CHANNELS_MAX) {
        die("--calls, --in-flight, --groups and --channels (at most 64) must be at least 1", "");
    }
}

/* --- calls ------------------------------------------------------------------------------------- */

/* Replaces runs of mark in data by number, padded to the width of the run. */
static void fill(uint8_t *data, size_t len, uint8_t mark, uint64_t number)
{
    for (size_t i = 0; i < len;) {
        size_t end = i;
        while (end < len && data[end] == mark) {
            end++;
        }
        if (end - i >= RUN_MIN) {
            uint64_t rest = number;
            for (size_t k = end; k > i; k--) {
                data[k - 1] = (uint8_t)('0' + rest % 10);
                rest /= 10;
            }
        }
        i = end > i ? end : i + 1;
    }
}

static grpc_slice make_request(const struct options *opts, uint64_t number)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(opts->request.data, opts->request.len);
    fill(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), '%', number);
    fill(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), '~', number % opts->groups);
    return slice;
}

static void read_metadata(const struct options *opts, struct rpc_metadata *out)
{
    struct err err;
    rpc_metadata_init(out);
    for (size_t i = 0; i < opts->metadata_count; i++) {
        const char *colon = strchr(opts->metadata[i], ':');
        if (colon == NULL) {
            die("metadata is key:value, not ", opts->metadata[i]);
        }
        if (rpc_metadata_add(out, opts->metadata[i], (size_t)(colon - opts->metadata[i]), colon + 1,
                             strlen(colon + 1), &err) != 0) {
            die(err.text, "");
        }
    }
}

static void on_reply(void *arg, const struct rpc_outcome *outcome);

static void start_call(struct slot *slot)
{
    struct load *load = slot->load;
    const struct options *opts = &load->opts;
    struct rpc_metadata metadata;
    read_metadata(opts, &metadata);
    struct rpc_unary_opts call = {
        .method = opts->method,
        .request = make_request(opts, opts->first + load->started),
        .metadata = &metadata,
        .timeout_ms = (int64_t)opts->timeout_ms,
        .waits_for_ready = true,
    };
    struct rpc_unary *unary;
    struct err err;
    load->started++;
    slot->began_ns = loop_mono_ns();
    if (rpc_client_unary(slot->client, &call, on_reply, slot, &unary, &err) != 0) {
        die(err.text, "");
    }
    if (opts->in_flight == 1) {
        loop_stay_awake(load->loop, AWAKE_NS);
    }
}

static void note_failure(struct load *load, const struct rpc_outcome *outcome)
{
    if (load->failed++ == 0) {
        int len = outcome->message_len > 120 ? 120 : (int)outcome->message_len;
        (void)snprintf(load->first_failure, sizeof(load->first_failure), "status %d: %.*s",
                       (int)outcome->status, len, outcome->message); /* cut on purpose */
    }
}

static bool is_good(const struct options *opts, const struct rpc_outcome *outcome)
{
    return outcome->status == GRPC_STATUS_OK &&
           GRPC_SLICE_LENGTH(*outcome->response) >= opts->ok_prefix.len &&
           (opts->ok_prefix.len == 0 ||
            memcmp(GRPC_SLICE_START_PTR(*outcome->response), opts->ok_prefix.data, opts->ok_prefix.len) == 0);
}

static void on_reply(void *arg, const struct rpc_outcome *outcome)
{
    struct slot *slot = arg;
    struct load *load = slot->load;
    load->latencies_us[load->finished++] = (uint32_t)((loop_mono_ns() - slot->began_ns) / 1000);
    if (!is_good(&load->opts, outcome)) {
        note_failure(load, outcome);
    }
    if (load->started < load->opts.calls) {
        start_call(slot);
    } else if (load->finished == load->opts.calls) {
        for (uint64_t i = 0; i < load->opts.channels; i++) {
            rpc_client_close(load->clients[i], NULL, NULL);
        }
        loop_may_sleep(load->loop);
    }
}

/* --- report ------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static unsigned percentile(const struct load *load, unsigned per_mille)
{
    return load->latencies_us[(load->finished - 1) * per_mille / 1000];
}

static void print_report(struct load *load, double seconds)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for itself */
    double cpu_us = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    qsort(load->latencies_us, load->finished, sizeof(*load->latencies_us), by_value);
    for (char *p = load->first_failure; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20) {
            *p = '\'';
        }
    }
    (void)printf(
        "{\"calls\":%llu,\"failed\":%llu,\"in_flight\":%llu,\"seconds\":%.3f,\"rate\":%.0f,\"p50_us\":%u,"
        "\"p90_us\":%u,\"p99_us\":%u,\"max_us\":%u,\"client_us_per_call\":%.1f",
        (unsigned long long)load->finished, (unsigned long long)load->failed,
        (unsigned long long)load->opts.in_flight, seconds, (double)load->finished / seconds,
        percentile(load, 500), percentile(load, 900), percentile(load, 990), percentile(load, 1000),
        cpu_us / (double)load->finished);
    if (load->failed > 0) {
        (void)printf(",\"first_failure\":\"%s\"", load->first_failure);
    }
    (void)printf("}\n");
}

int main(int argc, char **argv)
{
    static struct load load;
    struct err err;
    struct loop *loop;
    read_options(&load.opts, argc, argv);
    load.latencies_us = xcalloc(load.opts.calls, sizeof(*load.latencies_us));
    load.slots = xcalloc(load.opts.in_flight, sizeof(*load.slots));
    if (loop_open(&loop, &err) != 0) {
        die(err.text, "");
    }
    const struct rpc_client_opts opts = {.target = load.opts.target,
                                         .has_own_connection = load.opts.channels > 1};
    for (uint64_t i = 0; i < load.opts.channels; i++) {
        if (rpc_client_open(loop, &opts, &load.clients[i], &err) != 0) {
            die(err.text, "");
        }
    }
    load.loop = loop;
    uint64_t began = loop_mono_ns();
    for (uint64_t i = 0; i < load.opts.in_flight && load.started < load.opts.calls; i++) {
        load.slots[i] = (struct slot){.load = &load, .client = load.clients[i % load.opts.channels]};
        start_call(&load.slots[i]);
    }
    (void)loop_run(loop);
    print_report(&load, (double)(loop_mono_ns() - began) / 1e9);
    (void)loop_close(loop);
    free(load.latencies_us);
    free(load.slots);
    buf_deinit(&load.opts.request);
    buf_deinit(&load.opts.ok_prefix);
    return load.failed == 0 ? 0 : 1;
}
