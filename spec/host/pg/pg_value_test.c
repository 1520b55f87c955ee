/* Text forms of values: exact both ways, and refused where there is no number. */
#include "pg/pg_value.h"

#include <math.h>

#include "base/buf.h"
#include "test.h"

static const char *format_double(double value)
{
    static char out[PG_VALUE_MAX + 1];
    out[pg_value_format_double(out, value)] = '\0';
    return out;
}

static const char *format_timestamp(double ms)
{
    static char out[PG_VALUE_MAX + 1];
    out[pg_value_format_timestamp(out, ms)] = '\0';
    return out;
}

TEST(integers)
{
    static const int64_t values[] = {0, 7, 10, 99, 100, 12345, -1, -10, -100, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char out[PG_VALUE_MAX + 1];
        out[pg_value_format_int(out, values[i])] = '\0';
        char expected[32];
        (void)snprintf(expected, sizeof(expected), "%lld", (long long)values[i]);
        CHECK_STR(out, expected);
    }
}

TEST(doubles)
{
    CHECK_STR(format_double(0), "0");
    CHECK_STR(format_double(-3), "-3");
    CHECK_STR(format_double(9007199254740992.0), "9007199254740992");
    CHECK_STR(format_double(0.1), "0.1");
    CHECK_STR(format_double(1e300), "1e+300");
    CHECK_STR(format_double(NAN), "NaN");
    CHECK_STR(format_double(-INFINITY), "-Infinity");
    CHECK(strtod(format_double(1.0 / 3), NULL) == 1.0 / 3);
    CHECK(strtod(format_double(5e-324), NULL) == 5e-324);
}

TEST(timestamps)
{
    CHECK_STR(format_timestamp(0), "1970-01-01 00:00:00.000000+00");
    CHECK_STR(format_timestamp(-1), "1969-12-31 23:59:59.999000+00");
    CHECK_STR(format_timestamp(951782400000.0), "2000-02-29 00:00:00.000000+00");
    CHECK_STR(format_timestamp(4107542399999.0), "2100-02-28 23:59:59.999000+00");
    CHECK_STR(format_timestamp(INFINITY), "infinity");
    CHECK_STR(format_timestamp(-INFINITY), "-infinity");
    for (double ms = -62135596800000.0; ms < 253402300800000.0; ms += 86399999.0 * 37 + 1) {
        const char *text = format_timestamp(ms);
        double back;
        CHECK(pg_value_parse_timestamp(text, strlen(text), &back));
        CHECK(back == ms);
    }
}

static bool parse(const char *text, double *ms)
{
    return pg_value_parse_timestamp(text, strlen(text), ms);
}

TEST(parsed_timestamps)
{
    double ms;
    CHECK(parse("2026-01-31 23:59:59+00", &ms) && ms == 1769903999000.0);
    CHECK(parse("2026-01-31 23:59:59.5+05:30", &ms) && ms == 1769903999500.0 - 19800000);
    CHECK(parse("1883-11-18 12:03:58-04:56:02", &ms));
    CHECK(parse("12026-01-31 23:59:59+00", &ms));
    CHECK(parse("infinity", &ms) && ms == INFINITY);
    CHECK(parse("-infinity", &ms) && ms == -INFINITY);
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-01-31",
                                      "2026-13-01 00:00:00+00",
                                      "2026-01-31 23:59:59",
                                      "0044-03-15 12:00:00+00 BC",
                                      "2026-01-31T23:59:59+00",
                                      "x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(!parse(bad[i], &ms));
    }
}

TEST(exact_decimals)
{
    double value;
    CHECK(pg_value_parse_exact("12.50", 5, &value) && value == 12.5);
    CHECK(pg_value_parse_exact("-0.000001", 9, &value) && value == -0.000001);
    CHECK(pg_value_parse_exact("0.00000000000123456789012345", 28, &value));
    CHECK(pg_value_parse_exact("123456789012345", 15, &value) && value == 123456789012345.0);
    CHECK(!pg_value_parse_exact("1234567890123456", 16, &value));
    CHECK(!pg_value_parse_exact("NaN", 3, &value));
    CHECK(!pg_value_parse_exact("", 0, &value));
}

TEST(bytea)
{
    struct buf out = {0};
    CHECK(pg_value_parse_bytea("\\x00ffAb", 8, &out) == false); /* the server writes lower case */
    buf_clear(&out);
    CHECK(pg_value_parse_bytea("\\x00ffab", 8, &out));
    CHECK(out.len == 3 && memcmp(out.data, "\0\xff\xab", 3) == 0);
    buf_clear(&out);
    CHECK(pg_value_parse_bytea("\\x", 2, &out) && out.len == 0);
    CHECK(!pg_value_parse_bytea("\\x0", 3, &out));
    CHECK(!pg_value_parse_bytea("abc", 3, &out));
    buf_deinit(&out);
}

TEST(array_elements)
{
    struct buf out = {0};
    pg_value_append_element(&out, "a\"b\\c,{}", 8);
    buf_append_byte(&out, '\0');
    CHECK_STR(out.data, "\"a\\\"b\\\\c,{}\"");
    buf_deinit(&out);
}

int main(void)
{
    RUN(integers);
    RUN(doubles);
    RUN(timestamps);
    RUN(parsed_timestamps);
    RUN(exact_decimals);
    RUN(bytea);
    RUN(array_elements);
    return 0;
}
