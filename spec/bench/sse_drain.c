/* Reads server-sent events of many connections as fast as they come and counts them. Prints one line of JSON
 * when the wanted number has arrived or nothing came for a while.
 *
 *     sse_drain PORT PATH CONNECTIONS EVENTS_PER_CONNECTION
 *
 * "ready" is printed on a line of its own once every connection has its reply head. */
#include "sse_client.h"

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
    sse_raise_limit();
    int poll = epoll_create1(0);
    struct conn *conns = xcalloc((size_t)count, sizeof(*conns));
    for (int64_t i = 0; i < count; i++) {
        conns[i].fd = sse_open((int)port, argv[2]);
        sse_watch(poll, conns[i].fd, &conns[i]);
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
                sse_note_head(&heads, count);
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
