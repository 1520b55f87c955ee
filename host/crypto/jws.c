/* Signed tokens; see jws.h. Key import is in jws_key.c. */
#include "crypto/jws.h"

#include <string.h>

#include <cjose/cjose.h>
#include <openssl/err.h>

#include "crypto/encode.h"
#include "crypto/jws_key.h"

/* Characters of a signature: 32 and 64 bytes in base64url. An RSA one is checked by its verification. */
enum { HS256_CHARS = 43, ES256_CHARS = 86 };

/* The three parts of a token, as text. */
struct parts {
    struct jws_text header;
    struct jws_text claims;
    struct jws_text signature;
};

static bool is_base64url(const struct jws_text *text)
{
    struct buf bytes = {0};
    size_t bad_at;
    bool is_fine = text->len > 0 && text->data[text->len - 1] != '=' &&
                   encode_unbase64(&bytes, text->data, text->len, ENCODE_BASE64URL, &bad_at);
    buf_deinit(&bytes);
    return is_fine;
}

/* cjose decodes leniently; what is not exactly RFC 7515 section 7.1 does not reach it. */
static int split(const char *token, size_t len, struct parts *parts, struct err *err)
{
    if (len > JWS_TOKEN_MAX) {
        return err_set(err, ERR_LIMIT, "the token has more than %d characters", JWS_TOKEN_MAX);
    }
    const char *end = token + len;
    const char *first = memchr(token, '.', len);
    const char *second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL) {
        return err_set(err, ERR_INVALID, "the token does not have three parts");
    }
    parts->header = (struct jws_text){token, (size_t)(first - token)};
    parts->claims = (struct jws_text){first + 1, (size_t)(second - first - 1)};
    parts->signature = (struct jws_text){second + 1, (size_t)(end - second - 1)};
    if (!is_base64url(&parts->header) || !is_base64url(&parts->claims) || !is_base64url(&parts->signature)) {
        return err_set(err, ERR_INVALID, "a part of the token is not base64url");
    }
    return 0;
}

/* What the header says: its algorithm, which must be allowed, and its kid (NULL: none). */
static int read_header(cjose_jws_t *jws, unsigned allowed, enum jws_alg *alg, const char **kid,
                       struct err *err)
{
    cjose_err problem;
    cjose_header_t *header = cjose_jws_get_protected(jws);
    const char *name = cjose_header_get(header, CJOSE_HDR_ALG, &problem);
    *alg = name == NULL ? 0 : jws_alg_of_name(name, strlen(name));
    if ((*alg & allowed) == 0) {
        return err_set(err, ERR_DENIED, "the token's algorithm is not allowed");
    }
    char *critical = cjose_header_get_raw(header, "crit", &problem);
    if (critical != NULL) {
        cjose_get_dealloc()(critical);
        return err_set(err, ERR_DENIED, "the token demands extensions (crit) that nobody here understands");
    }
    *kid = cjose_header_get(header, CJOSE_HDR_KID, &problem);
    return 0;
}

static bool has_kid(const struct jws_key *key, const char *kid)
{
    return kid != NULL && key->kid != NULL && strcmp(key->kid, kid) == 0;
}

static bool fits_length(enum jws_alg alg, size_t signature_chars)
{
    if (alg == JWS_HS256) {
        return signature_chars == HS256_CHARS;
    }
    return alg != JWS_ES256 || signature_chars == ES256_CHARS;
}

/* Tries the keys that may have made the signature. */
static int find_key(const struct jws_keys *keys, cjose_jws_t *jws, enum jws_alg alg, const char *kid,
                    struct err *err)
{
    bool is_known = false;
    for (size_t i = 0; i < keys->count; i++) {
        is_known = is_known || has_kid(&keys->list[i], kid);
    }
    for (size_t i = 0; i < keys->count; i++) {
        const struct jws_key *key = &keys->list[i];
        cjose_err problem;
        bool is_candidate = (key->algs & alg) != 0 && (!is_known || has_kid(key, kid));
        if (is_candidate && cjose_jws_verify(jws, key->jwk, &problem)) {
            return 0;
        }
    }
    if (kid != NULL && !is_known) {
        return err_set(err, ERR_NOT_FOUND, "no key has the token's kid");
    }
    return err_set(err, ERR_DENIED, "the signature is wrong");
}

