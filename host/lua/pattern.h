/* Lua's string patterns with a step budget: the same language as string.find and friends, but a
 * match that backtracks without end stops. Pure C, no Lua state; errors come back as text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PATTERN_MAX_CAPTURES 32
#define PATTERN_POSITION (-2) /* capture length of "()": only the position counts */
#define PATTERN_OPEN (-1)     /* capture not closed yet */

struct pattern_capture {
    const char *start;
    ptrdiff_t len;
};

struct pattern {
    const char *subject;
    const char *subject_end;
    const char *text; /* the pattern, without a leading anchor */
    const char *text_end;
    long steps_left;   /* one step per tried character; set by the caller, counted down */
    int depth;         /* of recursion */
    int level;         /* captures in use */
    const char *error; /* why matching stopped: malformed pattern, or out of steps */
    bool out_of_steps;
    struct pattern_capture captures[PATTERN_MAX_CAPTURES];
};

/* Tries the whole pattern at exactly this place. Returns the end of the match, or NULL: no match
 * here, or pattern->error is set. Resets captures. */
const char *pattern_match_at(struct pattern *pattern, const char *place);

/* true when text has no character with a meaning in patterns. */
bool pattern_is_plain(const char *text, size_t len);
