/* Tokens and keys of strangers: never crash, nothing verifies with keys that signed nothing, and a key that
 * is accepted verifies what it signs. Input: a token, or after a first byte 'k' the members of a key, one per
 * line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/jws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ALL = JWS_RS256 | JWS_ES256 | JWS_HS256 };

static struct jws_keys *keys;

static struct jws_text text_of(const char *text)
{
    return (struct jws_text){text, strlen(text)};
}

/* Fixed keys: what is found must be found again. */
static void load_keys(void)
{
    static const char n[] = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1"
                            "L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
                            "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
                            "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQv"
                            "RL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
                            "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnq"
                            "DKgw";
    const struct jws_jwk list[] = {
        {.kty = text_of("RSA"), .kid = text_of("r"), .n = text_of(n), .e = text_of("AQAB")},
        {.kty = text_of("EC"),
         .crv = text_of("P-256"),
         .x = text_of("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"),
         .y = text_of("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")},
        {.kty = text_of("oct"), .k = text_of("GawgguFyGrWKav7AX4VKUgGawgguFyGrWKav7AX4VKU")},
    };
    struct err err;
    keys = jws_keys_new();
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        if (jws_keys_add(keys, &list[i], &err) != 0) {
            abort();
        }
    }
}

static void try_token(const char *token, size_t len)
{
    struct buf payload = {0};
    struct err err = {0};
    if (jws_verify(keys, ALL, token, len, &payload, &err) == 0 || payload.len != 0 || err.text[0] == '\0') {
        abort();
    }
    buf_deinit(&payload);
}

/* What the key signs, it verifies: with itself only, and with nothing added. */
static void round_trip(const struct jws_keys *own)
{
    static const enum jws_alg algs[] = {JWS_RS256, JWS_ES256, JWS_HS256};
    for (int i = 0; i < 3; i++) {
        struct buf token = {0};
        struct buf payload = {0};
        struct err err;
        /* a private part that does not belong to the public one signs nonsense: that must only not crash */
        if (jws_sign(own, algs[i], "x", 1, &token, &err) == 0 &&
            jws_verify(own, (unsigned)algs[i], token.data, token.len, &payload, &err) == 0 &&
            (payload.len != 1 || payload.data[0] != 'x')) {
            abort();
        }
        buf_deinit(&token);
        buf_deinit(&payload);
    }
}

static void try_key(const char *text, size_t len)
{
    struct jws_jwk jwk = {0};
    struct jws_text *members[] = {&jwk.kty, &jwk.kid, &jwk.alg, &jwk.use, &jwk.n,  &jwk.e,  &jwk.crv, &jwk.x,
                                  &jwk.y,   &jwk.d,   &jwk.p,   &jwk.q,   &jwk.dp, &jwk.dq, &jwk.qi,  &jwk.k};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]) && len > 0; i++) {
        const char *end = memchr(text, '\n', len);
        size_t part = end == NULL ? len : (size_t)(end - text);
        if (part > 0) {
            *members[i] = (struct jws_text){text, part};
        }
        part = end == NULL ? part : part + 1;
        text += part;
        len -= part;
    }
    struct err err = {0};
    struct jws_keys *own = jws_keys_new();
    if (jws_keys_add(own, &jwk, &err) == 0) {
        round_trip(own);
    } else if (err.text[0] == '\0' || jws_keys_count(own) != 0) {
        abort();
    }
    jws_keys_free(own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (keys == NULL) {
        load_keys();
    }
    if (size > 0 && data[0] == 'k') {
        try_key((const char *)data + 1, size - 1);
    } else {
        try_token((const char *)data, size);
    }
    return 0;
}
