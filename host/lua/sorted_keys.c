/* Table order depends on hash seeds and on the order of insertion, so everything that must come out
 * the same in every process goes through here. */
#include "lua/sorted_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

typedef int (*compare_fn)(const void *left, const void *right);

static int by_bytes(const void *left, const void *right)
{
    const struct sorted_key *a = left;
    const struct sorted_key *b = right;
    if (a->text == NULL || b->text == NULL) {
        if (a->text != NULL || b->text != NULL) {
            return a->text == NULL ? -1 : 1;
        }
        return (a->number > b->number) - (a->number < b->number);
    }
    size_t common = a->len < b->len ? a->len : b->len;
    int order = memcmp(a->text, b->text, common);
    if (order != 0) {
        return order;
    }
    return (a->len > b->len) - (a->len < b->len);
}

static int by_length(const void *left, const void *right)
{
    const struct sorted_key *a = left;
    const struct sorted_key *b = right;
    if (a->text == NULL || b->text == NULL || a->len == b->len) {
        return by_bytes(left, right);
    }
    return a->len < b->len ? -1 : 1;
}

static void sort_small(struct sorted_key *items, size_t count, compare_fn compare)
{
    for (size_t i = 1; i < count; i++) {
        struct sorted_key item = items[i];
        size_t at = i;
        while (at > 0 && compare(&items[at - 1], &item) > 0) {
            items[at] = items[at - 1];
            at--;
        }
        items[at] = item;
    }
}

int sorted_keys_init(struct sorted_keys *keys, lua_State *L, int idx, enum sorted_order order, int *bad_type)
{
    size_t cap = SORTED_KEYS_INLINE;
    keys->items = keys->small;
    keys->count = 0;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        lua_pop(L, 1);
        if (keys->count == cap) {
            cap *= 2;
            struct sorted_key *more =
                xrealloc(keys->items == keys->small ? NULL : keys->items, cap * sizeof(*more));
            if (keys->items == keys->small) {
                memcpy(more, keys->small, sizeof(keys->small));
            }
            keys->items = more;
        }
        struct sorted_key *key = &keys->items[keys->count];
        int type = lua_type(L, -1);
        if (type == LUA_TSTRING) {
            key->text = lua_tolstring(L, -1, &key->len);
        } else if (type == LUA_TNUMBER) {
            key->text = NULL;
            key->number = lua_tonumber(L, -1);
        } else {
            if (bad_type != NULL) {
                *bad_type = type;
            }
            lua_pop(L, 1);
            sorted_keys_deinit(keys);
            return -1;
        }
        keys->count++;
    }
    compare_fn compare = order == SORTED_BY_LENGTH ? by_length : by_bytes;
    if (keys->count <= SORTED_KEYS_INLINE) {
        sort_small(keys->items, keys->count, compare);
    } else {
        qsort(keys->items, keys->count, sizeof(keys->items[0]), compare);
    }
    return 0;
}

void sorted_keys_deinit(struct sorted_keys *keys)
{
    if (keys->items != keys->small) {
        free(keys->items);
    }
    keys->items = keys->small;
    keys->count = 0;
}

void sorted_keys_push(const struct sorted_keys *keys, size_t i, lua_State *L)
{
    const struct sorted_key *key = &keys->items[i];
    if (key->text == NULL) {
        lua_pushnumber(L, key->number);
    } else {
        lua_pushlstring(L, key->text, key->len);
    }
}
