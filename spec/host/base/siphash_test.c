/* SipHash-2-4 against the vectors of its authors. */
#include "base/siphash.h"

#include "test.h"

TEST(gives_what_its_authors_give)
{
    static const struct {
        size_t len;
        uint64_t hash;
    } vectors[] = {
        {0, 0x726fdb47dd0e0e31U}, {1, 0x74f839c593dc67fdU},  {7, 0xab0200f58b01d137U},
        {8, 0x93f5f5799a932462U}, {15, 0xa129ca6149be45e5U}, {63, 0x958a324ceb064572U},
    };
    const uint64_t key[2] = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};
    unsigned char data[64];
    for (int i = 0; i < 64; i++) {
        data[i] = (unsigned char)i;
    }
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        CHECK(siphash(key, data, vectors[i].len) == vectors[i].hash);
    }
}

TEST(depends_on_all_of_the_key)
{
    const uint64_t one[2] = {1, 2};
    const uint64_t two[2] = {1, 3};
    const uint64_t three[2] = {0, 2};
    CHECK(siphash(one, "text", 4) != siphash(two, "text", 4));
    CHECK(siphash(one, "text", 4) != siphash(three, "text", 4));
}

int main(void)
{
    RUN(gives_what_its_authors_give);
    RUN(depends_on_all_of_the_key);
    return 0;
}
