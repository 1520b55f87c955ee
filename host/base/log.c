/* Structured log lines; see log.h. One write(2) per line, so that lines of several threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

static struct {
    enum log_level level;
    enum log_format format;
} sink = {LOG_INFO, LOG_JSON};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_colours[] = {"\033[2m", "\033[32m", "\033[33m", "\033[31m"};

void log_set_level(enum log_level level)
{
    __atomic_store_n(&sink.level, level, __ATOMIC_RELAXED);
}

void log_set_format(enum log_format format)
{
    __atomic_store_n(&sink.format, format, __ATOMIC_RELAXED);
}

bool log_is_on(enum log_level level)
{
    return level >= __atomic_load_n(&sink.level, __ATOMIC_RELAXED);
}

static void append_time(struct buf *buf, bool with_date)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    struct tm tm;
    (void)gmtime_r(&now.tv_sec, &tm);
    char text[40];
    size_t len = strftime(text, sizeof(text), with_date ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
    buf_append(buf, text, len);
    buf_printf(buf, ".%03ld", now.tv_nsec / 1000000);
    if (with_date) {
        buf_append_byte(buf, 'Z');
    }
}

static void append_json_string(struct buf *buf, const char *text)
{
    buf_append_byte(buf, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            buf_append_byte(buf, '\\');
            buf_append_byte(buf, *p);
        } else if (*p < 0x20) {
            buf_printf(buf, "\\u%04x", *p);
        } else {
            buf_append_byte(buf, *p);
        }
    }
    buf_append_byte(buf, '"');
}

/* `"a":1,"b":"x"` becomes ` a=1 b=x`; nested values stay as they are. */
static void append_text_members(struct buf *buf, const char *members, size_t len)
{
    int depth = 0;
    bool in_string = false;
    bool in_key = true;
    for (size_t i = 0; i < len; i++) {
        char c = members[i];
        if (in_string && c == '\\' && i + 1 < len) {
            buf_append(buf, members + i, 2);
            i++;
            continue;
        }
        if (c == '"') {
            if (!in_string && depth == 0 && in_key) {
                buf_append_byte(buf, ' ');
            } else if (depth > 0) {
                buf_append_byte(buf, '"');
            }
            in_string = !in_string;
            continue;
        }
        if (!in_string && depth == 0 && (c == ':' || c == ',')) {
            in_key = c == ',';
            if (c == ':') {
                buf_append_byte(buf, '=');
            }
            continue;
        }
        if (!in_string && (c == '{' || c == '[')) {
            depth++;
        } else if (!in_string && (c == '}' || c == ']')) {
            depth--;
        }
        buf_append_byte(buf, (unsigned char)c);
    }
}

void log_fields(enum log_level level, const char *event, const char *members, size_t len)
{
    if (!log_is_on(level)) {
        return;
    }
    struct buf line;
    buf_init(&line);
    enum log_format format = __atomic_load_n(&sink.format, __ATOMIC_RELAXED);
    if (format == LOG_JSON) {
        buf_append_str(&line, "{\"ts\":\"");
        append_time(&line, true);
        buf_printf(&line, "\",\"level\":\"%s\",\"event\":", level_names[level]);
        append_json_string(&line, event);
        if (len > 0) {
            buf_append_byte(&line, ',');
            buf_append(&line, members, len);
        }
        buf_append_byte(&line, '}');
    } else {
        append_time(&line, false);
        bool colour = format == LOG_COLOUR;
        buf_printf(&line, " %s%-5s%s %s", colour ? level_colours[level] : "", level_names[level],
                   colour ? "\033[0m" : "", event);
        append_text_members(&line, members, len);
    }
    buf_append_byte(&line, '\n');
    size_t done = 0;
    while (done < line.len) {
        ssize_t n = write(STDERR_FILENO, line.data + done, line.len - done);
        if (n <= 0) {
            break; /* a log that cannot be written must not stop the program */
        }
        done += (size_t)n;
    }
    buf_deinit(&line);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if (!log_is_on(level)) {
        return;
    }
    char message[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args); /* truncation is acceptable here */
    va_end(args);
    struct buf members;
    buf_init(&members);
    buf_append_str(&members, "\"message\":");
    append_json_string(&members, message);
    log_fields(level, event, members.data, members.len);
    buf_deinit(&members);
}
