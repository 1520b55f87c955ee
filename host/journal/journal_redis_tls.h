/* TLS on a connection to Redis, for hiredis of before 1.0, which has none: OpenSSL on the connected socket,
 * whose timeouts bound every call. Blocks: for one thread at a time, never the loop's. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "redis/redis_url.h"

struct journal_redis_tls;

/* Shakes hands on fd, which stays the caller's and must outlive *out. The server must show a certificate of
 * url->ca (NULL: of the system's authorities) for url->host; ours is url->cert. ERR_INVALID: our files;
 * ERR_DENIED: its certificate; ERR_TIMEOUT and ERR_UNAVAILABLE: a later try may succeed. */
int journal_redis_tls_open(struct journal_redis_tls **out, int fd, const struct redis_url *url,
                           struct err *err);
void journal_redis_tls_close(struct journal_redis_tls *tls); /* says goodbye when it can; NULL is fine */

/* Writes all of data. ERR_TIMEOUT or ERR_UNAVAILABLE: the connection is of no more use. */
int journal_redis_tls_write(struct journal_redis_tls *tls, const void *data, size_t len, struct err *err);
/* Waits for bytes; *len is at least 1. As journal_redis_tls_write. */
int journal_redis_tls_read(struct journal_redis_tls *tls, void *data, size_t size, size_t *len,
                           struct err *err);
