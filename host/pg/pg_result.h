/* What a statement gave: rows as text cells in one flat buffer, and failures with the server's fields. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/buf.h"
#include "base/err.h"

struct pg_column {
    size_t name; /* offset in data, NUL-terminated */
    unsigned type;
};

struct pg_cell {
    size_t offset; /* in data */
    int len;       /* -1: NULL */
};

/* The result of one statement. */
struct pg_result {
    struct buf data;
    struct pg_column *columns; /* NULL when the statement returns no rows */
    int column_count;
    struct pg_cell *cells; /* row by row */
    size_t cell_count;
    size_t cell_cap;
    size_t row_count;
    uint64_t affected; /* rows inserted, updated, ... or returned */
    char command[16];  /* first word of the command tag */
};

/* Why a request failed. err.code is ERR_PG when the server said no; ERR_UNAVAILABLE, ERR_TIMEOUT, ...
 * otherwise. */
struct pg_failure {
    struct err err;
    char sqlstate[6]; /* "" unless the server spoke */
    char constraint[64];
    char table[64];
    char detail[256];   /* the server's DETAIL line */
    int position;       /* of a syntax error in the text, from 1; 0: none */
    size_t index;       /* statement of the unit, from 1; 0: none in particular */
    bool is_maybe_done; /* the connection broke after sending: it may have been committed */
};

void pg_result_deinit(struct pg_result *result);
/* Appends the rows of res (and the columns, the first time). Returns the bytes that were added. */
size_t pg_result_take(struct pg_result *result, const PGresult *res);

/* Fills failure from an error result; FATAL errors become ERR_UNAVAILABLE because the connection ends. */
void pg_failure_take(struct pg_failure *failure, const PGresult *res);
/* Fills failure with the words of libpq about a connection. */
void pg_failure_conn(struct pg_failure *failure, int code, const char *what, const PGconn *pg);
