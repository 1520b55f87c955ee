/* TLS to Redis; see journal_redis_tls.h. */
#include "journal/journal_redis_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "redis/redis_tls.h"

struct journal_redis_tls {
    SSL *ssl;
    bool is_broken; /* nothing may be said any more */
};

/* An operation did not succeed. */
static int fail(struct journal_redis_tls *tls, int result, const char *what, struct err *err)
{
    int saved = errno;
    int kind = SSL_get_error(tls->ssl, result);
    tls->is_broken = true;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        return err_set(err, ERR_TIMEOUT, "%s: no answer in time", what);
    }
    if (kind == SSL_ERROR_SSL) {
        return err_set(err, ERR_UNAVAILABLE, "%s: TLS: %s", what, redis_tls_reason());
    }
    ERR_clear_error();
    return err_set(err, ERR_UNAVAILABLE, "%s: %s", what,
                   kind == SSL_ERROR_SYSCALL && saved != 0 ? strerror(saved) : "the connection ended");
}

static int shake_hands(struct journal_redis_tls *tls, struct err *err)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_connect(tls->ssl);
    if (result == 1) {
        return 0;
    }
    if (redis_tls_is_refused(tls->ssl, err)) {
        tls->is_broken = true;
        return err->code;
    }
    return fail(tls, result, "TLS handshake", err);
}

int journal_redis_tls_open(struct journal_redis_tls **out, int fd, const struct redis_url *url,
                           struct err *err)
{
    struct journal_redis_tls *tls = xcalloc(1, sizeof(*tls));
    tls->is_broken = true; /* until hands are shaken */
    int status = redis_tls_new(&tls->ssl, url, err);
    if (status != 0) {
        goto out;
    }
    if (SSL_set_fd(tls->ssl, fd) != 1) {
        status = err_set(err, ERR_INTERNAL, "TLS: %s", redis_tls_reason());
        goto out;
    }
    tls->is_broken = false;
    status = shake_hands(tls, err);
    if (status == 0) {
        *out = tls;
        tls = NULL; /* moved to the caller */
    }
out:
    journal_redis_tls_close(tls);
    return status;
}

void journal_redis_tls_close(struct journal_redis_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    if (!tls->is_broken) {
        (void)SSL_shutdown(tls->ssl); /* one way: nobody waits for the answer */
        ERR_clear_error();
    }
    SSL_free(tls->ssl);
    free(tls);
}

int journal_redis_tls_write(struct journal_redis_tls *tls, const void *data, size_t len, struct err *err)
{
    size_t written = 0;
    while (written < len) {
        size_t part = 0;
        ERR_clear_error();
        errno = 0;
        int result = SSL_write_ex(tls->ssl, (const char *)data + written, len - written, &part);
        if (result != 1) {
            return fail(tls, result, "send a command", err);
        }
        written += part;
    }
    return 0;
}

int journal_redis_tls_read(struct journal_redis_tls *tls, void *data, size_t size, size_t *len,
                           struct err *err)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(tls->ssl, data, size, len);
    return result == 1 ? 0 : fail(tls, result, "the answer to a command", err);
}
