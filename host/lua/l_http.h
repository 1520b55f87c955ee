/* What the two halves of host.http share. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "http/http_server.h"

enum { L_HTTP_MAX_HEADERS = 64, L_HTTP_MAX_NUMBERS = 8 };

/* Reply fields read from a Lua table; texts are borrowed from it. */
struct l_headers {
    struct http_header list[L_HTTP_MAX_HEADERS];
    size_t count;
    char numbers[L_HTTP_MAX_NUMBERS][32]; /* texts of values that were given as numbers */
    size_t number_count;
};

/* Pushes the fields of a request: lower-case names, values of repeated ones joined. */
void l_http_push_headers(lua_State *L, const struct http_msg *msg);

/* Values are strings, numbers or arrays of strings (one field each). Raises on anything else. nil is empty.
 */
void l_http_read_headers(lua_State *L, int idx, struct l_headers *headers);

/* Runs handler(req, res) for one request in a task of its own. handler is a registry reference, L the main
 * state. */
void l_http_spawn(lua_State *L, int handler_ref, struct http_req *req, const struct http_msg *msg);

void l_http_res_open(lua_State *L); /* registers the class of replies */
