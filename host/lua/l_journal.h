/* What the files of the host.journal binding share. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"

#include "journal/journal.h"

#define JOURNAL_META "host.journal.journal"

struct l_scan;

struct l_journal {
    struct journal *journal; /* NULL when closed */
    struct l_scan *scan;     /* the open scan, which the journal's end invalidates */
    struct buf joined;       /* of the last append in two parts */
};

/* Records on their way to Lua. */
struct l_journal_batch {
    const struct journal_record *records;
    size_t count;
};

/* The open journal at index 1; raises when it is closed. */
struct l_journal *l_journal_check(lua_State *L);

/* l_journal_scan.c */
void l_journal_register_scan(lua_State *L);
int l_journal_open_scan(lua_State *L);
/* The journal ends: so does its scan, now or when its step in flight has ended. */
void l_journal_drop_scan(struct l_journal *self);
