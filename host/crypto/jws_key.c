/* Keys of signed tokens: import with the checks that cjose leaves out, and generation. */
#include "crypto/jws_key.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/xmem.h"
#include "crypto/encode.h"

enum { P256_BYTES = 32, EXPONENT_BYTES_MAX = 8, OCT_BYTES = 32, GENERATED_RSA_BITS = 2048 };

struct name {
    const char *text;
    enum jws_alg alg;
};

static const struct name names[] = {{"RS256", JWS_RS256}, {"ES256", JWS_ES256}, {"HS256", JWS_HS256}};

enum jws_alg jws_alg_of_name(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i].text) == len && memcmp(names[i].text, name, len) == 0) {
            return names[i].alg;
        }
    }
    return 0;
}

const char *jws_alg_name(enum jws_alg alg)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].alg == alg) {
            return names[i].text;
        }
    }
    return "?";
}

static bool is_text(const struct jws_text *text, const char *expected)
{
    return text->data != NULL && strlen(expected) == text->len &&
           memcmp(text->data, expected, text->len) == 0;
}

/* Secrets do not stay behind in freed memory. */
static void wipe(struct buf *buf)
{
    if (buf->data != NULL) {
        OPENSSL_cleanse(buf->data, buf->cap);
    }
    buf_deinit(buf);
}

/* The bytes of a base64url member; an absent one leaves out empty. */
static int decode(const struct jws_text *text, const char *member, struct buf *out, struct err *err)
{
    size_t bad_at;
    if (text->data == NULL) {
        return 0;
    }
    if (text->len > JWS_FIELD_MAX) {
        return err_set(err, ERR_INVALID, "%s has more than %d characters", member, JWS_FIELD_MAX);
    }
    if (!encode_unbase64(out, text->data, text->len, ENCODE_BASE64URL, &bad_at)) {
        return err_set(err, ERR_INVALID, "%s is not base64url", member);
    }
    return 0;
}

static int decode_needed(const struct jws_text *text, const char *member, struct buf *out, struct err *err)
{
    if (text->data == NULL || text->len == 0) {
        return err_set(err, ERR_INVALID, "%s is missing", member);
    }
    return decode(text, member, out, err);
}

static size_t bits_of(const struct buf *number)
{
    size_t skip = 0;
    while (skip < number->len && number->data[skip] == 0) {
        skip++;
    }
    if (skip == number->len) {
        return 0;
    }
    size_t bits = (number->len - skip) * 8;
    for (unsigned char top = (unsigned char)number->data[skip]; (top & 0x80) == 0;
         top = (unsigned char)(top << 1)) {
        bits--;
    }
    return bits;
}

static bool is_odd(const struct buf *number)
{
    return number->data != NULL && number->len > 0 && (number->data[number->len - 1] & 1) != 0;
}

/* An exponent of 1 makes every message its own signature. */
static int check_rsa(const struct buf *n, const struct buf *e, struct err *err)
{
    size_t bits = bits_of(n);
    if (bits < JWS_RSA_BITS_MIN || bits > JWS_RSA_BITS_MAX) {
        return err_set(err, ERR_INVALID, "the RSA modulus has %zu bits, not %d to %d", bits, JWS_RSA_BITS_MIN,
                       JWS_RSA_BITS_MAX);
    }
    if (!is_odd(n) || !is_odd(e) || e->len > EXPONENT_BYTES_MAX || bits_of(e) < 2) {
        return err_set(err, ERR_INVALID, "the RSA key is not one: n and e must be odd, e between 3 and 2^64");
    }
    return 0;
}

static uint8_t *bytes_of(const struct buf *buf)
{
    return buf->len == 0 ? NULL : (uint8_t *)buf->data;
}

