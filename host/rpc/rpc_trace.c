/* Finds the trace of a caller; see rpc_trace.h. */
#include "rpc/rpc_trace.h"

#include <stddef.h>
#include <string.h>

enum { TRACEPARENT_LEN = 55, TRACE_ID_AT = 3 };

static bool is_trace_id(const char *id)
{
    bool is_zero = true;
    for (int i = 0; i < RPC_TRACE_ID_LEN; i++) {
        if (!((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f'))) {
            return false;
        }
        is_zero = is_zero && id[i] == '0';
    }
    return !is_zero;
}

const char *rpc_trace_id(const grpc_metadata_array *metadata)
{
    static const char name[] = "traceparent";
    for (size_t i = 0; i < metadata->count; i++) {
        const grpc_slice *key = &metadata->metadata[i].key;
        const grpc_slice *value = &metadata->metadata[i].value;
        if (GRPC_SLICE_LENGTH(*key) != sizeof(name) - 1 ||
            memcmp(GRPC_SLICE_START_PTR(*key), name, sizeof(name) - 1) != 0) {
            continue;
        }
        const char *text = (const char *)GRPC_SLICE_START_PTR(*value);
        bool has_shape = GRPC_SLICE_LENGTH(*value) >= TRACEPARENT_LEN && text[TRACE_ID_AT - 1] == '-' &&
                         text[TRACE_ID_AT + RPC_TRACE_ID_LEN] == '-';
        return has_shape && is_trace_id(text + TRACE_ID_AT) ? text + TRACE_ID_AT : NULL;
    }
    return NULL;
}
