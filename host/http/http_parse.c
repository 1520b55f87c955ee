/* llhttp glue; see http_parse.h. llhttp has no limits of its own, keeps no text and delivers every element in
 * pieces.
 *
 * The size of a head is counted in raw bytes: while a head is being read, llhttp gets no more than what the
 * head may still use, so the verdict is the same however the bytes were cut. */
#include "http/http_parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/xmem.h"

enum {
    KEEP_HEAD_BYTES = 4096, /* buffers up to these sizes survive http_msg_reset */
    KEEP_BODY_BYTES = 4096,
    FIRST_BODY_BYTES = 65536, /* never reserve more than this on the word of a Content-Length */
    FRAMING_PER_BYTE = 8,     /* chunk framing tolerated per byte of content: "1\r\nx\r\n" has 5 */
};

static int refuse(struct http_parser *parser, int status, const char *reason)
{
    parser->status = status;
    parser->reason = reason;
    return -1;
}

static bool equals_ignoring_case(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

/* --- the message ---------------------------------------------------------------------------- */

void http_msg_deinit(struct http_msg *msg)
{
    buf_deinit(&msg->head);
    buf_deinit(&msg->body);
    free(msg->fields);
    memset(msg, 0, sizeof(*msg));
}

void http_msg_reset(struct http_msg *msg)
{
    struct buf head = msg->head;
    struct buf body = msg->body;
    struct http_field *fields = msg->fields;
    size_t field_cap = msg->field_cap;
    head.len = 0;
    body.len = 0;
    if (head.cap > KEEP_HEAD_BYTES) {
        buf_deinit(&head);
        free(fields);
        fields = NULL;
        field_cap = 0;
    }
    if (body.cap > KEEP_BODY_BYTES) {
        buf_deinit(&body);
    }
    *msg = (struct http_msg){.head = head, .body = body, .fields = fields, .field_cap = field_cap};
}

static struct http_field *add_field(struct http_msg *msg)
{
    if (msg->field_count == msg->field_cap) {
        msg->field_cap = msg->field_cap == 0 ? 16 : msg->field_cap * 2;
        msg->fields = xrealloc(msg->fields, msg->field_cap * sizeof(*msg->fields));
    }
    struct http_field *field = &msg->fields[msg->field_count++];
    *field = (struct http_field){.name.start = (uint32_t)msg->head.len};
    return field;
}

/* --- the request line ----------------------------------------------------------------------- */

static int on_url(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = llhttp->data;
    buf_append(&parser->msg->head, at, len);
    return 0;
}

/* RFC 9112 section 3.2: origin-form, absolute-form (the authority is dropped) or "*". */
static int on_url_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_msg *msg = parser->msg;
    const char *text = msg->head.data;
    size_t len = msg->head.len;
    size_t start = 0;
    parser->has_target = true;
    if (len == 0 || memchr(text, '#', len) != NULL) {
        return refuse(parser, 400, "the request target is not valid");
    }
    if (text[0] != '/' && !(len == 1 && text[0] == '*')) {
        const char *authority = memmem(text, len, "://", 3);
        if (authority == NULL && llhttp->method != HTTP_CONNECT) {
            return refuse(parser, 400, "the request target is not valid");
        }
        if (authority != NULL) {
            size_t skip = (size_t)(authority - text) + 3;
            const char *path = memchr(text + skip, '/', len - skip);
            if (path == NULL) {
                return refuse(parser, 400, "the request target has no path");
            }
            start = (size_t)(path - text);
        }
    }
    const char *mark = memchr(text + start, '?', len - start);
    size_t path_end = mark == NULL ? len : (size_t)(mark - text);
    msg->path = (struct http_span){(uint32_t)start, (uint32_t)(path_end - start)};
    msg->has_query = mark != NULL;
    if (msg->has_query) {
        msg->query = (struct http_span){(uint32_t)path_end + 1, (uint32_t)(len - path_end - 1)};
    }
    return 0;
}

/* --- fields --------------------------------------------------------------------------------- */

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = llhttp->data;
    struct http_msg *msg = parser->msg;
    if (parser->phase == HTTP_PHASE_BODY) {
        return 0; /* trailers are read and dropped */
    }
    if (msg->field_count == 0 || parser->value_start != 0) { /* the first piece of a name */
        (void)add_field(msg);
        parser->value_start = 0;
    }
    char *to = buf_reserve(&msg->head, len);
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        to[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    msg->head.len += len;
    return 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_msg *msg = parser->msg;
    if (parser->phase == HTTP_PHASE_BODY) {
        return 0;
    }
    struct http_field *field = msg->field_count == 0 ? NULL : &msg->fields[msg->field_count - 1];
    if (field == NULL || parser->value_start != 0 || msg->head.len == field->name.start) {
        return refuse(parser, 400, "a header field has no name"); /* llhttp lets ": value" pass */
    }
    if (msg->field_count > parser->limits->max_headers) {
        return refuse(parser, 431, "the request has too many header fields");
    }
    field->name.len = (uint32_t)(msg->head.len - field->name.start);
    parser->value_start = msg->head.len;
    parser->value_ended = false;
    return 0;
}

