/* host.log: structured lines from Lua. Fields are encoded here, so that a log call needs no other module. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "base/log.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

enum { MAX_FIELDS = 64, MAX_DEPTH = 4, MAX_TEXT = 4096 };

static void append_string(struct buf *buf, const char *text, size_t len)
{
    buf_append_byte(buf, '"');
    for (size_t i = 0; i < len && i < MAX_TEXT; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            buf_append_byte(buf, '\\');
            buf_append_byte(buf, c);
        } else if (c == '\n') {
            buf_append_str(buf, "\\n");
        } else if (c < 0x20) {
            buf_printf(buf, "\\u%04x", c);
        } else {
            buf_append_byte(buf, c);
        }
    }
    if (len > MAX_TEXT) {
        buf_append_str(buf, "...");
    }
    buf_append_byte(buf, '"');
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void append_value(lua_State *L, struct buf *buf, int depth);

/* Members of the table on top, keys sorted; only string keys count. */
static void append_members(lua_State *L, struct buf *buf, int depth)
{
    const char *keys[MAX_FIELDS];
    int count = 0;
    int table = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING && count < MAX_FIELDS) {
            keys[count++] = lua_tostring(L, -1);
        }
    }
    if (count == 0) {
        return;
    }
    qsort(keys, (size_t)count, sizeof(keys[0]), compare_keys);
    for (int i = 0; i < count; i++) {
        if (i > 0) {
            buf_append_byte(buf, ',');
        }
        append_string(buf, keys[i], strlen(keys[i]));
        buf_append_byte(buf, ':');
        lua_getfield(L, table, keys[i]);
        append_value(L, buf, depth);
        lua_pop(L, 1);
    }
}

static void append_array(lua_State *L, struct buf *buf, int depth)
{
    int table = lua_gettop(L);
    int count = (int)lua_objlen(L, table);
    buf_append_byte(buf, '[');
    for (int i = 1; i <= count && i <= MAX_FIELDS; i++) {
        if (i > 1) {
            buf_append_byte(buf, ',');
        }
        lua_rawgeti(L, table, i);
        append_value(L, buf, depth);
        lua_pop(L, 1);
    }
    buf_append_byte(buf, ']');
}

static void append_value(lua_State *L, struct buf *buf, int depth)
{
    size_t len;
    const char *text;
    lua_Number number;
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
        number = lua_tonumber(L, -1);
        if (!isfinite(number)) {
            buf_append_str(buf, "null");
        } else if (number == floor(number) && fabs(number) < 1e15) {
            buf_printf(buf, "%.0f", number);
        } else {
            buf_printf(buf, "%.6g", number);
        }
        break;
    case LUA_TBOOLEAN:
        buf_append_str(buf, lua_toboolean(L, -1) ? "true" : "false");
        break;
    case LUA_TTABLE:
        if (depth >= MAX_DEPTH || !lua_checkstack(L, 8)) {
            buf_append_str(buf, "\"...\"");
        } else if (lua_objlen(L, -1) > 0) {
            append_array(L, buf, depth + 1);
        } else {
            buf_append_byte(buf, '{');
            append_members(L, buf, depth + 1);
            buf_append_byte(buf, '}');
        }
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        append_string(buf, text, len);
        break;
    default:
        buf_append_str(buf, "null");
        break;
    }
}

/* What all lines of the running task say. stack: event, fields or nothing */
static void append_scope(lua_State *L, struct buf *members)
{
    struct buf described;
    buf_init(&described);
    task_push_scope(L, &described);
    int scope = lua_gettop(L);
    if (lua_istable(L, scope)) {
        lua_newtable(L); /* the part of it that the line does not say itself */
        lua_pushnil(L);
        while (lua_next(L, scope) != 0) {
            bool is_new = lua_type(L, -2) == LUA_TSTRING;
            if (is_new && lua_istable(L, 2)) {
                lua_pushvalue(L, -2);
                lua_rawget(L, 2);
                is_new = lua_isnil(L, -1);
                lua_pop(L, 1);
            }
            if (is_new) {
                lua_pushvalue(L, -2);
                lua_insert(L, -2);
                lua_rawset(L, scope + 1);
            } else {
                lua_pop(L, 1);
            }
        }
        append_members(L, &described, 0);
    }
    if (described.len > 0 && members->len > 0) {
        buf_append_byte(members, ',');
    }
    buf_append(members, described.data, described.len);
    buf_deinit(&described);
}

static int write_line(lua_State *L, enum log_level level)
{
    const char *event = luaL_checkstring(L, 1);
    if (!log_is_on(level)) {
        return 0;
    }
    struct buf members;
    buf_init(&members);
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        append_members(L, &members, 0);
    }
    append_scope(L, &members);
    log_fields(level, event, members.data, members.len);
    buf_deinit(&members);
    return 0;
}

static int l_debug(lua_State *L)
{
    return write_line(L, LOG_DEBUG);
}

static int l_info(lua_State *L)
{
    return write_line(L, LOG_INFO);
}

static int l_warn(lua_State *L)
{
    return write_line(L, LOG_WARN);
}

static int l_error(lua_State *L)
{
    return write_line(L, LOG_ERROR);
}

static const char *const level_options[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_options[] = {"json", "text", "colour", NULL};

/* log.set_level("debug"|"info"|"warn"|"error") */
static int l_set_level(lua_State *L)
{
    log_set_level((enum log_level)luaL_checkoption(L, 1, NULL, level_options));
    return 0;
}

/* log.set_format("json"|"text"|"colour") */
static int l_set_format(lua_State *L)
{
    log_set_format((enum log_format)luaL_checkoption(L, 1, NULL, format_options));
    return 0;
}

/* log.enabled(level) -> bool */
static int l_enabled(lua_State *L)
{
    lua_pushboolean(L, log_is_on((enum log_level)luaL_checkoption(L, 1, NULL, level_options)));
    return 1;
}

int luaopen_host_log(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"debug", l_debug},         {"info", l_info},
        {"warn", l_warn},           {"error", l_error},
        {"set_level", l_set_level}, {"set_format", l_set_format},
        {"enabled", l_enabled},     {NULL, NULL},
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
