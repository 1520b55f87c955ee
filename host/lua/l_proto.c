/* host.proto: protobuf codecs built at run time.
 *
 *   load(descriptor_set_bytes) -> pool | nil, err
 *   fields(name, { { name=, number=, type=, repeated=, map_value= }, ... }) -> pool | nil, err one
 * message pool:codec(full_name [, options]) -> codec | nil, err options: names = "proto"|"json",
 * defaults = bool (zero values filled in), bytes = "raw"|"base64", enums = "name"|"number", int64 =
 * "number"|"string", finite = bool (refuse NaN and infinities) codec:decode(bytes) -> table | nil,
 * err        codec:encode(table) -> bytes | nil, err err.message is "path.of.field: reason";
 * unknown fields are skipped when decoding, refused when encoding pool:messages() -> array of full
 * names         pool:describe(full_name) -> array of fields | nil, err
 */
#include "lua/l_proto.h"

#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/bytes.h"
#include "base/xmem.h"
#include "lua/arg.h"
#include "lua/json_mark.h"
#include "lua/pb_codec.h"
#include "lua/pb_spec.h"
#include "lua/vm.h"

#define POOL_META "host.proto.pool"
#define CODEC_META "host.proto.codec"
#define SCRATCH_KEEP ((size_t)1 << 20)

/* A codec's environment holds at [1] the names and at [2] the mark of arrays. */
struct codec_box {
    struct pb_codec codec;
    struct buf out;
    struct buf scratch;
};

/* Pushes the userdata, whose pool is still to be set. */
static struct pb_pool **push_pool(lua_State *L)
{
    struct pb_pool **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, POOL_META);
    lua_setmetatable(L, -2);
    lua_newtable(L); /* names by style, see push_names */
    lua_setfenv(L, -2);
    return box;
}

static int l_load(lua_State *L)
{
    size_t len;
    struct err err;
    const char *data = luaL_checklstring(L, 1, &len);
    struct pb_pool **box = push_pool(L);
    *box = pb_pool_from_set(data, len, &err);
    return *box == NULL ? arg_return_err(L, &err) : 1;
}

static int l_fields(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    size_t count;
    struct err err;
    struct pb_pool **box = push_pool(L);
    lua_insert(L, 1); /* pool, name, list */
    struct pb_field_spec *specs = pb_spec_read(L, 3, &count);
    *box = pb_pool_from_fields(name, specs, count, &err);
    if (*box == NULL) {
        return arg_return_err(L, &err);
    }
    lua_settop(L, 1);
    return 1;
}

static struct pb_pool *check_pool(lua_State *L)
{
    struct pb_pool **box = luaL_checkudata(L, 1, POOL_META);
    return *box;
}

static const struct pb_message *check_message(lua_State *L, struct err *err)
{
    const char *name = luaL_checkstring(L, 2);
    const struct pb_message *message = pb_pool_find(check_pool(L), name);
    if (message == NULL) {
        (void)err_set(err, ERR_NOT_FOUND, "no message is called %.100s", name);
    }
    return message;
}

/* Option `name`, one of two words: true for the second. The first is the default. */
static bool option_is(lua_State *L, int idx, const char *name, const char *first, const char *second)
{
    const char *word = arg_opt_str(L, idx, name, first, NULL);
    bool is_second = strcmp(word, second) == 0;
    if (!is_second && strcmp(word, first) != 0) {
        luaL_error(L, "option '%s' must be \"%s\" or \"%s\"", name, first, second);
    }
    return is_second;
}

/* Pushes the names in this style; the pool (index 1) keeps them for all its codecs. */
static void push_names(lua_State *L, const struct pb_pool *pool, bool json_names)
{
    lua_getfenv(L, 1);
    lua_rawgeti(L, -1, json_names ? 2 : 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        pb_codec_push_names(L, pool, json_names);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, json_names ? 2 : 1);
    }
    lua_remove(L, -2);
}

