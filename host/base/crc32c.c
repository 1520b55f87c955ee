/* CRC-32C; see crc32c.h. */
#include "base/crc32c.h"

#include <pthread.h>
#include <string.h>

enum { SLICES = 8 };

static const uint32_t POLYNOMIAL = 0x82f63b78; /* reflected */

static uint32_t tables[SLICES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
        tables[0][i] = crc;
    }
    for (int slice = 1; slice < SLICES; slice++) {
        for (int i = 0; i < 256; i++) {
            uint32_t prev = tables[slice - 1][i];
            tables[slice][i] = (prev >> 8) ^ tables[0][prev & 0xff];
        }
    }
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    (void)pthread_once(&tables_once, fill_tables); /* cannot fail with a valid control block */
    const unsigned char *p = data;
    crc = ~crc;
    while (len >= 8) {
        uint32_t low =
            crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = tables[7][low & 0xff] ^ tables[6][(low >> 8) & 0xff] ^ tables[5][(low >> 16) & 0xff] ^
              tables[4][low >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
        p += 8;
        len -= 8;
    }
    while (len-- > 0) {
        crc = (crc >> 8) ^ tables[0][(crc ^ *p++) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t hardware(uint32_t crc, const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t state = (uint32_t)~crc;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        state = __builtin_ia32_crc32di(state, word);
        p += 8;
        len -= 8;
    }
    uint32_t rest = (uint32_t)state;
    while (len-- > 0) {
        rest = __builtin_ia32_crc32qi(rest, *p++);
    }
    return ~rest;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    if (__builtin_cpu_supports("sse4.2")) {
        return hardware(crc, data, len);
    }
    return crc32c_portable(crc, data, len);
}

#else

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_portable(crc, data, len);
}

#endif
