/* Pacing the collector; see gc_pace.h. LuaJIT computes the start of the next cycle at the end of one, from
 * the pause that is set then. */
#include "lua/gc_pace.h"

enum {
    MAX_PERCENT = 1000,   /* a heap of nearly nothing */
    EARNED_AFTER = 20000, /* looks: a state that starts, or idles, stays small */
};

static void set_pause(const struct gc_pace *pace, lua_State *L, size_t live)
{
    size_t percent = pace->looks < EARNED_AFTER ? 0 : pace->allowance / (live / 100 + 1);
    if (percent > MAX_PERCENT) {
        percent = MAX_PERCENT;
    }
    if (percent < (size_t)pace->percent) {
        percent = (size_t)pace->percent;
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
    if (pace->looks < EARNED_AFTER) {
        pace->looks++;
    }
    if (used < pace->last) {
        set_pause(pace, L, used);
    }
    pace->last = used;
}
