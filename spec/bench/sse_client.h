/* What the clients of event streams in this folder have in common: a connection of its own per stream, all of
 * them in one epoll, and as many of them as the machine allows. */
#pragma once

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Asks for a stream on loopback; ends the program when that fails. */
static inline int sse_open(int port, const char *path)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char request[512];
    int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    if (fd < 0 || len >= (int)sizeof(request) ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        write(fd, request, (size_t)len) != len) {
        perror("connect");
        exit(1);
    }
    return fd;
}

/* Tells an epoll to report `client` when something has arrived for it. */
static inline void sse_watch(int poll, int fd, void *client)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    (void)epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event); /* only fails on bad arguments */
}

/* Lets this process have as many connections as it may. */
static inline void sse_raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* too few: connect says so */
    }
}

/* Counts a reply head that has arrived; the last of them prints "ready" on a line of its own. */
static inline void sse_note_head(int64_t *heads, int64_t count)
{
    if (++*heads == count) {
        (void)printf("ready\n");
        (void)fflush(stdout);
    }
}
