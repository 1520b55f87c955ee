/* host.crypto: hashes, random values, identifiers and encodings of bytes.
 *
 *   sha256(s) -> 32 bytes      sha256_hex(s)      hmac_sha256(key, s) -> 32 bytes
 * hmac_sha256_hex(key, s) random(n) -> n bytes       equal(a, b) -> bool, in constant time uuid4()
 * uuid7()   uuid5(namespace_uuid, name)                    texts; uuid7 ascends hex(s)    unhex(s)
 * -> bytes | nil, err base64_encode(s)   base64_decode(s) -> bytes | nil, err            padded
 *   base64url_encode(s)   base64url_decode(s) -> bytes | nil, err      unpadded; padding is
 * accepted crc32c(s [, crc]) -> number
 */
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "crypto/digest.h"
#include "crypto/encode.h"
#include "crypto/uuid.h"
#include "loop/loop.h"
#include "lua/arg.h"
#include "lua/vm.h"

#define STATE_META "host.crypto.state"
#define MAX_RANDOM (1 << 20)
#define SCRATCH_KEEP ((size_t)1 << 20)

/* Kept between calls; upvalue 1 of every function. */
struct crypto_state {
    struct digest *digest;
    struct uuid_clock clock;
    struct buf out;
};

static struct crypto_state *state_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static struct buf *scratch_of(lua_State *L)
{
    struct buf *buf = &state_of(L)->out;
    if (buf->cap > SCRATCH_KEEP) {
        buf_deinit(buf);
    }
    buf_clear(buf);
    return buf;
}

static int push_buf(lua_State *L, const struct buf *buf)
{
    lua_pushlstring(L, buf->data == NULL ? "" : buf->data, buf->len);
    return 1;
}

/* The library itself failed: nothing a caller can do about it. */
static int raise_err(lua_State *L, const struct err *err)
{
    return luaL_error(L, "%s", err->text);
}

static int push_hash(lua_State *L, const unsigned char hash[DIGEST_SHA256_LEN], bool hex)
{
    if (!hex) {
        lua_pushlstring(L, (const char *)hash, DIGEST_SHA256_LEN);
        return 1;
    }
    struct buf *out = scratch_of(L);
    encode_hex(out, hash, DIGEST_SHA256_LEN);
    return push_buf(L, out);
}

static int sha256(lua_State *L, bool hex)
{
    size_t len;
    struct bytes *shared;
    struct err err;
    unsigned char hash[DIGEST_SHA256_LEN];
    const char *data = arg_check_bytes(L, 1, &len, &shared);
    if (digest_sha256(state_of(L)->digest, data, len, hash, &err) != 0) {
        return raise_err(L, &err);
    }
    return push_hash(L, hash, hex);
}

static int hmac(lua_State *L, bool hex)
{
    size_t key_len;
    size_t len;
    struct bytes *shared;
    struct err err;
    unsigned char hash[DIGEST_SHA256_LEN];
    const char *key = luaL_checklstring(L, 1, &key_len);
    const char *data = arg_check_bytes(L, 2, &len, &shared);
    if (digest_hmac_sha256(state_of(L)->digest, key, key_len, data, len, hash, &err) != 0) {
        return raise_err(L, &err);
    }
    return push_hash(L, hash, hex);
}

static int l_sha256(lua_State *L)
{
    return sha256(L, false);
}

static int l_sha256_hex(lua_State *L)
{
    return sha256(L, true);
}

static int l_hmac_sha256(lua_State *L)
{
    return hmac(L, false);
}

static int l_hmac_sha256_hex(lua_State *L)
{
    return hmac(L, true);
}

static int l_random(lua_State *L)
{
    struct err err;
    size_t len = (size_t)arg_check_int(L, 1, 0, MAX_RANDOM);
    struct buf *out = scratch_of(L);
    if (digest_random(buf_reserve(out, len + 1), len, &err) != 0) {
        return raise_err(L, &err);
    }
    out->len = len;
    return push_buf(L, out);
}

static int l_equal(lua_State *L)
{
    size_t a_len;
    size_t b_len;
    const char *a = luaL_checklstring(L, 1, &a_len);
    const char *b = luaL_checklstring(L, 2, &b_len);
    lua_pushboolean(L, digest_equal(a, a_len, b, b_len));
    return 1;
}

