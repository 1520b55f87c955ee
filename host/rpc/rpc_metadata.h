/* Metadata to send (headers and trailers), checked before the core sees it: a batch refused for illegal
 * metadata would leave the call unusable. Keys are lower case; keys ending in "-bin" carry raw bytes, others
 * printable ASCII. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <grpc/grpc.h>

#include "base/err.h"

struct rpc_metadata {
    grpc_metadata *items;
    size_t count;
    size_t cap;
};

void rpc_metadata_init(struct rpc_metadata *metadata);
void rpc_metadata_deinit(struct rpc_metadata *metadata);
/* Copies key and value. ERR_INVALID names the key and the reason. */
int rpc_metadata_add(struct rpc_metadata *metadata, const char *key, size_t key_len, const char *value,
                     size_t value_len, struct err *err);
/* Moves the content of from (which becomes empty) over the content of to. from may be NULL: to becomes empty.
 */
void rpc_metadata_move(struct rpc_metadata *to, struct rpc_metadata *from);
/* Deep copy of what the core received, so that it outlives the call. */
void rpc_metadata_copy(struct rpc_metadata *to, const grpc_metadata_array *from);
