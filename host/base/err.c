/* Errors as values; see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    "OK",    "INVALID", "NOT_FOUND", "EXISTS",      "TIMEOUT", "CANCELLED", "CLOSED",
    "LIMIT", "IO",      "PROTOCOL",  "UNAVAILABLE", "DENIED",  "SCRIPT",    "PG",
    "RPC",   "CORRUPT", "BUSY",      "INTERNAL",    "FENCED",
};

const char *err_name(int code)
{
    int index = -code;
    if (index < 0 || index >= (int)(sizeof(names) / sizeof(names[0]))) {
        return "INTERNAL";
    }
    return names[index];
}

/* One line, always: callers and logs rely on it. */
static void flatten(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
    }
}

__attribute__((format(printf, 4, 0))) static void format(struct err *err, int code, int detail,
                                                         const char *fmt, va_list args)
{
    char text[sizeof(err->text)];                   /* the arguments may point into err->text */
    (void)vsnprintf(text, sizeof(text), fmt, args); /* truncation is acceptable in a message */
    flatten(text);
    memcpy(err->text, text, sizeof(text));
    err->code = code;
    err->detail = detail;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format(err, code, 0, fmt, args);
    va_end(args);
    return code;
}

int err_set_detail(struct err *err, int code, int detail, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    format(err, code, detail, fmt, args);
    va_end(args);
    return code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char prefix[sizeof(err->text)];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(prefix, sizeof(prefix), fmt, args);
    va_end(args);
    char joined[sizeof(err->text) * 2 + 2];
    (void)snprintf(joined, sizeof(joined), "%s: %s", prefix, err->text);
    joined[sizeof(err->text) - 1] = '\0';
    flatten(joined);
    memcpy(err->text, joined, strlen(joined) + 1);
    return err->code;
}

static int code_of_errno(int error_number)
{
    switch (error_number) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECANCELED:
        return ERR_CANCELLED;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ERR_UNAVAILABLE;
    case EPIPE:
        return ERR_CLOSED;
    default:
        return ERR_IO;
    }
}

int err_set_errno(struct err *err, int error_number, const char *fmt, ...)
{
    if (error_number < 0) {
        error_number = -error_number; /* libuv's statuses are negated errno values on Unix */
    }
    char what[sizeof(err->text)];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    char reason[128];
    const char *text = strerror_r(error_number, reason, sizeof(reason));
    char joined[sizeof(what) + sizeof(reason) + 2];
    (void)snprintf(joined, sizeof(joined), "%s: %s", what, text);
    return err_set_detail(err, code_of_errno(error_number), error_number, "%s", joined);
}
