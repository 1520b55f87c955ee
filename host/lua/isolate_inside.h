/* What the functions inside an isolate share: the budget, the lifted cap, the tables they fill.
 * Private to host/lua/isolate*.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "lua/gc_pace.h"
#include "lua/isolate.h"

struct digest;

enum isolate_breach {
    BREACH_NONE,
    BREACH_INSTRUCTIONS,
    BREACH_WALL,
    BREACH_GROWTH,
    BREACH_DEPTH,
};

#define ISOLATE_NO_LIMIT INT64_MAX
#define ISOLATE_MAX_STRING ((size_t)1 << 20)   /* strings made by one library call */
#define ISOLATE_MAX_SUBJECT ((size_t)64 << 10) /* subject of a pattern */
#define ISOLATE_MAX_PATTERN ((size_t)256)
#define ISOLATE_MAX_DEPTH 150 /* nested calls */

struct isolate {
    lua_State *L;
    size_t used;         /* bytes of the Lua heap */
    size_t cap;          /* the allocator refuses beyond; SIZE_MAX while host code works */
    size_t memory_bytes; /* of the whole state */
    size_t call_limit;   /* of the running call: start + growth, at most memory_bytes; enforced in the
                            hook */
    size_t hard_limit;   /* the allocator's: one growth more, so that most breaches are found by the
                            hook, with a line */
    size_t collect_at;   /* a full collection is due in the hook */
    size_t live_bytes;   /* after the last full collection */
    uint64_t allocated;  /* bytes handed out since the last look, to be charged */
    int64_t budget;      /* instructions of the running call */
    int64_t spent;
    int step;       /* hook interval */
    int armed_step; /* interval now: step, or 1 after a breach */
    int wall_ms;
    int call_wall_ms;
    uint64_t deadline_ns; /* on the monotonic clock, which is cheap to read; 0: not started (set by
                             the first hook) */
    uint64_t cpu_end_ns;  /* on the clock of this thread's processor time, which decides */
    enum isolate_breach breach;
    bool is_running;
    struct gc_pace pace;
    struct buf scratch; /* of native functions; they do not nest */
    struct digest *digest;
    char *name;
    char **entry_names;
    int *entry_refs;
    int entry_count;
    struct isolate_failure failure;
    struct buf message;
    struct buf file;
    struct buf traceback;
};

struct isolate *isolate_of(lua_State *L);

/* Takes n instructions' worth of native work off the budget; raises when it is used up. */
void isolate_charge(lua_State *L, size_t n);
/* What is left of the budget (ISOLATE_NO_LIMIT without one). */
int64_t isolate_left(const struct isolate *isolate);
/* Between these two the allocator never refuses, so no memory error can leave C code half done. */
void isolate_lift_cap(struct isolate *isolate);
void isolate_restore_cap(struct isolate *isolate);
/* The scratch buffer, empty; kept small between calls. */
struct buf *isolate_scratch(struct isolate *isolate);

/* Message handler of every protected call: fills isolate->failure (isolate_failure.c). */
int isolate_on_error(lua_State *L);
/* Completes isolate->failure after a failed pcall with this status. */
void isolate_explain(struct isolate *isolate, int status);

void isolate_open_base(lua_State *L);   /* the globals of trusted code (isolate_base.c) */
void isolate_open_string(lua_State *L); /* global string and the string metatable (isolate_string.c) */
void isolate_open_native(lua_State *L); /* global native (isolate_native.c) */
void isolate_open_codec(lua_State *L);  /* native.codec, on the native table on top of the stack */
