/* Outgoing bytes; see http_out.h. */
#include "http/http_out.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/xmem.h"

enum {
    BLOCK_BYTES = 4096,
    MAX_SPARE_BLOCKS = 256, /* 1 MiB */
    MAX_SPARE_LINKS = 1024,
    COPY_BELOW = 1024,   /* a copy of this size costs less than a buffer of its own in writev */
    CHUNK_SIZE_LEN = 10, /* eight hexadecimal digits and a line end; leading zeros are allowed */
};

/* Either text of our own (capacity > 0, in room) or a reference into shared bytes. */
struct http_block {
    struct http_block *next;
    const char *data;
    uint32_t start;
    uint32_t end;
    uint32_t capacity;
    struct bytes *shared;
    char room[];
};

static_assert(HTTP_OUT_ROOM <= BLOCK_BYTES - sizeof(struct http_block), "a block holds what may be reserved");

static void free_chain(struct http_block *block)
{
    while (block != NULL) {
        struct http_block *next = block->next;
        free(block);
        block = next;
    }
}

void http_pool_deinit(struct http_pool *pool)
{
    free_chain(pool->blocks);
    free_chain(pool->links);
    memset(pool, 0, sizeof(*pool));
}

static struct http_block *take_block(struct http_pool *pool)
{
    struct http_block *block = pool->blocks;
    if (block != NULL) {
        pool->blocks = block->next;
        pool->block_count--;
    } else {
        block = xmalloc(BLOCK_BYTES);
        block->capacity = BLOCK_BYTES - sizeof(*block);
        block->shared = NULL;
        block->data = block->room;
    }
    block->start = 0;
    block->end = 0;
    return block;
}

static struct http_block *take_link(struct http_pool *pool)
{
    struct http_block *block = pool->links;
    if (block != NULL) {
        pool->links = block->next;
        pool->link_count--;
        return block;
    }
    block = xmalloc(sizeof(*block));
    block->capacity = 0;
    return block;
}

static void give_back(struct http_pool *pool, struct http_block *block)
{
    if (block->capacity == 0) {
        bytes_unref(block->shared);
        if (pool->link_count < MAX_SPARE_LINKS) {
            block->next = pool->links;
            pool->links = block;
            pool->link_count++;
            return;
        }
    } else if (pool->block_count < MAX_SPARE_BLOCKS) {
        block->next = pool->blocks;
        pool->blocks = block;
        pool->block_count++;
        return;
    }
    free(block);
}

static void push(struct http_out *out, struct http_block *block)
{
    block->next = NULL;
    if (out->last == NULL) {
        out->first = block;
    } else {
        out->last->next = block;
    }
    out->last = block;
}

static size_t room_in(const struct http_block *block)
{
    return block == NULL || block->capacity == 0 ? 0 : block->capacity - block->end;
}

char *http_out_reserve(struct http_out *out, size_t len)
{
    assert(len <= HTTP_OUT_ROOM);
    struct http_block *block = out->last;
    if (room_in(block) < len) {
        block = take_block(out->pool);
        push(out, block);
    }
    return block->room + block->end;
}

void http_out_commit(struct http_out *out, size_t len)
{
    out->last->end += (uint32_t)len;
    out->len += len;
    out->total += len;
}

void http_out_append(struct http_out *out, const char *data, size_t len)
{
    while (len > 0) {
        if (room_in(out->last) == 0) {
            push(out, take_block(out->pool));
        }
        struct http_block *block = out->last;
        size_t room = room_in(block);
        size_t piece = len < room ? len : room;
        memcpy(block->room + block->end, data, piece);
        http_out_commit(out, piece);
        data += piece;
        len -= piece;
    }
}

static void push_link(struct http_out *out, const char *data, size_t len, struct bytes *shared)
{
    struct http_block *block = take_link(out->pool);
    block->data = data;
    block->start = 0;
    block->end = (uint32_t)len;
    block->shared = bytes_ref(shared);
    push(out, block);
    out->len += len;
    out->total += len;
}

void http_out_share(struct http_out *out, const char *data, size_t len, struct bytes *shared)
{
    if (shared == NULL || len < COPY_BELOW) {
        http_out_append(out, data, len);
        return;
    }
    while (len > 0) {
        size_t piece = len < UINT32_MAX ? len : UINT32_MAX;
        push_link(out, data, piece, shared);
        data += piece;
        len -= piece;
    }
}

void http_out_open_chunk(struct http_out *out)
{
    if (out->chunk_size == NULL) {
        out->chunk_size = http_out_reserve(out, CHUNK_SIZE_LEN);
        http_out_commit(out, CHUNK_SIZE_LEN);
        out->chunk_start = out->total;
    }
}

void http_out_seal_chunk(struct http_out *out)
{
    if (out->chunk_size == NULL) {
        return;
    }
    size_t size = out->total - out->chunk_start;
    assert(size > 0 && size <= UINT32_MAX);
    for (int i = 7; i >= 0; i--) {
        out->chunk_size[i] = "0123456789abcdef"[size & 15];
        size >>= 4;
    }
    out->chunk_size[8] = '\r';
    out->chunk_size[9] = '\n';
    out->chunk_size = NULL;
    http_out_append(out, "\r\n", 2);
}

unsigned http_out_peek(const struct http_out *out, uv_buf_t *bufs, unsigned max, size_t *bytes)
{
    unsigned count = 0;
    *bytes = 0;
    for (const struct http_block *block = out->first; block != NULL && count < max; block = block->next) {
        if (block->end > block->start) {
            bufs[count] = uv_buf_init((char *)block->data + block->start, block->end - block->start);
            *bytes += bufs[count].len;
            count++;
        }
    }
    return count;
}

void http_out_consume(struct http_out *out, size_t len)
{
    assert(len <= out->len);
    out->len -= len;
    while (out->first != NULL) {
        struct http_block *block = out->first;
        size_t left = block->end - block->start;
        if (len < left) {
            block->start += (uint32_t)len;
            return;
        }
        len -= left;
        out->first = block->next;
        if (out->first == NULL) {
            out->last = NULL;
        }
        give_back(out->pool, block);
        if (len == 0 && out->first != NULL && out->first->end > out->first->start) {
            return;
        }
    }
}

void http_out_clear(struct http_out *out)
{
    while (out->first != NULL) {
        struct http_block *block = out->first;
        out->first = block->next;
        give_back(out->pool, block);
    }
    out->last = NULL;
    out->len = 0;
    out->chunk_size = NULL;
}
