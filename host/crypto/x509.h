/* Certificates and private keys in PEM text, on OpenSSL 3: what is in them, and whether they belong together.
 * Thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* The first certificate of a text. Texts are NUL-terminated. */
struct x509_facts {
    struct buf subject; /* "CN=server,O=team" (RFC 2253) */
    struct buf names;   /* subject alternative names, one per line: "DNS:a.test", "URI:spiffe://test/a" */
    int64_t not_before; /* seconds since the epoch */
    int64_t not_after;
    size_t count; /* certificates in the text */
};

void x509_facts_deinit(struct x509_facts *facts);

/* Reads all certificates of a text. ERR_INVALID names the first that does not parse. facts is to be deinited
 * in any case. */
int x509_read(const char *pem, struct x509_facts *facts, struct err *err);
/* Whether the key is the one of the first certificate of cert_pem. ERR_INVALID says what is wrong. */
int x509_check_pair(const char *cert_pem, const char *key_pem, struct err *err);
