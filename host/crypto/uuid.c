/* Layouts of RFC 9562. The counter of version 7 follows its §6.2 method 1: it starts at a random
 * value below half its range, so it does not run over within a millisecond in practice; when it
 * does, the clock is pushed on. */
#include "crypto/uuid.h"

#include <string.h>

#include <openssl/evp.h>

#include "base/xmem.h"
#include "crypto/digest.h"

#define COUNTER_BITS 26
#define COUNTER_LIMIT ((uint32_t)1 << COUNTER_BITS)

static void write_text(unsigned char bytes[16], unsigned version, char out[UUID_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    bytes[6] = (unsigned char)((bytes[6] & 0x0F) | version << 4);
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *out++ = '-';
        }
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *found = c == '\0' ? NULL : strchr(digits, c);
    if (found == NULL) {
        return -1;
    }
    int value = (int)(found - digits);
    return value < 16 ? value : value - 6;
}

static bool read_text(const char *text, size_t len, unsigned char bytes[16])
{
    if (len != UUID_LEN) {
        return false;
    }
    int at = 0;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text[at++] != '-') {
            return false;
        }
        int high = hex_value(text[at]);
        int low = hex_value(text[at + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (unsigned char)(high << 4 | low);
        at += 2;
    }
    return true;
}

int uuid_v4(char out[UUID_LEN + 1], struct err *err)
{
    unsigned char bytes[16];
    int status = digest_random(bytes, sizeof(bytes), err);
    if (status == 0) {
        write_text(bytes, 4, out);
    }
    return status;
}

int uuid_v7(struct uuid_clock *clock, uint64_t now_ms, char out[UUID_LEN + 1], struct err *err)
{
    unsigned char bytes[16];
    int status = digest_random(bytes, sizeof(bytes), err);
    if (status != 0) {
        return status;
    }
    if (now_ms > clock->last_ms) {
        uint32_t random;
        memcpy(&random, bytes, 4);
        clock->last_ms = now_ms;
        clock->counter = random % (COUNTER_LIMIT / 2);
    } else if (++clock->counter >= COUNTER_LIMIT) {
        clock->last_ms++;
        clock->counter = 0;
    }
    for (int i = 0; i < 6; i++) {
        bytes[i] = (unsigned char)(clock->last_ms >> 8 * (5 - i));
    }
    /* 12 bits in front of the variant, 14 behind it */
    bytes[6] = (unsigned char)(clock->counter >> 22);
    bytes[7] = (unsigned char)(clock->counter >> 14);
    bytes[8] = (unsigned char)(clock->counter >> 8 & 0x3F);
    bytes[9] = (unsigned char)clock->counter;
    write_text(bytes, 7, out);
    return 0;
}

int uuid_v5(const char *space, size_t space_len, const char *name, size_t name_len, char out[UUID_LEN + 1],
            struct err *err)
{
    unsigned char bytes[16];
    unsigned char hash[EVP_MAX_MD_SIZE];
    if (!read_text(space, space_len, bytes)) {
        return err_set(err, ERR_INVALID, "the namespace is not a UUID");
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, bytes, sizeof(bytes)) == 1 &&
                EVP_DigestUpdate(ctx, name, name_len) == 1 && EVP_DigestFinal_ex(ctx, hash, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!done) {
        return err_set(err, ERR_INTERNAL, "SHA-1 failed");
    }
    memcpy(bytes, hash, sizeof(bytes));
    write_text(bytes, 5, out);
    return 0;
}
