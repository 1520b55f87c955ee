/* TLS to Redis; see journal_redis_tls.h. */
#include "journal/journal_redis_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>

#include "base/xmem.h"

struct journal_redis_tls {
    SSL_CTX *context;
    SSL *ssl;
    bool is_broken; /* nothing may be said any more */
};

/* What OpenSSL says, the cause; its queue is empty afterwards. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror((int)ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text == NULL ? "no reason given" : text;
}

static int load_files(SSL_CTX *context, const struct journal_redis_url *url, struct err *err)
{
    int ok = url->ca == NULL ? SSL_CTX_set_default_verify_paths(context)
                             : SSL_CTX_load_verify_locations(context, url->ca, NULL);
    if (ok != 1) {
        return err_set(err, ERR_INVALID, "certificate authorities of Redis in %s: %s",
                       url->ca == NULL ? "the system" : url->ca, reason());
    }
    if (url->cert == NULL) {
        return 0;
    }
    if (SSL_CTX_use_certificate_chain_file(context, url->cert) != 1) {
        return err_set(err, ERR_INVALID, "certificate for Redis in %s: %s", url->cert, reason());
    }
    if (SSL_CTX_use_PrivateKey_file(context, url->key, SSL_FILETYPE_PEM) != 1) {
        return err_set(err, ERR_INVALID, "key for Redis in %s: %s", url->key, reason());
    }
    return 0;
}

/* Whose certificate it must be. */
static int expect_host(SSL *ssl, const char *host, struct err *err)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool is_address = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    int ok = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host)
                        : SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
    return ok == 1 ? 0 : err_set(err, ERR_INVALID, "host `%.80s` of Redis: %s", host, reason());
}

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
        return err_set(err, ERR_UNAVAILABLE, "%s: TLS: %s", what, reason());
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
    long verdict = SSL_get_verify_result(tls->ssl);
    if (verdict != X509_V_OK) {
        tls->is_broken = true;
        ERR_clear_error();
        return err_set(err, ERR_DENIED, "its certificate is refused: %s",
                       X509_verify_cert_error_string(verdict));
    }
    return fail(tls, result, "TLS handshake", err);
}

int journal_redis_tls_open(struct journal_redis_tls **out, int fd, const struct journal_redis_url *url,
                           struct err *err)
{
    struct journal_redis_tls *tls = xcalloc(1, sizeof(*tls));
    int status;
    tls->is_broken = true; /* until hands are shaken */
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL || SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1) {
        status = err_set(err, ERR_INTERNAL, "TLS: %s", reason());
        goto out;
    }
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    status = load_files(tls->context, url, err);
    if (status != 0) {
        goto out;
    }
    tls->ssl = SSL_new(tls->context);
    if (tls->ssl == NULL || SSL_set_fd(tls->ssl, fd) != 1) {
        status = err_set(err, ERR_INTERNAL, "TLS: %s", reason());
        goto out;
    }
    status = expect_host(tls->ssl, url->host, err);
    if (status == 0) {
        tls->is_broken = false;
        status = shake_hands(tls, err);
    }
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
    SSL_CTX_free(tls->context);
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
