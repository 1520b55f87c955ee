/* Reads the list of fields that describes a message: array of { name=, number=, type=, repeated=,
 * map_value= }. */
#pragma once

#include <lua.h>

#include "proto/pb_schema.h"

#define PB_SPEC_MAX_FIELDS 500

/* Pushes a userdata that holds the array of specs and returns it; *count is its length. Raises on a
 * malformed list. The texts are borrowed from the list's tables. */
struct pb_field_spec *pb_spec_read(lua_State *L, int idx, size_t *count);
