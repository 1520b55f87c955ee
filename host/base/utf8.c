/* ASCII is skipped eight bytes at a time; it is nearly all that ever arrives. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* Length of the valid sequence at p (2 to 4), or 0. */
static size_t sequence_len(const unsigned char *p, size_t left)
{
    size_t len;
    unsigned char low = 0x80; /* range of the second byte */
    unsigned char high = 0xBF;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        len = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        len = 3;
        low = p[0] == 0xE0 ? 0xA0 : 0x80;
        high = p[0] == 0xED ? 0x9F : 0xBF;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        len = 4;
        low = p[0] == 0xF0 ? 0x90 : 0x80;
        high = p[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (left < len || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* Whether there are only ASCII characters. The last word overlaps the one before it. */
static bool is_ascii(const unsigned char *p, size_t len)
{
    uint64_t seen = 0;
    uint64_t word;
    if (len < 8) {
        for (size_t i = 0; i < len; i++) {
            seen |= p[i];
        }
        return (seen & 0x80) == 0;
    }
    for (size_t at = 0; at + 8 <= len; at += 8) {
        memcpy(&word, p + at, 8);
        seen |= word;
    }
    memcpy(&word, p + len - 8, 8);
    return ((seen | word) & 0x8080808080808080u) == 0;
}

bool utf8_is_valid(const char *text, size_t len, size_t *bad_at)
{
    const unsigned char *p = (const unsigned char *)text;
    if (is_ascii(p, len)) {
        return true;
    }
    size_t at = 0;
    while (at < len) {
        if (len - at >= 8 && is_ascii(p + at, 8)) {
            at += 8;
            continue;
        }
        if (p[at] < 0x80) {
            at++;
            continue;
        }
        size_t step = sequence_len(p + at, len - at);
        if (step == 0) {
            if (bad_at != NULL) {
                *bad_at = at;
            }
            return false;
        }
        at += step;
    }
    return true;
}

size_t utf8_put(char *out, unsigned code_point)
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xC0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xE0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}
