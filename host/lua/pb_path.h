/* The path of a field in an error message, built from the inside out while the recursion unwinds.
 */
#pragma once

#include <stdio.h>
#include <string.h>

#include "base/err.h"

struct pb_path {
    char text[200]; /* "a.b[2].c"; the deep end of a long path is cut */
};

/* Puts a name (and an index, 1-based, when not 0) in front. */
static inline void pb_path_prepend(struct pb_path *path, const char *name, size_t index)
{
    char rest[sizeof(path->text)];
    memcpy(rest, path->text, sizeof(rest));
    const char *dot = rest[0] == '\0' || rest[0] == '[' ? "" : ".";
    if (index > 0) {
        (void)snprintf(path->text, sizeof(path->text), "%.60s[%zu]%s%.80s", name, index, dot, rest);
    } else {
        (void)snprintf(path->text, sizeof(path->text), "%.60s%s%.80s", name, dot, rest);
    }
}

/* Puts the finished path in front of the message. */
static inline void pb_path_finish(const struct pb_path *path, struct err *err)
{
    if (path->text[0] != '\0') {
        (void)err_wrap(err, "%s", path->text);
    }
}
