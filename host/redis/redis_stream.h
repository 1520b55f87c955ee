/* Bytes to and from a Redis server: connecting by name, address or unix socket, with TLS when the URL says
 * so. Loop thread only, nothing blocks but the reading of certificate files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "redis/redis_url.h"

struct loop;
struct redis_stream;

/* May call redis_stream_close. */
struct redis_stream_events {
    void (*on_open)(void *arg); /* connected, hands shaken; it is not read from until redis_stream_read */
    void (*on_bytes)(void *arg, const char *data, size_t len);
    void (*on_lost)(void *arg, const struct err *err); /* could not connect, or broke; nothing follows */
};

/* Starts to connect. url and events are kept. NULL: the files of the URL (ERR_INVALID), or no socket. */
struct redis_stream *redis_stream_open(struct loop *loop, const struct redis_url *url,
                                       const struct redis_stream_events *events, void *arg, struct err *err);
void redis_stream_close(struct redis_stream *stream); /* no event follows; NULL is fine */

/* Takes bytes from the socket, or leaves them there. */
void redis_stream_read(struct redis_stream *stream, bool is_wanted);
/* Sends a copy of data, once the stream is open. */
void redis_stream_write(struct redis_stream *stream, const char *data, size_t len);
size_t redis_stream_unsent(const struct redis_stream *stream); /* bytes that the kernel has not taken yet */
