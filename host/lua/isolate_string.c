/* The string functions inside an isolate. C code is invisible to the instruction hook, so
 * everything whose cost grows with its input pays for it here, and patterns run in our own matcher
 * with a step budget. */
#include <string.h>

#include <lauxlib.h>

#include "lua/isolate_inside.h"
#include "lua/pattern.h"

#define STEPS_PER_INSTRUCTION 8
#define MAX_BYTES 7000      /* that string.byte may return */
#define MAX_STEPS 20000000L /* of one call without a budget */

static void begin_pattern(lua_State *L, struct pattern *m, const char *text, size_t len)
{
    size_t subject_len;
    const char *subject = luaL_checklstring(L, 1, &subject_len);
    if (subject_len > ISOLATE_MAX_SUBJECT) {
        luaL_error(L, "subject of a pattern is too long (%d bytes, limit %d)", (int)subject_len,
                   (int)ISOLATE_MAX_SUBJECT);
    }
    if (len > ISOLATE_MAX_PATTERN) {
        luaL_error(L, "pattern is too long (%d bytes, limit %d)", (int)len, (int)ISOLATE_MAX_PATTERN);
    }
    memset(m, 0, sizeof(*m));
    m->subject = subject;
    m->subject_end = subject + subject_len;
    m->text = text;
    m->text_end = text + len;
    int64_t left = isolate_left(isolate_of(L));
    m->steps_left = left > MAX_STEPS / STEPS_PER_INSTRUCTION ? MAX_STEPS : (long)left * STEPS_PER_INSTRUCTION;
}

/* Books the steps since before; raises what stopped the match. */
static void settle(lua_State *L, struct pattern *m, long before)
{
    long steps = before - m->steps_left;
    isolate_charge(L, (size_t)(steps > 0 ? steps : 0) / STEPS_PER_INSTRUCTION);
    int64_t left = isolate_left(isolate_of(L));
    if (m->out_of_steps && left != ISOLATE_NO_LIMIT) {
        isolate_charge(L, (size_t)left + 1);
    }
    if (m->error != NULL) {
        luaL_error(L, "%s", m->error);
    }
}

static void push_capture(lua_State *L, struct pattern *m, int i, const char *start, const char *end)
{
    if (i >= m->level) {
        if (i > 0) {
            luaL_error(L, "invalid capture index");
        }
        lua_pushlstring(L, start, (size_t)(end - start));
    } else if (m->captures[i].len == PATTERN_OPEN) {
        luaL_error(L, "unfinished capture");
    } else if (m->captures[i].len == PATTERN_POSITION) {
        lua_pushinteger(L, m->captures[i].start - m->subject + 1);
    } else {
        lua_pushlstring(L, m->captures[i].start, (size_t)m->captures[i].len);
    }
}

/* All captures, or the whole match when there are none (unless whole is false). Returns how many.
 */
static int push_captures(lua_State *L, struct pattern *m, const char *start, const char *end, bool whole)
{
    int count = m->level == 0 && whole ? 1 : m->level;
    luaL_checkstack(L, count, "too many captures");
    for (int i = 0; i < count; i++) {
        push_capture(L, m, i, start, end);
    }
    return count;
}

static size_t start_offset(lua_State *L, int idx, size_t len)
{
    lua_Number init = luaL_optnumber(L, idx, 1);
    if (init < 0) {
        init += (lua_Number)len + 1;
    }
    init = init < 1 ? 1 : init;
    return init > (lua_Number)len ? len : (size_t)init - 1;
}

/* First match at or after from, or NULL. *end is behind it. */
static const char *search(struct pattern *m, const char *from, const char **end)
{
    bool anchored = m->text < m->text_end && *m->text == '^';
    m->text += anchored;
    for (const char *at = from; at <= m->subject_end && m->error == NULL; at++) {
        *end = pattern_match_at(m, at);
        if (*end != NULL) {
            return at;
        }
        if (anchored) {
            break;
        }
    }
    return NULL;
}

static int find_plain(lua_State *L, const char *subject, size_t len, size_t from, const char *text,
                      size_t text_len)
{
    isolate_charge(L, (len - from) / 64);
    const char *found = memmem(subject + from, len - from, text, text_len);
    if (found == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, found - subject + 1);
    lua_pushinteger(L, found - subject + (ptrdiff_t)text_len);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t len;
    size_t text_len;
    const char *subject = luaL_checklstring(L, 1, &len);
    const char *text = luaL_checklstring(L, 2, &text_len);
    size_t from = start_offset(L, 3, len);
    if (find && (lua_toboolean(L, 4) || pattern_is_plain(text, text_len))) {
        return find_plain(L, subject, len, from, text, text_len);
    }
    struct pattern m;
    begin_pattern(L, &m, text, text_len);
    long before = m.steps_left;
    const char *end;
    const char *start = search(&m, subject + from, &end);
    settle(L, &m, before);
    if (start == NULL) {
        lua_pushnil(L);
        return 1;
    }
    if (find) {
        lua_pushinteger(L, start - subject + 1);
        lua_pushinteger(L, end - subject);
        return 2 + push_captures(L, &m, start, end, false);
    }
    return push_captures(L, &m, start, end, true);
}

