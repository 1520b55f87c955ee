/* Files compiled into the program: Lua sources, modes, migrations, the descriptor set. Names are paths from
 * the top of the source tree, sorted within each folder. */
#pragma once

#include <stddef.h>

struct embed_file {
    const char *name; /* "lua/macp/main.lua" */
    const char *data; /* followed by a NUL that len does not count */
    size_t len;
};

extern const struct embed_file embed_files[];
extern const unsigned embed_file_count;

/* The file of that name, or NULL. Constant time. Loop thread only. */
const struct embed_file *embed_find(const char *name);

/* Gives the memory of the files back to the system until they are read again: most are read once, when the
 * program starts. */
void embed_forget(void);
