/* A unit of work: statements with their parameters in one flat buffer, sent together up to one Sync. The
 * server runs it as one implicit transaction. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct pg_text;
struct pg_texts;

enum { PG_MAX_PARAMS = 65535 };

struct pg_param {
    size_t offset;  /* in the unit's data; text is NUL-terminated there */
    int len;        /* -1: NULL */
    bool is_binary; /* bytea travels as it is, everything else as text */
};

struct pg_stmt {
    struct pg_text *text;
    size_t first_param;
    int param_count;
};

struct pg_unit {
    struct pg_texts *texts;
    unsigned refs;
    struct buf data;
    struct pg_stmt *stmts;
    size_t count;
    size_t cap;
    struct pg_param *params;
    size_t param_count;
    size_t param_cap;
};

struct pg_unit *pg_unit_new(struct pg_texts *texts); /* one reference */
struct pg_unit *pg_unit_ref(struct pg_unit *unit);
void pg_unit_unref(struct pg_unit *unit); /* NULL is fine */
void pg_unit_clear(struct pg_unit *unit); /* no statements; keeps the memory */

/* Begins a statement; the following adds are its parameters $1, $2, ... */
void pg_unit_begin(struct pg_unit *unit, const char *text, size_t len);
/* Removes the last statement, with the data behind data_len. */
void pg_unit_pop(struct pg_unit *unit, size_t data_len);
void pg_unit_add_null(struct pg_unit *unit);
/* ERR_INVALID when the text holds a NUL byte, which no PostgreSQL text can. */
int pg_unit_add_text(struct pg_unit *unit, const char *data, size_t len, struct err *err);
void pg_unit_add_bytes(struct pg_unit *unit, const void *data, size_t len); /* bytea */
void pg_unit_add_int(struct pg_unit *unit, int64_t value);
void pg_unit_add_double(struct pg_unit *unit, double value); /* 17 digits at most, exact */
void pg_unit_add_bool(struct pg_unit *unit, bool value);
void pg_unit_add_timestamp(struct pg_unit *unit, double ms); /* milliseconds since the epoch, UTC */
size_t pg_unit_size(const struct pg_unit *unit);             /* bytes of texts and parameters, about */
