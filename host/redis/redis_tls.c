/* TLS to Redis; see redis_tls.h. */
#include "redis/redis_tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

const char *redis_tls_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror((int)ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text == NULL ? "no reason given" : text;
}

static int load_files(SSL_CTX *context, const struct redis_url *url, struct err *err)
{
    int ok = url->ca == NULL ? SSL_CTX_set_default_verify_paths(context)
                             : SSL_CTX_load_verify_locations(context, url->ca, NULL);
    if (ok != 1) {
        return err_set(err, ERR_INVALID, "certificate authorities of Redis in %s: %s",
                       url->ca == NULL ? "the system" : url->ca, redis_tls_reason());
    }
    if (url->cert == NULL) {
        return 0;
    }
    if (SSL_CTX_use_certificate_chain_file(context, url->cert) != 1) {
        return err_set(err, ERR_INVALID, "certificate for Redis in %s: %s", url->cert, redis_tls_reason());
    }
    if (SSL_CTX_use_PrivateKey_file(context, url->key, SSL_FILETYPE_PEM) != 1) {
        return err_set(err, ERR_INVALID, "key for Redis in %s: %s", url->key, redis_tls_reason());
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
    return ok == 1 ? 0 : err_set(err, ERR_INVALID, "host `%.80s` of Redis: %s", host, redis_tls_reason());
}

int redis_tls_new(SSL **out, const struct redis_url *url, struct err *err)
{
    SSL *ssl = NULL;
    int status;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        status = err_set(err, ERR_INTERNAL, "TLS: %s", redis_tls_reason());
        goto out;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    status = load_files(context, url, err);
    if (status != 0) {
        goto out;
    }
    ssl = SSL_new(context);
    if (ssl == NULL) {
        status = err_set(err, ERR_INTERNAL, "TLS: %s", redis_tls_reason());
        goto out;
    }
    status = expect_host(ssl, url->host, err);
    if (status == 0) {
        *out = ssl;
        ssl = NULL; /* moved to the caller; it keeps the context alive */
    }
out:
    SSL_free(ssl);
    SSL_CTX_free(context);
    return status;
}

bool redis_tls_is_refused(const SSL *ssl, struct err *err)
{
    long verdict = SSL_get_verify_result(ssl);
    if (verdict == X509_V_OK) {
        return false;
    }
    ERR_clear_error();
    (void)err_set(err, ERR_DENIED, "its certificate is refused: %s", X509_verify_cert_error_string(verdict));
    return true;
}
