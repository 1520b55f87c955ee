/* host.pg: parameters from Lua values, Lua values from result cells, errors. */
#include "lua/l_pg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/num.h"
#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "pg/pg_unit.h"
#include "pg/pg_value.h"

/* Wrapped parameters are tables { value } whose metatable holds one of these addresses at [1]. */
static char kind_array;
static char kind_bytea;
static char kind_ts;

static const double MAX_EXACT = 9007199254740992.0; /* 2^53 */

/* --- parameters ----------------------------------------------------------------------------- */

static void add_number(struct pg_unit *unit, double value)
{
    if (value >= -MAX_EXACT && value <= MAX_EXACT && value == (double)(int64_t)value) {
        pg_unit_add_int(unit, (int64_t)value);
    } else {
        pg_unit_add_double(unit, value);
    }
}

/* One element of pg.array{...}; the element is on top. */
static int append_element(lua_State *L, struct buf *buf, struct err *err)
{
    size_t len;
    char text[PG_VALUE_MAX];
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
        buf_append(buf, text, pg_value_format_double(text, lua_tonumber(L, -1)));
        break;
    case LUA_TBOOLEAN:
        buf_append_byte(buf, lua_toboolean(L, -1) ? 't' : 'f');
        break;
    case LUA_TSTRING: {
        const char *data = lua_tolstring(L, -1, &len);
        pg_value_append_element(buf, data, len);
        break;
    }
    case LUA_TNIL:
    case LUA_TLIGHTUSERDATA: /* json.null */
        buf_append_str(buf, "NULL");
        break;
    default:
        return err_set(err, ERR_INVALID, "pg.array: strings, numbers and booleans expected, got a %s",
                       luaL_typename(L, -1));
    }
    return 0;
}

static int add_array(lua_State *L, int idx, struct pg_unit *unit, struct err *err)
{
    struct buf text;
    buf_init(&text);
    lua_getfield(L, idx, "n");
    int count = lua_isnumber(L, -1) ? (int)lua_tointeger(L, -1) : (int)lua_objlen(L, idx);
    lua_pop(L, 1);
    int status = 0;
    buf_append_byte(&text, '{');
    for (int i = 1; i <= count && status == 0; i++) {
        if (i > 1) {
            buf_append_byte(&text, ',');
        }
        lua_rawgeti(L, idx, i);
        status = append_element(L, &text, err);
        lua_pop(L, 1);
    }
    buf_append_byte(&text, '}');
    if (status == 0) {
        status = pg_unit_add_text(unit, text.data, text.len, err);
    }
    buf_deinit(&text);
    return status;
}

static int bad_param(lua_State *L, int idx)
{
    return luaL_error(L,
                      "a SQL parameter cannot be a %s (pg.array, pg.bytea, pg.ts wrap what is not a scalar)",
                      luaL_typename(L, idx));
}

/* The kind of a wrapped parameter, NULL for other tables. */
static const void *kind_of(lua_State *L, int idx)
{
    if (!lua_getmetatable(L, idx)) {
        return NULL;
    }
    lua_rawgeti(L, -1, 1);
    const void *kind = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return kind == &kind_array || kind == &kind_bytea || kind == &kind_ts ? kind : NULL;
}

static int add_wrapped(lua_State *L, int idx, struct pg_unit *unit, struct err *err)
{
    const void *kind = kind_of(L, idx);
    if (kind == NULL) {
        return bad_param(L, idx);
    }
    if (kind == &kind_array) {
        return add_array(L, idx, unit, err);
    }
    lua_rawgeti(L, idx, 1);
    if (kind == &kind_bytea) {
        size_t len;
        const char *data = lua_tolstring(L, -1, &len);
        pg_unit_add_bytes(unit, data, len);
    } else {
        pg_unit_add_timestamp(unit, lua_tonumber(L, -1));
    }
    lua_pop(L, 1);
    return 0;
}

void l_pg_check_param(lua_State *L, int idx)
{
    int type = lua_type(L, idx);
    bool is_good = type < LUA_TTABLE && (type != LUA_TLIGHTUSERDATA || lua_touserdata(L, idx) == NULL);
    if (type == LUA_TTABLE) {
        is_good = kind_of(L, idx) != NULL;
    } else if (type == LUA_TUSERDATA) {
        size_t len;
        struct bytes *shared;
        is_good = arg_check_bytes(L, idx, &len, &shared) != NULL;
    }
    if (!is_good) {
        (void)bad_param(L, idx);
    }
}

int l_pg_add_param(lua_State *L, int idx, struct pg_unit *unit, struct err *err)
{
    switch (lua_type(L, idx)) {
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, idx, &len);
        return pg_unit_add_text(unit, text, len, err);
    }
    case LUA_TNUMBER:
        add_number(unit, lua_tonumber(L, idx));
        return 0;
    case LUA_TNIL:
        pg_unit_add_null(unit);
        return 0;
    case LUA_TBOOLEAN:
        pg_unit_add_bool(unit, lua_toboolean(L, idx));
        return 0;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, idx) != NULL) {
            return bad_param(L, idx);
        }
        pg_unit_add_null(unit); /* json.null */
        return 0;
    case LUA_TTABLE:
        return add_wrapped(L, idx, unit, err);
    case LUA_TUSERDATA: {
        size_t len;
        struct bytes *shared;
        const char *data = arg_check_bytes(L, idx, &len, &shared);
        pg_unit_add_bytes(unit, data, len);
        return 0;
    }
    default:
        return bad_param(L, idx);
    }
}

