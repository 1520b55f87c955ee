/* Pacing the collector; see gc_pace.h. LuaJIT computes the start of the next cycle at the end of one, from
 * the pause that is set then. */
#include "lua/gc_pace.h"

enum {
    MAX_PERCENT = 1000,  /* a heap of nearly nothing */
    BUSY_PERCENT = 100,  /* a larger heap of a busy state, */
    BUSY_ALLOWANCES = 4, /* up to so many allowances of garbage */
    EARNED_AFTER = 8,    /* allowances of collected garbage: a state that starts, or idles, stays small */
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void set_pause(const struct gc_pace *pace, lua_State *L, size_t live)
{
    size_t share = live / 100 + 1;
    size_t percent = (size_t)pace->percent;
    if (pace->collected >= EARNED_AFTER * pace->allowance) {
        size_t small = min_size(pace->allowance / share, MAX_PERCENT);
        size_t large = min_size(BUSY_ALLOWANCES * pace->allowance / share, BUSY_PERCENT);
        percent = max_size(percent, max_size(small, large));
    }
    (void)lua_gc(L, LUA_GCSETPAUSE, 100 + (int)percent);
}

void gc_pace_start(struct gc_pace *pace, lua_State *L, size_t allowance, int percent)
{
    *pace = (struct gc_pace){.allowance = allowance, .percent = percent};
    set_pause(pace, L, 0);
}

void gc_pace_look(struct gc_pace *pace, lua_State *L, size_t used)
{
    if (used < pace->last) {
        pace->collected += pace->last - used;
        set_pause(pace, L, used);
    }
    pace->last = used;
}
