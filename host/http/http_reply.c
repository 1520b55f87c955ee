/* Status lines, fields and framing of replies. */
#include "http/http_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/xmem.h"

enum { FIXED_HEAD_BYTES = 256 }; /* more than all lines of our own need */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].status == status) {
            return table[i].text;
        }
    }
    return "Status"; /* RFC 9112 section 4: clients ignore the phrase */
}

/* --- checking what the handler gives -------------------------------------------------------- */

static bool is_token(const char *text, size_t len)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_alnum && (c == '\0' || strchr(marks, c) == NULL)) {
            return false;
        }
    }
    return len > 0;
}

static bool is_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_named(const struct http_header *header, const char *name)
{
    return header->name_len == strlen(name) && strncasecmp(header->name, name, header->name_len) == 0;
}

/* Fields that the server writes itself. */
static bool is_ours(const struct http_header *header)
{
    switch (header->name_len) {
    case 4:
        return is_named(header, "date");
    case 10:
        return is_named(header, "connection");
    case 14:
        return is_named(header, "content-length");
    case 17:
        return is_named(header, "transfer-encoding");
    default:
        return false;
    }
}

/* On success *size is the room that the fields need. */
static int check_head(int status, const struct http_header *headers, size_t count, size_t *size,
                      struct err *err)
{
    *size = 0;
    if (status < 200 || status > 599) {
        return err_set(err, ERR_INVALID, "%d is not a final HTTP status", status);
    }
    for (size_t i = 0; i < count; i++) {
        const struct http_header *header = &headers[i];
        if (!is_token(header->name, header->name_len)) {
            return err_set(err, ERR_INVALID, "\"%.*s\" is not a header name", (int)(header->name_len & 127),
                           header->name);
        }
        if (!is_value(header->value, header->value_len)) {
            return err_set(err, ERR_INVALID, "header %.*s: the value has a control character",
                           (int)(header->name_len & 127), header->name);
        }
        *size += header->name_len + header->value_len + 4;
    }
    return 0;
}

/* --- writing a head ------------------------------------------------------------------------- */

static char *put(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return to + len;
}

static char *put_str(char *to, const char *text)
{
    return put(to, text, strlen(text));
}

static char *put_number(char *to, size_t value)
{
    char digits[24];
    size_t len = 0;
    do {
        digits[len++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (len > 0) {
        *to++ = digits[--len];
    }
    return to;
}

static char *put_status(char *to, int status)
{
    if (status == 200) {
        return put(to, "HTTP/1.1 200 OK\r\nDate: ", 23);
    }
    to = put(to, "HTTP/1.1 ", 9);
    to = put_number(to, (size_t)status);
    *to++ = ' ';
    to = put_str(to, reason_of(status));
    return put(to, "\r\nDate: ", 8);
}

static char *put_fields(char *to, const struct http_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_ours(&headers[i])) {
            continue;
        }
        to = put(to, headers[i].name, headers[i].name_len);
        to = put(to, ": ", 2);
        to = put(to, headers[i].value, headers[i].value_len);
        to = put(to, "\r\n", 2);
    }
    return to;
}

static bool says_of_connection(const struct http_header *headers, size_t count, const char *option)
{
    for (size_t i = 0; i < count; i++) {
        if (is_named(&headers[i], "connection") && headers[i].value_len == strlen(option) &&
            strncasecmp(headers[i].value, option, headers[i].value_len) == 0) {
            return true;
        }
    }
    return false;
}

/* Decides about keep-alive; to be called before the framing is written. */
static void read_connection_field(struct http_req *req, const struct http_header *headers, size_t count)
{
    bool closes = req->server->is_draining || says_of_connection(headers, count, "close");
    req->keep_alive = req->keep_alive && !closes;
}

