/* Building pools: what pb_set.c and pb_fields.c share. Private to host/proto. */
#pragma once

#include "proto/pb_schema.h"

struct pb_pool *pb_build_pool(void);
/* Appends; the pool owns the result. Takes a copy of the name. */
struct pb_message *pb_build_message(struct pb_pool *pool, const char *full_name);
struct pb_enum *pb_build_enum(struct pb_pool *pool, const char *full_name);
/* Appends a zeroed field with copies of the names (json_name NULL: made from name). Earlier
 * pointers into message->fields become invalid. */
struct pb_field *pb_build_field(struct pb_message *message, const char *name, const char *json_name);
/* Sorts everything, checks numbers and names, gives slots. After this the pool is immutable. */
int pb_build_finish(struct pb_pool *pool, struct err *err);
