/* Many clients of event streams, spread over several paths: counts what each receives and how old it is.
 * Clocks are those of this machine: a message whose id is `t` and the milliseconds since the epoch at its
 * emission is timed.
 *
 *     sse_crowd PORT PATHS_FILE CONNECTIONS EVENTS_PER_CONNECTION
 *
 * Connection i reads line i of the file, modulo their number. "ready" is printed on a line of its own once
 * every connection has its reply head, then one line of JSON when all events have arrived or nothing came for
 * a while. */
#include "sse_client.h"

#include <time.h>

#include "base/num.h"
#include "base/xmem.h"

enum { BUFFER = 1 << 18, CARRY = 64, IDLE_MS = 15000, AGES = 60000, DIGITS = 13, MAX_PATHS = 100000 };

static const char event_mark[] = "event: canonical_event\n";
static const char time_mark[] = "\"messageId\":\"t";

struct client {
    int fd;
    int has_head;
    unsigned long events;
    size_t carried; /* bytes of carry: the end of what has been read, without a whole mark */
    char carry[CARRY];
};

struct tally {
    unsigned long events;
    unsigned long timed;
    unsigned long ages[AGES + 1]; /* by milliseconds; the last one: older */
};

static long now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* only fails on bad arguments */
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

static void note_age(struct tally *tally, const char *digits)
{
    int64_t sent_ms;
    if (num_parse_i64(digits, DIGITS, &sent_ms)) {
        long age = now_ms() - (long)sent_ms;
        age = age < 0 ? 0 : age;
        tally->ages[age > AGES ? AGES : age]++;
        tally->timed++;
    }
}

/* Looks for marks in data; returns how many bytes at its end must be seen again with what follows. */
static size_t scan(struct client *client, struct tally *tally, const char *data, size_t len)
{
    const size_t longest = sizeof(time_mark) - 1 + DIGITS;
    size_t done = 0; /* everything before was looked at */
    for (const char *at = data; (at = memchr(at, 'e', len - (size_t)(at - data))) != NULL; at++) {
        const size_t left = len - (size_t)(at - data);
        if (left >= sizeof(event_mark) - 1 && memcmp(at, event_mark, sizeof(event_mark) - 1) == 0) {
            client->events++;
            tally->events++;
            done = (size_t)(at - data) + sizeof(event_mark) - 1;
        }
        const size_t into = 2; /* the first e of "messageId" */
        if ((size_t)(at - data) >= into + done && left + into >= longest &&
            memcmp(at - into, time_mark, sizeof(time_mark) - 1) == 0) {
            note_age(tally, at - into + sizeof(time_mark) - 1);
            done = (size_t)(at - data) + 1;
        }
    }
    const size_t keep = longest - 1 < CARRY ? longest - 1 : CARRY;
    size_t from = len > keep ? len - keep : 0;
    from = from < done ? done : from;
    return len - from;
}

static void take(struct client *client, struct tally *tally, char *buffer, size_t got)
{
    /* buffer has room for CARRY bytes before what was read */
    char *begin = buffer + CARRY - client->carried;
    memcpy(begin, client->carry, client->carried);
    const size_t len = client->carried + got;
    client->carried = scan(client, tally, begin, len);
    memcpy(client->carry, begin + len - client->carried, client->carried);
}

static size_t read_paths(const char *name, char **paths)
{
    FILE *file = fopen(name, "re");
    char line[512];
    size_t count = 0;
    if (file == NULL) {
        perror(name);
        exit(1);
    }
    while (count < MAX_PATHS && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        paths[count++] = xstrdup(line);
    }
    (void)fclose(file); /* only read */
    return count;
}

static long percentile(const struct tally *tally, double share)
{
    unsigned long seen = 0;
    for (int i = 0; i <= AGES; i++) {
        seen += tally->ages[i];
        if (seen > 0 && (double)seen >= share * (double)tally->timed) {
            return i;
        }
    }
    return AGES;
}

/* Reply heads, so far and in all. */
struct heads {
    int64_t arrived;
    int64_t wanted;
};

/* One reading of a client that has something; 1 when it is finished now. */
static int serve(struct client *client, struct tally *tally, char *buffer, unsigned long wanted,
                 struct heads *heads, int poll)
{
    const ssize_t got = read(client->fd, buffer + CARRY, BUFFER);
    if (got <= 0) {
        (void)epoll_ctl(poll, EPOLL_CTL_DEL, client->fd, NULL); /* it is in there */
        return 1;
    }
    if (!client->has_head) {
        client->has_head = 1;
        sse_note_head(&heads->arrived, heads->wanted);
    }
    const unsigned long before = client->events;
    take(client, tally, buffer, (size_t)got);
    return before < wanted && client->events >= wanted;
}

int main(int argc, char **argv)
{
    int64_t port;
    int64_t count;
    int64_t wanted;
    if (argc != 5 || !num_parse_i64(argv[1], strlen(argv[1]), &port) ||
        !num_parse_i64(argv[3], strlen(argv[3]), &count) ||
        !num_parse_i64(argv[4], strlen(argv[4]), &wanted)) {
        (void)fprintf(stderr, "usage: sse_crowd PORT PATHS_FILE CONNECTIONS EVENTS_PER_CONNECTION\n");
        return 3;
    }
    sse_raise_limit();
    char **paths = xcalloc(MAX_PATHS, sizeof(*paths));
    const size_t path_count = read_paths(argv[2], paths);
    if (path_count == 0) {
        (void)fprintf(stderr, "%s: no paths\n", argv[2]);
        return 3;
    }
    int poll = epoll_create1(0);
    struct client *clients = xcalloc((size_t)count, sizeof(*clients));
    struct tally *tally = xcalloc(1, sizeof(*tally));
    for (int64_t i = 0; i < count; i++) {
        clients[i].fd = sse_open((int)port, paths[(size_t)i % path_count]);
        sse_watch(poll, clients[i].fd, &clients[i]);
    }
    char *buffer = xmalloc(BUFFER + CARRY);
    struct heads heads = {.wanted = count};
    int64_t finished = 0;
    while (finished < count) {
        struct epoll_event events[64];
        int n = epoll_wait(poll, events, 64, IDLE_MS);
        if (n <= 0) {
            break;
        }
        for (int i = 0; i < n; i++) {
            finished += serve(events[i].data.ptr, tally, buffer, (unsigned long)wanted, &heads, poll);
        }
    }
    int64_t complete = 0;
    for (int64_t i = 0; i < count; i++) {
        complete += clients[i].events == (unsigned long)wanted;
    }
    (void)printf("{\"events\":%lu,\"complete\":%lld,\"timed\":%lu,\"p50\":%ld,\"p99\":%ld}\n", tally->events,
                 (long long)complete, tally->timed, percentile(tally, 0.5), percentile(tally, 0.99));
    return 0;
}
