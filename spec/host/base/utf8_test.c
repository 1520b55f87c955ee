/* Boundaries of RFC 3629. */
#include "base/utf8.h"

#include "test.h"

static size_t bad_at(const char *text, size_t len)
{
    size_t at = 999;
    CHECK(!utf8_is_valid(text, len, &at));
    return at;
}

TEST(accepts_every_length)
{
    CHECK(utf8_is_valid("", 0, NULL));
    CHECK(utf8_is_valid("plain ASCII of more than eight bytes", 36, NULL));
    CHECK(utf8_is_valid("\xC2\x80\xDF\xBF", 4, NULL));
    CHECK(utf8_is_valid("\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", 12, NULL));
    CHECK(utf8_is_valid("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8, NULL));
    CHECK(utf8_is_valid("a\0b", 3, NULL));
}

TEST(refuses_and_locates)
{
    CHECK_INT(bad_at("12345678\x80", 9), 8);     /* continuation alone */
    CHECK_INT(bad_at("ab\xC0\x80", 4), 2);       /* overlong NUL */
    CHECK_INT(bad_at("\xC1\xBF", 2), 0);         /* overlong */
    CHECK_INT(bad_at("\xE0\x9F\xBF", 3), 0);     /* overlong */
    CHECK_INT(bad_at("\xED\xA0\x80", 3), 0);     /* surrogate */
    CHECK_INT(bad_at("\xF0\x8F\xBF\xBF", 4), 0); /* overlong */
    CHECK_INT(bad_at("\xF4\x90\x80\x80", 4), 0); /* beyond U+10FFFF */
    CHECK_INT(bad_at("\xF5\x80\x80\x80", 4), 0);
    CHECK_INT(bad_at("x\xE2\x82", 3), 1); /* cut short */
    CHECK_INT(bad_at("x\xE2\x28\xA1", 4), 1);
    CHECK_INT(bad_at("\xC3\xA4\xF0\x9F\x98", 5), 2);
}

TEST(writes_what_it_accepts)
{
    char out[4];
    for (unsigned code = 0; code <= 0x10FFFF; code++) {
        if (code >= 0xD800 && code <= 0xDFFF) {
            continue;
        }
        size_t len = utf8_put(out, code);
        if (!utf8_is_valid(out, len, NULL)) {
            CHECK_INT(code, 0);
        }
    }
}

int main(void)
{
    RUN(accepts_every_length);
    RUN(refuses_and_locates);
    RUN(writes_what_it_accepts);
    return 0;
}
