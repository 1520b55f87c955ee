/* Units of work; see pg_unit.h. */
#include "pg/pg_unit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"
#include "pg/pg_text.h"
#include "pg/pg_value.h"

enum { KEEP_BYTES = 2 << 20 }; /* a cleared unit keeps at most so much memory */

struct pg_unit *pg_unit_new(struct pg_texts *texts)
{
    struct pg_unit *unit = xcalloc(1, sizeof(*unit));
    unit->texts = pg_texts_ref(texts);
    unit->refs = 1;
    return unit;
}

struct pg_unit *pg_unit_ref(struct pg_unit *unit)
{
    unit->refs++;
    return unit;
}

void pg_unit_clear(struct pg_unit *unit)
{
    for (size_t i = 0; i < unit->count; i++) {
        pg_text_unref(unit->texts, unit->stmts[i].text);
    }
    unit->count = 0;
    unit->param_count = 0;
    buf_clear(&unit->data);
    if (unit->data.cap > KEEP_BYTES) {
        buf_deinit(&unit->data);
    }
}

void pg_unit_unref(struct pg_unit *unit)
{
    if (unit == NULL || --unit->refs > 0) {
        return;
    }
    pg_unit_clear(unit);
    buf_deinit(&unit->data);
    free(unit->stmts);
    free(unit->params);
    pg_texts_unref(unit->texts);
    free(unit);
}

void pg_unit_begin(struct pg_unit *unit, const char *text, size_t len)
{
    if (unit->count == unit->cap) {
        unit->cap = unit->cap == 0 ? 8 : unit->cap * 2;
        unit->stmts = xrealloc(unit->stmts, unit->cap * sizeof(*unit->stmts));
    }
    unit->stmts[unit->count++] = (struct pg_stmt){
        .text = pg_texts_get(unit->texts, text, len),
        .first_param = unit->param_count,
    };
}

void pg_unit_pop(struct pg_unit *unit, size_t data_len)
{
    const struct pg_stmt *last = &unit->stmts[--unit->count];
    unit->param_count = last->first_param;
    unit->data.len = data_len;
    pg_text_unref(unit->texts, last->text);
}

static void add_param(struct pg_unit *unit, size_t offset, int len, bool is_binary)
{
    assert(unit->count > 0);
    if (unit->param_count == unit->param_cap) {
        unit->param_cap = unit->param_cap == 0 ? 32 : unit->param_cap * 2;
        unit->params = xrealloc(unit->params, unit->param_cap * sizeof(*unit->params));
    }
    unit->params[unit->param_count++] = (struct pg_param){offset, len, is_binary};
    unit->stmts[unit->count - 1].param_count++;
}

void pg_unit_add_null(struct pg_unit *unit)
{
    add_param(unit, 0, -1, false);
}

static void add_bytes(struct pg_unit *unit, const void *data, size_t len, bool is_binary)
{
    size_t offset = unit->data.len;
    char *end = buf_reserve(&unit->data, len + 1);
    if (len > 0) {
        memcpy(end, data, len);
    }
    end[len] = '\0';
    unit->data.len += len + 1;
    add_param(unit, offset, (int)len, is_binary);
}

int pg_unit_add_text(struct pg_unit *unit, const char *data, size_t len, struct err *err)
{
    if (len > 0 && memchr(data, '\0', len) != NULL) {
        return err_set(err, ERR_INVALID, "parameter $%d holds a zero byte; binary data needs pg.bytea",
                       unit->stmts[unit->count - 1].param_count + 1);
    }
    if (len > INT32_MAX / 2) {
        return err_set(err, ERR_LIMIT, "parameter $%d is too large (%zu bytes)",
                       unit->stmts[unit->count - 1].param_count + 1, len);
    }
    add_bytes(unit, data, len, false);
    return 0;
}

void pg_unit_add_bytes(struct pg_unit *unit, const void *data, size_t len)
{
    add_bytes(unit, data, len, true);
}

void pg_unit_add_int(struct pg_unit *unit, int64_t value)
{
    char text[PG_VALUE_MAX];
    add_bytes(unit, text, pg_value_format_int(text, value), false);
}

void pg_unit_add_double(struct pg_unit *unit, double value)
{
    char text[PG_VALUE_MAX];
    add_bytes(unit, text, pg_value_format_double(text, value), false);
}

void pg_unit_add_bool(struct pg_unit *unit, bool value)
{
    add_bytes(unit, value ? "t" : "f", 1, false);
}

void pg_unit_add_timestamp(struct pg_unit *unit, double ms)
{
    char text[PG_VALUE_MAX];
    add_bytes(unit, text, pg_value_format_timestamp(text, ms), false);
}

size_t pg_unit_size(const struct pg_unit *unit)
{
    return unit->data.len + unit->count * 16;
}
