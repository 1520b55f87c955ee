/* host.journal: durable logs for Lua. scan, which calls a function, is in host/prelude/journal.lua. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/xmem.h"
#include "journal/journal.h"
#include "loop/loop.h"
#include "lua/arg.h"
#include "lua/l_journal.h"
#include "lua/task.h"
#include "lua/vm.h"

enum {
    DEFAULT_READ_BYTES = 4 << 20,
    JOINED_KEEP = 1 << 20, /* a larger buffer is not kept for the next append */
};

struct l_journal *l_journal_check(lua_State *L)
{
    struct l_journal *self = luaL_checkudata(L, 1, JOURNAL_META);
    if (self->journal == NULL) {
        luaL_error(L, "the journal is closed");
    }
    return self;
}

static int return_lsn(lua_State *L, int status, uint64_t lsn, const struct err *err)
{
    if (status != 0) {
        return arg_return_err(L, err);
    }
    lua_pushnumber(L, (lua_Number)lsn);
    return 1;
}

static uint64_t check_lsn(lua_State *L, int idx)
{
    return (uint64_t)arg_check_int(L, idx, 1, (int64_t)1 << 53);
}

/* The fate of an lsn, as journal_ops' check tells it; raises for one that was never given out. */
static int check_fate(lua_State *L, const struct l_journal *self, int idx, struct err *err)
{
    int fate = self->journal->ops->check(self->journal, check_lsn(L, idx), err);
    if (fate == ERR_INVALID) {
        (void)luaL_argerror(L, idx, err->text);
    }
    return fate;
}

/* j:append(key, bytes [, tail [, after]]) -> lsn, index | nil, err: tail is a second part of the record,
 * joined here so that nobody has to make a string of both; after is an lsn without which the record has no
 * meaning: what became of it, if its flush has failed, is the error. */
