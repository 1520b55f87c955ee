/* What connections to Redis with TLS have in common: hiredis of before 1.0 has none, so OpenSSL sits on its
 * sockets (journal/journal_redis_tls.c, which blocks) or between them and its parser (redis_conn.c, which
 * does not). */
#pragma once

#include <openssl/ssl.h>

#include "base/err.h"
#include "redis/redis_url.h"

/* A client's end of a connection to url->host, not connected to anything yet: TLS 1.2 at least, a certificate
 * of url->ca (NULL: of the system's authorities) for that host is demanded, ours is url->cert. Blocks while
 * it reads the files. The caller frees *out with SSL_free. ERR_INVALID: the files. */
int redis_tls_new(SSL **out, const struct redis_url *url, struct err *err);

/* What OpenSSL says, the cause; its queue is empty afterwards. Never NULL. */
const char *redis_tls_reason(void);

/* A handshake failed: true and err filled (ERR_DENIED) when the server's certificate is why. */
bool redis_tls_is_refused(const SSL *ssl, struct err *err);
