/* Signed tokens: every way in which a token or a key must be refused, with real signatures of every
 * algorithm. */
#include "crypto/jws.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "crypto/encode.h"
#include "test.h"

enum { ALL = JWS_RS256 | JWS_ES256 | JWS_HS256, JSON_MAX = 4096 };

static const char claims[] = "{\"sub\":\"agent://ann\"}";

/* A generated key: its JSON text with the members cut out of it. */
struct made {
    struct buf json;
    char text[24][1400];
    int used;
    struct jws_jwk jwk;
};

static struct jws_text text_of(const char *text)
{
    return (struct jws_text){text, text == NULL ? 0 : strlen(text)};
}

static struct jws_text member(struct made *made, const char *name)
{
    char pattern[16];
    snprintf(pattern, sizeof(pattern), "\"%s\":\"", name);
    const char *at = strstr(made->json.data, pattern);
    if (at == NULL) {
        return (struct jws_text){NULL, 0};
    }
    at += strlen(pattern);
    char *copy = made->text[made->used++];
    snprintf(copy, sizeof(made->text[0]), "%.*s", (int)strcspn(at, "\""), at);
    return text_of(copy);
}

static void make(enum jws_alg alg, struct made *made)
{
    struct err err;
    memset(made, 0, sizeof(*made));
    CHECK_INT(jws_generate(alg, &made->json, &err), 0);
    buf_append(&made->json, "", 1);
    made->jwk = (struct jws_jwk){
        .kty = member(made, "kty"),
        .n = member(made, "n"),
        .e = member(made, "e"),
        .crv = member(made, "crv"),
        .x = member(made, "x"),
        .y = member(made, "y"),
        .d = member(made, "d"),
        .p = member(made, "p"),
        .q = member(made, "q"),
        .dp = member(made, "dp"),
        .dq = member(made, "dq"),
        .qi = member(made, "qi"),
        .k = member(made, "k"),
    };
}

static struct jws_jwk public_half(const struct jws_jwk *jwk)
{
    struct jws_jwk half = *jwk;
    half.d = half.p = half.q = half.dp = half.dq = half.qi = (struct jws_text){NULL, 0};
    return half;
}

static struct jws_keys *set_of(const struct jws_jwk *jwk)
{
    struct err err;
    struct jws_keys *keys = jws_keys_new();
    CHECK_INT(jws_keys_add(keys, jwk, &err), 0);
    return keys;
}

static char *sign(const struct jws_jwk *jwk, enum jws_alg alg)
{
    static char token[4][JSON_MAX];
    static int next;
    char *out = token[next++ % 4];
    struct buf buf = {0};
    struct err err;
    struct jws_keys *keys = set_of(jwk);
    CHECK_INT(jws_sign(keys, alg, claims, strlen(claims), &buf, &err), 0);
    CHECK(buf.len < JSON_MAX);
    memcpy(out, buf.data, buf.len);
    out[buf.len] = '\0';
    buf_deinit(&buf);
    jws_keys_free(keys);
    return out;
}

/* The error code of a verification; 0 means the claims came out as they went in. */
static int verify(const struct jws_keys *keys, unsigned allowed, const char *token)
{
    struct buf payload = {0};
    struct err err = {0};
    int status = jws_verify(keys, allowed, token, strlen(token), &payload, &err);
    CHECK_INT(ERR_peek_error(), 0);
    if (status == 0) {
        CHECK(payload.len == strlen(claims) && memcmp(payload.data, claims, payload.len) == 0);
    } else {
        CHECK_INT(err.code, status);
        CHECK(err.text[0] != '\0' && payload.len == 0);
    }
    buf_deinit(&payload);
    return status;
}

static struct made rsa;
static struct made other_rsa;
static struct made ec;
static struct made oct;