int l_pg_add_stmt(lua_State *L, int text_idx, int params_idx, struct pg_unit *unit, struct err *err)
{
    size_t len;
    const char *text = luaL_checklstring(L, text_idx, &len);
    pg_unit_begin(unit, text, len);
    if (lua_isnoneornil(L, params_idx)) {
        return 0;
    }
    luaL_checktype(L, params_idx, LUA_TTABLE);
    lua_getfield(L, params_idx, "n");
    int count = lua_isnumber(L, -1) ? (int)lua_tointeger(L, -1) : (int)lua_objlen(L, params_idx);
    lua_pop(L, 1);
    if (count < 0 || count > PG_MAX_PARAMS) {
        return err_set(err, ERR_LIMIT, "a statement takes at most %d parameters, not %d", PG_MAX_PARAMS,
                       count);
    }
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, params_idx, i);
        int status = l_pg_add_param(L, lua_gettop(L), unit, err);
        lua_pop(L, 1);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

int l_pg_add_batch(lua_State *L, int idx, struct pg_unit *unit, struct err *err)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    int count = (int)lua_objlen(L, idx);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, idx, i);
        if (!lua_istable(L, -1)) {
            return luaL_argerror(L, idx, "an array of { text, params } expected");
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2); /* stack: ..., entry, text, params */
        int top = lua_gettop(L);
        int status = l_pg_add_stmt(L, top - 1, top, unit, err);
        lua_pop(L, 3);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int unit_gc(lua_State *L)
{
    struct pg_unit **box = lua_touserdata(L, 1);
    pg_unit_unref(*box);
    *box = NULL;
    return 0;
}

struct pg_unit **l_pg_push_unit(lua_State *L, struct pg_pool *pool)
{
    struct pg_unit **box = lua_newuserdata(L, sizeof(*box));
    *box = pg_pool_unit(pool);
    if (luaL_newmetatable(L, "host.pg.box")) {
        lua_pushcfunction(L, unit_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return box;
}

static int wrap(lua_State *L, const char *meta)
{
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    luaL_getmetatable(L, meta);
    lua_setmetatable(L, -2);
    return 1;
}

/* pg.bytea(bytes) -> parameter */
static int l_bytea(lua_State *L)
{
    (void)luaL_checkstring(L, 1);
    return wrap(L, "host.pg.bytea");
}

/* pg.ts(milliseconds) -> timestamptz parameter */
static int l_ts(lua_State *L)
{
    (void)luaL_checknumber(L, 1);
    return wrap(L, "host.pg.ts");
}

/* pg.array(t) -> t, marked as an array parameter */
static int l_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_getmetatable(L, "host.pg.array");
    lua_setmetatable(L, 1);
    return 1;
}

static void register_kind(lua_State *L, const char *meta, const char *name, void *kind, lua_CFunction fn)
{
    luaL_newmetatable(L, meta);
    lua_pushlightuserdata(L, kind);
    lua_rawseti(L, -2, 1);
    lua_pop(L, 1);
    lua_pushcfunction(L, fn);
    lua_setfield(L, -2, name);
}

void l_pg_register_values(lua_State *L)
{
    register_kind(L, "host.pg.array", "array", &kind_array, l_array);
    register_kind(L, "host.pg.bytea", "bytea", &kind_bytea, l_bytea);
    register_kind(L, "host.pg.ts", "ts", &kind_ts, l_ts);
}

/* --- results -------------------------------------------------------------------------------- */

static void push_int8(lua_State *L, const char *text, size_t len)
{
    int64_t value;
    if (num_parse_i64(text, len, &value) && value >= -(int64_t)MAX_EXACT && value <= (int64_t)MAX_EXACT) {
        lua_pushnumber(L, (lua_Number)value);
    } else {
        lua_pushlstring(L, text, len);
    }
}

static void push_bytea(lua_State *L, const char *text, size_t len)
{
    struct buf bytes;
    buf_init(&bytes);
    if (pg_value_parse_bytea(text, len, &bytes)) {
        lua_pushlstring(L, bytes.data == NULL ? "" : bytes.data, bytes.len);
    } else {
        lua_pushlstring(L, text, len);
    }
    buf_deinit(&bytes);
}

static void push_cell(lua_State *L, unsigned type, const char *text, size_t len)
{
    double value;
    switch (type) {
    case PG_INT2:
    case PG_INT4:
    case PG_INT8:
    case PG_OID:
        push_int8(L, text, len);
        return;
    case PG_BOOL:
        lua_pushboolean(L, text[0] == 't');
        return;
    case PG_FLOAT4:
    case PG_FLOAT8:
        lua_pushnumber(L, strtod(text, NULL)); /* NUL-terminated; knows NaN and Infinity */
        return;
    case PG_NUMERIC:
        if (pg_value_parse_exact(text, len, &value)) {
            lua_pushnumber(L, value);
            return;
        }
        break;
    case PG_TIMESTAMPTZ:
        if (pg_value_parse_timestamp(text, len, &value)) {
            lua_pushnumber(L, value);
            return;
        }
        break;
    case PG_BYTEA:
        push_bytea(L, text, len);
        return;
    default:
        break;
    }
    lua_pushlstring(L, text, len);
}

/* { rows = { {column = value}, ... } | nil, n = affected or row count } */
void l_pg_push_result(lua_State *L, const struct pg_result *result)
{
    int columns = result->column_count;
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (lua_Number)result->affected);
    lua_setfield(L, -2, "n");
    lua_createtable(L, (int)result->row_count, 0); /* stack: result, rows */
    int rows = lua_gettop(L);
    if (!lua_checkstack(L, columns + 8)) {
        abort(); /* PostgreSQL has at most 1664 columns */
    }
    for (int i = 0; i < columns; i++) {
        lua_pushstring(L, result->data.data + result->columns[i].name);
    }
    const struct pg_cell *cell = result->cells;
    for (size_t row = 0; row < result->row_count; row++) {
        lua_createtable(L, 0, columns);
        for (int i = 0; i < columns; i++, cell++) {
            if (cell->len >= 0) {
                lua_pushvalue(L, rows + 1 + i);
                push_cell(L, result->columns[i].type, result->data.data + cell->offset, (size_t)cell->len);
                lua_rawset(L, -3);
            }
        }
        lua_rawseti(L, rows, (int)row + 1);
    }
    lua_settop(L, rows);
    lua_setfield(L, -2, "rows");
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (text[0] != '\0') {
        lua_pushstring(L, text);
        lua_setfield(L, -2, name);
    }
}

