/* Errors as values: a code, a library detail and one line of text for an operator. Thread-safe. */
#pragma once

enum err_code {
    ERR_OK = 0,
    ERR_INVALID = -1, /* the caller or the peer passed something that can never work */
    ERR_NOT_FOUND = -2,
    ERR_EXISTS = -3,
    ERR_TIMEOUT = -4,      /* a deadline passed */
    ERR_CANCELLED = -5,    /* the waiting task was cancelled */
    ERR_CLOSED = -6,       /* the object or its peer is gone */
    ERR_LIMIT = -7,        /* a size, count or budget limit was hit */
    ERR_IO = -8,           /* the operating system refused; detail is errno */
    ERR_PROTOCOL = -9,     /* the peer broke the protocol */
    ERR_UNAVAILABLE = -10, /* nobody answers; a later try may succeed */
    ERR_DENIED = -11,      /* not allowed (address guard, permissions) */
    ERR_SCRIPT = -12,      /* a Lua script failed */
    ERR_PG = -13,          /* PostgreSQL reported an error; detail is the packed SQLSTATE */
    ERR_RPC = -14,         /* a call ended with a status; detail is the gRPC status number */
    ERR_CORRUPT = -15,     /* stored bytes do not verify */
    ERR_BUSY = -16,        /* somebody else holds it */
    ERR_INTERNAL = -17,
    ERR_FENCED = -18, /* somebody else has taken over what we held */
};

struct err {
    int code;       /* enum err_code, negative; 0 when unset */
    int detail;     /* errno, SQLSTATE packed base 36, gRPC status: whatever the code implies */
    char text[232]; /* one line, no trailing period */
};

/* Fills err and returns code, so that a caller can `return err_set(...)`. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, with the library's own number in err->detail. */
int err_set_detail(struct err *err, int code, int detail, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Prefixes the text with "<formatted>: " and returns err->code. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ERR_IO (or a closer code, e.g. ENOENT is ERR_NOT_FOUND) from an errno or a negative libuv status. */
int err_set_errno(struct err *err, int error_number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "TIMEOUT" for ERR_TIMEOUT and so on: the name that Lua sees as err.code. Static storage. */
const char *err_name(int code);
