/* The W3C trace context that a caller sends with a call: `traceparent: 00-<trace id>-<span id>-<flags>`. */
#pragma once

#include <stdbool.h>

#include <grpc/grpc.h>

enum { RPC_TRACE_ID_LEN = 32 };

/* The id of the caller's trace (hex digits, without a terminator) within metadata, which lends it; NULL when
 * there is none or it is malformed. */
const char *rpc_trace_id(const grpc_metadata_array *metadata);