/* HTTP/1.1 keeps connections without a word; who wants to say it may. */
static char *put_connection(char *to, const struct http_req *req, const struct http_header *headers,
                            size_t count)
{
    if (!req->keep_alive) {
        return put(to, "Connection: close\r\n", 19);
    }
    bool is_said = req->minor == 0 || says_of_connection(headers, count, "keep-alive");
    return is_said ? put(to, "Connection: keep-alive\r\n", 24) : to;
}

/* Neither a body nor its length belongs to such a reply (RFC 9110, 6.4.1 and 8.6). */
static bool is_bodiless(int status)
{
    return status == 204 || status == 304;
}

/* length NULL: the body's size is unknown. */
static char *write_head(char *to, struct http_req *req, int status, const struct http_header *headers,
                        size_t count, const size_t *length)
{
    to = put_status(to, status);
    to = put(to, http_server_date(req->server), HTTP_DATE_LEN);
    to = put(to, "\r\n", 2);
    to = put_fields(to, headers, count);
    if (length != NULL && !is_bodiless(status)) {
        to = put(to, "Content-Length: ", 16);
        to = put_number(to, *length);
        to = put(to, "\r\n", 2);
    } else if (req->is_chunked) {
        to = put(to, "Transfer-Encoding: chunked\r\n", 28);
    }
    to = put_connection(to, req, headers, count);
    return put(to, "\r\n", 2);
}

static void queue_head(struct http_req *req, int status, const struct http_header *headers, size_t count,
                       size_t size, const size_t *length)
{
    struct http_out *out = &req->conn->out;
    if (size + FIXED_HEAD_BYTES <= HTTP_OUT_ROOM) {
        char *start = http_out_reserve(out, size + FIXED_HEAD_BYTES);
        http_out_commit(out, (size_t)(write_head(start, req, status, headers, count, length) - start));
        return;
    }
    char *text = xmalloc(size + FIXED_HEAD_BYTES);
    http_out_append(out, text, (size_t)(write_head(text, req, status, headers, count, length) - text));
    free(text);
}

/* --- whole replies -------------------------------------------------------------------------- */

static int check_open(const struct http_req *req, enum http_reply_state expected, struct err *err)
{
    if (req->conn == NULL) {
        return err_set(err, ERR_CLOSED, "the reply is complete or the client is gone");
    }
    if (req->reply != expected) {
        return err_set(err, ERR_INVALID,
                       req->reply == HTTP_REPLY_NONE ? "the reply has not been started"
                                                     : "the reply has been started already");
    }
    return 0;
}

/* Whether a reply may begin now, and with this head; the size of its fields goes to *size. */
static int check_first(const struct http_req *req, int status, const struct http_header *headers,
                       size_t count, size_t *size, struct err *err)
{
    int result = check_open(req, HTTP_REPLY_NONE, err);
    return result != 0 ? result : check_head(status, headers, count, size, err);
}

static void complete(struct http_req *req)
{
    req->reply = HTTP_REPLY_DONE;
    http_conn_reply_done(req->conn);
}

int http_reply_send(struct http_req *req, int status, const struct http_header *headers, size_t count,
                    const char *body, size_t body_len, struct bytes *shared, struct err *err)
{
    size_t size;
    int result = check_first(req, status, headers, count, &size, err);
    if (result != 0) {
        return result;
    }
    read_connection_field(req, headers, count);
    queue_head(req, status, headers, count, size, &body_len);
    if (!req->is_head && !is_bodiless(status)) {
        http_out_share(&req->conn->out, body, body_len, shared);
    }
    complete(req);
    return 0;
}

static void send_plain(struct http_req *req, int status, const char *reason)
{
    const char *type = "text/plain; charset=utf-8";
    struct http_header header = {"Content-Type", 12, type, strlen(type)};
    struct buf body = {0};
    struct err err;
    buf_printf(&body, "%s\n", reason);
    (void)http_reply_send(req, status, &header, 1, body.data, body.len, NULL, &err); /* all of it is ours */
    buf_deinit(&body);
}

