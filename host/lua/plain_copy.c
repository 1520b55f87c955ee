/* Scalars are the hot path; tables recurse. */
#include "lua/plain_copy.h"

#include "lua/json_mark.h"

struct copier {
    lua_State *from;
    lua_State *to;
    size_t bytes_left;
    struct err *err;
};

static int copy(struct copier *copier, int idx, int depth);

static void copy_mark(struct copier *copier)
{
    const void *mark = json_mark_of(copier->from, -1);
    for (int i = 0; i < JSON_MARK_COUNT && mark != NULL; i++) {
        if (mark == json_mark_id(copier->from, (enum json_mark)i)) {
            json_mark_set(copier->to, (enum json_mark)i);
        }
    }
}

/* Copies the table on top of from's stack. */
static int copy_table(struct copier *copier, int depth)
{
    lua_State *from = copier->from;
    lua_State *to = copier->to;
    if (depth >= PLAIN_COPY_DEPTH) {
        return err_set(copier->err, ERR_LIMIT, "a table is nested deeper than %d (or contains itself)",
                       PLAIN_COPY_DEPTH);
    }
    if (!lua_checkstack(from, 8) || !lua_checkstack(to, 8)) {
        return err_set(copier->err, ERR_LIMIT, "no stack left");
    }
    int top = lua_gettop(to);
    lua_createtable(to, (int)lua_objlen(from, -1), 0);
    lua_pushnil(from);
    while (lua_next(from, -2) != 0) {
        int status = copy(copier, -2, depth + 1);
        if (status == 0) {
            status = copy(copier, -1, depth + 1);
        }
        if (status != 0) {
            lua_pop(from, 2);
            lua_settop(to, top);
            return status;
        }
        lua_rawset(to, -3);
        lua_pop(from, 1);
    }
    copy_mark(copier);
    return 0;
}

static int copy_string(struct copier *copier, int idx)
{
    size_t len;
    const char *text = lua_tolstring(copier->from, idx, &len);
    if (len > copier->bytes_left) {
        return err_set(copier->err, ERR_LIMIT, "a value holds more than %zu MiB of strings",
                       PLAIN_COPY_BYTES >> 20);
    }
    copier->bytes_left -= len;
    lua_pushlstring(copier->to, text, len);
    return 0;
}

static int copy(struct copier *copier, int idx, int depth)
{
    lua_State *from = copier->from;
    lua_State *to = copier->to;
    int type = lua_type(from, idx);
    int status;
    switch (type) {
    case LUA_TNIL:
        lua_pushnil(to);
        return 0;
    case LUA_TBOOLEAN:
        lua_pushboolean(to, lua_toboolean(from, idx));
        return 0;
    case LUA_TNUMBER:
        lua_pushnumber(to, lua_tonumber(from, idx));
        return 0;
    case LUA_TSTRING:
        return copy_string(copier, idx);
    case LUA_TTABLE:
        lua_pushvalue(from, idx);
        status = copy_table(copier, depth);
        lua_settop(from, -2);
        return status;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(from, idx) == NULL) {
            lua_pushlightuserdata(to, NULL);
            return 0;
        }
        break;
    default:
        break;
    }
    return err_set(copier->err, ERR_INVALID, "a %s cannot cross into another state",
                   lua_typename(from, type));
}

int plain_copy(lua_State *from, int idx, lua_State *to, struct err *err)
{
    struct copier copier = {.from = from, .to = to, .bytes_left = PLAIN_COPY_BYTES, .err = err};
    return copy(&copier, idx, 0);
}