/* A piece ends where the input ends, or where the line does. What follows the latter is a folded line (RFC
 * 9112 section 5.2), which llhttp would silently join. */
static int on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = llhttp->data;
    if (parser->phase == HTTP_PHASE_BODY) {
        return 0;
    }
    if (parser->value_ended) {
        return refuse(parser, 400, "a header field is folded over several lines");
    }
    parser->value_ended = at + len < parser->input_end;
    buf_append(&parser->msg->head, at, len);
    return 0;
}

/* The few fields that decide how the message itself is read. */
static int check_field(struct http_parser *parser, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    if (name_len == 4 && memcmp(name, "host", 4) == 0) {
        if (parser->has_host) {
            return refuse(parser, 400, "the request has more than one Host field");
        }
        parser->has_host = true;
    } else if (name_len == 6 && memcmp(name, "expect", 6) == 0) {
        if (!equals_ignoring_case(value, value_len, "100-continue")) {
            return refuse(parser, 417, "only Expect: 100-continue is supported");
        }
        parser->msg->wants_continue = true;
    } else if (name_len == 17 && memcmp(name, "transfer-encoding", 17) == 0) {
        if (!equals_ignoring_case(value, value_len, "chunked")) {
            return refuse(parser, 501, "only Transfer-Encoding: chunked is supported");
        }
        if (parser->llhttp.http_minor == 0) {
            return refuse(parser, 400, "Transfer-Encoding is not part of HTTP/1.0");
        }
    }
    return 0;
}

static int on_header_value_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_msg *msg = parser->msg;
    if (parser->phase == HTTP_PHASE_BODY) {
        return 0;
    }
    struct http_field *field = &msg->fields[msg->field_count - 1];
    size_t start = parser->value_start;
    const char *text = msg->head.data;
    while (msg->head.len > start && (text[msg->head.len - 1] == ' ' || text[msg->head.len - 1] == '\t')) {
        msg->head.len--;
    }
    size_t len = msg->head.len - start;
    field->value = (struct http_span){(uint32_t)start, (uint32_t)len};
    return check_field(parser, text + field->name.start, field->name.len, text + start, len);
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_msg *msg = parser->msg;
    msg->method = llhttp_method_name((llhttp_method_t)llhttp->method);
    msg->minor = llhttp->http_minor;
    msg->is_head = llhttp->method == HTTP_HEAD;
    if (llhttp->http_major != 1 || llhttp->http_minor > 1) {
        return refuse(parser, 505, "only HTTP/1.0 and HTTP/1.1 are supported");
    }
    if (llhttp->method == HTTP_CONNECT) {
        return refuse(parser, 501, "CONNECT is not supported");
    }
    if (msg->minor == 1 && !parser->has_host) {
        return refuse(parser, 400, "the request has no Host field");
    }
    bool is_chunked = (llhttp->flags & F_CHUNKED) != 0;
    if (!is_chunked && llhttp->content_length > parser->limits->max_body_bytes) {
        return refuse(parser, 413, "the request body is too large");
    }
    llhttp->upgrade = 0; /* offers such as "Upgrade: h2c" are ignored, the message is read as usual */
    msg->has_body = is_chunked || (llhttp->flags & F_CONTENT_LENGTH) != 0;
    msg->wants_continue =
        msg->wants_continue && msg->minor == 1 && (is_chunked || llhttp->content_length > 0);
    if (!is_chunked && llhttp->content_length > 0) {
        size_t expected = (size_t)llhttp->content_length;
        (void)buf_reserve(&msg->body, expected < FIRST_BODY_BYTES ? expected : FIRST_BODY_BYTES);
    }
    parser->phase = HTTP_PHASE_BODY;
    return is_chunked ? HPE_PAUSED : 0; /* the pause tells where the framing begins, see count_bytes */
}

/* --- the body ------------------------------------------------------------------------------- */