static int l_append(lua_State *L)
{
    struct l_journal *self = l_journal_check(L);
    struct journal *journal = self->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, 3, &len, &shared);
    struct err err;
    if (!lua_isnoneornil(L, 5) && check_fate(L, self, 5, &err) < 0) {
        return arg_return_err(L, &err);
    }
    if (!lua_isnoneornil(L, 4)) {
        size_t tail_len;
        const char *tail = luaL_checklstring(L, 4, &tail_len);
        if (self->joined.cap > JOINED_KEEP) {
            buf_deinit(&self->joined);
        }
        buf_clear(&self->joined);
        buf_append(&self->joined, data, len);
        buf_append(&self->joined, tail, tail_len);
        data = self->joined.data;
        len = self->joined.len;
    }
    uint64_t lsn;
    uint64_t index;
    if (journal->ops->append(journal, key, key_len, data, len, &lsn, &index, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushnumber(L, (lua_Number)lsn);
    lua_pushnumber(L, (lua_Number)index);
    return 2;
}

static void on_done(void *arg, const struct err *err)
{
    if (err != NULL) {
        task_wake_err(arg, err);
    } else {
        task_wake_true(arg);
    }
}

/* A wait or read of a task: cancelling needs the journal as well as the operation. */
struct pending {
    struct journal *journal;
    struct journal_op *op;
    struct task_wait *wait;
};

static void cancel_pending(void *op)
{
    const struct pending *pending = op;
    pending->journal->ops->cancel(pending->op);
}

static void on_pending_done(void *arg, const struct err *err)
{
    struct pending *pending = arg;
    on_done(pending->wait, err);
    free(pending);
}

static struct pending *begin(lua_State *L, struct journal *journal)
{
    struct task_wait *wait = task_wait_begin(L, cancel_pending);
    struct pending *pending = xcalloc(1, sizeof(*pending));
    pending->journal = journal;
    pending->wait = wait;
    task_wait_set_op(wait, pending);
    return pending;
}

static int wait_for(lua_State *L, struct journal *journal, uint64_t lsn)
{
    struct err err;
    int status = journal->ops->check(journal, lsn, &err);
    if (status < 0) {
        return arg_return_err(L, &err);
    }
    if (status > 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct pending *pending = begin(L, journal);
    pending->op = journal->ops->wait(journal, lsn, on_pending_done, pending);
    return task_wait_yield(L, pending->wait);
}

/* j:wait(lsn) -> true | nil, err        (yields unless it is decided already) */
static int l_wait(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    return wait_for(L, journal, check_lsn(L, 2));
}

/* j:status(lsn) -> "durable" | "pending" | "failed" */
static int l_status(lua_State *L)
{
    struct err err;
    int fate = check_fate(L, l_journal_check(L), 2, &err);
    lua_pushstring(L, fate < 0 ? "failed" : fate > 0 ? "durable" : "pending");
    return 1;
}

/* j:failures() -> flushes that failed since open: what was pending then is lost */
static int l_failures(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    lua_pushnumber(L, (lua_Number)journal->ops->failures(journal));
    return 1;
}

/* j:durable() -> the highest lsn whose flush has ended, and how many flushes have failed since open: if none,
 * all up to that lsn are durable */
static int l_durable(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    lua_pushnumber(L, (lua_Number)journal->ops->durable(journal));
    lua_pushnumber(L, (lua_Number)journal->ops->failures(journal));
    return 2;
}

/* j:last_sync_ms() -> how long the last flush took; what stats says, without the rest */
static int l_last_sync_ms(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    lua_pushnumber(L, (lua_Number)stats.last_sync_ms);
    return 1;
}

/* j:pending() -> bytes accepted and not durable */
static int l_pending(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    lua_pushnumber(L, (lua_Number)stats.pending_bytes);
    return 1;
}

static int push_payloads(lua_State *L, void *arg)
{
    const struct l_journal_batch *batch = arg;
    lua_createtable(L, (int)batch->count, 0);
    for (size_t i = 0; i < batch->count; i++) {
        lua_pushlstring(L, batch->records[i].data, batch->records[i].len);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static void on_read(void *arg, const struct journal_record *records, size_t count, const struct err *err)
{
    struct pending *pending = arg;
    if (err != NULL) {
        task_wake_err(pending->wait, err);
    } else {
        struct l_journal_batch batch = {records, count};
        task_wake(pending->wait, push_payloads, &batch);
    }
    free(pending);
}

/* j:read(key, from_index, max_records[, max_bytes = 4 MiB]) -> array of bytes | nil, err        (yields) */
static int l_read(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    int64_t from = arg_check_int(L, 3, 1, (int64_t)1 << 53);
    int64_t max_records = arg_check_int(L, 4, 0, (int64_t)1 << 53);
    int64_t max_bytes = lua_isnoneornil(L, 5) ? DEFAULT_READ_BYTES : arg_check_int(L, 5, 0, (int64_t)1 << 53);
    struct pending *pending = begin(L, journal);
    pending->op = journal->ops->read(journal, key, key_len, (uint64_t)from, (size_t)max_records,
                                     (size_t)max_bytes, on_read, pending);
    return task_wait_yield(L, pending->wait);
}

/* j:count(key) -> durable records, records including the pending ones */
static int l_count(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    uint64_t with_pending;
    lua_pushnumber(L, (lua_Number)journal->ops->count(journal, key, key_len, &with_pending));
    lua_pushnumber(L, (lua_Number)with_pending);
    return 2;
}

/* j:keys() -> array of the keys with durable records, in no particular order */
static int l_keys(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    lua_newtable(L);
    int count = 0;
    size_t cursor = 0;
    const char *key;
    size_t key_len;
    const char *reason;
    while (journal->ops->next_key(journal, &cursor, &key, &key_len, &reason)) {
        if (reason == NULL) {
            lua_pushlstring(L, key, key_len);
            lua_rawseti(L, -2, ++count);
        }
    }
    return 1;
}

/* j:damaged() -> table from key to reason: what was opened with repair = "quarantine" and is not served */
static int l_damaged(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    lua_newtable(L);
    size_t cursor = 0;
    const char *key;
    size_t key_len;
    const char *reason;
    while (journal->ops->next_key(journal, &cursor, &key, &key_len, &reason)) {
        if (reason != NULL) {
            lua_pushlstring(L, key, key_len);
            lua_pushstring(L, reason);
            lua_rawset(L, -3);
        }
    }
    return 1;
}

/* j:replace(key, { bytes... }) -> true | nil, err        (yields): the key's log is these records, atomically
 */
static int l_replace(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t count = lua_objlen(L, 3);
    struct journal_record *records = lua_newuserdata(L, (count + 1) * sizeof(*records));
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 3, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            return luaL_argerror(L, 3, "an array of strings expected");
        }
        records[i] = (struct journal_record){0};
        records[i].data = lua_tolstring(L, -1, &records[i].len); /* the array keeps it alive */
        lua_pop(L, 1);
    }
    uint64_t lsn;
    struct err err;
    if (journal->ops->replace(journal, key, key_len, records, count, &lsn, &err) != 0) {
        return arg_return_err(L, &err);
    }
    return wait_for(L, journal, lsn);
}

/* j:delete(key) -> true | nil, err        (yields) */
static int l_delete(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    uint64_t lsn;
    struct err err;
    if (journal->ops->remove(journal, key, key_len, &lsn, &err) != 0) {
        return arg_return_err(L, &err);
    }
    return wait_for(L, journal, lsn);
}

/* j:remove(key) -> lsn | nil, err: delete that does not wait; j:wait(lsn) tells when it is durable */
static int l_remove(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    uint64_t lsn = 0;
    struct err err;
    int status = journal->ops->remove(journal, key, key_len, &lsn, &err);
    return return_lsn(L, status, lsn, &err);
}

/* j:park(key): nobody will need the key soon; it leaves memory, and comes back when it is read */
static int l_park(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    size_t key_len;
    const char *key = luaL_checklstring(L, 2, &key_len);
    journal->ops->park(journal, key, key_len);
    return 0;
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* j:stats() -> table of numbers */
static int l_stats(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    lua_createtable(L, 0, 16);
    set_number(L, "keys", (double)stats.keys);
    set_number(L, "parked", (double)stats.parked);
    set_number(L, "segments", (double)stats.segments);
    set_number(L, "bytes", (double)stats.bytes);
    set_number(L, "records", (double)stats.records);
    set_number(L, "live", (double)stats.live);
    set_number(L, "appends", (double)stats.appends);
    set_number(L, "syncs", (double)stats.syncs);
    set_number(L, "failed_syncs", (double)stats.failed_syncs);
    set_number(L, "grouped", (double)stats.grouped);
    set_number(L, "mean_group", stats.syncs == 0 ? 0 : (double)stats.grouped / (double)stats.syncs);
    set_number(L, "largest_group", (double)stats.largest_group);
    set_number(L, "pending_bytes", (double)stats.pending_bytes);
    set_number(L, "compacted", (double)stats.compacted);
    set_number(L, "truncated", (double)stats.truncated);
    set_number(L, "damaged", (double)stats.damaged);
    set_number(L, "last_sync_ms", stats.last_sync_ms);
    return 1;
}

/* j:epoch() -> fencing token of this opening of the store */
static int l_epoch(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    lua_pushnumber(L, (lua_Number)journal->ops->epoch(journal));
    return 1;
}

/* j:owned() -> true | nil, err: FENCED once somebody else has taken the store over */
static int l_owned(lua_State *L)
{
    struct journal *journal = l_journal_check(L)->journal;
    struct err err;
    if (journal->ops->owned(journal, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void detach(struct l_journal *self)
{
    self->journal = NULL;
    if (self->scan != NULL) {
        l_journal_drop_scan(self);
    }
}

static void on_closed(void *arg)
{
    if (arg != NULL) {
        task_wake_true(arg);
    }
}

/* j:close() -> true        (yields): flushes what is pending first */
static int l_close(lua_State *L)
{
    struct l_journal *self = luaL_checkudata(L, 1, JOURNAL_META);
    struct journal *journal = self->journal;
    if (journal == NULL) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct task_wait *wait = task_wait_begin(L, NULL);
    detach(self);
    journal->ops->close(journal, on_closed, wait);
    return task_wait_yield(L, wait);
}

static int l_gc(lua_State *L)
{
    struct l_journal *self = luaL_checkudata(L, 1, JOURNAL_META);
    struct journal *journal = self->journal;
    if (journal != NULL) {
        detach(self);
        journal->ops->close(journal, on_closed, NULL);
    }
    buf_deinit(&self->joined);
    return 0;
}

static int push_journal(lua_State *L, void *arg)
{
    struct l_journal *self = lua_newuserdata(L, sizeof(*self));
    *self = (struct l_journal){.journal = arg};
    luaL_getmetatable(L, JOURNAL_META);
    lua_setmetatable(L, -2);
    return 1;
}

static void on_open(void *arg, struct journal *journal, const struct err *err)
{
    if (err != NULL) {
        task_wake_err(arg, err);
    } else {
        task_wake(arg, push_journal, journal);
    }
}

static bool read_repair(lua_State *L)
{
    const char *repair = arg_opt_str(L, 1, "repair", "refuse", NULL);
    if (strcmp(repair, "refuse") != 0 && strcmp(repair, "quarantine") != 0) {
        luaL_error(L, "option 'repair': \"refuse\" or \"quarantine\" expected, got \"%s\"", repair);
    }
    return strcmp(repair, "quarantine") == 0;
}

/* journal.open{ backend = "file"|"memory"|"rocksdb"|"redis", dir =, url =, ... } -> journal | nil, err
 * (yields) */
static int l_open(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct journal_opts opts = {
        .dir = arg_opt_str(L, 1, "dir", NULL, NULL),
        .segment_bytes = (size_t)arg_opt_int(L, 1, "segment_bytes", 0, 0, INT64_C(1) << 30),
        .max_record_bytes = (size_t)arg_opt_int(L, 1, "max_record_bytes", 0, 0, JOURNAL_RECORD_MAX),
        .max_group_bytes = (size_t)arg_opt_int(L, 1, "max_group_bytes", 0, 0, INT64_C(1) << 28),
        .max_pending_bytes = (size_t)arg_opt_int(L, 1, "max_pending_bytes", 0, 0, INT64_C(1) << 34),
        .url = arg_opt_str(L, 1, "url", NULL, NULL),
        .name = arg_opt_str(L, 1, "name", NULL, NULL),
        .lease_ms = (uint32_t)arg_opt_int(L, 1, "lease_ms", 0, 0, 600000),
        .no_sync = !arg_opt_bool(L, 1, "sync", true),
        .quarantine = read_repair(L),
    };
    const char *backend = arg_opt_str(L, 1, "backend", "file", NULL);
    struct task_wait *wait = task_wait_begin(L, NULL);
    struct err err;
    if (journal_open(task_loop(L), backend, &opts, on_open, wait, &err) != 0) {
        return task_wait_fail(L, wait, &err);
    }
    return task_wait_yield(L, wait);
}

static const luaL_Reg journal_methods[] = {
    {"append", l_append},   {"wait", l_wait},
    {"durable", l_durable}, {"pending", l_pending},
    {"read", l_read},       {"count", l_count},
    {"keys", l_keys},       {"damaged", l_damaged},
    {"replace", l_replace}, {"delete", l_delete},
    {"remove", l_remove},   {"stats", l_stats},
    {"status", l_status},   {"failures", l_failures},
    {"close", l_close},     {"epoch", l_epoch},
    {"owned", l_owned},     {"last_sync_ms", l_last_sync_ms},
    {"park", l_park},       {NULL, NULL},
};

/* journal.backends() -> array of the names that open knows in this build */
static int l_backends(lua_State *L)
{
    lua_newtable(L);
    size_t cursor = 0;
    const char *name;
    for (int i = 1; (name = journal_backend(&cursor)) != NULL; i++) {
        lua_pushstring(L, name);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static const luaL_Reg native[] = {
    {"open", l_open},
    {"backends", l_backends},
    {"open_scan", l_journal_open_scan},
    {NULL, NULL},
};

int luaopen_host_journal(lua_State *L)
{
    arg_class(L, JOURNAL_META, journal_methods, l_gc);
    l_journal_register_scan(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "host.prelude.journal");
    lua_call(L, 1, 1);
    lua_newtable(L);
    luaL_register(L, NULL, native);
    luaL_getmetatable(L, JOURNAL_META);
    lua_getfield(L, -1, "__index");
    lua_remove(L, -2);
    lua_setfield(L, -2, "methods"); /* stack: prelude, native */
    lua_call(L, 1, 1);
    return 1;
}
