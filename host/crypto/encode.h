/* Bytes as text: hexadecimal, base64 and its URL form (RFC 4648). Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

void encode_hex(struct buf *out, const void *data, size_t len); /* lower case */
/* false when text is not an even number of hexadecimal digits; *bad_at is the offset. */
bool encode_unhex(struct buf *out, const char *text, size_t len, size_t *bad_at);

enum encode_base64_form {
    ENCODE_BASE64,    /* "+/", padded */
    ENCODE_BASE64URL, /* "-_", unpadded */
};

void encode_base64(struct buf *out, const void *data, size_t len, enum encode_base64_form form);
/* Strict: the alphabet of the form; padding complete (base64) or optional but complete (base64url);
 * unused bits zero; no white space. false otherwise, with the offset in *bad_at. */
bool encode_unbase64(struct buf *out, const char *text, size_t len, enum encode_base64_form form,
                     size_t *bad_at);
