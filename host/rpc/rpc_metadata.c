/* Outgoing metadata; see rpc_metadata.h. */
#include "rpc/rpc_metadata.h"

#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

/* The transport writes these itself. */
static const char *const reserved[] = {"te",         "content-type", "content-length",
                                       "connection", "host",         "user-agent"};

void rpc_metadata_init(struct rpc_metadata *metadata)
{
    *metadata = (struct rpc_metadata){0};
}

void rpc_metadata_deinit(struct rpc_metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++) {
        grpc_slice_unref(metadata->items[i].key);
        grpc_slice_unref(metadata->items[i].value);
    }
    free(metadata->items);
    *metadata = (struct rpc_metadata){0};
}

static bool is_reserved(const char *key, size_t len)
{
    if (len >= 5 && memcmp(key, "grpc-", 5) == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strlen(reserved[i]) == len && memcmp(reserved[i], key, len) == 0) {
            return true;
        }
    }
    return false;
}

static void push(struct rpc_metadata *metadata, grpc_slice key, grpc_slice value)
{
    if (metadata->count == metadata->cap) {
        metadata->cap = metadata->cap == 0 ? 4 : metadata->cap * 2;
        metadata->items = xrealloc(metadata->items, metadata->cap * sizeof(*metadata->items));
    }
    metadata->items[metadata->count++] = (grpc_metadata){.key = key, .value = value};
}

int rpc_metadata_add(struct rpc_metadata *metadata, const char *key, size_t key_len, const char *value,
                     size_t value_len, struct err *err)
{
    int shown = key_len > 64 ? 64 : (int)key_len;
    if (is_reserved(key, key_len)) {
        return err_set(err, ERR_INVALID, "metadata key \"%.*s\" is reserved", shown, key);
    }
    grpc_slice key_slice = grpc_slice_from_copied_buffer(key, key_len);
    grpc_slice value_slice = grpc_slice_from_copied_buffer(value, value_len);
    int status = 0;
    if (key_len == 0 || !grpc_header_key_is_legal(key_slice)) {
        status =
            err_set(err, ERR_INVALID,
                    "metadata key \"%.*s\" is illegal: lower-case letters, digits, '-', '_' and '.' only",
                    shown, key);
    } else if (!grpc_is_binary_header(key_slice) && !grpc_header_nonbin_value_is_legal(value_slice)) {
        status = err_set(err, ERR_INVALID,
                         "metadata value of \"%.*s\" is not printable ASCII; use a key that ends in -bin",
                         shown, key);
    }
    if (status != 0) {
        grpc_slice_unref(key_slice);
        grpc_slice_unref(value_slice);
        return status;
    }
    push(metadata, key_slice, value_slice);
    return 0;
}

void rpc_metadata_move(struct rpc_metadata *to, struct rpc_metadata *from)
{
    rpc_metadata_deinit(to);
    if (from != NULL) {
        *to = *from;
        *from = (struct rpc_metadata){0};
    }
}

void rpc_metadata_copy(struct rpc_metadata *to, const grpc_metadata_array *from)
{
    rpc_metadata_deinit(to);
    for (size_t i = 0; i < from->count; i++) {
        push(to, grpc_slice_copy(from->metadata[i].key), grpc_slice_copy(from->metadata[i].value));
    }
}
