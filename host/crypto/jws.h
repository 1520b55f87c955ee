/* Signed tokens (JWS, RFC 7515, compact form) and their keys (JWK, RFC 7517) on libcjose. The library takes
 * any algorithm a token names with any key; the rules are ours: an allow-list by the caller, a key only for
 * the algorithm of its own family, sizes that hold, `alg` and `use` of a key respected, no critical
 * extensions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum jws_alg { /* bits: several make an allow-list */
               JWS_RS256 = 1,
               JWS_ES256 = 2,
               JWS_HS256 = 4,
};

enum {
    JWS_TOKEN_MAX = 8192,    /* characters of a token */
    JWS_KEYS_MAX = 64,       /* keys of a set: a token without a known kid is tried with each of them */
    JWS_FIELD_MAX = 2048,    /* characters of one member of a key */
    JWS_RSA_BITS_MIN = 2048, /* RFC 7518 section 3.3 */
    JWS_RSA_BITS_MAX = 8192, /* bounds the time of one verification */
};

struct jws_text { /* borrowed; data NULL: absent */
    const char *data;
    size_t len;
};

/* The members of a JWK as they stand in JSON. */
struct jws_jwk {
    struct jws_text kty; /* "RSA", "EC" or "oct" */
    struct jws_text kid;
    struct jws_text alg; /* the one algorithm the key is for */
    struct jws_text use; /* must be "sig" when present */
    struct jws_text n, e;
    struct jws_text crv, x, y; /* P-256 only */
    struct jws_text d;         /* private part of RSA and EC */
    struct jws_text p, q, dp, dq, qi;
    struct jws_text k; /* base64url, or base64 with padding */
};

/* A set of keys; one thread at a time. */
struct jws_keys;

struct jws_keys *jws_keys_new(void);
void jws_keys_free(struct jws_keys *keys); /* NULL is fine */
size_t jws_keys_count(const struct jws_keys *keys);

/* Adds a key. ERR_INVALID: the key is unusable, and why; ERR_LIMIT: the set is full. */
int jws_keys_add(struct jws_keys *keys, const struct jws_jwk *jwk, struct err *err);

/* Verifies a token with the keys of its `kid` when the set has that kid, otherwise with every key of the
 * right family. allowed: bits of enum jws_alg. The claims (whatever bytes were signed) are appended to
 * payload. ERR_INVALID: not a compact JWS. ERR_LIMIT: too long. ERR_DENIED: its algorithm is not allowed or
 * the signature is wrong. ERR_NOT_FOUND: nothing verifies it and the set does not have its kid (newer keys
 * may). */
int jws_verify(const struct jws_keys *keys, unsigned allowed, const char *token, size_t len,
               struct buf *payload, struct err *err);

/* Signs with the first private key of the algorithm's family that permits it; its kid goes into the header.
 * The token is appended to out. ERR_NOT_FOUND: the set has no such key. */
int jws_sign(const struct jws_keys *keys, enum jws_alg alg, const void *payload, size_t len, struct buf *out,
             struct err *err);

/* Appends a new private key for an algorithm as the JSON text of a JWK: RSA 2048, P-256 or 32 random bytes.
 * Blocks for the time it takes (RSA: about 100 ms). */
int jws_generate(enum jws_alg alg, struct buf *out, struct err *err);

/* 0 when the name is none of enum jws_alg. */
enum jws_alg jws_alg_of_name(const char *name, size_t len);
