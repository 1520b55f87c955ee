/* Turns whatever was raised into a message, a file and a line. Only raw access: an error value may
 * be a table with metamethods. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "lua/isolate_inside.h"

#define MAX_MESSAGE 1000
#define MAX_TRACEBACK 4000
#define MAX_FRAMES 200

static void set_text(struct buf *buf, const char *text, size_t len, size_t max)
{
    buf_clear(buf);
    buf_append(buf, text, len < max ? len : max);
    buf_append_byte(buf, '\0');
}

/* Chunks of scripts carry "@path" names, trusted ones "=name". */
static const char *chunk_path(const char *source)
{
    return *source == '@' || *source == '=' ? source + 1 : source;
}

/* Where it went wrong: the innermost script frame (then true), else the innermost frame of trusted
 * code. */
static bool locate_by_frames(struct isolate *isolate, lua_State *L)
{
    lua_Debug ar;
    bool found = false;
    for (int level = 0; level < MAX_FRAMES && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0) {
            continue;
        }
        bool is_script = *ar.source == '@';
        if (is_script || !found) {
            const char *path = chunk_path(ar.source);
            set_text(&isolate->file, path, strlen(path), MAX_MESSAGE);
            isolate->failure.line = ar.currentline;
            found = true;
        }
        if (is_script) {
            return true;
        }
    }
    return false;
}

/* Splits "path:12: text". Returns the text; line 0 when there is no such prefix. */
static const char *split_position(const char *message, size_t *path_len, int *line)
{
    *line = 0;
    for (const char *colon = strchr(message, ':'); colon != NULL; colon = strchr(colon + 1, ':')) {
        char *end;
        long number = strtol(colon + 1, &end, 10);
        if (end != colon + 1 && *end == ':' && end[1] == ' ' && number > 0 && number < 10000000) {
            *path_len = (size_t)(colon - message);
            *line = (int)number;
            return end + 2;
        }
        if (colon[1] == ' ' || colon[1] == '\0') {
            break; /* prose, not a position */
        }
    }
    return message;
}

/* The frame whose short chunk name is this text. */
static bool find_chunk(lua_State *L, const char *text, size_t len, lua_Debug *ar)
{
    for (int level = 0; level < MAX_FRAMES && lua_getstack(L, level, ar); level++) {
        if (lua_getinfo(L, "S", ar) && strlen(ar->short_src) == len &&
            memcmp(ar->short_src, text, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Takes the position out of the message. A syntax error has no frame, and error(text, level) names
 * a frame of its choice: both are followed; positions in trusted code are only noise to the author
 * of a script. */
static void use_position(struct isolate *isolate, lua_State *L, const char *text, bool in_script)
{
    size_t path_len = 0;
    int line;
    const char *rest = split_position(text, &path_len, &line);
    lua_Debug ar;
    if (line > 0 && find_chunk(L, text, path_len, &ar)) {
        if (*ar.source == '@') {
            const char *path = chunk_path(ar.source);
            set_text(&isolate->file, path, strlen(path), MAX_MESSAGE);
            isolate->failure.line = line;
        }
    } else if (line > 0 && !in_script) {
        set_text(&isolate->file, text, path_len, MAX_MESSAGE);
        isolate->failure.line = line;
    } else {
        rest = text;
    }
    set_text(&isolate->message, rest, strlen(rest), MAX_MESSAGE);
}

int isolate_on_error(lua_State *L)
{
    struct isolate *isolate = isolate_of(L);
    isolate_lift_cap(isolate);
    isolate->failure.line = 0;
    set_text(&isolate->file, "", 0, 0);
    bool in_script = locate_by_frames(isolate, L);
    size_t len;
    int type = lua_type(L, -1);
    if (type == LUA_TSTRING) {
        use_position(isolate, L, lua_tolstring(L, -1, &len), in_script);
    } else if (type == LUA_TNUMBER) {
        char number[40];
        int n = snprintf(number, sizeof(number), "%.14g", lua_tonumber(L, -1));
        set_text(&isolate->message, number, (size_t)n, MAX_MESSAGE);
    } else {
        char text[60];
        int n = snprintf(text, sizeof(text), "error value is a %s", lua_typename(L, type));
        set_text(&isolate->message, text, (size_t)n, MAX_MESSAGE);
    }
    luaL_traceback(L, L, NULL, 1);
    const char *trace = lua_tolstring(L, -1, &len);
    set_text(&isolate->traceback, trace, len, MAX_TRACEBACK);
    lua_pop(L, 1);
    return 1;
}

static const char *breach_text(const struct isolate *isolate, char *out, size_t size)
{
    switch (isolate->breach) {
    case BREACH_INSTRUCTIONS:
        snprintf(out, size, "instruction limit exceeded (%lld)", (long long)isolate->budget);
        break;
    case BREACH_WALL:
        snprintf(out, size, "time limit exceeded (%d ms)", isolate->call_wall_ms);
        break;
    case BREACH_DEPTH:
        snprintf(out, size, "call depth limit exceeded (%d)", ISOLATE_MAX_DEPTH);
        break;
    default:
        snprintf(out, size, "memory limit exceeded (%zu KiB in use, limit %zu KiB)", isolate->used >> 10,
                 isolate->call_limit >> 10);
        break;
    }
    return out;
}

void isolate_explain(struct isolate *isolate, int status)
{
    char text[120];
    bool has_trace = status == LUA_ERRRUN || status == LUA_ERRSYNTAX;
    isolate->failure.code = ERR_SCRIPT;
    if (status == LUA_ERRMEM && isolate->breach == BREACH_NONE) {
        isolate->breach = BREACH_GROWTH;
    }
    if (!has_trace) {
        /* Memory errors and errors in the handler arrive without a visit there. */
        isolate->failure.line = 0;
        set_text(&isolate->file, "", 0, 0);
        set_text(&isolate->traceback, "", 0, 0);
        set_text(&isolate->message, "error in error handling", 23, MAX_MESSAGE);
    }
    if (isolate->breach != BREACH_NONE) {
        isolate->failure.code = ERR_LIMIT;
        breach_text(isolate, text, sizeof(text));
        set_text(&isolate->message, text, strlen(text), MAX_MESSAGE);
    } else if (strstr(isolate->message.data, "stack overflow") != NULL || status == LUA_ERRERR) {
        isolate->failure.code = ERR_LIMIT;
        isolate->breach = BREACH_DEPTH;
    }
    isolate->failure.message = isolate->message.data;
    isolate->failure.file = isolate->file.data;
    isolate->failure.traceback = isolate->traceback.data;
}
