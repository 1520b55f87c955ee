/* host.journal: the walk over all records. scan(fn) itself is in host/prelude/journal.lua. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/l_journal.h"
#include "lua/task.h"

#define SCAN_META "host.journal.scan"

/* Heap memory of its own: a step in flight may outlive the userdata. */
struct l_scan {
    struct journal_scan *scan; /* NULL when closed */
    struct journal *journal;
    struct l_journal *owner; /* NULL when the journal was closed or collected */
    struct task_wait *wait;  /* the step in flight, */
    struct journal_op *op;   /* and how to cancel it */
    bool is_dropped;         /* close when the step has ended */
    bool has_userdata;
};

static void end_scan(struct l_scan *scan)
{
    scan->journal->ops->scan_close(scan->scan);
    scan->scan = NULL;
    if (scan->owner != NULL) {
        scan->owner->scan = NULL;
        scan->owner = NULL;
    }
    if (!scan->has_userdata) {
        free(scan);
    }
}

/* Ends the scan now, or when its step in flight has ended. */
static void drop_scan(struct l_scan *scan)
{
    if (scan->scan != NULL && scan->wait == NULL) {
        end_scan(scan);
    } else {
        scan->is_dropped = true;
    }
}

void l_journal_drop_scan(struct l_journal *self)
{
    struct l_scan *scan = self->scan;
    self->scan = NULL;
    scan->owner = NULL;
    drop_scan(scan);
}

/* native.open_scan(j) -> scan | nil, err */
int l_journal_open_scan(lua_State *L)
{
    struct l_journal *self = l_journal_check(L);
    struct l_scan **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, SCAN_META);
    lua_setmetatable(L, -2);
    struct err err;
    struct journal_scan *inner = self->journal->ops->scan_open(self->journal, &err);
    if (inner == NULL) {
        return arg_return_err(L, &err);
    }
    struct l_scan *scan = xcalloc(1, sizeof(*scan));
    *scan = (struct l_scan){.scan = inner, .journal = self->journal, .owner = self, .has_userdata = true};
    self->scan = scan;
    *box = scan;
    return 1;
}

static int push_records(lua_State *L, void *arg)
{
    const struct l_journal_batch *batch = arg;
    lua_createtable(L, (int)batch->count * 3, 0);
    for (size_t i = 0; i < batch->count; i++) {
        const struct journal_record *record = &batch->records[i];
        lua_pushlstring(L, record->key, record->key_len);
        lua_rawseti(L, -2, (int)i * 3 + 1);
        lua_pushnumber(L, (lua_Number)record->index);
        lua_rawseti(L, -2, (int)i * 3 + 2);
        lua_pushlstring(L, record->data, record->len);
        lua_rawseti(L, -2, (int)i * 3 + 3);
    }
    return 1;
}

static void on_step(void *arg, const struct journal_record *records, size_t count, const struct err *err)
{
    struct l_scan *scan = arg;
    struct task_wait *wait = scan->wait;
    scan->wait = NULL;
    if (err != NULL) {
        task_wake_err(wait, err);
    } else {
        struct l_journal_batch batch = {records, count};
        task_wake(wait, push_records, &batch);
    }
    if (scan->is_dropped) {
        end_scan(scan);
    }
}

static void cancel_step(void *op)
{
    const struct l_scan *scan = op;
    scan->journal->ops->cancel(scan->op);
}

/* scan:next() -> { key, index, bytes, key, index, bytes, ... } (empty at the end) | nil, err        (yields)
 */
static int l_scan_next(lua_State *L)
{
    struct l_scan *scan = *(struct l_scan **)luaL_checkudata(L, 1, SCAN_META);
    if (scan == NULL || scan->scan == NULL || scan->wait != NULL) {
        return luaL_error(L, "the scan is closed or busy");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_step);
    scan->wait = wait;
    task_wait_set_op(wait, scan);
    scan->op = scan->journal->ops->scan_next(scan->scan, on_step, scan);
    return task_wait_yield(L, wait);
}

static int l_scan_close(lua_State *L)
{
    struct l_scan **box = luaL_checkudata(L, 1, SCAN_META);
    struct l_scan *scan = *box;
    *box = NULL;
    if (scan == NULL) {
        return 0;
    }
    scan->has_userdata = false;
    if (scan->scan == NULL) {
        free(scan);
    } else {
        drop_scan(scan);
    }
    return 0;
}

void l_journal_register_scan(lua_State *L)
{
    static const luaL_Reg scan_methods[] = {
        {"next", l_scan_next},
        {"close", l_scan_close},
        {NULL, NULL},
    };
    arg_class(L, SCAN_META, scan_methods, l_scan_close);
}