static int append_claims(cjose_jws_t *jws, struct buf *payload, struct err *err)
{
    cjose_err problem;
    uint8_t *claims = NULL;
    size_t len = 0;
    if (!cjose_jws_get_plaintext(jws, &claims, &len, &problem)) {
        return err_set(err, ERR_INVALID, "the token has no claims");
    }
    buf_append(payload, claims, len);
    return 0;
}

int jws_verify(const struct jws_keys *keys, unsigned allowed, const char *token, size_t len,
               struct buf *payload, struct err *err)
{
    struct parts parts = {0};
    int status = split(token, len, &parts, err);
    if (status != 0) {
        return status;
    }
    cjose_err problem;
    enum jws_alg alg = 0;
    const char *kid = NULL;
    cjose_jws_t *jws = cjose_jws_import(token, len, &problem);
    if (jws == NULL) {
        /* Also `none` and algorithms the library does not know end here. */
        status = err_set(err, ERR_INVALID, "the token's header is not one of a signed token");
        goto out;
    }
    status = read_header(jws, allowed, &alg, &kid, err);
    if (status == 0 && !fits_length(alg, parts.signature.len)) {
        status = err_set(err, ERR_DENIED, "the signature is wrong");
    }
    if (status == 0) {
        status = find_key(keys, jws, alg, kid, err);
    }
    if (status == 0) {
        status = append_claims(jws, payload, err);
    }
out:
    cjose_jws_release(jws);
    ERR_clear_error(); /* the thread's queue is shared with TLS, which takes leftovers for its own */
    return status;
}

/* { "alg": ..., "typ": "JWT", "kid": ... } */
static cjose_header_t *new_header(enum jws_alg alg, const char *kid)
{
    cjose_err problem;
    cjose_header_t *header = cjose_header_new(&problem);
    if (header == NULL) {
        return NULL;
    }
    if (!cjose_header_set(header, CJOSE_HDR_ALG, jws_alg_name(alg), &problem) ||
        !cjose_header_set(header, "typ", "JWT", &problem) ||
        (kid != NULL && !cjose_header_set(header, CJOSE_HDR_KID, kid, &problem))) {
        cjose_header_release(header);
        return NULL;
    }
    return header;
}

static const struct jws_key *private_key(const struct jws_keys *keys, enum jws_alg alg)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (keys->list[i].is_private && (keys->list[i].algs & alg) != 0) {
            return &keys->list[i];
        }
    }
    return NULL;
}

int jws_sign(const struct jws_keys *keys, enum jws_alg alg, const void *payload, size_t len, struct buf *out,
             struct err *err)
{
    const struct jws_key *key = private_key(keys, alg);
    if (key == NULL) {
        return err_set(err, ERR_NOT_FOUND, "no private key for %s", jws_alg_name(alg));
    }
    if (len > JWS_TOKEN_MAX / 2) {
        return err_set(err, ERR_LIMIT, "the claims have more than %d bytes", JWS_TOKEN_MAX / 2);
    }
    int status = 0;
    cjose_err problem = {0};
    const char *text = NULL;
    cjose_header_t *header = new_header(alg, key->kid);
    cjose_jws_t *jws = header == NULL ? NULL : cjose_jws_sign(key->jwk, header, payload, len, &problem);
    if (jws == NULL || !cjose_jws_export(jws, &text, &problem)) {
        status = err_set(err, ERR_INTERNAL, "sign with %s: %s", jws_alg_name(alg),
                         problem.message == NULL ? "no header" : problem.message);
    } else {
        buf_append_str(out, text);
    }
    cjose_jws_release(jws);
    cjose_header_release(header);
    ERR_clear_error();
    return status;
}
