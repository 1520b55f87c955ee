/* host.jws: signed tokens (JWS compact) and the keys that make and verify them. Algorithms are "RS256",
 * "ES256", "HS256".
 *
 *   keys() -> keys                                an empty set
 *   keys:add(jwk) -> true | nil, err              jwk: the members of a JSON Web Key as a table of texts
 *   keys:count() -> number
 *   keys:verify(token, algs) -> payload | nil, err    algs: array of allowed algorithms. err.code: INVALID
 * not a token, LIMIT too long, DENIED algorithm or signature, NOT_FOUND unknown kid keys:sign(alg, payload)
 * -> token | nil, err   with the first private key of that kind generate(alg) -> JSON text of a new private
 * key; blocks for as long as that takes
 */
#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "crypto/jws.h"
#include "lua/arg.h"
#include "lua/vm.h"

#define META "host.jws.keys"

static struct jws_keys *check_keys(lua_State *L)
{
    return *(struct jws_keys **)luaL_checkudata(L, 1, META);
}

static int l_keys(lua_State *L)
{
    struct jws_keys **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    *box = jws_keys_new();
    return 1;
}

/* Member `name` of the table at 2 into *text; false when it is there and no text. */
static bool read_member(lua_State *L, const char *name, struct jws_text *text)
{
    lua_getfield(L, 2, name);
    bool is_text = lua_type(L, -1) == LUA_TSTRING;
    if (is_text) {
        text->data = lua_tolstring(L, -1, &text->len); /* the table keeps it alive */
    }
    bool is_fine = is_text || lua_isnil(L, -1);
    lua_pop(L, 1);
    return is_fine;
}

static int l_add(lua_State *L)
{
    struct jws_keys *keys = check_keys(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct jws_jwk jwk = {0};
    const struct {
        const char *name;
        struct jws_text *text;
    } members[] = {
        {"kty", &jwk.kty}, {"kid", &jwk.kid}, {"alg", &jwk.alg}, {"use", &jwk.use},
        {"n", &jwk.n},     {"e", &jwk.e},     {"crv", &jwk.crv}, {"x", &jwk.x},
        {"y", &jwk.y},     {"d", &jwk.d},     {"p", &jwk.p},     {"q", &jwk.q},
        {"dp", &jwk.dp},   {"dq", &jwk.dq},   {"qi", &jwk.qi},   {"k", &jwk.k},
    };
    struct err err;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!read_member(L, members[i].name, members[i].text)) {
            err_set(&err, ERR_INVALID, "%s is not text", members[i].name);
            return arg_return_err(L, &err);
        }
    }
    if (jws_keys_add(keys, &jwk, &err) != 0) {
        return arg_return_err(L, &err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int l_count(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)jws_keys_count(check_keys(L)));
    return 1;
}

static enum jws_alg check_alg(lua_State *L, int idx)
{
    size_t len;
    const char *name = luaL_checklstring(L, idx, &len);
    enum jws_alg alg = jws_alg_of_name(name, len);
    luaL_argcheck(L, alg != 0, idx, "one of \"RS256\", \"ES256\", \"HS256\" expected");
    return alg;
}

static unsigned check_algs(lua_State *L, int idx)
{
    unsigned algs = 0;
    luaL_checktype(L, idx, LUA_TTABLE);
    for (int i = 1; i <= (int)lua_objlen(L, idx); i++) {
        lua_rawgeti(L, idx, i);
        algs |= check_alg(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    return algs;
}

/* Pushes what is in buf, or the error; frees buf. */
static int return_buf(lua_State *L, struct buf *buf, int status, const struct err *err)
{
    if (status != 0) {
        buf_deinit(buf);
        return arg_return_err(L, err);
    }
    lua_pushlstring(L, buf->data == NULL ? "" : buf->data, buf->len);
    buf_deinit(buf);
    return 1;
}

static int l_verify(lua_State *L)
{
    struct jws_keys *keys = check_keys(L);
    size_t len;
    const char *token = luaL_checklstring(L, 2, &len);
    unsigned algs = check_algs(L, 3);
    struct buf payload = {0};
    struct err err;
    int status = jws_verify(keys, algs, token, len, &payload, &err);
    return return_buf(L, &payload, status, &err);
}

static int l_sign(lua_State *L)
{
    struct jws_keys *keys = check_keys(L);
    enum jws_alg alg = check_alg(L, 2);
    size_t len;
    const char *payload = luaL_checklstring(L, 3, &len);
    struct buf token = {0};
    struct err err;
    int status = jws_sign(keys, alg, payload, len, &token, &err);
    return return_buf(L, &token, status, &err);
}

static int l_generate(lua_State *L)
{
    enum jws_alg alg = check_alg(L, 1);
    struct buf text = {0};
    struct err err;
    int status = jws_generate(alg, &text, &err);
    return return_buf(L, &text, status, &err);
}

static int l_gc(lua_State *L)
{
    struct jws_keys **box = luaL_checkudata(L, 1, META);
    jws_keys_free(*box);
    *box = NULL;
    return 0;
}

int luaopen_host_jws(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"add", l_add}, {"count", l_count}, {"verify", l_verify}, {"sign", l_sign}, {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"keys", l_keys}, {"generate", l_generate}, {NULL, NULL}};
    arg_class(L, META, methods, l_gc);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