TEST(signs_and_verifies_with_every_algorithm)
{
    struct made *made[] = {&rsa, &ec, &oct};
    enum jws_alg algs[] = {JWS_RS256, JWS_ES256, JWS_HS256};
    for (int i = 0; i < 3; i++) {
        struct jws_jwk half = public_half(&made[i]->jwk);
        struct jws_keys *keys = set_of(&half);
        const char *token = sign(&made[i]->jwk, algs[i]);
        CHECK_INT(verify(keys, ALL, token), 0);
        CHECK_INT(verify(keys, algs[i], token), 0);
        CHECK_INT(verify(keys, ALL & ~(unsigned)algs[i], token), ERR_DENIED);
        CHECK_INT(verify(keys, 0, token), ERR_DENIED);
        jws_keys_free(keys);
    }
}

TEST(a_public_key_does_not_sign)
{
    struct buf out = {0};
    struct err err;
    struct jws_jwk half = public_half(&rsa.jwk);
    struct jws_keys *keys = set_of(&half);
    CHECK_INT(jws_sign(keys, JWS_RS256, claims, strlen(claims), &out, &err), ERR_NOT_FOUND);
    CHECK_STR(err.text, "no private key for RS256");
    CHECK_INT(jws_sign(keys, JWS_HS256, claims, strlen(claims), &out, &err), ERR_NOT_FOUND);
    jws_keys_free(keys);
}

/* header.claims.signature of a header text and a signature text. */
static const char *token_of(const char *header, const char *signature)
{
    static char token[JSON_MAX];
    struct buf buf = {0};
    encode_base64(&buf, header, strlen(header), ENCODE_BASE64URL);
    buf_append_byte(&buf, '.');
    encode_base64(&buf, claims, strlen(claims), ENCODE_BASE64URL);
    buf_append_byte(&buf, '.');
    buf_append_str(&buf, signature);
    CHECK(buf.len < sizeof(token));
    memcpy(token, buf.data, buf.len);
    token[buf.len] = '\0';
    buf_deinit(&buf);
    return token;
}

static const char *signature_of(const char *token)
{
    return strrchr(token, '.') + 1;
}

TEST(refuses_none)
{
    struct jws_keys *keys = set_of(&oct.jwk);
    CHECK(verify(keys, ALL, token_of("{\"alg\":\"none\"}", "")) != 0);
    CHECK(verify(keys, ALL, token_of("{\"alg\":\"none\"}", "AAAA")) != 0);
    CHECK(verify(keys, ALL, token_of("{\"alg\":\"None\"}", "AAAA")) != 0);
    CHECK(verify(keys, ALL, token_of("{\"typ\":\"JWT\"}", "AAAA")) != 0);
    CHECK(verify(keys, ALL, token_of("{\"alg\":[\"HS256\"]}", signature_of(sign(&oct.jwk, JWS_HS256)))) != 0);
    jws_keys_free(keys);
}