/* string.find(s, pattern [, init [, plain]]) */
static int l_find(lua_State *L)
{
    return find_or_match(L, true);
}

/* string.match(s, pattern [, init]) */
static int l_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* upvalues: subject, pattern, offset of the next try */
static int gmatch_next(lua_State *L)
{
    size_t text_len;
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    const char *text = lua_tolstring(L, lua_upvalueindex(2), &text_len);
    struct pattern m;
    begin_pattern(L, &m, text, text_len);
    long before = m.steps_left;
    const char *at = m.subject + lua_tointeger(L, lua_upvalueindex(3));
    for (; at <= m.subject_end && m.error == NULL; at++) {
        const char *end = pattern_match_at(&m, at);
        if (end != NULL) {
            settle(L, &m, before);
            lua_pushinteger(L, end - m.subject + (end == at));
            lua_replace(L, lua_upvalueindex(3));
            return push_captures(L, &m, at, end, true);
        }
    }
    settle(L, &m, before);
    return 0;
}

/* string.gmatch(s, pattern) -> iterator */
static int l_gmatch(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* Appends text with %0..%9 and %% replaced. */
static void expand(lua_State *L, struct pattern *m, luaL_Buffer *out, const char *start, const char *end)
{
    size_t len;
    const char *text = lua_tolstring(L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            luaL_addchar(out, text[i]);
            continue;
        }
        i++;
        char c = i < len ? text[i] : '\0';
        if (c == '0') {
            luaL_addlstring(out, start, (size_t)(end - start));
        } else if (c >= '1' && c <= '9') {
            push_capture(L, m, c - '1', start, end);
            luaL_addvalue(out);
        } else if (i < len) {
            luaL_addchar(out, c);
        } else {
            luaL_error(L, "malformed replacement (ends with '%%')");
        }
    }
}

/* Appends what replaces this match. stack: subject, pattern, replacement, limit, and whatever out
 * keeps above */
static void replace_match(lua_State *L, struct pattern *m, luaL_Buffer *out, const char *start,
                          const char *end)
{
    int type = lua_type(L, 3);
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        expand(L, m, out, start, end);
        return;
    }
    if (type == LUA_TTABLE) {
        push_capture(L, m, 0, start, end);
        lua_rawget(L, 3);
    } else {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(L, m, start, end, true), 1);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, start, (size_t)(end - start));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    } else {
        luaL_addvalue(out);
    }
}

static void check_length(lua_State *L, size_t len)
{
    if (len > ISOLATE_MAX_STRING) {
        luaL_error(L, "string limit exceeded (%d bytes)", (int)ISOLATE_MAX_STRING);
    }
}

/* string.gsub(s, pattern, string|table|function [, limit]) -> text, count */
static int l_gsub(lua_State *L)
{
    size_t text_len;
    const char *text = luaL_checklstring(L, 2, &text_len);
    int type = lua_type(L, 3);
    luaL_argcheck(L,
                  type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE,
                  3, "string/function/table expected");
    struct pattern m;
    begin_pattern(L, &m, text, text_len);
    lua_Number limit = luaL_optnumber(L, 4, (lua_Number)(m.subject_end - m.subject) + 1);
    lua_settop(L, 4);
    bool anchored = text_len > 0 && *text == '^';
    m.text += anchored;
    int count = 0;
    size_t made = 0; /* bytes of replacements, bounded before they pile up */
    size_t replacement_len = type == LUA_TSTRING ? lua_objlen(L, 3) : 16;
    const char *at = m.subject;
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    while (count < limit) {
        long before = m.steps_left;
        const char *end = pattern_match_at(&m, at);
        settle(L, &m, before);
        if (end != NULL) {
            count++;
            made += replacement_len;
            check_length(L, made);
            isolate_charge(L, 1 + replacement_len / 64);
            replace_match(L, &m, &out, at, end);
        }
        if (end != NULL && end > at) {
            at = end;
        } else if (at < m.subject_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored) {
            break;
        }
    }
    luaL_addlstring(&out, at, (size_t)(m.subject_end - at));
    luaL_pushresult(&out);
    lua_pushinteger(L, count);
    return 2;
}