static void set_int(lua_State *L, const char *name, size_t value)
{
    if (value != 0) {
        lua_pushnumber(L, (lua_Number)value);
        lua_setfield(L, -2, name);
    }
}

int l_pg_push_failure(lua_State *L, void *arg)
{
    const struct pg_failure *failure = arg;
    lua_pushnil(L);
    arg_push_err(L, &failure->err);
    set_text(L, "sqlstate", failure->sqlstate);
    set_text(L, "constraint", failure->constraint);
    set_text(L, "table", failure->table);
    if (failure->detail[0] != '\0') { /* the server's words say more than the packed SQLSTATE */
        lua_pushstring(L, failure->detail);
        lua_setfield(L, -2, "detail");
    }
    set_int(L, "position", (size_t)failure->position);
    set_int(L, "index", failure->index);
    if (failure->is_maybe_done) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "maybe_done");
    }
    return 2;
}

/* --- waiting for a request ------------------------------------------------------------------ */

static void cancel_request(void *arg)
{
    const struct l_request *op = arg;
    pg_pool_cancel(op->pool, op->request);
}

struct l_request *l_request_begin(lua_State *L, struct pg_pool *pool)
{
    struct task_wait *wait = task_wait_begin(L, cancel_request);
    struct l_request *op = xcalloc(1, sizeof(*op));
    op->wait = wait;
    op->pool = pool;
    task_wait_set_op(wait, op);
    return op;
}

int l_request_fail(lua_State *L, struct l_request *op, const struct err *err)
{
    struct task_wait *wait = op->wait;
    free(op);
    return task_wait_fail(L, wait, err);
}

void l_request_wake_failure(struct l_request *op, const struct pg_failure *failure)
{
    if (failure->err.code == ERR_CANCELLED) {
        task_wake_err(op->wait, &failure->err);
    } else {
        task_wake(op->wait, l_pg_push_failure, (void *)failure);
    }
    free(op);
}

struct outcome {
    struct pg_result *results;
    size_t count;
};

static int push_one(lua_State *L, void *arg)
{
    static const struct pg_result nothing;
    const struct outcome *outcome = arg;
    l_pg_push_result(L, outcome->count == 0 ? &nothing : &outcome->results[0]);
    return 1;
}

static int push_many(lua_State *L, void *arg)
{
    const struct outcome *outcome = arg;
    lua_createtable(L, (int)outcome->count, 0);
    for (size_t i = 0; i < outcome->count; i++) {
        l_pg_push_result(L, &outcome->results[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static void wake(struct l_request *op, task_push_fn push, struct pg_result *results, size_t count)
{
    struct outcome outcome = {results, count};
    task_wake(op->wait, push, &outcome);
    free(op);
}

void l_request_on_one(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    if (failure != NULL) {
        l_request_wake_failure(arg, failure);
    } else {
        wake(arg, push_one, results, count);
    }
}

void l_request_on_many(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    if (failure != NULL) {
        l_request_wake_failure(arg, failure);
    } else {
        wake(arg, push_many, results, count);
    }
}

void l_request_on_true(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure)
{
    struct l_request *op = arg;
    if (failure != NULL) {
        l_request_wake_failure(op, failure);
    } else {
        task_wake_true(op->wait);
        free(op);
    }
}