static int import_rsa(const struct jws_jwk *jwk, struct jws_key *key, struct err *err)
{
    enum { N, E, D, P, Q, DP, DQ, QI, COUNT };
    static const char *const members[COUNT] = {"n", "e", "d", "p", "q", "dp", "dq", "qi"};
    const struct jws_text *texts[COUNT] = {&jwk->n, &jwk->e,  &jwk->d,  &jwk->p,
                                           &jwk->q, &jwk->dp, &jwk->dq, &jwk->qi};
    struct buf bufs[COUNT] = {0};
    /* A private key is whole or not there: of a part the library loses memory. */
    bool is_private = jwk->d.data != NULL || jwk->p.data != NULL || jwk->q.data != NULL ||
                      jwk->dp.data != NULL || jwk->dq.data != NULL || jwk->qi.data != NULL;
    int status = 0;
    for (int i = 0; i < COUNT && status == 0 && (i <= E || is_private); i++) {
        status = decode_needed(texts[i], members[i], &bufs[i], err);
    }
    if (status == 0) {
        status = check_rsa(&bufs[N], &bufs[E], err);
    }
    if (status == 0) {
        cjose_err problem;
        cjose_jwk_rsa_keyspec spec = {
            .n = bytes_of(&bufs[N]),
            .nlen = bufs[N].len,
            .e = bytes_of(&bufs[E]),
            .elen = bufs[E].len,
            .d = bytes_of(&bufs[D]),
            .dlen = bufs[D].len,
            .p = bytes_of(&bufs[P]),
            .plen = bufs[P].len,
            .q = bytes_of(&bufs[Q]),
            .qlen = bufs[Q].len,
            .dp = bytes_of(&bufs[DP]),
            .dplen = bufs[DP].len,
            .dq = bytes_of(&bufs[DQ]),
            .dqlen = bufs[DQ].len,
            .qi = bytes_of(&bufs[QI]),
            .qilen = bufs[QI].len,
        };
        key->jwk = cjose_jwk_create_RSA_spec(&spec, &problem);
        key->is_private = is_private;
        key->algs = JWS_RS256;
        if (key->jwk == NULL) {
            status = err_set(err, ERR_INVALID, "the RSA key is not usable");
        }
    }
    for (int i = 0; i < COUNT; i++) {
        wipe(&bufs[i]);
    }
    return status;
}

static int import_ec(const struct jws_jwk *jwk, struct jws_key *key, struct err *err)
{
    struct buf x = {0};
    struct buf y = {0};
    struct buf d = {0};
    cjose_err problem;
    int status = 0;
    if (!is_text(&jwk->crv, "P-256")) {
        return err_set(err, ERR_INVALID, "crv is not P-256");
    }
    status = decode_needed(&jwk->x, "x", &x, err);
    if (status == 0) {
        status = decode_needed(&jwk->y, "y", &y, err);
    }
    if (status == 0) {
        status = decode(&jwk->d, "d", &d, err);
    }
    if (status == 0 && (x.len != P256_BYTES || y.len != P256_BYTES || (d.len != 0 && d.len != P256_BYTES))) {
        status = err_set(err, ERR_INVALID, "a coordinate of the key does not have %d bytes", P256_BYTES);
    }
    if (status == 0) {
        cjose_jwk_ec_keyspec spec = {
            .crv = CJOSE_JWK_EC_P_256,
            .x = bytes_of(&x),
            .xlen = x.len,
            .y = bytes_of(&y),
            .ylen = y.len,
            .d = bytes_of(&d),
            .dlen = d.len,
        };
        key->jwk = cjose_jwk_create_EC_spec(&spec, &problem);
        key->is_private = d.len > 0;
        key->algs = JWS_ES256;
        if (key->jwk == NULL) {
            status = err_set(err, ERR_INVALID, "the EC key is not a point of P-256");
        }
    }
    wipe(&x);
    wipe(&y);
    wipe(&d);
    return status;
}

