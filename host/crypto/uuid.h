/* UUIDs of RFC 9562 as text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define UUID_LEN 36

struct digest;

/* Version 4: random. */
int uuid_v4(char out[UUID_LEN + 1], struct err *err);

/* Version 7: milliseconds, then random. Within one generator the texts ascend, also within a
 * millisecond and when the clock steps back. */
struct uuid_clock {
    uint64_t last_ms;
    uint32_t counter; /* 26 bits behind the milliseconds */
};
int uuid_v7(struct uuid_clock *clock, uint64_t now_ms, char out[UUID_LEN + 1], struct err *err);

/* Version 5: SHA-1 of namespace and name. ERR_INVALID when the namespace is no UUID. */
int uuid_v5(const char *space, size_t space_len, const char *name, size_t name_len, char out[UUID_LEN + 1],
            struct err *err);
