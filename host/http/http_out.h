/* Bytes on their way to one socket: copied text gathers in blocks, big shared bytes are referenced. Streaming
 * replies are framed as HTTP chunks, one chunk per turn. Blocks come from a pool and go back as soon as they
 * are written, so a quiet connection owns none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct bytes;

/* Spare blocks and links of one server. Zeroed memory is an empty pool. */
struct http_pool {
    struct http_block *blocks;
    struct http_block *links;
    unsigned block_count;
    unsigned link_count;
};

void http_pool_deinit(struct http_pool *pool);

/* A queue of bytes. Zeroed memory plus a pool is an empty queue. */
struct http_out {
    struct http_pool *pool; /* kept */
    struct http_block *first;
    struct http_block *last;
    size_t len;         /* bytes in the queue */
    char *chunk_size;   /* room for the size of the open chunk, NULL when none is open */
    size_t chunk_start; /* total at which its content began */
    size_t total;       /* bytes ever queued */
};

enum { HTTP_OUT_ROOM = 4000 }; /* the most that http_out_reserve gives */

/* Room for up to len (<= HTTP_OUT_ROOM) contiguous bytes; http_out_commit tells how many were written there.
 */
char *http_out_reserve(struct http_out *out, size_t len);
void http_out_commit(struct http_out *out, size_t len);
void http_out_append(struct http_out *out, const char *data, size_t len); /* copies */
/* As append; shared (may be NULL) holds data, and is referenced instead of copied when that is cheaper. */
void http_out_share(struct http_out *out, const char *data, size_t len, struct bytes *shared);

void http_out_open_chunk(struct http_out *out); /* unless one is open */
void http_out_seal_chunk(struct http_out *out); /* if one is open */

/* Describes the front of the queue; *bytes is their sum. Returns the number of buffers. */
unsigned http_out_peek(const struct http_out *out, uv_buf_t *bufs, unsigned max, size_t *bytes);
void http_out_consume(struct http_out *out, size_t len);
void http_out_clear(struct http_out *out);