static int l_codec(lua_State *L)
{
    struct err err;
    struct pb_pool *pool = check_pool(L);
    const struct pb_message *message = check_message(L, &err);
    if (message == NULL) {
        return arg_return_err(L, &err);
    }
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
    }
    struct pb_codec codec = {
        .root = message,
        .json_names = option_is(L, 3, "names", "proto", "json"),
        .defaults = arg_opt_bool(L, 3, "defaults", false),
        .base64_bytes = option_is(L, 3, "bytes", "raw", "base64"),
        .enum_numbers = option_is(L, 3, "enums", "name", "number"),
        .int64_strings = option_is(L, 3, "int64", "number", "string"),
        .finite = arg_opt_bool(L, 3, "finite", false),
    };
    struct codec_box *box = lua_newuserdata(L, sizeof(*box));
    memset(box, 0, sizeof(*box));
    luaL_getmetatable(L, CODEC_META);
    lua_setmetatable(L, -2);
    box->codec = codec;
    box->codec.pool = pb_pool_ref(pool);
    lua_createtable(L, 2, 0);
    push_names(L, pool, codec.json_names);
    lua_rawseti(L, -2, 1);
    json_mark_push(L, JSON_MARK_ARRAY);
    lua_rawseti(L, -2, 2);
    lua_setfenv(L, -2);
    return 1;
}

/* Upvalue 1 is the metatable: a pointer comparison instead of a search by name. */
static struct codec_box *check_codec(lua_State *L)
{
    struct codec_box *box = lua_touserdata(L, 1);
    if (box == NULL || !lua_getmetatable(L, 1)) {
        luaL_typerror(L, 1, CODEC_META);
        return NULL;
    }
    if (!lua_rawequal(L, -1, lua_upvalueindex(1))) {
        luaL_typerror(L, 1, CODEC_META);
    }
    lua_pop(L, 1);
    return box;
}

/* The buffer, empty, and not larger than need be. */
static struct buf *reuse(struct buf *buf)
{
    if (buf->cap > SCRATCH_KEEP) {
        buf_deinit(buf);
    }
    buf_clear(buf);
    return buf;
}

/* Decodes with the codec at codec_idx; pushes the table. */
static int decode_with(lua_State *L, struct codec_box *box, int codec_idx, const char *data, size_t len,
                       bool *is_exact, struct err *err)
{
    int top = lua_gettop(L);
    lua_getfenv(L, codec_idx);
    lua_rawgeti(L, top + 1, 1);
    lua_rawgeti(L, top + 1, 2);
    /* stack: ..., environment, names, mark */
    int status = pb_decode(L, &box->codec, top + 2, top + 3, data, len, reuse(&box->scratch), is_exact, err);
    if (status != 0) {
        lua_settop(L, top);
    }
    return status;
}

static const struct buf *encode_with(lua_State *L, struct codec_box *box, int codec_idx, int table_idx,
                                     struct err *err)
{
    int top = lua_gettop(L);
    lua_getfenv(L, codec_idx);
    lua_rawgeti(L, top + 1, 1);
    struct buf *out = reuse(&box->out);
    int status = pb_encode(L, &box->codec, top + 2, table_idx, out, err);
    lua_settop(L, top);
    return status == 0 ? out : NULL;
}

int l_proto_decode(lua_State *L, int codec_idx, const char *data, size_t len, bool *is_exact, struct err *err)
{
    return decode_with(L, luaL_checkudata(L, codec_idx, CODEC_META), codec_idx, data, len, is_exact, err);
}

const struct buf *l_proto_encode(lua_State *L, int codec_idx, int table_idx, struct err *err)
{
    luaL_checktype(L, table_idx, LUA_TTABLE);
    return encode_with(L, luaL_checkudata(L, codec_idx, CODEC_META), codec_idx, table_idx, err);
}

static int l_decode(lua_State *L)
{
    struct codec_box *box = check_codec(L);
    size_t len;
    struct bytes *shared;
    struct err err;
    const char *data = arg_check_bytes(L, 2, &len, &shared);
    lua_settop(L, 2);
    return decode_with(L, box, 1, data, len, NULL, &err) == 0 ? 1 : arg_return_err(L, &err);
}

