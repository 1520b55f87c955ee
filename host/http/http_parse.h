/* Request bytes to request messages: llhttp with limits, a flat head buffer and precise refusals. No I/O.
 *
 * Feed bytes as they arrive, in fragments of any size; the outcome does not depend on how they were cut. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <llhttp.h>

#include "base/buf.h"

struct http_limits {
    size_t max_head_bytes; /* request line, fields and line ends, raw */
    size_t max_headers;
    size_t max_body_bytes; /* after the chunk framing is removed */
};

/* A piece of http_msg.head. */
struct http_span {
    uint32_t start;
    uint32_t len;
};

struct http_field {
    struct http_span name; /* lower case */
    struct http_span value;
};

/* One request. Zeroed memory is an empty message. */
struct http_msg {
    const char *method; /* static, upper case */
    struct buf head;    /* target, then names and values, without separators */
    struct buf body;
    struct http_field *fields;
    size_t field_count;
    size_t field_cap;
    struct http_span path;
    struct http_span query;
    bool has_query;
    bool has_body;       /* a body was announced, even if it turned out empty */
    bool is_head;        /* method HEAD */
    bool keep_alive;     /* the client allows another request on this connection */
    bool wants_continue; /* Expect: 100-continue */
    uint8_t minor;       /* HTTP/1.minor */
};

void http_msg_deinit(struct http_msg *msg);
/* Empties the message. Small buffers are kept for the next one, big ones are freed. */
void http_msg_reset(struct http_msg *msg);
static inline const char *http_msg_text(const struct http_msg *msg, struct http_span span)
{
    return msg->head.data + span.start;
}

enum http_parse_event {
    HTTP_PARSE_MORE,    /* everything was consumed, the message is not complete */
    HTTP_PARSE_MESSAGE, /* the message is complete; the rest belongs to the next one */
    HTTP_PARSE_FAILED,  /* see status and reason; the parser accepts nothing more */
};

enum http_parse_phase { HTTP_PHASE_HEAD, HTTP_PHASE_BODY };

struct http_parser {
    llhttp_t llhttp;
    const struct http_limits *limits; /* kept */
    struct http_msg *msg;             /* the message being filled; kept */
    enum http_parse_phase phase;
    size_t head_bytes;     /* raw bytes of this head so far */
    size_t framing;        /* raw bytes of this body that were not content */
    size_t value_start;    /* in msg->head; 0 while no value is open */
    const char *input_end; /* of the bytes llhttp works on */
    bool value_ended;      /* the line of the current value is over */
    bool is_complete;      /* the message just ended */
    bool has_target;       /* the request line is past its target */
    bool has_host;
    int status;         /* of the refusal: 400, 413, ... */
    const char *reason; /* static text for a person */
};

void http_parser_init(struct http_parser *parser, const struct http_limits *limits);

/* Parses into msg (kept, the same until the message is complete; empty at its start). *used tells how many
 * bytes were consumed. */
enum http_parse_event http_parser_feed(struct http_parser *parser, struct http_msg *msg, const char *data,
                                       size_t len, size_t *used);
