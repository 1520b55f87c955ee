/* The queue of outgoing bytes: what goes in comes out, whatever the kernel takes at a time. */
#include "test.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "http/http_out.h"

/* Takes the queue's bytes in steps of `step`, through at most `max` buffers at a time. */
static void drain(struct http_out *out, struct buf *to, size_t step, unsigned max)
{
    while (out->len > 0) {
        uv_buf_t bufs[8];
        size_t bytes;
        unsigned count = http_out_peek(out, bufs, max, &bytes);
        CHECK(count > 0);
        size_t take = bytes < step ? bytes : step;
        size_t left = take;
        for (unsigned i = 0; i < count && left > 0; i++) {
            size_t piece = bufs[i].len < left ? bufs[i].len : left;
            buf_append(to, bufs[i].base, piece);
            left -= piece;
        }
        http_out_consume(out, take);
    }
}

static void check_equal(const struct buf *got, const struct buf *expected)
{
    CHECK_INT(got->len, expected->len);
    CHECK(memcmp(got->data, expected->data, got->len) == 0);
}

TEST(mixed_pieces_in_every_step)
{
    static const size_t steps[] = {1, 7, 1000, 4056, 4096, 100000};
    for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
        struct http_pool pool = {0};
        struct http_out out = {.pool = &pool};
        struct buf expected = {0};
        struct buf got = {0};
        struct bytes *shared = bytes_alloc(3000);
        memset(shared->data, 's', shared->len);
        for (size_t i = 0; i < 60; i++) {
            char text[300];
            size_t len = i * 37 % sizeof(text);
            memset(text, (int)('a' + i % 26), sizeof(text));
            http_out_append(&out, text, len);
            buf_append(&expected, text, len);
            size_t part = i * 53 % shared->len; /* some are copied, some are referenced */
            http_out_share(&out, shared->data, part, shared);
            buf_append(&expected, shared->data, part);
        }
        CHECK_INT(out.len, expected.len);
        bytes_unref(shared); /* the queue holds what it needs */
        drain(&out, &got, steps[s], 1 + (unsigned)s);
        check_equal(&got, &expected);
        CHECK(out.first == NULL && out.last == NULL);
        http_pool_deinit(&pool);
        buf_deinit(&expected);
        buf_deinit(&got);
    }
}

TEST(references_are_released)
{
    struct http_pool pool = {0};
    struct http_out out = {.pool = &pool};
    struct bytes *shared = bytes_alloc(5000);
    memset(shared->data, 'x', shared->len);
    http_out_share(&out, shared->data, shared->len, shared);
    http_out_share(&out, shared->data, shared->len, shared);
    CHECK_INT(shared->refs, 3);
    http_out_consume(&out, 5001);
    CHECK_INT(shared->refs, 2);
    http_out_clear(&out);
    CHECK_INT(shared->refs, 1);
    CHECK_INT(out.len, 0);
    bytes_unref(shared);
    http_pool_deinit(&pool);
}

TEST(one_chunk_gathers_everything_until_it_is_sealed)
{
    struct http_pool pool = {0};
    struct http_out out = {.pool = &pool};
    struct buf got = {0};
    http_out_append(&out, "head ", 5);
    http_out_seal_chunk(&out); /* nothing is open */
    for (int i = 0; i < 3; i++) {
        http_out_open_chunk(&out);
        http_out_append(&out, "0123456789", 10);
    }
    http_out_seal_chunk(&out);
    http_out_open_chunk(&out);
    http_out_append(&out, "x", 1);
    http_out_seal_chunk(&out);
    drain(&out, &got, 1000, 8);
    buf_append_byte(&got, '\0');
    CHECK_STR(got.data, "head 0000001e\r\n012345678901234567890123456789\r\n00000001\r\nx\r\n");
    buf_deinit(&got);
    http_pool_deinit(&pool);
}

TEST(a_chunk_may_open_while_earlier_bytes_leave)
{
    struct http_pool pool = {0};
    struct http_out out = {.pool = &pool};
    struct buf got = {0};
    http_out_append(&out, "abc", 3);
    http_out_open_chunk(&out);
    http_out_append(&out, "data", 4);
    http_out_consume(&out, 3); /* a write that was in progress ends */
    http_out_seal_chunk(&out);
    drain(&out, &got, 1000, 8);
    buf_append_byte(&got, '\0');
    CHECK_STR(got.data, "00000004\r\ndata\r\n");
    buf_deinit(&got);
    http_pool_deinit(&pool);
}

TEST(a_drained_queue_owns_nothing)
{
    struct http_pool pool = {0};
    struct http_out out = {.pool = &pool};
    for (int i = 0; i < 100; i++) {
        (void)http_out_reserve(&out, HTTP_OUT_ROOM);
        http_out_commit(&out, HTTP_OUT_ROOM);
    }
    http_out_consume(&out, out.len);
    CHECK(out.first == NULL);
    CHECK_INT(pool.block_count, 100);
    http_pool_deinit(&pool);
}

int main(void)
{
    RUN(mixed_pieces_in_every_step);
    RUN(references_are_released);
    RUN(one_chunk_gathers_everything_until_it_is_sealed);
    RUN(a_chunk_may_open_while_earlier_bytes_leave);
    RUN(a_drained_queue_owns_nothing);
    return 0;
}
