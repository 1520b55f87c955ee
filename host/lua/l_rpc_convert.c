/* Conversions between Lua values and the gRPC core's; see l_rpc.h. */
#include "lua/l_rpc.h"

#include <string.h>

#include "base/bytes.h"
#include "lua/arg.h"

void l_rpc_push_slice(lua_State *L, const grpc_slice *slice)
{
    lua_pushlstring(L, (const char *)GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
}

static bool is_key(const grpc_metadata *item, const char *key, size_t len)
{
    return GRPC_SLICE_LENGTH(item->key) == len && memcmp(GRPC_SLICE_START_PTR(item->key), key, len) == 0;
}

static bool is_binary(const char *key, size_t len)
{
    return len > 4 && memcmp(key + len - 4, "-bin", 4) == 0;
}

/* stack: values so far ... -> one value */
static void push_joined(lua_State *L, const grpc_metadata *items, size_t count, const char *key, size_t len)
{
    bool has_array = is_binary(key, len);
    if (has_array) {
        lua_newtable(L);
    } else {
        lua_pushliteral(L, "");
    }
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_key(&items[i], key, len)) {
            continue;
        }
        found++;
        if (has_array) {
            l_rpc_push_slice(L, &items[i].value);
            lua_rawseti(L, -2, found);
        } else {
            lua_pushstring(L, found == 1 ? "" : ", ");
            l_rpc_push_slice(L, &items[i].value);
            lua_concat(L, 3);
        }
    }
}

void l_rpc_push_header(lua_State *L, const grpc_metadata *items, size_t count, const char *key, size_t len)
{
    const grpc_metadata *first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!is_key(&items[i], key, len)) {
            continue;
        }
        if (first != NULL) {
            push_joined(L, items, count, key, len);
            return;
        }
        first = &items[i];
    }
    if (first == NULL) {
        lua_pushnil(L);
    } else {
        l_rpc_push_slice(L, &first->value);
    }
}

void l_rpc_push_metadata(lua_State *L, const grpc_metadata *items, size_t count)
{
    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        const char *key = (const char *)GRPC_SLICE_START_PTR(items[i].key);
        size_t len = GRPC_SLICE_LENGTH(items[i].key);
        lua_pushlstring(L, key, len);
        l_rpc_push_header(L, items, count, key, len); /* few items: looking again for repeats is cheap */
        lua_rawset(L, -3);
    }
}

/* Raises for anything but strings and arrays of strings, so that building cannot raise half-way. */
static void check_metadata(lua_State *L, int idx)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "metadata keys are strings, got %s", luaL_typename(L, -2));
        }
        bool is_good = lua_type(L, -1) == LUA_TSTRING || lua_istable(L, -1);
        if (lua_istable(L, -1)) {
            int count = (int)lua_objlen(L, -1);
            for (int i = 1; i <= count; i++) {
                lua_rawgeti(L, -1, i);
                is_good = is_good && lua_type(L, -1) == LUA_TSTRING;
                lua_pop(L, 1);
            }
        }
        if (!is_good) {
            luaL_error(L, "metadata \"%s\": a string or an array of strings expected", lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
}

/* stack: ..., key, value (string) */
static int add_value(lua_State *L, const char *key, size_t key_len, struct rpc_metadata *out, struct err *err)
{
    size_t len;
    const char *value = lua_tolstring(L, -1, &len);
    return rpc_metadata_add(out, key, key_len, value, len, err);
}

static int add_entry(lua_State *L, struct rpc_metadata *out, struct err *err)
{
    size_t key_len;
    const char *key = lua_tolstring(L, -2, &key_len);
    if (lua_type(L, -1) == LUA_TSTRING) {
        return add_value(L, key, key_len, out, err);
    }
    int status = 0;
    int count = (int)lua_objlen(L, -1);
    for (int i = 1; i <= count && status == 0; i++) {
        lua_rawgeti(L, -1, i);
        status = add_value(L, key, key_len, out, err);
        lua_pop(L, 1);
    }
    return status;
}

int l_rpc_read_metadata(lua_State *L, int idx, struct rpc_metadata *out, struct err *err)
{
    rpc_metadata_init(out);
    if (lua_isnoneornil(L, idx)) {
        return 0;
    }
    if (idx < 0) {
        idx = lua_gettop(L) + idx + 1;
    }
    check_metadata(L, idx);
    int status = 0;
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        status = add_entry(L, out, err);
        lua_pop(L, status == 0 ? 1 : 2);
        if (status != 0) {
            rpc_metadata_deinit(out);
            return status;
        }
    }
    return 0;
}

void l_rpc_push_status(lua_State *L, grpc_status_code status, const char *message, size_t len,
                       const grpc_metadata *trailing, size_t count)
{
    lua_createtable(L, 0, 4);
    lua_pushliteral(L, "RPC");
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, (lua_Integer)status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, message, len);
    lua_setfield(L, -2, "message");
    l_rpc_push_metadata(L, trailing, count);
    lua_setfield(L, -2, "trailing");
}

grpc_slice l_rpc_check_slice(lua_State *L, int idx)
{
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, idx, &len, &shared);
    return rpc_call_slice(data, len, shared);
}

void l_rpc_read_limits(lua_State *L, int idx, struct rpc_call_limits *limits)
{
    limits->out_messages = (uint32_t)arg_opt_int(L, idx, "queue_messages", 0, 0, 1 << 24);
    limits->out_bytes = (size_t)arg_opt_int(L, idx, "queue_bytes", 0, 0, INT64_C(1) << 40);
    limits->in_messages = (uint32_t)arg_opt_int(L, idx, "prefetch_messages", 0, 0, 1 << 24);
    limits->in_bytes = (size_t)arg_opt_int(L, idx, "prefetch_bytes", 0, 0, INT64_C(1) << 40);
}
