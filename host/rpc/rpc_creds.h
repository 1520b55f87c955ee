/* TLS credentials of both sides from PEM text. */
#pragma once

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "base/err.h"

enum rpc_client_auth { RPC_CLIENT_AUTH_NONE, RPC_CLIENT_AUTH_OPTIONAL, RPC_CLIENT_AUTH_REQUIRE };

/* All text is borrowed and NUL-terminated. NULL: absent. */
struct rpc_tls {
    const char *cert_pem; /* own certificate chain; mandatory for a server */
    const char *key_pem;  /* its private key */
    const char *ca_pem;   /* whom to trust: a client's roots (NULL: the system's), a server's client CA */
    enum rpc_client_auth client_auth; /* server: whether clients must show a certificate signed by ca_pem */
    const char *server_name;          /* client: the name to verify instead of the target's host */
};

/* Whether a server has all that it needs, in PEM text. For its credentials see rpc_certs.h. */
int rpc_creds_check_server(const struct rpc_tls *tls, struct err *err);
/* tls NULL: plaintext. NULL with err set when the material cannot work. */
grpc_channel_credentials *rpc_creds_client(const struct rpc_tls *tls, struct err *err);
