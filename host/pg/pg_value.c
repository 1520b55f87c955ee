/* Text forms of PostgreSQL values; see pg_value.h. */
#include "pg/pg_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const double MAX_EXACT = 9007199254740992.0; /* 2^53 */

size_t pg_value_format_int(char out[PG_VALUE_MAX], int64_t value)
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char digits[24];
    size_t at = sizeof(digits);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    while (rest >= 100) {
        unsigned pair = (unsigned)(rest % 100) * 2;
        rest /= 100;
        digits[--at] = pairs[pair + 1];
        digits[--at] = pairs[pair];
    }
    if (rest >= 10) {
        digits[--at] = pairs[rest * 2 + 1];
        digits[--at] = pairs[rest * 2];
    } else {
        digits[--at] = (char)('0' + rest);
    }
    if (value < 0) {
        digits[--at] = '-';
    }
    memcpy(out, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

static size_t copy_word(char *out, const char *word)
{
    return (size_t)snprintf(out, PG_VALUE_MAX, "%s", word);
}

size_t pg_value_format_double(char out[PG_VALUE_MAX], double value)
{
    if (value == floor(value) && fabs(value) <= MAX_EXACT) {
        return pg_value_format_int(out, (int64_t)value);
    }
    if (isnan(value)) {
        return copy_word(out, "NaN");
    }
    if (isinf(value)) {
        return copy_word(out, value > 0 ? "Infinity" : "-Infinity");
    }
    int len = snprintf(out, PG_VALUE_MAX, "%.15g", value);
    if (strtod(out, NULL) != value) {
        len = snprintf(out, PG_VALUE_MAX, "%.17g", value);
    }
    return (size_t)len;
}

/* Days since 1970-01-01 to a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level date
 * algorithms"). */
static void date_of_days(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153; /* March is 0 */
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

static int64_t days_of_date(int64_t year, int month, int day)
{
    year -= month <= 2 ? 1 : 0;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

/* Years that four to six digits can hold and PostgreSQL accepts. */
static const double MIN_MS = -62135596800000.0;  /* 0001-01-01 */
static const double MAX_MS = 9224318015999999.0; /* 294276-12-31 */

/* `width` digits and a separator. Timestamps go into most rows, and snprintf takes ten times as long. */
static void put_number(char *out, size_t *at, unsigned value, int width, char separator)
{
    for (int i = width - 1; i >= 0; i--) {
        out[*at + (size_t)i] = (char)('0' + value % 10);
        value /= 10;
    }
    *at += (size_t)width;
    out[(*at)++] = separator;
}

size_t pg_value_format_timestamp(char out[PG_VALUE_MAX], double ms)
{
    if (!(ms >= MIN_MS)) {
        return copy_word(out, isnan(ms) ? "NaN" : "-infinity"); /* the server refuses NaN */
    }
    if (ms > MAX_MS) {
        return copy_word(out, "infinity");
    }
    double whole = floor(ms);
    int64_t micros = (int64_t)whole * 1000 + (int64_t)((ms - whole) * 1000 + 0.5);
    int64_t days = micros / 86400000000;
    int64_t rest = micros % 86400000000;
    if (rest < 0) {
        rest += 86400000000;
        days--;
    }
    int64_t year;
    int month;
    int day;
    date_of_days(days, &year, &month, &day);
    unsigned seconds = (unsigned)(rest / 1000000);
    size_t at = 0;
    put_number(out, &at, (unsigned)year, year > 99999 ? 6 : year > 9999 ? 5 : 4, '-');
    put_number(out, &at, (unsigned)month, 2, '-');
    put_number(out, &at, (unsigned)day, 2, ' ');
    put_number(out, &at, seconds / 3600, 2, ':');
    put_number(out, &at, seconds / 60 % 60, 2, ':');
    put_number(out, &at, seconds % 60, 2, '.');
    put_number(out, &at, (unsigned)(rest % 1000000), 6, '+');
    put_number(out, &at, 0, 2, '\0');
    return at - 1; /* without the last separator */
}

void pg_value_append_element(struct buf *buf, const char *data, size_t len)
{
    buf_append_byte(buf, '"');
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '"' || data[i] == '\\') {
            buf_append_byte(buf, '\\');
        }
        buf_append_byte(buf, (unsigned char)data[i]);
    }
    buf_append_byte(buf, '"');
}

/* Reads up to max_digits digits; -1 when there is none. Advances *at. */
static int64_t read_digits(const char *text, size_t len, size_t *at, int max_digits)
{
    int64_t value = 0;
    size_t start = *at;
    while (*at < len && text[*at] >= '0' && text[*at] <= '9' && *at - start < (size_t)max_digits) {
        value = value * 10 + (text[*at] - '0');
        (*at)++;
    }
    return *at == start ? -1 : value;
}

static bool skip(const char *text, size_t len, size_t *at, char c)
{
    if (*at < len && text[*at] == c) {
        (*at)++;
        return true;
    }
    return false;
}

/* "+00", "-03:30", "+05:53:28" in seconds. */
static bool read_offset(const char *text, size_t len, size_t *at, int64_t *seconds)
{
    *seconds = 0;
    if (*at >= len || (text[*at] != '+' && text[*at] != '-')) {
        return false;
    }
    int64_t sign = text[(*at)++] == '-' ? -1 : 1;
    int64_t unit = 3600;
    do {
        int64_t part = read_digits(text, len, at, 2);
        if (part < 0) {
            return false;
        }
        *seconds += sign * part * unit;
        unit /= 60;
    } while (unit > 0 && skip(text, len, at, ':'));
    return true;
}

bool pg_value_parse_timestamp(const char *text, size_t len, double *ms)
{
    if (len > 0 && text[len - 1] == 'y') { /* infinity */
        *ms = text[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    size_t at = 0;
    int64_t year = read_digits(text, len, &at, 6);
    if (year < 0 || !skip(text, len, &at, '-')) {
        return false;
    }
    int64_t month = read_digits(text, len, &at, 2);
    if (month < 1 || month > 12 || !skip(text, len, &at, '-')) {
        return false;
    }
    int64_t day = read_digits(text, len, &at, 2);
    if (day < 1 || !skip(text, len, &at, ' ')) {
        return false;
    }
    int64_t clock[3] = {0};
    for (int i = 0; i < 3; i++) {
        clock[i] = read_digits(text, len, &at, 2);
        if (clock[i] < 0 || (i < 2 && !skip(text, len, &at, ':'))) {
            return false;
        }
    }
    double fraction = 0;
    if (skip(text, len, &at, '.')) {
        double scale = 1;
        while (at < len && text[at] >= '0' && text[at] <= '9') {
            scale *= 10;
            fraction = fraction * 10 + (text[at++] - '0');
        }
        fraction = fraction * 1000 / scale;
    }
    int64_t offset;
    if (!read_offset(text, len, &at, &offset) || at != len) {
        return false;
    }
    int64_t seconds = days_of_date(year, (int)month, (int)day) * 86400 + clock[0] * 3600 + clock[1] * 60 +
                      clock[2] - offset;
    *ms = (double)(seconds * 1000) + fraction;
    return true;
}

bool pg_value_parse_exact(const char *text, size_t len, double *value)
{
    size_t digits = 0;
    char copy[40];
    if (len == 0 || len >= sizeof(copy)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && c != '.' && !(c == '-' && i == 0)) {
            return false; /* NaN, Infinity */
        }
        digits += is_digit && (digits > 0 || c != '0') ? 1 : 0;
    }
    if (digits > 15) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    *value = strtod(copy, NULL);
    return true;
}

/* The value of a hexadecimal digit as the server writes it, and one more; 0: it is none. A table, because
 * which digit comes next cannot be guessed. */
static const unsigned char hex_value[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

bool pg_value_parse_bytea(const char *text, size_t len, struct buf *out)
{
    if (len < 2 || len % 2 != 0 || text[0] != '\\' || text[1] != 'x') {
        return false;
    }
    char *bytes = buf_reserve(out, len / 2);
    size_t count = len / 2 - 1;
    bool is_hex = true;
    for (size_t i = 0; i < count; i++) {
        unsigned high = hex_value[(unsigned char)text[2 + 2 * i]];
        unsigned low = hex_value[(unsigned char)text[3 + 2 * i]];
        is_hex = is_hex & (high != 0) & (low != 0);
        bytes[i] = (char)((high - 1) << 4 | (low - 1));
    }
    if (!is_hex) {
        return false;
    }
    out->len += count;
    return true;
}
