/* SHA-256, HMAC-SHA-256, random bytes and comparison, on OpenSSL 3. Algorithms are fetched once per
 * object. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define DIGEST_SHA256_LEN 32

struct digest; /* contexts kept between calls; one thread at a time */

struct digest *digest_new(void);
void digest_free(struct digest *digest); /* NULL is fine */

int digest_sha256(struct digest *digest, const void *data, size_t len, unsigned char out[DIGEST_SHA256_LEN],
                  struct err *err);
/* The key of the last call is kept, so that repeated calls with one key skip the key set-up. */
int digest_hmac_sha256(struct digest *digest, const void *key, size_t key_len, const void *data, size_t len,
                       unsigned char out[DIGEST_SHA256_LEN], struct err *err);

/* Bytes of the system's generator. Thread-safe. */
int digest_random(void *out, size_t len, struct err *err);
/* Compares in constant time; only the lengths may be learnt from timing. Thread-safe. */
bool digest_equal(const void *a, size_t a_len, const void *b, size_t b_len);
