/* The request parser: every case is fed whole, byte by byte and cut at every position; the outcome must be
 * the same. */
#include "test.h"

#include "http/http_parse.h"

static const struct http_limits limits = {.max_head_bytes = 1024, .max_headers = 8, .max_body_bytes = 64};

/* Feeds text in two pieces cut at `cut` (0: byte by byte). Returns the last event. */
static enum http_parse_event feed(struct http_parser *parser, struct http_msg *msg, const char *text,
                                  size_t len, size_t cut, size_t *used)
{
    enum http_parse_event event = HTTP_PARSE_MORE;
    size_t total = 0;
    while (total < len && event == HTTP_PARSE_MORE) {
        size_t piece = cut == 0 ? 1 : total == 0 && cut < len ? cut : len - total;
        size_t step;
        event = http_parser_feed(parser, msg, text + total, piece, &step);
        total += step;
    }
    *used = total;
    return event;
}

static void check_text(const struct http_msg *msg, struct http_span span, const char *expected)
{
    char copy[512];
    CHECK(span.len < sizeof(copy));
    memcpy(copy, http_msg_text(msg, span), span.len);
    copy[span.len] = '\0';
    CHECK_STR(copy, expected);
}

/* The field of that lower-case name (the first one), or NULL. */
static const struct http_field *find_field(const struct http_msg *msg, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < msg->field_count; i++) {
        const struct http_field *field = &msg->fields[i];
        if (field->name.len == len && memcmp(http_msg_text(msg, field->name), name, len) == 0) {
            return field;
        }
    }
    return NULL;
}

static void check_field(const struct http_msg *msg, const char *name, const char *expected)
{
    const struct http_field *field = find_field(msg, name);
    CHECK(field != NULL);
    check_text(msg, field->value, expected);
}

static void check_body(const struct http_msg *msg, const char *expected)
{
    CHECK_INT(msg->body.len, strlen(expected));
    CHECK(msg->body.len == 0 || memcmp(msg->body.data, expected, msg->body.len) == 0);
}

typedef void (*check_fn)(const struct http_msg *msg);

static void accept_all_ways(const char *text, check_fn check)
{
    size_t len = strlen(text);
    for (size_t cut = 0; cut <= len; cut++) {
        struct http_parser parser;
        struct http_msg msg = {0};
        size_t used;
        http_parser_init(&parser, &limits);
        enum http_parse_event event = feed(&parser, &msg, text, len, cut, &used);
        if (event == HTTP_PARSE_FAILED) {
            fprintf(stderr, "refused at cut %zu: %d %s\n", cut, parser.status, parser.reason);
        }
        CHECK_INT(event, HTTP_PARSE_MESSAGE);
        CHECK_INT(used, len);
        check(&msg);
        http_msg_deinit(&msg);
    }
}

static void refuse_all_ways(const char *text, size_t len, int status)
{
    for (size_t cut = 0; cut <= len; cut++) {
        struct http_parser parser;
        struct http_msg msg = {0};
        size_t used;
        http_parser_init(&parser, &limits);
        enum http_parse_event event = feed(&parser, &msg, text, len, cut, &used);
        if (event != HTTP_PARSE_FAILED || parser.status != status) {
            fprintf(stderr, "expected %d, got event %d status %d (%s) at cut %zu for:\n%s\n", status, event,
                    parser.status, parser.reason == NULL ? "" : parser.reason, cut, text);
        }
        CHECK_INT(event, HTTP_PARSE_FAILED);
        CHECK_INT(parser.status, status);
        CHECK(parser.reason != NULL);
        CHECK_INT(http_parser_feed(&parser, &msg, "x", 1, &used), HTTP_PARSE_FAILED);
        http_msg_deinit(&msg);
    }
}

