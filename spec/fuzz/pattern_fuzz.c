/* Patterns: the bounded matcher never crashes, and where it comes to an end it agrees with LuaJIT's own
 * string.find. Input: the pattern, a zero byte, the subject. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lua/pattern.h"

#define MAX_PATTERN 64
#define MAX_SUBJECT 64
#define MAX_STEPS 20000 /* small enough for the library's unbounded matcher to finish, too */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct found {
    const char *start; /* NULL: no match */
    const char *end;
};

static struct found search(struct pattern *m)
{
    bool anchored = m->text < m->text_end && *m->text == '^';
    m->text += anchored;
    for (const char *at = m->subject; at <= m->subject_end && m->error == NULL; at++) {
        const char *end = pattern_match_at(m, at);
        if (end != NULL) {
            return (struct found){at, end};
        }
        if (anchored) {
            break;
        }
    }
    return (struct found){NULL, NULL};
}

/* stack: ..., results of string.find */
static void compare_captures(lua_State *L, const struct pattern *m, int first)
{
    if (lua_gettop(L) - first + 1 != m->level) {
        abort();
    }
    for (int i = 0; i < m->level; i++) {
        size_t len;
        const char *text = lua_tolstring(L, first + i, &len);
        if (m->captures[i].len == PATTERN_POSITION) {
            if (lua_tointeger(L, first + i) != m->captures[i].start - m->subject + 1) {
                abort();
            }
        } else if (len != (size_t)m->captures[i].len || memcmp(text, m->captures[i].start, len) != 0) {
            abort();
        }
    }
}

static bool has_open_capture(const struct pattern *m)
{
    for (int i = 0; i < m->level; i++) {
        if (m->captures[i].len == PATTERN_OPEN) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = luaL_newstate();
        luaL_openlibs(L);
    }
    const uint8_t *zero = memchr(data, 0, size);
    if (zero == NULL || zero - data > MAX_PATTERN || size - (size_t)(zero - data) > MAX_SUBJECT + 1) {
        return 0;
    }
    size_t text_len = (size_t)(zero - data);
    size_t len = size - text_len - 1;
    lua_settop(L, 0);
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "find");
    lua_pushlstring(L, (const char *)zero + 1, len);
    lua_pushlstring(L, (const char *)data, text_len);
    struct pattern m = {.subject = lua_tostring(L, 3), .text = lua_tostring(L, 4), .steps_left = MAX_STEPS};
    m.subject_end = m.subject + len;
    m.text_end = m.text + text_len;
    struct found found = search(&m);
    if (m.error != NULL || pattern_is_plain((const char *)data, text_len)) {
        return 0; /* errors may come earlier or later than the library's: it looks at items lazily */
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    if (lua_pcall(L, 2, LUA_MULTRET, 0) != 0) {
        if (found.start != NULL && !has_open_capture(&m)) {
            abort();
        }
        return 0;
    }
    if (found.start == NULL) {
        if (!lua_isnil(L, 5)) {
            abort();
        }
        return 0;
    }
    if (lua_tointeger(L, 5) != found.start - m.subject + 1 || lua_tointeger(L, 6) != found.end - m.subject) {
        abort();
    }
    compare_captures(L, &m, 7);
    return 0;
}
