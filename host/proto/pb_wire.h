/* The wire primitives of protobuf: varints, fixed-width numbers, skipping. All readers check the
 * end first. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

static inline bool pb_read_varint(const unsigned char **at, const unsigned char *end, uint64_t *value)
{
    const unsigned char *p = *at;
    if (p < end && *p < 0x80) {
        *value = *p;
        *at = p + 1;
        return true;
    }
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
        unsigned char byte = *p++;
        if (shift == 63 && byte > 1) {
            return false; /* beyond 64 bits */
        }
        result |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = result;
            *at = p;
            return true;
        }
    }
    return false;
}

static inline bool pb_read_fixed(const unsigned char **at, const unsigned char *end, size_t size,
                                 uint64_t *value)
{
    if ((size_t)(end - *at) < size) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < size; i++) {
        *value |= (uint64_t)(*at)[i] << 8 * i;
    }
    *at += size;
    return true;
}

/* A length and that many bytes, from *start. */
static inline bool pb_read_bytes(const unsigned char **at, const unsigned char *end,
                                 const unsigned char **start, size_t *len)
{
    uint64_t count;
    if (!pb_read_varint(at, end, &count) || count > (uint64_t)(end - *at)) {
        return false;
    }
    *start = *at;
    *len = (size_t)count;
    *at += count;
    return true;
}

/* Moves behind the value of an unknown field. Groups are not known any more and fail. */
static inline bool pb_skip(const unsigned char **at, const unsigned char *end, unsigned wire)
{
    uint64_t ignored;
    const unsigned char *start;
    size_t len;
    switch (wire) {
    case 0:
        return pb_read_varint(at, end, &ignored);
    case 1:
        return pb_read_fixed(at, end, 8, &ignored);
    case 2:
        return pb_read_bytes(at, end, &start, &len);
    case 5:
        return pb_read_fixed(at, end, 4, &ignored);
    default:
        return false;
    }
}

static inline void pb_write_varint(struct buf *out, uint64_t value)
{
    char *at = buf_reserve(out, 10);
    size_t len = 0;
    while (value >= 0x80) {
        at[len++] = (char)(value | 0x80);
        value >>= 7;
    }
    at[len++] = (char)value;
    out->len += len;
}

static inline void pb_write_fixed(struct buf *out, uint64_t value, size_t size)
{
    char *at = buf_reserve(out, size);
    for (size_t i = 0; i < size; i++) {
        at[i] = (char)(value >> 8 * i);
    }
    out->len += size;
}

static inline uint64_t pb_zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static inline int64_t pb_unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}