static void check_get(const struct http_msg *msg)
{
    CHECK_STR(msg->method, "GET");
    check_text(msg, msg->path, "/a/b");
    CHECK(msg->has_query);
    check_text(msg, msg->query, "x=1&y=%20");
    CHECK_INT(msg->field_count, 4);
    check_field(msg, "host", "h:1");
    check_field(msg, "x-mixed-case", "Value  kept");
    check_field(msg, "empty", "");
    check_field(msg, "last", "z");
    CHECK(find_field(msg, "X-Mixed-Case") == NULL);
    CHECK(msg->keep_alive);
    CHECK(!msg->has_body);
    CHECK_INT(msg->minor, 1);
}

TEST(parts_of_a_request)
{
    accept_all_ways(
        "GET /a/b?x=1&y=%20 HTTP/1.1\r\nHost: h:1\r\nX-Mixed-CASE:   Value  kept \t \r\nEmpty:\r\n"
        "Last:z\r\n\r\n",
        check_get);
}

static void check_length_body(const struct http_msg *msg)
{
    CHECK_STR(msg->method, "POST");
    CHECK(!msg->has_query);
    CHECK(msg->has_body);
    CHECK(!msg->keep_alive);
    check_body(msg, "0123456789");
}

TEST(body_with_length)
{
    accept_all_ways("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789",
                    check_length_body);
}

static void check_chunked_body(const struct http_msg *msg)
{
    CHECK(msg->has_body);
    CHECK(msg->keep_alive);
    check_body(msg, "hello world");
    CHECK(find_field(msg, "x-trailer") == NULL);
    CHECK_INT(msg->field_count, 2);
}

TEST(chunked_body_with_extension_and_trailer)
{
    accept_all_ways(
        "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n006\r\n world\r\n"
        "0\r\nX-Trailer: dropped\r\n\r\n",
        check_chunked_body);
}

static void check_old(const struct http_msg *msg)
{
    CHECK_INT(msg->minor, 0);
    CHECK(!msg->keep_alive);
    CHECK(msg->is_head);
}

TEST(http_1_0_without_host)
{
    accept_all_ways("\r\n\r\nHEAD /x HTTP/1.0\r\n\r\n", check_old);
}

static void check_absolute(const struct http_msg *msg)
{
    check_text(msg, msg->path, "/p");
    check_text(msg, msg->query, "");
    CHECK(msg->has_query);
}

TEST(absolute_target)
{
    accept_all_ways("GET http://example.org:80/p? HTTP/1.1\r\nHost: h\r\n\r\n", check_absolute);
}

static void check_star(const struct http_msg *msg)
{
    check_text(msg, msg->path, "*");
}

TEST(star_target)
{
    accept_all_ways("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", check_star);
}

static void check_upgrade(const struct http_msg *msg)
{
    check_body(msg, "hi");
    CHECK(msg->keep_alive);
}

TEST(upgrade_offers_are_ignored)
{
    accept_all_ways("POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    "HTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\nhi",
                    check_upgrade);
}

static void check_expect(const struct http_msg *msg)
{
    CHECK(msg->wants_continue);
}

static void check_no_expect(const struct http_msg *msg)
{
    CHECK(!msg->wants_continue);
}

TEST(expectations)
{
    accept_all_ways("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
                    check_expect);
    accept_all_ways("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
                    check_no_expect);
    accept_all_ways("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", check_no_expect);
}

#define REFUSE(status, text) refuse_all_ways(text, sizeof(text) - 1, status)

