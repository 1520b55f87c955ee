/* Text forms of PostgreSQL values. Pure functions, thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

enum { PG_VALUE_MAX = 48 }; /* no formatter below writes more */

/* Types of result columns that are not handed out as plain text. */
enum pg_oid {
    PG_BOOL = 16,
    PG_BYTEA = 17,
    PG_INT8 = 20,
    PG_INT2 = 21,
    PG_INT4 = 23,
    PG_OID = 26,
    PG_FLOAT4 = 700,
    PG_FLOAT8 = 701,
    PG_TIMESTAMPTZ = 1184,
    PG_NUMERIC = 1700,
};

/* Formatters return the length; no NUL is written. */
size_t pg_value_format_int(char out[PG_VALUE_MAX], int64_t value);
size_t pg_value_format_double(char out[PG_VALUE_MAX],
                              double value); /* whole numbers below 2^53 as integers */
size_t pg_value_format_timestamp(char out[PG_VALUE_MAX], double ms); /* 2026-01-31 23:59:59.123456+00 */

/* Appends one element of an array literal, quoted and escaped. */
void pg_value_append_element(struct buf *buf, const char *data, size_t len);

/* "2026-01-31 23:59:59.123456+00" (ISO style, any offset) to milliseconds since the epoch; also "infinity".
 * false for dates that have no such number (BC). */
bool pg_value_parse_timestamp(const char *text, size_t len, double *ms);

/* A number if the text is a decimal that a double holds exactly as written (up to 15 significant digits), so
 * that nothing is lost. */
bool pg_value_parse_exact(const char *text, size_t len, double *value);

/* The bytes of a bytea in hex form ("\x..."); false when it is not one. */
bool pg_value_parse_bytea(const char *text, size_t len, struct buf *out);
