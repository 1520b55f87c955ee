/* Certificates of a server; see rpc_certs.h. */
#include "rpc/rpc_certs.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/xmem.h"

struct rpc_certs {
    pthread_mutex_t lock;
    grpc_ssl_server_certificate_config *next; /* not fetched yet; NULL: nothing new */
    enum rpc_client_auth client_auth;
};

static grpc_ssl_client_certificate_request_type request_type(enum rpc_client_auth auth)
{
    switch (auth) {
    case RPC_CLIENT_AUTH_OPTIONAL:
        return GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
    case RPC_CLIENT_AUTH_REQUIRE:
        return GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    default:
        return GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    }
}

/* On a thread of the core, before every handshake. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **out)
{
    struct rpc_certs *certs = arg;
    (void)pthread_mutex_lock(&certs->lock); /* cannot fail: not recursive, never destroyed in use */
    *out = certs->next;
    certs->next = NULL;
    (void)pthread_mutex_unlock(&certs->lock);
    return *out != NULL ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
                        : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
}

int rpc_certs_set(struct rpc_certs *certs, const struct rpc_tls *tls, struct err *err)
{
    int status = rpc_creds_check_server(tls, err);
    if (status != 0) {
        return status;
    }
    grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key_pem, .cert_chain = tls->cert_pem};
    /* The core insists on some CA; its own certificate trusts nobody else, and is not used without a request.
     */
    const char *ca_pem = tls->ca_pem != NULL ? tls->ca_pem : tls->cert_pem;
    grpc_ssl_server_certificate_config *config = grpc_ssl_server_certificate_config_create(ca_pem, &pair, 1);
    (void)pthread_mutex_lock(&certs->lock); /* as above */
    grpc_ssl_server_certificate_config *old = certs->next;
    certs->next = config;
    (void)pthread_mutex_unlock(&certs->lock);
    if (old != NULL) {
        grpc_ssl_server_certificate_config_destroy(old);
    }
    return 0;
}

struct rpc_certs *rpc_certs_new(const struct rpc_tls *tls, struct err *err)
{
    struct rpc_certs *certs = xcalloc(1, sizeof(*certs));
    (void)pthread_mutex_init(&certs->lock, NULL); /* cannot fail with default attributes */
    certs->client_auth = tls->client_auth;
    if (rpc_certs_set(certs, tls, err) != 0) {
        rpc_certs_free(certs);
        return NULL;
    }
    return certs;
}

grpc_server_credentials *rpc_certs_credentials(struct rpc_certs *certs)
{
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request_type(certs->client_auth),
                                                                        fetch, certs));
}

void rpc_certs_free(struct rpc_certs *certs)
{
    if (certs == NULL) {
        return;
    }
    if (certs->next != NULL) {
        grpc_ssl_server_certificate_config_destroy(certs->next);
    }
    (void)pthread_mutex_destroy(&certs->lock); /* nobody holds it */
    free(certs);
}