static int import_oct(const struct jws_jwk *jwk, struct jws_key *key, struct err *err)
{
    struct buf k = {0};
    struct err ignored;
    size_t bad_at;
    cjose_err problem;
    int status = decode_needed(&jwk->k, "k", &k, err);
    if (status != 0 && jwk->k.data != NULL && jwk->k.len > 0 && jwk->k.len <= JWS_FIELD_MAX) {
        buf_clear(&k);
        ignored = *err;
        bool is_base64 = encode_unbase64(&k, jwk->k.data, jwk->k.len, ENCODE_BASE64, &bad_at);
        status = is_base64 ? 0 : err_set(err, ignored.code, "k is neither base64url nor base64");
    }
    if (status == 0) {
        key->jwk = cjose_jwk_create_oct_spec((const uint8_t *)k.data, k.len, &problem);
        key->is_private = true;
        key->algs = JWS_HS256;
        if (key->jwk == NULL) {
            status = err_set(err, ERR_INVALID, "the symmetric key is not usable");
        }
    }
    wipe(&k);
    return status;
}

static int import(const struct jws_jwk *jwk, struct jws_key *key, struct err *err)
{
    if (is_text(&jwk->kty, "RSA")) {
        return import_rsa(jwk, key, err);
    }
    if (is_text(&jwk->kty, "EC")) {
        return import_ec(jwk, key, err);
    }
    if (is_text(&jwk->kty, "oct")) {
        return import_oct(jwk, key, err);
    }
    return err_set(err, ERR_INVALID, "kty is none of RSA, EC and oct");
}

struct jws_keys *jws_keys_new(void)
{
    return xcalloc(1, sizeof(struct jws_keys));
}

static void release(struct jws_key *key)
{
    cjose_jwk_release(key->jwk);
    free(key->kid);
}

void jws_keys_free(struct jws_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        release(&keys->list[i]);
    }
    free(keys);
}

size_t jws_keys_count(const struct jws_keys *keys)
{
    return keys->count;
}

int jws_keys_add(struct jws_keys *keys, const struct jws_jwk *jwk, struct err *err)
{
    if (keys->count == JWS_KEYS_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d keys", JWS_KEYS_MAX);
    }
    if (jwk->use.data != NULL && !is_text(&jwk->use, "sig")) {
        return err_set(err, ERR_INVALID, "use is not sig");
    }
    if (jwk->kid.data != NULL &&
        (jwk->kid.len > JWS_FIELD_MAX || memchr(jwk->kid.data, 0, jwk->kid.len) != NULL)) {
        return err_set(err, ERR_INVALID, "kid is too long or holds a NUL");
    }
    struct jws_key key = {0};
    int status = import(jwk, &key, err);
    if (status == 0 && jwk->alg.data != NULL) {
        key.algs &= jws_alg_of_name(jwk->alg.data, jwk->alg.len);
        if (key.algs == 0) {
            status = err_set(err, ERR_INVALID, "alg is not one this kind of key is used with here");
        }
    }
    ERR_clear_error();
    if (status != 0) {
        release(&key);
        return status;
    }
    if (jwk->kid.data != NULL) {
        key.kid = xmalloc(jwk->kid.len + 1);
        memcpy(key.kid, jwk->kid.data, jwk->kid.len);
        key.kid[jwk->kid.len] = '\0';
    }
    keys->list[keys->count++] = key;
    return 0;
}

int jws_generate(enum jws_alg alg, struct buf *out, struct err *err)
{
    static const uint8_t exponent[] = {1, 0, 1};
    cjose_err problem = {0};
    cjose_jwk_t *jwk = NULL;
    if (alg == JWS_RS256) {
        jwk = cjose_jwk_create_RSA_random(GENERATED_RSA_BITS, exponent, sizeof(exponent), &problem);
    } else if (alg == JWS_ES256) {
        jwk = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &problem);
    } else {
        jwk = cjose_jwk_create_oct_random((size_t)OCT_BYTES * 8, &problem);
    }
    char *text = jwk == NULL ? NULL : cjose_jwk_to_json(jwk, true, &problem);
    int status = 0;
    if (text == NULL) {
        status = err_set(err, ERR_INTERNAL, "generate a key for %s: %s", jws_alg_name(alg),
                         problem.message == NULL ? "unknown" : problem.message);
    } else {
        buf_append_str(out, text);
        OPENSSL_cleanse(text, strlen(text));
        cjose_get_dealloc()(text);
    }
    cjose_jwk_release(jwk);
    ERR_clear_error();
    return status;
}
