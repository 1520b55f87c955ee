/* Errors, buffers, shared bytes, numbers, lists. */
#include <errno.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/list.h"
#include "base/num.h"
#include "test.h"

TEST(err_keeps_one_line)
{
    struct err err;
    CHECK_INT(err_set(&err, ERR_LIMIT, "a\nb %d", 7), ERR_LIMIT);
    CHECK_STR(err.text, "a b 7");
    CHECK_INT(err_wrap(&err, "open %s", "x"), ERR_LIMIT);
    CHECK_STR(err.text, "open x: a b 7");
    CHECK_STR(err_name(ERR_LIMIT), "LIMIT");
    CHECK_STR(err_name(12345), "INTERNAL");
}

TEST(err_wrap_truncates_long_texts)
{
    struct err err;
    char longtext[400];
    memset(longtext, 'x', sizeof(longtext) - 1);
    longtext[sizeof(longtext) - 1] = '\0';
    err_set(&err, ERR_IO, "%s", longtext);
    err_wrap(&err, "%s", longtext);
    CHECK_INT(strlen(err.text), sizeof(err.text) - 1);
}

TEST(err_maps_errno)
{
    struct err err;
    CHECK_INT(err_set_errno(&err, ENOENT, "open %s", "f"), ERR_NOT_FOUND);
    CHECK_STR(err.text, "open f: No such file or directory");
    CHECK_INT(err.detail, ENOENT);
    CHECK_INT(err_set_errno(&err, -ECONNREFUSED, "connect"), ERR_UNAVAILABLE);
    CHECK_INT(err_set_errno(&err, ENOSPC, "write"), ERR_IO);
}

TEST(buf_grows_and_consumes)
{
    struct buf buf;
    buf_init(&buf);
    for (int i = 0; i < 1000; i++) {
        buf_printf(&buf, "%d,", i);
    }
    CHECK_INT(buf.len, 3890);
    buf_consume(&buf, 2);
    CHECK(memcmp(buf.data, "1,2,", 4) == 0);
    buf_consume(&buf, 1 << 20);
    CHECK_INT(buf.len, 0);
    buf_append_str(&buf, "done");
    size_t len;
    char *text = buf_take(&buf, &len);
    CHECK_STR(text, "done");
    CHECK_INT(len, 4);
    free(text);
    CHECK(buf.data == NULL);
    buf_deinit(&buf);
}

TEST(bytes_are_shared)
{
    struct bytes *bytes = bytes_new("abc", 3);
    CHECK(bytes_ref(bytes) == bytes);
    bytes_unref(bytes);
    CHECK(memcmp(bytes->data, "abc", 3) == 0);
    bytes_unref(bytes);
    bytes_unref(NULL);
}

TEST(num_is_strict)
{
    int64_t i;
    uint64_t u;
    CHECK(num_parse_i64("-9223372036854775808", 20, &i) && i == INT64_MIN);
    CHECK(!num_parse_i64("9223372036854775808", 19, &i));
    CHECK(num_parse_u64("18446744073709551615", 20, &u) && u == UINT64_MAX);
    CHECK(!num_parse_u64("18446744073709551616", 20, &u));
    CHECK(!num_parse_u64("", 0, &u));
    CHECK(!num_parse_i64("-", 1, &i));
    CHECK(!num_parse_i64(" 1", 2, &i));
    CHECK(!num_parse_i64("1a", 2, &i));
}

TEST(list_removal_is_safe_twice)
{
    struct list head;
    struct list a;
    struct list b;
    list_init(&head);
    list_push_back(&head, &a);
    list_push_front(&head, &b);
    CHECK(head.next == &b);
    list_remove(&b);
    list_remove(&b);
    CHECK(list_pop_front(&head) == &a);
    CHECK(list_pop_front(&head) == NULL);
}

TEST(fault_points_count_their_hits)
{
#ifdef MACP_FAULTS
    CHECK(!fault_hit("test.point"));
    fault_arm("test.point", "fail", 2);
    CHECK(!fault_hit("test.point"));
    CHECK(!fault_hit("test.point"));
    CHECK(fault_hit("test.point"));
    CHECK(fault_hit("test.point"));
    CHECK(!fault_hit("test.other"));
    fault_arm("test.point", NULL, 0);
    CHECK(!fault_hit("test.point"));
#endif
}

int main(void)
{
    RUN(err_keeps_one_line);
    RUN(err_wrap_truncates_long_texts);
    RUN(err_maps_errno);
    RUN(buf_grows_and_consumes);
    RUN(bytes_are_shared);
    RUN(num_is_strict);
    RUN(list_removal_is_safe_twice);
    RUN(fault_points_count_their_hits);
    return 0;
}
