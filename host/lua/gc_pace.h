/* How often the collector of a Lua state runs. LuaJIT knows a share only: a cycle begins when the heap has
 * grown by so many percent. Of a small heap that is little, and it is marked again and again; so the heap of
 * a busy state may grow by an allowance at least, a larger one may double within some allowances, and beyond
 * it grows by its share. */
#pragma once

#include <stddef.h>

#include <lua.h>

struct gc_pace {
    size_t allowance; /* bytes of garbage that are always allowed */
    int percent;      /* growth of a larger heap */
    size_t last;      /* bytes at the last look */
    size_t collected; /* bytes so far: by them the allowance is earned */
};

/* Takes charge of a state's collector, which has not begun a cycle. */
void gc_pace_start(struct gc_pace *pace, lua_State *L, size_t allowance, int percent);

/* Looks at the heap; cheap, and must happen often: what the heap falls to while a cycle sweeps is what is
 * alive. */
void gc_pace_look(struct gc_pace *pace, lua_State *L, size_t used);
