/* CRC-32C against the published check values, and both implementations against each other. */
#include "base/crc32c.h"
#include "test.h"

TEST(known_values)
{
    CHECK_INT(crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_INT(crc32c_portable(0, "123456789", 9), 0xe3069283);
    unsigned char zeros[32] = {0};
    CHECK_INT(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa); /* RFC 3720 B.4 */
    CHECK_INT(crc32c_portable(0, zeros, sizeof(zeros)), 0x8a9136aa);
    CHECK_INT(crc32c(0, "", 0), 0);
}

TEST(continues_and_agrees)
{
    unsigned char data[257];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (unsigned char)(i * 31 + 7);
    }
    for (size_t len = 0; len <= sizeof(data); len++) {
        uint32_t whole = crc32c(0, data, len);
        CHECK_INT(crc32c_portable(0, data, len), whole);
        CHECK_INT(crc32c(crc32c(0, data, len / 3), data + len / 3, len - len / 3), whole);
    }
}

int main(void)
{
    RUN(known_values);
    RUN(continues_and_agrees);
    return 0;
}
