/* A backtracking matcher. Every character comparison and every attempt costs a step, so the time of
 * a match is bounded by the budget whatever the pattern. Recursion happens only for captures and
 * optional items, at most MAX_DEPTH. */
#include "lua/pattern.h"

#include <ctype.h>
#include <string.h>

#define ESCAPE '%'
#define MAX_DEPTH 180

static const char *match_here(struct pattern *m, const char *s, const char *p);

static const char *fail(struct pattern *m, const char *reason)
{
    if (m->error == NULL) {
        m->error = reason;
    }
    return NULL;
}

static bool take_step(struct pattern *m)
{
    if (--m->steps_left < 0) {
        m->out_of_steps = true;
        (void)fail(m, "pattern matching takes too many steps");
        return false;
    }
    return true;
}

/* End of the single-character item at p; NULL with an error when it is malformed. */
static const char *item_end(struct pattern *m, const char *p)
{
    char c = *p++;
    if (c == ESCAPE) {
        if (p >= m->text_end) {
            return fail(m, "malformed pattern (ends with '%')");
        }
        return p + 1;
    }
    if (c != '[') {
        return p;
    }
    if (p < m->text_end && *p == '^') {
        p++;
    }
    bool first = true;
    for (;; first = false) {
        if (p >= m->text_end) {
            return fail(m, "malformed pattern (missing ']')");
        }
        c = *p++;
        if (c == ']' && !first) {
            return p;
        }
        if (c == ESCAPE) {
            if (p >= m->text_end) {
                return fail(m, "malformed pattern (missing ']')");
            }
            p++;
        }
    }
}

static bool in_class(unsigned char c, unsigned char letter)
{
    bool result;
    switch (tolower(letter)) {
    case 'a':
        result = isalpha(c) != 0;
        break;
    case 'c':
        result = iscntrl(c) != 0;
        break;
    case 'd':
        result = isdigit(c) != 0;
        break;
    case 'g':
        result = isgraph(c) != 0;
        break;
    case 'l':
        result = islower(c) != 0;
        break;
    case 'p':
        result = ispunct(c) != 0;
        break;
    case 's':
        result = isspace(c) != 0;
        break;
    case 'u':
        result = isupper(c) != 0;
        break;
    case 'w':
        result = isalnum(c) != 0;
        break;
    case 'x':
        result = isxdigit(c) != 0;
        break;
    case 'z':
        result = c == 0;
        break;
    default:
        return letter == c;
    }
    return isupper(letter) ? !result : result;
}

/* p is on '[', close on its ']'. */
static bool in_set(unsigned char c, const char *p, const char *close)
{
    bool wanted = true;
    p++;
    if (*p == '^') {
        wanted = false;
        p++;
    }
    while (p < close) {
        if (*p == ESCAPE) {
            if (in_class(c, (unsigned char)p[1])) {
                return wanted;
            }
            p += 2;
        } else if (p + 2 < close && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2]) {
                return wanted;
            }
            p += 3;
        } else {
            if ((unsigned char)*p == c) {
                return wanted;
            }
            p++;
        }
    }
    return !wanted;
}

