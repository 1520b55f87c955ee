/* The request parser on hostile bytes. The first byte says how the rest is cut into reads; a second parser
 * gets everything at once, and both must see the same messages and the same refusal. Only the limit on chunk
 * framing may differ: it compares what was read so far, so where it strikes depends on the cuts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/http_parse.h"

static const struct http_limits limits = {.max_head_bytes = 300, .max_headers = 6, .max_body_bytes = 50};

enum { MAX_MESSAGES = 8 };

struct outcome {
    int messages;
    int status;
    bool is_framing; /* refused for its chunk framing */
    size_t used;     /* bytes in complete messages */
    uint32_t digest; /* of everything a handler would see */
};

static uint32_t mix(uint32_t digest, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        digest = (digest ^ bytes[i]) * 16777619U;
    }
    return digest;
}

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static bool is_inside(const struct http_msg *msg, struct http_span span)
{
    return span.start <= msg->head.len && span.len <= msg->head.len - span.start;
}

static void check_message(const struct http_msg *msg, struct outcome *outcome)
{
    require(msg->method != NULL && is_inside(msg, msg->path) && is_inside(msg, msg->query));
    require(msg->path.len > 0 && msg->field_count <= limits.max_headers &&
            msg->body.len <= limits.max_body_bytes);
    outcome->digest = mix(outcome->digest, msg->method, strlen(msg->method));
    outcome->digest = mix(outcome->digest, http_msg_text(msg, msg->path), msg->path.len);
    outcome->digest = mix(outcome->digest, http_msg_text(msg, msg->query), msg->query.len);
    for (size_t i = 0; i < msg->field_count; i++) {
        const struct http_field *field = &msg->fields[i];
        require(is_inside(msg, field->name) && is_inside(msg, field->value) && field->name.len > 0);
        const char *value = http_msg_text(msg, field->value);
        require(memchr(value, '\r', field->value.len) == NULL &&
                memchr(value, '\n', field->value.len) == NULL);
        outcome->digest = mix(outcome->digest, http_msg_text(msg, field->name), field->name.len);
        outcome->digest = mix(outcome->digest, value, field->value.len);
    }
    outcome->digest = mix(outcome->digest, msg->body.data, msg->body.len);
    outcome->digest = mix(outcome->digest, &msg->keep_alive, sizeof(msg->keep_alive));
    outcome->messages++;
}

static struct outcome parse(const char *data, size_t len, size_t step)
{
    struct outcome outcome = {.digest = 2166136261U};
    struct http_parser parser;
    struct http_msg msg = {0};
    size_t at = 0;
    http_parser_init(&parser, &limits);
    while (at < len && outcome.messages < MAX_MESSAGES) {
        size_t piece = len - at < step ? len - at : step;
        /* A copy of exactly this size: reading past its end is then seen by the sanitizer. */
        char *copy = malloc(piece);
        size_t used;
        memcpy(copy, data + at, piece);
        enum http_parse_event event = http_parser_feed(&parser, &msg, copy, piece, &used);
        free(copy);
        require(used <= piece);
        at += used;
        if (event == HTTP_PARSE_FAILED) {
            require(parser.status >= 400 && parser.status <= 505 && parser.reason != NULL);
            outcome.status = parser.status;
            outcome.is_framing = strstr(parser.reason, "chunk framing") != NULL;
            break;
        }
        require(event == HTTP_PARSE_MESSAGE || used == piece);
        if (event == HTTP_PARSE_MESSAGE) {
            check_message(&msg, &outcome);
            outcome.used = at;
            bool keeps = msg.keep_alive;
            http_msg_reset(&msg);
            if (!keeps) {
                break; /* a connection would not be read any further */
            }
        }
    }
    http_msg_deinit(&msg);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t step = data[0] % 32U + 1;
    struct outcome whole = parse((const char *)data + 1, size - 1, SIZE_MAX);
    struct outcome cut = parse((const char *)data + 1, size - 1, step);
    if (whole.is_framing || cut.is_framing) {
        require(whole.messages >= cut.messages);
        return 0;
    }
    require(whole.messages == cut.messages && whole.status == cut.status && whole.used == cut.used &&
            whole.digest == cut.digest);
    return 0;
}