static int l_uuid4(lua_State *L)
{
    char text[UUID_LEN + 1];
    struct err err;
    if (uuid_v4(text, &err) != 0) {
        return raise_err(L, &err);
    }
    lua_pushlstring(L, text, UUID_LEN);
    return 1;
}

static int l_uuid7(lua_State *L)
{
    char text[UUID_LEN + 1];
    struct err err;
    if (uuid_v7(&state_of(L)->clock, (uint64_t)loop_now_ms(), text, &err) != 0) {
        return raise_err(L, &err);
    }
    lua_pushlstring(L, text, UUID_LEN);
    return 1;
}

static int l_uuid5(lua_State *L)
{
    char text[UUID_LEN + 1];
    struct err err;
    size_t space_len;
    size_t name_len;
    const char *space = luaL_checklstring(L, 1, &space_len);
    const char *name = luaL_checklstring(L, 2, &name_len);
    if (uuid_v5(space, space_len, name, name_len, text, &err) != 0) {
        return raise_err(L, &err);
    }
    lua_pushlstring(L, text, UUID_LEN);
    return 1;
}

static int l_hex(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    struct buf *out = scratch_of(L);
    encode_hex(out, data, len);
    return push_buf(L, out);
}

static int return_malformed(lua_State *L, const char *form, size_t bad_at)
{
    struct err err;
    err_set(&err, ERR_INVALID, "not %s (at byte %zu)", form, bad_at + 1);
    return arg_return_err(L, &err);
}

static int l_unhex(lua_State *L)
{
    size_t len;
    size_t bad_at;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *out = scratch_of(L);
    return encode_unhex(out, text, len, &bad_at) ? push_buf(L, out)
                                                 : return_malformed(L, "hexadecimal", bad_at);
}

static int encode(lua_State *L, enum encode_base64_form form)
{
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, 1, &len, &shared);
    struct buf *out = scratch_of(L);
    encode_base64(out, data, len, form);
    return push_buf(L, out);
}

static int decode(lua_State *L, enum encode_base64_form form, const char *name)
{
    size_t len;
    size_t bad_at;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *out = scratch_of(L);
    return encode_unbase64(out, text, len, form, &bad_at) ? push_buf(L, out)
                                                          : return_malformed(L, name, bad_at);
}

static int l_base64_encode(lua_State *L)
{
    return encode(L, ENCODE_BASE64);
}

static int l_base64_decode(lua_State *L)
{
    return decode(L, ENCODE_BASE64, "base64");
}

static int l_base64url_encode(lua_State *L)
{
    return encode(L, ENCODE_BASE64URL);
}

static int l_base64url_decode(lua_State *L)
{
    return decode(L, ENCODE_BASE64URL, "base64url");
}

static int l_crc32c(lua_State *L)
{
    size_t len;
    struct bytes *shared;
    const char *data = arg_check_bytes(L, 1, &len, &shared);
    uint32_t crc = lua_isnoneornil(L, 2) ? 0 : (uint32_t)arg_check_int(L, 2, 0, UINT32_MAX);
    lua_pushnumber(L, (lua_Number)crc32c(crc, data, len));
    return 1;
}

static int l_free_state(lua_State *L)
{
    struct crypto_state *state = lua_touserdata(L, 1);
    digest_free(state->digest);
    state->digest = NULL;
    buf_deinit(&state->out);
    return 0;
}

static const luaL_Reg functions[] = {
    {"sha256", l_sha256},
    {"sha256_hex", l_sha256_hex},
    {"hmac_sha256", l_hmac_sha256},
    {"hmac_sha256_hex", l_hmac_sha256_hex},
    {"random", l_random},
    {"equal", l_equal},
    {"uuid4", l_uuid4},
    {"uuid7", l_uuid7},
    {"uuid5", l_uuid5},
    {"hex", l_hex},
    {"unhex", l_unhex},
    {"base64_encode", l_base64_encode},
    {"base64_decode", l_base64_decode},
    {"base64url_encode", l_base64url_encode},
    {"base64url_decode", l_base64url_decode},
    {"crc32c", l_crc32c},
    {NULL, NULL},
};

int luaopen_host_crypto(lua_State *L)
{
    lua_newtable(L);
    struct crypto_state *state = lua_newuserdata(L, sizeof(*state));
    *state = (struct crypto_state){.digest = digest_new()};
    luaL_newmetatable(L, STATE_META);
    lua_pushcfunction(L, l_free_state);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