static EVP_PKEY *public_key_of(const struct jws_jwk *jwk)
{
    struct buf raw = {0};
    size_t bad_at;
    CHECK(encode_unbase64(&raw, jwk->n.data, jwk->n.len, ENCODE_BASE64URL, &bad_at));
    BIGNUM *n = BN_bin2bn((const unsigned char *)raw.data, (int)raw.len, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    CHECK(OSSL_PARAM_BLD_push_BN(builder, "n", n) && OSSL_PARAM_BLD_push_ulong(builder, "e", 65537));
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;
    CHECK(EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(n);
    buf_deinit(&raw);
    return key;
}

/* The classic: an attacker takes the public key's text as the secret of a symmetric signature. */
TEST(refuses_a_symmetric_token_keyed_with_a_public_key)
{
    struct jws_jwk half = public_half(&rsa.jwk);
    struct jws_keys *keys = set_of(&half);
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *key = public_key_of(&rsa.jwk);
    CHECK(PEM_write_bio_PUBKEY(bio, key));
    char *pem;
    long pem_len = BIO_get_mem_data(bio, &pem);
    struct buf k = {0};
    encode_base64(&k, pem, (size_t)pem_len, ENCODE_BASE64URL);
    struct jws_jwk secret = {.kty = text_of("oct"), .k = {k.data, k.len}};
    CHECK_INT(verify(keys, ALL, sign(&secret, JWS_HS256)), ERR_DENIED);
    secret.k = rsa.jwk.n;
    CHECK_INT(verify(keys, ALL, sign(&secret, JWS_HS256)), ERR_DENIED);
    BIO_free(bio);
    EVP_PKEY_free(key);
    buf_deinit(&k);
    jws_keys_free(keys);
}

TEST(refuses_another_key_and_every_changed_character)
{
    struct made *made[] = {&rsa, &ec, &oct};
    enum jws_alg algs[] = {JWS_RS256, JWS_ES256, JWS_HS256};
    struct jws_keys *foreign = set_of(&other_rsa.jwk);
    CHECK_INT(verify(foreign, ALL, sign(&rsa.jwk, JWS_RS256)), ERR_DENIED);
    jws_keys_free(foreign);
    for (int i = 0; i < 3; i++) {
        struct jws_keys *keys = set_of(&made[i]->jwk);
        char *token = sign(&made[i]->jwk, algs[i]);
        size_t len = strlen(token);
        for (size_t at = 0; at < len; at++) {
            char kept = token[at];
            token[at] = kept == 'A' ? 'w' : 'A';
            CHECK(verify(keys, ALL, token) != 0);
            token[at] = kept;
        }
        for (size_t cut = 0; cut < len; cut++) {
            char kept = token[cut];
            token[cut] = '\0';
            CHECK(verify(keys, ALL, token) != 0);
            token[cut] = kept;
        }
        CHECK_INT(verify(keys, ALL, token), 0);
        jws_keys_free(keys);
    }
}

TEST(refuses_what_is_not_a_token)
{
    static const char *const texts[] = {
        "",       ".",           "..",       "...",      "a.b.c",          "a.b",
        "opaque", "e30.e30.e30", "e30.e30.", "e30..e30", "====.====.====", "e30.e30.e30.e30"};
    struct jws_keys *keys = set_of(&oct.jwk);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK_INT(verify(keys, ALL, texts[i]), ERR_INVALID);
    }
    static char long_token[JWS_TOKEN_MAX + 2];
    memset(long_token, 'A', JWS_TOKEN_MAX + 1);
    CHECK_INT(verify(keys, ALL, long_token), ERR_LIMIT);
    jws_keys_free(keys);
}

TEST(refuses_critical_extensions)
{
    struct jws_keys *keys = set_of(&oct.jwk);
    const char *signature = signature_of(sign(&oct.jwk, JWS_HS256));
    struct buf payload = {0};
    struct err err;
    const char *token = token_of("{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", signature);
    CHECK_INT(jws_verify(keys, ALL, token, strlen(token), &payload, &err), ERR_DENIED);
    CHECK(strstr(err.text, "crit") != NULL);
    buf_deinit(&payload);
    jws_keys_free(keys);
}

TEST(chooses_by_kid)
{
    struct err err;
    struct jws_jwk first = rsa.jwk;
    struct jws_jwk second = other_rsa.jwk;
    first.kid = text_of("one");
    second.kid = text_of("two");
    const char *by_one = sign(&first, JWS_RS256);
    struct jws_jwk misnamed = other_rsa.jwk;
    misnamed.kid = text_of("one");
    const char *by_misnamed = sign(&misnamed, JWS_RS256);
    misnamed.kid = text_of("three");
    const char *by_three = sign(&misnamed, JWS_RS256);

    struct jws_keys *keys = set_of(&first);
    CHECK_INT(verify(keys, ALL, by_three), ERR_NOT_FOUND);
    CHECK_INT(jws_keys_add(keys, &second, &err), 0);
    CHECK_INT(verify(keys, ALL, by_one), 0);
    /* the kid is there, so nobody else's key may answer for it */
    CHECK_INT(verify(keys, ALL, by_misnamed), ERR_DENIED);
    /* an unknown kid: every key is tried */
    CHECK_INT(verify(keys, ALL, by_three), 0);
    /* all entries with the kid are tried */
    second.kid = text_of("one");
    CHECK_INT(jws_keys_add(keys, &second, &err), 0);
    CHECK_INT(verify(keys, ALL, by_misnamed), 0);
    CHECK_INT(jws_keys_count(keys), 3);
    jws_keys_free(keys);
}

/* Why a key is refused. */
static const char *refusal(const struct jws_jwk *jwk)
{
    static struct err err;
    struct jws_keys *keys = jws_keys_new();
    int status = jws_keys_add(keys, jwk, &err);
    CHECK_INT(jws_keys_count(keys), status == 0 ? 1 : 0);
    CHECK_INT(ERR_peek_error(), 0);
    jws_keys_free(keys);
    return status == 0 ? "accepted" : err.text;
}

TEST(refuses_unusable_rsa_keys)
{
    struct jws_jwk jwk = public_half(&rsa.jwk);
    CHECK_STR(refusal(&jwk), "accepted");
    jwk.n = text_of("AAAA");
    CHECK_STR(refusal(&jwk), "the RSA modulus has 0 bits, not 2048 to 8192");
    jwk.n = (struct jws_text){NULL, 0};
    CHECK_STR(refusal(&jwk), "n is missing");
    jwk = public_half(&rsa.jwk);
    jwk.e = text_of("AQ");
    CHECK_STR(refusal(&jwk), "the RSA key is not one: n and e must be odd, e between 3 and 2^64");
    jwk.e = text_of("AQAA");
    CHECK(strstr(refusal(&jwk), "must be odd") != NULL);
    jwk.e = text_of("A?");
    CHECK_STR(refusal(&jwk), "e is not base64url");
    jwk.e = text_of("");
    CHECK_STR(refusal(&jwk), "e is missing");
    jwk = rsa.jwk;
    jwk.dq = (struct jws_text){NULL, 0};
    CHECK_STR(refusal(&jwk), "dq is missing");
    jwk = public_half(&rsa.jwk);
    jwk.q = rsa.jwk.q;
    CHECK_STR(refusal(&jwk), "d is missing");
    static char long_text[JWS_FIELD_MAX + 2];
    memset(long_text, 'A', JWS_FIELD_MAX + 1);
    jwk.n = text_of(long_text);
    CHECK_STR(refusal(&jwk), "n has more than 2048 characters");
}

TEST(refuses_a_short_rsa_key)
{
    char n[400];
    for (int bits = 1024; bits <= 2048; bits += 512) {
        struct buf raw = {0};
        struct buf text = {0};
        for (int i = 0; i < bits / 8; i++) {
            buf_append_byte(&raw, 0xFF);
        }
        encode_base64(&text, raw.data, raw.len, ENCODE_BASE64URL);
        snprintf(n, sizeof(n), "%.*s", (int)text.len, text.data);
        struct jws_jwk jwk = {.kty = text_of("RSA"), .n = text_of(n), .e = text_of("AQAB")};
        CHECK((strcmp(refusal(&jwk), "accepted") == 0) == (bits == 2048));
        buf_deinit(&raw);
        buf_deinit(&text);
    }
}

TEST(refuses_unusable_ec_keys)
{
    struct jws_jwk jwk = public_half(&ec.jwk);
    CHECK_STR(refusal(&jwk), "accepted");
    jwk.crv = text_of("P-384");
    CHECK_STR(refusal(&jwk), "crv is not P-256");
    jwk.crv = (struct jws_text){NULL, 0};
    CHECK_STR(refusal(&jwk), "crv is not P-256");
    jwk = public_half(&ec.jwk);
    jwk.x = jwk.y;
    CHECK_STR(refusal(&jwk), "the EC key is not a point of P-256");
    jwk.x = text_of("AAAA");
    CHECK_STR(refusal(&jwk), "a coordinate of the key does not have 32 bytes");
    jwk.x = (struct jws_text){NULL, 0};
    CHECK_STR(refusal(&jwk), "x is missing");
}

TEST(takes_symmetric_keys_in_both_alphabets)
{
    /* the same 32 bytes, 0xFB: base64 with padding, base64url without and with */
    const char *forms[] = {
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s",
        "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s="};
    struct jws_jwk jwk = {.kty = text_of("oct"), .k = text_of(forms[1])};
    const char *token = sign(&jwk, JWS_HS256);
    for (int i = 0; i < 3; i++) {
        jwk.k = text_of(forms[i]);
        struct jws_keys *keys = set_of(&jwk);
        CHECK_INT(verify(keys, ALL, token), 0);
        jws_keys_free(keys);
    }
    jwk.k = text_of("not base64!");
    CHECK_STR(refusal(&jwk), "k is neither base64url nor base64");
    jwk.k = text_of("");
    CHECK_STR(refusal(&jwk), "k is missing");
}

TEST(respects_alg_and_use)
{
    struct jws_jwk jwk = oct.jwk;
    jwk.use = text_of("enc");
    CHECK_STR(refusal(&jwk), "use is not sig");
    jwk.use = text_of("sig");
    jwk.alg = text_of("HS256");
    CHECK_STR(refusal(&jwk), "accepted");
    jwk.alg = text_of("RS256");
    CHECK_STR(refusal(&jwk), "alg is not one this kind of key is used with here");
    jwk.alg = text_of("HS512");
    CHECK_STR(refusal(&jwk), "alg is not one this kind of key is used with here");
    jwk = rsa.jwk;
    jwk.alg = text_of("PS256");
    CHECK_STR(refusal(&jwk), "alg is not one this kind of key is used with here");
    jwk.kty = text_of("OKP");
    CHECK_STR(refusal(&jwk), "kty is none of RSA, EC and oct");
    jwk.kty = (struct jws_text){NULL, 0};
    CHECK_STR(refusal(&jwk), "kty is none of RSA, EC and oct");
    jwk = oct.jwk;
    jwk.kid = (struct jws_text){"a\0b", 3};
    CHECK_STR(refusal(&jwk), "kid is too long or holds a NUL");
}

TEST(holds_so_many_keys_and_no_more)
{
    struct err err;
    struct jws_keys *keys = jws_keys_new();
    for (int i = 0; i < JWS_KEYS_MAX; i++) {
        CHECK_INT(jws_keys_add(keys, &oct.jwk, &err), 0);
    }
    CHECK_INT(jws_keys_add(keys, &oct.jwk, &err), ERR_LIMIT);
    CHECK_STR(err.text, "more than 64 keys");
    CHECK_INT(jws_keys_count(keys), JWS_KEYS_MAX);
    jws_keys_free(keys);
}

int main(void)
{
    make(JWS_RS256, &rsa);
    make(JWS_RS256, &other_rsa);
    make(JWS_ES256, &ec);
    make(JWS_HS256, &oct);
    RUN(signs_and_verifies_with_every_algorithm);
    RUN(a_public_key_does_not_sign);
    RUN(refuses_none);
    RUN(refuses_a_symmetric_token_keyed_with_a_public_key);
    RUN(refuses_another_key_and_every_changed_character);
    RUN(refuses_what_is_not_a_token);
    RUN(refuses_critical_extensions);
    RUN(chooses_by_kid);
    RUN(refuses_unusable_rsa_keys);
    RUN(refuses_a_short_rsa_key);
    RUN(refuses_unusable_ec_keys);
    RUN(takes_symmetric_keys_in_both_alphabets);
    RUN(respects_alg_and_use);
    RUN(holds_so_many_keys_and_no_more);
    buf_deinit(&rsa.json);
    buf_deinit(&other_rsa.json);
    buf_deinit(&ec.json);
    buf_deinit(&oct.json);
    return 0;
}