void http_reply_error(struct http_req *req, int status, const char *reason)
{
    struct http_server *server = req->server;
    (void)http_req_ref(req); /* replying may end the connection */
    if (server->on_error != NULL) {
        server->on_error(server->arg, req, status, reason, &req->msg);
    }
    if (req->reply == HTTP_REPLY_NONE) {
        send_plain(req, status, reason);
    }
    http_req_unref(req);
}

/* --- static replies ------------------------------------------------------------------------- */

int http_reply_static_head(struct http_static *entry, int status, const struct http_header *headers,
                           size_t count, struct err *err)
{
    size_t size;
    int result = check_head(status, headers, count, &size, err);
    if (result != 0) {
        return result;
    }
    char *start = buf_reserve(&entry->start, FIXED_HEAD_BYTES);
    entry->start.len = (size_t)(put_status(start, status) - start);
    char *rest = buf_reserve(&entry->rest, size + FIXED_HEAD_BYTES);
    char *to = put(rest, "\r\n", 2);
    to = put_fields(to, headers, count);
    to = put(to, "Content-Length: ", 16);
    to = put_number(to, entry->body.len);
    to = put(to, "\r\n", 2);
    entry->rest.len = (size_t)(to - rest);
    return 0;
}

void http_reply_static(struct http_req *req, const struct http_static *entry)
{
    struct http_out *out = &req->conn->out;
    char line[64];
    read_connection_field(req, NULL, 0);
    char *end = put(put_connection(line, req, NULL, 0), "\r\n", 2);
    http_out_append(out, entry->start.data, entry->start.len);
    http_out_append(out, http_server_date(req->server), HTTP_DATE_LEN);
    http_out_append(out, entry->rest.data, entry->rest.len);
    http_out_append(out, line, (size_t)(end - line));
    if (!req->is_head) {
        http_out_append(out, entry->body.data, entry->body.len);
    }
    complete(req);
}

/* --- streaming replies ---------------------------------------------------------------------- */

int http_reply_start(struct http_req *req, int status, const struct http_header *headers, size_t count,
                     struct err *err)
{
    size_t size;
    int result = check_first(req, status, headers, count, &size, err);
    if (result != 0) {
        return result;
    }
    req->skips_body = req->is_head || is_bodiless(status);
    req->is_chunked = req->minor > 0 && !is_bodiless(status);
    req->reply = HTTP_REPLY_STREAM;
    read_connection_field(req, headers, count);
    if (!req->is_chunked && !req->skips_body) {
        req->keep_alive = false; /* HTTP/1.0: the end of the connection is the end of the body */
    }
    queue_head(req, status, headers, count, size, NULL);
    http_conn_touch(req->conn);
    return 0;
}

int http_reply_write(struct http_req *req, const char *data, size_t len, struct bytes *shared,
                     struct err *err)
{
    int result = check_open(req, HTTP_REPLY_STREAM, err);
    if (result != 0 || len == 0 || req->skips_body) {
        return result;
    }
    if (req->is_chunked) {
        http_out_open_chunk(&req->conn->out);
    }
    http_out_share(&req->conn->out, data, len, shared);
    http_conn_touch(req->conn);
    return 0;
}

int http_reply_finish(struct http_req *req, struct err *err)
{
    int result = check_open(req, HTTP_REPLY_STREAM, err);
    if (result != 0) {
        return result;
    }
    if (req->is_chunked && !req->skips_body) {
        http_out_seal_chunk(&req->conn->out);
        http_out_append(&req->conn->out, "0\r\n\r\n", 5);
    }
    complete(req);
    return 0;
}

bool http_reply_is_started(const struct http_req *req)
{
    return req->reply != HTTP_REPLY_NONE;
}

size_t http_reply_pending(const struct http_req *req)
{
    return req->conn == NULL ? 0 : http_conn_pending(req->conn);
}