static int on_chunk_header(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    size_t room = parser->limits->max_body_bytes - parser->msg->body.len;
    return llhttp->content_length > room ? refuse(parser, 413, "the request body is too large") : 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http_parser *parser = llhttp->data;
    buf_append(&parser->msg->body, at, len); /* the limit was checked per Content-Length and per chunk */
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    parser->msg->keep_alive = llhttp_should_keep_alive(llhttp) != 0;
    parser->is_complete = true;
    return HPE_PAUSED;
}

/* --- feeding -------------------------------------------------------------------------------- */

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void http_parser_init(struct http_parser *parser, const struct http_limits *limits)
{
    memset(parser, 0, sizeof(*parser));
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &settings);
    parser->llhttp.data = parser;
    parser->limits = limits;
}

static void next_message(struct http_parser *parser)
{
    parser->phase = HTTP_PHASE_HEAD;
    parser->is_complete = false;
    parser->head_bytes = 0;
    parser->framing = 0;
    parser->value_start = 0;
    parser->has_target = false;
    parser->has_host = false;
}

/* Names the cause of what llhttp refused; callbacks of ours have named theirs already. */
static void explain(struct http_parser *parser, llhttp_errno_t error)
{
    if (parser->status != 0) {
        return;
    }
    switch (error) {
    case HPE_INVALID_METHOD:
        refuse(parser, 400, "the request method is not known");
        break;
    case HPE_INVALID_VERSION:
        refuse(parser, 505, "only HTTP/1.0 and HTTP/1.1 are supported");
        break;
    case HPE_PAUSED_H2_UPGRADE:
        refuse(parser, 400, "HTTP/2 is not spoken on this port");
        break;
    case HPE_INVALID_HEADER_TOKEN:
        refuse(parser, 400, "a header field has an invalid character");
        break;
    case HPE_UNEXPECTED_CONTENT_LENGTH:
    case HPE_INVALID_CONTENT_LENGTH:
        refuse(parser, 400, "Content-Length is invalid, repeated, or used with Transfer-Encoding");
        break;
    case HPE_INVALID_TRANSFER_ENCODING:
        refuse(parser, 400, "Transfer-Encoding is invalid or used with Content-Length");
        break;
    case HPE_INVALID_CHUNK_SIZE:
        refuse(parser, 400, "a chunk size is invalid");
        break;
    case HPE_INVALID_URL:
        refuse(parser, 400, "the request target is not valid");
        break;
    default:
        refuse(parser, 400, "the request is malformed");
        break;
    }
}

/* Raw sizes after a step of n bytes that began in `phase` with `body` bytes of content. */
static int count_bytes(struct http_parser *parser, enum http_parse_phase phase, size_t body, size_t n)
{
    if (phase == HTTP_PHASE_HEAD) {
        parser->head_bytes += n;
        if (parser->phase == HTTP_PHASE_HEAD && parser->head_bytes >= parser->limits->max_head_bytes) {
            return parser->has_target ? refuse(parser, 431, "the request head is too large")
                                      : refuse(parser, 414, "the request target is too long");
        }
        return 0;
    }
    parser->framing += n - (parser->msg->body.len - body);
    if (parser->framing > parser->limits->max_head_bytes + FRAMING_PER_BYTE * parser->msg->body.len) {
        return refuse(parser, 400, "the chunk framing is out of proportion to the body");
    }
    return 0;
}

enum http_parse_event http_parser_feed(struct http_parser *parser, struct http_msg *msg, const char *data,
                                       size_t len, size_t *used)
{
    parser->msg = msg;
    *used = 0;
    if (parser->status != 0) {
        return HTTP_PARSE_FAILED;
    }
    while (*used < len) {
        enum http_parse_phase phase = parser->phase;
        size_t body = msg->body.len;
        size_t step = len - *used;
        if (phase == HTTP_PHASE_HEAD && step > parser->limits->max_head_bytes - parser->head_bytes) {
            step = parser->limits->max_head_bytes - parser->head_bytes;
        }
        parser->input_end = data + *used + step;
        llhttp_errno_t error = llhttp_execute(&parser->llhttp, data + *used, step);
        if (error == HPE_PAUSED) {
            step = (size_t)(llhttp_get_error_pos(&parser->llhttp) - (data + *used));
            llhttp_resume(&parser->llhttp);
        } else if (error != HPE_OK) {
            explain(parser, error);
            return HTTP_PARSE_FAILED;
        }
        *used += step;
        if (parser->is_complete) {
            next_message(parser);
            return HTTP_PARSE_MESSAGE;
        }
        if (count_bytes(parser, phase, body, step) != 0) {
            return HTTP_PARSE_FAILED;
        }
    }
    return HTTP_PARSE_MORE;
}