static int l_encode(lua_State *L)
{
    struct codec_box *box = check_codec(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct err err;
    lua_settop(L, 2);
    const struct buf *out = encode_with(L, box, 1, 2, &err);
    if (out == NULL) {
        return arg_return_err(L, &err);
    }
    lua_pushlstring(L, out->data == NULL ? "" : out->data, out->len);
    return 1;
}

static int l_messages(lua_State *L)
{
    struct pb_pool *pool = check_pool(L);
    json_mark_push(L, JSON_MARK_ARRAY);
    lua_createtable(L, (int)pool->message_count, 0);
    int count = 0;
    for (unsigned i = 0; i < pool->message_count; i++) {
        if (!pool->messages[i]->is_map_entry) {
            lua_pushstring(L, pool->messages[i]->full_name);
            lua_rawseti(L, -2, ++count);
        }
    }
    lua_pushvalue(L, -2);
    lua_setmetatable(L, -2);
    return 1;
}

static void set_type(lua_State *L, const char *key, const struct pb_field *field)
{
    lua_pushstring(L, pb_type_name(field->type));
    lua_setfield(L, -2, key);
    if (field->message != NULL) {
        lua_pushstring(L, field->message->full_name);
        lua_setfield(L, -2, "message");
    }
    if (field->enumeration != NULL) {
        lua_pushstring(L, field->enumeration->full_name);
        lua_setfield(L, -2, "enum");
    }
}

/* { name=, json_name=, number=, type=, repeated=, packed=, map_key=, map_value=, message=, enum=,
 * oneof=, presence= } */
static void push_field(lua_State *L, const struct pb_message *message, const struct pb_field *field)
{
    lua_newtable(L);
    lua_pushstring(L, field->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, field->json_name);
    lua_setfield(L, -2, "json_name");
    lua_pushinteger(L, (lua_Integer)field->number);
    lua_setfield(L, -2, "number");
    if (field->is_map) {
        lua_pushstring(L, pb_type_name(field->message->fields[0].type));
        lua_setfield(L, -2, "map_key");
        set_type(L, "map_value", &field->message->fields[1]);
    } else {
        set_type(L, "type", field);
        lua_pushboolean(L, field->is_repeated);
        lua_setfield(L, -2, "repeated");
        lua_pushboolean(L, field->is_packed);
        lua_setfield(L, -2, "packed");
    }
    if (field->oneof >= 0) {
        lua_pushstring(L, message->oneofs[field->oneof]);
        lua_setfield(L, -2, "oneof");
    }
    lua_pushboolean(L, field->has_presence);
    lua_setfield(L, -2, "presence");
}

static int l_describe(lua_State *L)
{
    struct err err;
    const struct pb_message *message = check_message(L, &err);
    if (message == NULL) {
        return arg_return_err(L, &err);
    }
    lua_createtable(L, (int)message->count, 0);
    for (unsigned i = 0; i < message->count; i++) {
        push_field(L, message, &message->fields[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_free_pool(lua_State *L)
{
    struct pb_pool **box = luaL_checkudata(L, 1, POOL_META);
    pb_pool_unref(*box);
    *box = NULL;
    return 0;
}

static int l_free_codec(lua_State *L)
{
    struct codec_box *box = luaL_checkudata(L, 1, CODEC_META);
    pb_pool_unref(box->codec.pool);
    box->codec.pool = NULL;
    buf_deinit(&box->out);
    buf_deinit(&box->scratch);
    return 0;
}

static const luaL_Reg pool_methods[] = {
    {"codec", l_codec}, {"messages", l_messages}, {"describe", l_describe}, {NULL, NULL}};
static const luaL_Reg codec_methods[] = {{"decode", l_decode}, {"encode", l_encode}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"load", l_load}, {"fields", l_fields}, {NULL, NULL}};

int luaopen_host_proto(lua_State *L)
{
    arg_class(L, POOL_META, pool_methods, l_free_pool);
    arg_class(L, CODEC_META, codec_methods, l_free_codec);
    luaL_getmetatable(L, CODEC_META);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, codec_methods, 1); /* again, now with the metatable as upvalue */
    lua_pop(L, 2);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
