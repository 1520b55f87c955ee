/* CRC-32C (Castagnoli): the SSE 4.2 instruction where the processor has it, tables elsewhere. Thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The checksum of data, continuing from an earlier result (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The portable implementation, for tests and other processors. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);
