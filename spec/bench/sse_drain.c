/* Reads server-sent events of many connections as fast as they come and counts them. Prints one line of JSON
 * when the wanted number has arrived or nothing came for a while.
 *
 *     sse_drain PORT PATH CONNECTIONS EVENTS_PER_CONNECTION
 *
 * "ready" is printed on a line of its own once every connection has its reply head. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"
#include "base/xmem.h"
#include "loop/loop.h"

enum { BUFFER = 1 << 18, IDLE_MS = 10000, MARK_MAX = 32 };

static const char mark[] = "event: canonical_event";

struct conn {
    int fd;
    size_t matched; /* bytes of mark seen at the end of what has arrived */
    int has_head;
    unsigned long events;
};

/* Counts marks in a stream of pieces. The mark starts with a byte that does not occur again in it at a useful
 * place, so a mismatch restarts at that byte. */
static void count_marks(struct conn *conn, const char *data, size_t len)
{
    const size_t mark_len = sizeof(mark) - 1;
    size_t i = 0;
    while (i < len) {
        if (conn->matched == 0) {
            const char *at = memchr(data + i, '\n', len - i);
            if (at == NULL) {
                return;
            }
            i = (size_t)(at - data) + 1;
            conn->matched = 1; /* one more than the bytes of mark that matched: the newline */
            continue;
        }
        if (data[i] == mark[conn->matched - 1]) {
            conn->matched++;
            i++;
            if (conn->matched - 1 == mark_len) {
                conn->events++;
                conn->matched = 0;
            }
        } else {
            conn->matched = 0; /* this byte may itself be a newline: it is looked at again */
        }
    }
}

static int open_stream(int port, const char *path)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char request[512];
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        write(fd, request, (size_t)len) != len) {
        perror("connect");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    int64_t port;
    int64_t count;
    int64_t wanted;
    if (argc != 5 || !num_parse_i64(argv[1], strlen(argv[1]), &port) ||
        !num_parse_i64(argv[3], strlen(argv[3]), &count) ||
        !num_parse_i64(argv[4], strlen(argv[4]), &wanted)) {
        (void)fprintf(stderr, "usage: sse_drain PORT PATH CONNECTIONS EVENTS_PER_CONNECTION\n");
        return 3;
    }
    int poll = epoll_create1(0);
    struct conn *conns = xcalloc((size_t)count, sizeof(*conns));
    for (int64_t i = 0; i < count; i++) {
        conns[i].fd = open_stream((int)port, argv[2]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &conns[i]};
        (void)epoll_ctl(poll, EPOLL_CTL_ADD, conns[i].fd, &event); /* only fails on bad arguments */
    }
    char *buffer = xmalloc(BUFFER);
    int64_t heads = 0;
    int64_t complete = 0;
    unsigned long total = 0;
    uint64_t first_ns = 0;
    uint64_t last_ns = 0;
    while (complete < count) {
        struct epoll_event events[64];
        int n = epoll_wait(poll, events, 64, IDLE_MS);
        if (n <= 0) {
            break;
        }
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            ssize_t got = read(conn->fd, buffer, BUFFER);
            if (got <= 0) {
                (void)epoll_ctl(poll, EPOLL_CTL_DEL, conn->fd, NULL);
                complete++;
                continue;
            }
            if (!conn->has_head) {
                conn->has_head = 1;
                if (++heads == count) {
                    (void)printf("ready\n");
                    (void)fflush(stdout);
                }
            }
            unsigned long before = conn->events;
            count_marks(conn, buffer, (size_t)got);
            if (conn->events > before) {
                last_ns = loop_mono_ns();
                first_ns = first_ns == 0 ? last_ns : first_ns;
                total += conn->events - before;
                if (before < (unsigned long)wanted && conn->events >= (unsigned long)wanted) {
                    complete++;
                }
            }
        }
    }
    double seconds = (double)(last_ns - first_ns) / 1e9;
    (void)printf("{\"events\":%lu,\"seconds\":%.3f,\"rate\":%.0f,\"complete\":%lld}\n", total, seconds,
                 seconds > 0 ? (double)total / seconds : 0, (long long)complete);
    return 0;
}
