/* The keys of a Lua table in a fixed order: numbers ascending, then strings by their bytes. Nothing
 * here raises a Lua error, so callers may hold C memory. */
#pragma once

#include <stddef.h>

#include <lua.h>

struct sorted_key {
    const char *text; /* NULL for a number; borrowed from the table, which must keep the key */
    size_t len;
    double number;
};

#define SORTED_KEYS_INLINE 16

struct sorted_keys {
    struct sorted_key *items;
    size_t count;
    struct sorted_key small[SORTED_KEYS_INLINE];
};

enum sorted_order {
    SORTED_BY_BYTES,  /* strings as memcmp has it, a prefix first */
    SORTED_BY_LENGTH, /* short strings first, then as above (the order of deterministic CBOR) */
};

/* Collects and sorts. Returns -1 when a key is neither number nor string; lua_type of it is then in
 * *bad_type (may be NULL) and keys needs no release. Needs 3 free stack slots. */
int sorted_keys_init(struct sorted_keys *keys, lua_State *L, int idx, enum sorted_order order, int *bad_type);
void sorted_keys_deinit(struct sorted_keys *keys);

/* Pushes the key at position i (0-based). */
void sorted_keys_push(const struct sorted_keys *keys, size_t i, lua_State *L);