/* string.rep(s, n [, separator]) */
static int l_rep(lua_State *L)
{
    size_t len;
    size_t separator_len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Number count = luaL_checknumber(L, 2);
    const char *separator = luaL_optlstring(L, 3, "", &separator_len);
    if (!(count >= 1)) {
        lua_pushlstring(L, "", 0);
        return 1;
    }
    /* the count as a double: it may be far beyond any integer */
    if (count * (double)(len + separator_len) > (double)(ISOLATE_MAX_STRING + separator_len)) {
        check_length(L, ISOLATE_MAX_STRING + 1);
    }
    if (len + separator_len == 0) {
        lua_pushlstring(L, "", 0);
        return 1;
    }
    size_t times = (size_t)count;
    isolate_charge(L, times * (len + separator_len) / 64);
    struct buf *out = isolate_scratch(isolate_of(L));
    for (size_t i = 0; i < times; i++) {
        buf_append(out, text, len);
        buf_append(out, separator, i + 1 < times ? separator_len : 0);
    }
    lua_pushlstring(L, out->data == NULL ? "" : out->data, out->len);
    return 1;
}

/* string.format(...): upvalue 1 is the library's own, which would print addresses and call
 * metamethods. */
static int l_format(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    int args = lua_gettop(L);
    size_t total = len;
    for (int i = 2; i <= args; i++) {
        int type = lua_type(L, i);
        luaL_argcheck(L, type <= LUA_TSTRING && type != LUA_TLIGHTUSERDATA, i,
                      "only strings, numbers, booleans and nil can be formatted");
        total += type == LUA_TSTRING ? lua_objlen(L, i) * 4 : 110; /* %q may escape every byte; %99.99f */
    }
    for (const char *p = memchr(text, '%', len); p != NULL; p = memchr(p, '%', (size_t)(text + len - p))) {
        p += 1 + strspn(p + 1, "-+ #0123456789.");
        if (*p == 'p') {
            return luaL_error(L, "invalid conversion '%%p' to 'format'");
        }
        p += p < text + len;
    }
    if (total > ISOLATE_MAX_STRING) {
        check_length(L, total / 4);
    }
    isolate_charge(L, total / 64);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, args, 1);
    return 1;
}

/* string.byte(s [, from [, to]]): a range is one instruction for up to 8000 values. */
static int l_byte(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Number from = luaL_optnumber(L, 2, 1);
    lua_Number to = luaL_optnumber(L, 3, from);
    from = from < 0 ? from + (lua_Number)len + 1 : from;
    to = to < 0 ? to + (lua_Number)len + 1 : to;
    size_t first = from > 1 ? (size_t)(from > (lua_Number)len ? (lua_Number)len + 1 : from) : 1;
    size_t last = to > (lua_Number)len ? len : (size_t)(to > 0 ? to : 0);
    if (first > last) {
        return 0;
    }
    size_t count = last - first + 1;
    if (count > MAX_BYTES) {
        return luaL_error(L, "string slice too long");
    }
    luaL_checkstack(L, (int)count, "string slice too long");
    isolate_charge(L, count / 16);
    for (size_t i = first; i <= last; i++) {
        lua_pushinteger(L, (unsigned char)text[i - 1]);
    }
    return (int)count;
}

/* lower, upper, reverse; upvalue 1 is the library's own. */
static int l_linear(lua_State *L)
{
    size_t len;
    (void)luaL_checklstring(L, 1, &len);
    isolate_charge(L, len / 64);
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static const luaL_Reg own_functions[] = {
    {"byte", l_byte}, {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch},
    {"gsub", l_gsub}, {"rep", l_rep},   {NULL, NULL},
};

static const luaL_Reg wrapped_functions[] = {
    {"format", l_format}, {"lower", l_linear}, {"upper", l_linear}, {"reverse", l_linear}, {NULL, NULL},
};

/* Constant cost, or bounded by the stack. */
static const char *const kept_functions[] = {"char", "len", "sub", NULL};

static void fill(lua_State *L, int library, int table)
{
    luaL_setfuncs(L, own_functions, 0);
    for (const luaL_Reg *function = wrapped_functions; function->name != NULL; function++) {
        lua_getfield(L, library, function->name);
        lua_pushcclosure(L, function->func, 1);
        lua_setfield(L, table, function->name);
    }
    for (const char *const *name = kept_functions; *name != NULL; name++) {
        lua_getfield(L, library, *name);
        lua_setfield(L, table, *name);
    }
}

void isolate_open_string(lua_State *L)
{
    lua_getglobal(L, "string");
    int library = lua_gettop(L);
    /* Two tables: scripts may get at the global one by an environment, at the metatable's never. */
    lua_newtable(L);
    fill(L, library, library + 1);
    lua_setglobal(L, "string");
    lua_newtable(L);
    lua_newtable(L);
    fill(L, library, library + 2);
    lua_setfield(L, library + 1, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, library + 1, "__metatable");
    lua_pushlstring(L, "", 0);
    lua_pushvalue(L, library + 1);
    lua_setmetatable(L, -2);
    lua_settop(L, library - 1);
}
