/* TLS credentials; see rpc_creds.h. */
#include "rpc/rpc_creds.h"

#include <string.h>

#include "rpc/rpc_env.h"

/* The core reports unusable PEM text late and vaguely; the obvious mistake is worth a clear word. */
static int check_pem(const char *pem, const char *what, struct err *err)
{
    if (pem != NULL && strstr(pem, "-----BEGIN ") == NULL) {
        return err_set(err, ERR_INVALID, "%s is not PEM text", what);
    }
    return 0;
}

static int check_pair(const struct rpc_tls *tls, struct err *err)
{
    int status = check_pem(tls->cert_pem, "the TLS certificate", err);
    if (status == 0) {
        status = check_pem(tls->key_pem, "the TLS private key", err);
    }
    if (status == 0) {
        status = check_pem(tls->ca_pem, "the TLS CA certificate", err);
    }
    if (status == 0 && (tls->cert_pem == NULL) != (tls->key_pem == NULL)) {
        status =
            err_set(err, ERR_INVALID, "a TLS certificate and its private key go together; one is missing");
    }
    return status;
}

int rpc_creds_check_server(const struct rpc_tls *tls, struct err *err)
{
    int status = check_pair(tls, err);
    if (status == 0 && tls->cert_pem == NULL) {
        status = err_set(err, ERR_INVALID, "a TLS server needs a certificate and a private key");
    }
    if (status == 0 && tls->client_auth != RPC_CLIENT_AUTH_NONE && tls->ca_pem == NULL) {
        status = err_set(err, ERR_INVALID, "verifying client certificates needs a client CA");
    }
    return status;
}

grpc_channel_credentials *rpc_creds_client(const struct rpc_tls *tls, struct err *err)
{
    if (tls == NULL) {
        return grpc_insecure_credentials_create();
    }
    if (check_pair(tls, err) != 0) {
        return NULL;
    }
    grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key_pem, .cert_chain = tls->cert_pem};
    grpc_channel_credentials *creds =
        grpc_ssl_credentials_create(tls->ca_pem, tls->cert_pem != NULL ? &pair : NULL, NULL, NULL);
    if (creds == NULL) {
        err_set(err, ERR_INVALID, "the TLS material of the client is unusable");
    }
    return creds;
}
