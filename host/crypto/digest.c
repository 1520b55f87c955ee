/* One-shot helpers of OpenSSL 3 look the algorithm up in every call, which costs more than hashing
 * a short text; hence the kept contexts. */
#include "crypto/digest.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/xmem.h"

#define KEPT_KEY_MAX 256

struct digest {
    EVP_MD *sha256;
    EVP_MD_CTX *hash;
    EVP_MAC_CTX *mac; /* keyed with the first kept_len bytes of kept_key when has_key */
    bool has_key;
    size_t kept_len;
    unsigned char kept_key[KEPT_KEY_MAX];
};

static int fail(struct err *err, const char *what)
{
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    return err_set(err, ERR_INTERNAL, "%s: %s", what, reason == NULL ? "OpenSSL failed" : reason);
}

struct digest *digest_new(void)
{
    struct digest *digest = xcalloc(1, sizeof(*digest));
    digest->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    digest->hash = EVP_MD_CTX_new();
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (hmac != NULL) {
        digest->mac = EVP_MAC_CTX_new(hmac);
        EVP_MAC_free(hmac); /* the context holds its own reference */
    }
    return digest;
}

void digest_free(struct digest *digest)
{
    if (digest == NULL) {
        return;
    }
    EVP_MAC_CTX_free(digest->mac);
    EVP_MD_CTX_free(digest->hash);
    EVP_MD_free(digest->sha256);
    OPENSSL_cleanse(digest->kept_key, sizeof(digest->kept_key));
    free(digest);
}

int digest_sha256(struct digest *digest, const void *data, size_t len, unsigned char out[DIGEST_SHA256_LEN],
                  struct err *err)
{
    if (digest->sha256 == NULL || digest->hash == NULL ||
        EVP_DigestInit_ex2(digest->hash, digest->sha256, NULL) != 1 ||
        EVP_DigestUpdate(digest->hash, data, len) != 1 || EVP_DigestFinal_ex(digest->hash, out, NULL) != 1) {
        return fail(err, "SHA-256");
    }
    return 0;
}

/* Keys the context, or restarts it when the key is the one of the last call. */
static int start_mac(struct digest *digest, const void *key, size_t key_len, struct err *err)
{
    if (digest->mac == NULL) {
        return fail(err, "HMAC-SHA-256");
    }
    if (digest->has_key && digest->kept_len == key_len &&
        CRYPTO_memcmp(digest->kept_key, key, key_len) == 0) {
        return EVP_MAC_init(digest->mac, NULL, 0, NULL) == 1 ? 0 : fail(err, "HMAC-SHA-256");
    }
    char name[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
        OSSL_PARAM_construct_end(),
    };
    digest->has_key = false;
    /* OpenSSL takes a NULL key for "the last one", so an empty key still needs an address. */
    const unsigned char *bytes = key_len == 0 ? (const unsigned char *)"" : key;
    if (EVP_MAC_init(digest->mac, bytes, key_len, params) != 1) {
        return fail(err, "HMAC-SHA-256");
    }
    if (key_len > 0 && key_len <= KEPT_KEY_MAX) {
        memcpy(digest->kept_key, key, key_len);
        digest->kept_len = key_len;
        digest->has_key = true;
    }
    return 0;
}

int digest_hmac_sha256(struct digest *digest, const void *key, size_t key_len, const void *data, size_t len,
                       unsigned char out[DIGEST_SHA256_LEN], struct err *err)
{
    int status = start_mac(digest, key, key_len, err);
    if (status != 0) {
        return status;
    }
    size_t out_len = 0;
    if (EVP_MAC_update(digest->mac, data, len) != 1 ||
        EVP_MAC_final(digest->mac, out, &out_len, DIGEST_SHA256_LEN) != 1 || out_len != DIGEST_SHA256_LEN) {
        return fail(err, "HMAC-SHA-256");
    }
    return 0;
}

int digest_random(void *out, size_t len, struct err *err)
{
    unsigned char *at = out;
    while (len > 0) {
        int piece = len > 1 << 20 ? 1 << 20 : (int)len;
        if (RAND_bytes(at, piece) != 1) {
            return fail(err, "random bytes");
        }
        at += piece;
        len -= (size_t)piece;
    }
    return 0;
}

bool digest_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}
