/* Results and failures; see pg_result.h. */
#include "pg/pg_result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/xmem.h"

void pg_result_deinit(struct pg_result *result)
{
    buf_deinit(&result->data);
    free(result->columns);
    free(result->cells);
    memset(result, 0, sizeof(*result));
}

static size_t append(struct buf *buf, const char *data, size_t len)
{
    size_t offset = buf->len;
    char *end = buf_reserve(buf, len + 1);
    memcpy(end, data, len);
    end[len] = '\0';
    buf->len += len + 1;
    return offset;
}

static void take_columns(struct pg_result *result, const PGresult *res)
{
    result->column_count = PQnfields(res);
    result->columns = xcalloc((size_t)result->column_count + 1, sizeof(*result->columns));
    for (int i = 0; i < result->column_count; i++) {
        const char *name = PQfname(res, i);
        result->columns[i].name = append(&result->data, name, strlen(name));
        result->columns[i].type = PQftype(res, i);
    }
}

static void take_row(struct pg_result *result, const PGresult *res, int row)
{
    size_t need = result->cell_count + (size_t)result->column_count;
    if (need > result->cell_cap) {
        result->cell_cap = result->cell_cap == 0 ? need : need * 2;
        result->cells = xrealloc(result->cells, result->cell_cap * sizeof(*result->cells));
    }
    for (int i = 0; i < result->column_count; i++) {
        struct pg_cell *cell = &result->cells[result->cell_count++];
        if (PQgetisnull(res, row, i)) {
            *cell = (struct pg_cell){0, -1};
            continue;
        }
        cell->len = PQgetlength(res, row, i);
        cell->offset = append(&result->data, PQgetvalue(res, row, i), (size_t)cell->len);
    }
    result->row_count++;
}

static void take_command(struct pg_result *result, PGresult *res)
{
    const char *tag = PQcmdStatus(res);
    size_t len = strcspn(tag, " ");
    if (len >= sizeof(result->command)) {
        len = sizeof(result->command) - 1;
    }
    memcpy(result->command, tag, len);
    result->command[len] = '\0';
    const char *count = PQcmdTuples(res);
    if (!num_parse_u64(count, strlen(count), &result->affected)) {
        result->affected = result->row_count; /* commands without a number */
    }
}

size_t pg_result_take(struct pg_result *result, const PGresult *res)
{
    size_t before = result->data.len + result->cell_count * sizeof(*result->cells);
    if (PQnfields(res) > 0 && result->columns == NULL) {
        take_columns(result, res);
    }
    int rows = PQntuples(res);
    for (int row = 0; row < rows; row++) {
        take_row(result, res, row);
    }
    if (PQresultStatus(res) != PGRES_SINGLE_TUPLE) {
        take_command(result, (PGresult *)res); /* libpq reads it only */
    }
    return result->data.len + result->cell_count * sizeof(*result->cells) - before;
}

static void copy_field(char *out, size_t size, const PGresult *res, int field)
{
    const char *value = PQresultErrorField(res, field);
    (void)snprintf(out, size, "%s", value == NULL ? "" : value); /* truncation is acceptable here */
}

/* Five characters of [0-9A-Z], base 36. */
static int pack_sqlstate(const char *state)
{
    int packed = 0;
    for (; *state != '\0'; state++) {
        packed = packed * 36 + (*state >= 'A' ? *state - 'A' + 10 : *state - '0');
    }
    return packed;
}

void pg_failure_take(struct pg_failure *failure, const PGresult *res)
{
    char message[160];
    char severity[16];
    copy_field(failure->sqlstate, sizeof(failure->sqlstate), res, PG_DIAG_SQLSTATE);
    copy_field(failure->constraint, sizeof(failure->constraint), res, PG_DIAG_CONSTRAINT_NAME);
    copy_field(failure->table, sizeof(failure->table), res, PG_DIAG_TABLE_NAME);
    copy_field(failure->detail, sizeof(failure->detail), res, PG_DIAG_MESSAGE_DETAIL);
    copy_field(message, sizeof(message), res, PG_DIAG_MESSAGE_PRIMARY);
    copy_field(severity, sizeof(severity), res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);
    failure->position = position == NULL ? 0 : (int)strtol(position, NULL, 10);
    if (message[0] == '\0') { /* libpq's own errors have no fields */
        (void)snprintf(message, sizeof(message), "%s", PQresultErrorMessage(res));
    }
    bool is_fatal = strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
    bool is_ours = failure->sqlstate[0] == '\0';
    (void)err_set_detail(&failure->err, is_fatal || is_ours ? ERR_UNAVAILABLE : ERR_PG,
                         pack_sqlstate(failure->sqlstate), "%s%s%s%s", message, is_ours ? "" : " (",
                         failure->sqlstate, is_ours ? "" : ")");
}

/* The lines of libpq as one: each run of blanks and line breaks is a single space. */
static void copy_line(char *out, size_t cap, const char *text)
{
    size_t len = 0;
    for (const char *at = text; *at != '\0' && len + 2 < cap; at++) {
        bool is_blank = strchr(" \t\r\n", *at) != NULL;
        if (!is_blank && at > text && len > 0 && strchr(" \t\r\n", at[-1]) != NULL) {
            out[len++] = ' ';
        }
        if (!is_blank) {
            out[len++] = *at;
        }
    }
    out[len] = '\0';
}

void pg_failure_conn(struct pg_failure *failure, int code, const char *what, const PGconn *pg)
{
    memset(failure, 0, sizeof(*failure));
    char words[sizeof(failure->err.text)];
    copy_line(words, sizeof(words), pg == NULL ? "" : PQerrorMessage(pg));
    (void)err_set(&failure->err, code, "%s%s%s", what, words[0] != '\0' ? ": " : "", words);
}