/* Does the character at s match the item p..end? A set costs its length. */
static bool matches_one(struct pattern *m, const char *s, const char *p, const char *end)
{
    if (s >= m->subject_end) {
        return false;
    }
    m->steps_left -= (end - p) / 8;
    if (!take_step(m)) {
        return false;
    }
    unsigned char c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case ESCAPE:
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

/* %bxy: p is behind 'b'. */
static const char *match_balance(struct pattern *m, const char *s, const char *p)
{
    if (m->text_end - p < 2) {
        return fail(m, "malformed pattern (missing arguments to '%b')");
    }
    if (s >= m->subject_end || *s != p[0]) {
        return NULL;
    }
    long open = 1;
    for (s++; s < m->subject_end; s++) {
        if (!take_step(m)) {
            return NULL;
        }
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *match_greedy(struct pattern *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t count = 0;
    while (matches_one(m, s + count, p, end)) {
        count++;
    }
    for (; count >= 0 && m->error == NULL; count--) {
        const char *found = match_here(m, s + count, end + 1);
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static const char *match_lazy(struct pattern *m, const char *s, const char *p, const char *end)
{
    for (;;) {
        const char *found = match_here(m, s, end + 1);
        if (found != NULL || m->error != NULL) {
            return found;
        }
        if (!matches_one(m, s, p, end)) {
            return NULL;
        }
        s++;
    }
}

static const char *open_capture(struct pattern *m, const char *s, const char *p, ptrdiff_t kind)
{
    if (m->level >= PATTERN_MAX_CAPTURES) {
        return fail(m, "too many captures");
    }
    m->captures[m->level] = (struct pattern_capture){.start = s, .len = kind};
    m->level++;
    const char *found = match_here(m, s, p);
    if (found == NULL) {
        m->level--;
    }
    return found;
}

static const char *close_capture(struct pattern *m, const char *s, const char *p)
{
    for (int i = m->level - 1; i >= 0; i--) {
        if (m->captures[i].len == PATTERN_OPEN) {
            m->captures[i].len = s - m->captures[i].start;
            const char *found = match_here(m, s, p);
            if (found == NULL) {
                m->captures[i].len = PATTERN_OPEN;
            }
            return found;
        }
    }
    return fail(m, "invalid pattern capture");
}

/* %1 to %9: the text of an earlier capture. */
static const char *match_back(struct pattern *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->captures[i].len == PATTERN_OPEN) {
        return fail(m, "invalid capture index");
    }
    ptrdiff_t len = m->captures[i].len;
    if (len == PATTERN_POSITION) {
        return fail(m, "invalid capture index");
    }
    m->steps_left -= len / 8;
    if (!take_step(m)) {
        return NULL;
    }
    if (m->subject_end - s < len || memcmp(m->captures[i].start, s, (size_t)len) != 0) {
        return NULL;
    }
    return s + len;
}

/* %f[set]: p is on '['. true when the border between the last and this character enters the set. */
static bool at_frontier(struct pattern *m, const char *s, const char *p, const char *end)
{
    unsigned char before = s == m->subject ? 0 : (unsigned char)s[-1];
    unsigned char here = s < m->subject_end ? (unsigned char)*s : 0;
    m->steps_left -= (end - p) / 4;
    return take_step(m) && !in_set(before, p, end - 1) && in_set(here, p, end - 1);
}

/* One item with its suffix, then the rest. *s and *p move on when the rest can go on in the
 * caller's loop; then the result is *s. Otherwise the result is final and *p is NULL. */
static const char *match_item(struct pattern *m, const char *s, const char **p)
{
    const char *item = *p;
    const char *end = item_end(m, item);
    *p = NULL;
    if (end == NULL) {
        return NULL;
    }
    char suffix = end < m->text_end ? *end : '\0';
    switch (suffix) {
    case '?':
        if (matches_one(m, s, item, end)) {
            const char *found = match_here(m, s + 1, end + 1);
            if (found != NULL || m->error != NULL) {
                return found;
            }
        }
        *p = end + 1;
        return s;
    case '*':
        return match_greedy(m, s, item, end);
    case '+':
        return matches_one(m, s, item, end) ? match_greedy(m, s + 1, item, end) : NULL;
    case '-':
        return match_lazy(m, s, item, end);
    default:
        if (!matches_one(m, s, item, end)) {
            return NULL;
        }
        *p = end;
        return s + 1;
    }
}

/* Escapes that are more than a class: %b, %f, %1. Moves *p behind them; sets *handled. */
static const char *match_escape(struct pattern *m, const char *s, const char **p, bool *handled)
{
    const char *at = *p + 1;
    *handled = true;
    if (at < m->text_end && *at == 'b') {
        *p = at + 3;
        return match_balance(m, s, at + 1);
    }
    if (at < m->text_end && *at == 'f') {
        at++;
        if (at >= m->text_end || *at != '[') {
            return fail(m, "missing '[' after '%f' in pattern");
        }
        const char *end = item_end(m, at);
        *p = end;
        return end != NULL && at_frontier(m, s, at, end) ? s : NULL;
    }
    if (at < m->text_end && *at >= '0' && *at <= '9') {
        *p = at + 1;
        return match_back(m, s, *at);
    }
    *handled = false;
    return s;
}

static const char *match_loop(struct pattern *m, const char *s, const char *p)
{
    while (p < m->text_end) {
        if (m->error != NULL || !take_step(m)) {
            return NULL;
        }
        if (*p == '(') {
            bool position = p + 1 < m->text_end && p[1] == ')';
            return open_capture(m, s, p + (position ? 2 : 1), position ? PATTERN_POSITION : PATTERN_OPEN);
        }
        if (*p == ')') {
            return close_capture(m, s, p + 1);
        }
        if (*p == '$' && p + 1 == m->text_end) {
            return s == m->subject_end ? s : NULL;
        }
        bool handled = false;
        if (*p == ESCAPE) {
            s = match_escape(m, s, &p, &handled);
        }
        if (!handled) {
            s = match_item(m, s, &p);
        }
        if (s == NULL || p == NULL) {
            return s;
        }
    }
    return s;
}

static const char *match_here(struct pattern *m, const char *s, const char *p)
{
    if (m->depth >= MAX_DEPTH) {
        return fail(m, "pattern too complex");
    }
    m->depth++;
    const char *found = match_loop(m, s, p);
    m->depth--;
    return found;
}

const char *pattern_match_at(struct pattern *pattern, const char *place)
{
    pattern->level = 0;
    pattern->depth = 0;
    const char *found = match_here(pattern, place, pattern->text);
    return pattern->error == NULL ? found : NULL;
}

bool pattern_is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\0' && strchr("^$*+?.([%-", text[i]) != NULL) {
            return false;
        }
    }
    return true;
}
