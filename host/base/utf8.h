/* UTF-8 checking after RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* true when text is valid; otherwise *bad_at (may be NULL) is the offset of the first bad sequence.
 */
bool utf8_is_valid(const char *text, size_t len, size_t *bad_at);

/* Writes the 1 to 4 bytes of a code point (at most 0x10FFFF) and returns how many. */
size_t utf8_put(char *out, unsigned code_point);
