/* A second Lua state for scripts that nobody trusts: own capped allocator, no JIT, an instruction
 * budget, a clock and no way out. Trusted code is booted into it first and gets the full language
 * plus the `native` table; it runs the scripts in environments of its own making. The host calls
 * entry functions of the trusted code with plain values.
 *
 * A call that breaks a limit fails, whatever the script catches. One thread at a time; not
 * re-entrant (scripts cannot call the host). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"

struct isolate;

struct isolate_opts {
    const char *name;    /* for messages; NULL: "isolate" */
    size_t memory_bytes; /* heap of the whole state; 0: 256 MiB */
    int wall_ms;         /* a single call may take that long; 0: 2000. While the machine is busy elsewhere
                          * this clock stands still: processor time decides */
};

struct isolate_limits {
    int64_t instructions; /* VM instructions and the like amount of native work; 0: no limit */
    size_t growth_bytes;  /* live heap that the call may add; 0: only the limit of the state */
    int wall_ms;          /* 0: as the isolate's options say */
};

/* Why a call failed. Strings belong to the isolate and live until its next call. */
struct isolate_failure {
    int code;            /* ERR_SCRIPT: an error of the script; ERR_LIMIT: a limit */
    const char *message; /* without the position */
    const char *file;    /* chunk name of the nearest script frame; "" when unknown */
    int line;            /* 0 when unknown */
    const char *traceback;
};

struct isolate *isolate_new(const struct isolate_opts *opts);
void isolate_free(struct isolate *isolate); /* NULL is fine */

/* Runs trusted text, which returns a table of entry functions by name. May be called again: entries
 * add up and equal names are replaced. Returns 0, ERR_SCRIPT or ERR_LIMIT, with the reason in
 * isolate_last_failure. */
int isolate_boot(struct isolate *isolate, const char *chunk_name, const char *text, size_t len);

/* Number of an entry for isolate_begin, or -1. */
int isolate_entry(const struct isolate *isolate, const char *name);

/* A call: begin gives the state with the function pushed; push up to 60 arguments (lua_checkstack
 * for more); run calls it. On 0 the results are at ISOLATE_FIRST_RESULT..lua_gettop(state), to be
 * read raw (no metamethods) and before the next begin. */
#define ISOLATE_FIRST_RESULT 2
lua_State *isolate_begin(struct isolate *isolate, int entry);
int isolate_run(struct isolate *isolate, int nargs, const struct isolate_limits *limits);
/* Drops arguments or results. Optional: the next begin does so, too. */
void isolate_end(struct isolate *isolate);

const struct isolate_failure *isolate_last_failure(const struct isolate *isolate);
const char *isolate_name(const struct isolate *isolate);
size_t isolate_used(const struct isolate *isolate); /* heap bytes, garbage included */
/* Instructions of the last call, in steps of isolate_set_step. */
int64_t isolate_last_instructions(const struct isolate *isolate);
/* How often the budget is looked at: every 1 to 1000 instructions (default 1000). Finer is exact
 * and slower. */
void isolate_set_step(struct isolate *isolate, int step);
/* Collects garbage completely. */
void isolate_collect(struct isolate *isolate);
