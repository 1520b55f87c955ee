/* Decoders are strict so that one value has one text: a token or a key with sloppy encoding is
 * refused. */
#include "crypto/encode.h"

#include <stdint.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";
static const char alphabets[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

void encode_hex(struct buf *out, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    char *at = buf_reserve(out, len * 2 + 1);
    for (size_t i = 0; i < len; i++) {
        at[i * 2] = hex_digits[bytes[i] >> 4];
        at[i * 2 + 1] = hex_digits[bytes[i] & 15];
    }
    out->len += len * 2;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool encode_unhex(struct buf *out, const char *text, size_t len, size_t *bad_at)
{
    char *at = buf_reserve(out, len / 2 + 1);
    for (size_t i = 0; i < len; i++) {
        int value = hex_value(text[i]);
        if (value < 0 || (i == len - 1 && i % 2 == 0)) {
            *bad_at = i;
            return false;
        }
        at[i / 2] = (char)(i % 2 == 0 ? value << 4 : at[i / 2] | value);
    }
    out->len += len / 2;
    return true;
}

void encode_base64(struct buf *out, const void *data, size_t len, enum encode_base64_form form)
{
    const unsigned char *bytes = data;
    const char *alphabet = alphabets[form];
    char *at = buf_reserve(out, (len + 2) / 3 * 4 + 1);
    char *start = at;
    size_t i = 0;
    for (; i + 3 <= len; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        *at++ = alphabet[group >> 6 & 63];
        *at++ = alphabet[group & 63];
    }
    size_t rest = len - i;
    if (rest > 0) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (rest == 2) {
            group |= (uint32_t)bytes[i + 1] << 8;
        }
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        if (rest == 2) {
            *at++ = alphabet[group >> 6 & 63];
        }
        for (size_t pad = rest; form == ENCODE_BASE64 && pad < 3; pad++) {
            *at++ = '=';
        }
    }
    out->len += (size_t)(at - start);
}

static int base64_value(char c, enum encode_base64_form form)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == alphabets[form][62]) {
        return 62;
    }
    return c == alphabets[form][63] ? 63 : -1;
}

bool encode_unbase64(struct buf *out, const char *text, size_t len, enum encode_base64_form form,
                     size_t *bad_at)
{
    size_t digits = len;
    while (digits > 0 && len - digits < 2 && text[digits - 1] == '=') {
        digits--;
    }
    bool is_padded = digits < len;
    if (digits % 4 == 1 || ((is_padded || form == ENCODE_BASE64) && len % 4 != 0)) {
        *bad_at = len;
        return false;
    }
    char *at = buf_reserve(out, digits / 4 * 3 + 3);
    char *start = at;
    uint32_t group = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < digits; i++) {
        int value = base64_value(text[i], form);
        if (value < 0) {
            *bad_at = i;
            return false;
        }
        group = (group << 6 | (uint32_t)value) & 0xFFFFFF;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *at++ = (char)(group >> bits & 0xFF);
        }
    }
    if ((group & ((1u << bits) - 1)) != 0) {
        *bad_at = digits - 1;
        return false;
    }
    out->len += (size_t)(at - start);
    return true;
}
