/* How Lua values say what JSON they are: metatables without behaviour that mark a table as array,
 * object or ready-made text. Each Lua state has its own three. JSON null is the light userdata
 * NULL. */
#pragma once

#include <stdbool.h>

#include <lua.h>

enum json_mark {
    JSON_MARK_ARRAY,  /* an array even when empty; set on every decoded array */
    JSON_MARK_OBJECT, /* an object even when it looks like an array */
    JSON_MARK_RAW,    /* element 1 is JSON text, spliced as it is */
    JSON_MARK_COUNT
};

/* Pushes the mark's metatable, made on first use. */
void json_mark_push(lua_State *L, enum json_mark mark);
/* Identity of the metatable (lua_topointer), valid as long as the state. */
const void *json_mark_id(lua_State *L, enum json_mark mark);
/* Marks the table on top of the stack. */
void json_mark_set(lua_State *L, enum json_mark mark);
bool json_mark_has(lua_State *L, int idx, enum json_mark mark);
/* Identity of the metatable of the value at idx, or NULL. */
const void *json_mark_of(lua_State *L, int idx);
