/* The certificates of a TLS server. They may be replaced while it listens: connections that are made
 * afterwards see the new ones. Loop thread only; the core fetches them on threads of its own. */
#pragma once

#include "rpc/rpc_creds.h"

struct rpc_certs;

/* NULL with err set when the material cannot work. */
struct rpc_certs *rpc_certs_new(const struct rpc_tls *tls, struct err *err);
/* Replaces certificate, key and client CA; client_auth stays as it was. With an error nothing changes.
 * Whether the key fits the certificate is the caller's to check: the core finds out late, and goes on with
 * the old pair. */
int rpc_certs_set(struct rpc_certs *certs, const struct rpc_tls *tls, struct err *err);
/* Credentials that fetch from certs; the caller releases them. certs must outlive the server that uses them.
 */
grpc_server_credentials *rpc_certs_credentials(struct rpc_certs *certs);
void rpc_certs_free(struct rpc_certs *certs); /* NULL is fine */
