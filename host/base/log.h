/* One structured line per call on stderr: JSON, or readable text on a terminal. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_JSON, LOG_TEXT, LOG_COLOUR };

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
bool log_is_on(enum log_level level);

/* event is "noun.verb"; fmt is the one-line message for C code without fields of its own. */
void log_line(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As log_line with ready-made JSON members ("\"a\":1,\"b\":\"x\"", no braces; may be empty). */
void log_fields(enum log_level level, const char *event, const char *members, size_t len);
