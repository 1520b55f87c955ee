/* SipHash-2-4: a hash of bytes that who does not know the key can neither foresee nor make collide.
 * Thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint64_t key[2], const void *data, size_t len);