TEST(malformed)
{
    REFUSE(400, "FROB / HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    REFUSE(400, "get / HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET  HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET a HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET / HTTX/1.1\r\nHost: h\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\nHost: h\n\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\x01\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\n\r\n");
    REFUSE(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    REFUSE(400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

TEST(versions)
{
    REFUSE(505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n");
    REFUSE(505, "GET / HTTP/0.9\r\nHost: h\r\n\r\n");
    REFUSE(505, "GET /\r\nHost: h\r\n\r\n");
    REFUSE(505, "GET / HTTP/3.7\r\nHost: h\r\n\r\n");
}

TEST(unsupported)
{
    REFUSE(501, "CONNECT example.org:443 HTTP/1.1\r\nHost: h\r\n\r\n");
    REFUSE(501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    REFUSE(417, "POST / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n");
}

TEST(smuggling)
{
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    REFUSE(501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n");
    REFUSE(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n");
    REFUSE(413, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n");
}

static char *repeat(const char *head, const char *piece, int count, const char *tail)
{
    struct buf buf = {0};
    buf_append_str(&buf, head);
    for (int i = 0; i < count; i++) {
        buf_append_str(&buf, piece);
    }
    buf_append_str(&buf, tail);
    return buf_take(&buf, NULL);
}

static void refuse_repeated(int status, const char *head, const char *piece, int count, const char *tail)
{
    char *text = repeat(head, piece, count, tail);
    refuse_all_ways(text, strlen(text), status);
    free(text);
}

static void check_nothing(const struct http_msg *msg)
{
}

TEST(limits)
{
    refuse_repeated(413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65\r\n\r\n", "x", 0, "");
    refuse_repeated(413, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "1e\r\n"
                    "012345678901234567890123456789\r\n",
                    3, "0\r\n\r\n");
    refuse_repeated(431, "GET / HTTP/1.1\r\nHost: h\r\n", "A: b\r\n", 8, "\r\n");
    refuse_repeated(431, "GET / HTTP/1.1\r\nHost: h\r\nA: ", "x", 1024, "\r\n\r\n");
    refuse_repeated(431, "GET / HTTP/1.1\r\nHost: h\r\nA: ", " ", 1024, "x\r\n\r\n");
    refuse_repeated(431, "GET / HTTP/1.1\r\nHost: h\r\n", "x", 1024, ": y\r\n\r\n");
    refuse_repeated(414, "GET /", "x", 1100, " HTTP/1.1\r\nHost: h\r\n\r\n");
    refuse_repeated(414, "", "\r\n", 600, "");
    refuse_repeated(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x", 1100,
                    "\r\n");
    refuse_repeated(400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "x",
                    1100, "\r\n");
    char *text = repeat("GET / HTTP/1.1\r\nHost: h\r\n", "A: b\r\n", 7, "\r\n");
    accept_all_ways(text, check_nothing);
    free(text);
}

TEST(head_of_exactly_the_limit)
{
    const char *head = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
    const char *tail = "\r\n\r\n";
    int fill = (int)(limits.max_head_bytes - strlen(head) - strlen(tail));
    char *text = repeat(head, "x", fill, tail);
    accept_all_ways(text, check_nothing);
    free(text);
    refuse_repeated(431, head, "x", fill + 1, tail);
}

TEST(pipelined_requests_come_one_by_one)
{
    const char *text =
        "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
        "GET /3 HTTP/1.1\r\nHost: h\r\n\r\nrest";
    static const char *const paths[] = {"/1", "/2", "/3"};
    for (size_t cut = 0; cut < strlen(text) - 4; cut++) {
        struct http_parser parser;
        struct http_msg msg = {0};
        http_parser_init(&parser, &limits);
        const char *at = text;
        size_t left = strlen(text);
        for (int i = 0; i < 3; i++) {
            size_t used;
            size_t here = cut > (size_t)(at - text) ? cut - (size_t)(at - text) : 0;
            CHECK_INT(feed(&parser, &msg, at, left, here, &used), HTTP_PARSE_MESSAGE);
            check_text(&msg, msg.path, paths[i]);
            at += used;
            left -= used;
            http_msg_reset(&msg);
        }
        CHECK_STR(at, "rest");
        http_msg_deinit(&msg);
    }
}

int main(void)
{
    RUN(parts_of_a_request);
    RUN(body_with_length);
    RUN(chunked_body_with_extension_and_trailer);
    RUN(http_1_0_without_host);
    RUN(absolute_target);
    RUN(star_target);
    RUN(upgrade_offers_are_ignored);
    RUN(expectations);
    RUN(malformed);
    RUN(versions);
    RUN(unsupported);
    RUN(smuggling);
    RUN(limits);
    RUN(head_of_exactly_the_limit);
    RUN(pipelined_requests_come_one_by_one);
    return 0;
}
