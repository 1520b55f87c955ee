/* What the files of the host.pg binding share. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "pg/pg_pool.h"

struct pg_unit;
struct task_wait;

#define PG_POOL_META "host.pg.pool"
#define PG_UNIT_META "host.pg.unit"
#define PG_LEASE_META "host.pg.tx"
#define PG_SUB_META "host.pg.sub"

/* The pool behind several Lua values; its own memory, because they may be collected in any order. */
struct l_pool {
    struct pg_pool *pool; /* NULL when closed */
    int refs;
};

/* A request that a task waits for. */
struct l_request {
    struct task_wait *wait;
    struct pg_pool *pool;
    struct pg_request *request;
};

struct l_pool *l_pool_ref(struct l_pool *self);
void l_pool_unref(struct l_pool *self);
/* The open pool of the userdata at idx; raises when it is closed. */
struct l_pool *l_pool_check(lua_State *L, int idx);

/* l_pg_value.c */
/* Adds the value at idx as the next parameter. ERR_INVALID for text with zero bytes; raises for types that
 * have no SQL form. */
int l_pg_add_param(lua_State *L, int idx, struct pg_unit *unit, struct err *err);
/* Raises unless the value can be a parameter. */
void l_pg_check_param(lua_State *L, int idx);
/* Pushes a box that owns a fresh unit: reading parameters may raise. Move the unit out by setting *box to
 * NULL. */
struct pg_unit **l_pg_push_unit(lua_State *L, struct pg_pool *pool);
/* Adds the statement `text` with the parameter table at idx (nil: none; field n or the length counts). */
int l_pg_add_stmt(lua_State *L, int text_idx, int params_idx, struct pg_unit *unit, struct err *err);
/* Adds the statements of the array { { text, params }, ... } at idx. */
int l_pg_add_batch(lua_State *L, int idx, struct pg_unit *unit, struct err *err);
void l_pg_push_result(lua_State *L, const struct pg_result *result);
int l_pg_push_failure(lua_State *L, void *failure); /* nil, err; a task_push_fn */
void l_pg_register_values(lua_State *L);            /* adds array, bytea, ts to the table on top */

/* Waits. The request's function is one of these, with an l_request. */
struct l_request *l_request_begin(lua_State *L, struct pg_pool *pool);
int l_request_fail(lua_State *L, struct l_request *op, const struct err *err); /* nothing was submitted */
void l_request_wake_failure(struct l_request *op, const struct pg_failure *failure); /* wakes and frees */
void l_request_on_one(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure);
void l_request_on_many(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure);
void l_request_on_true(void *arg, struct pg_result *results, size_t count, const struct pg_failure *failure);

/* Classes and functions of the other files. */
void l_pg_register_unit(lua_State *L);
void l_pg_register_lease(lua_State *L);
void l_pg_register_sub(lua_State *L);
int l_pg_new_unit(lua_State *L); /* pool:unit() */
int l_pg_lease(lua_State *L);    /* pool:lease() */
int l_pg_listen(lua_State *L);   /* pool:listen(channel) */
