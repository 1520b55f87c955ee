/* Parsing of Redis URLs; see journal_redis_url.h. */
#include "journal/journal_redis_url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

enum { DEFAULT_PORT = 6379, MAX_PORT = 65535, MAX_DB = 65535 };

static const char expected[] = "redis://[user:password@]host[:port][/db] or unix:///path[?db=N] expected";

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A copy of text[0..len) with %XX resolved; NULL when it is malformed or holds a NUL byte. */
static char *unescape(const char *text, size_t len)
{
    char *out = xmalloc(len + 1);
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int byte = (unsigned char)text[i];
        if (byte == '%') {
            bool is_whole = len - i > 2;
            int high = is_whole ? hex_digit(text[i + 1]) : -1;
            int low = is_whole ? hex_digit(text[i + 2]) : -1;
            byte = high < 0 || low < 0 ? 0 : high * 16 + low;
            i += 2;
        }
        if (byte == 0) {
            free(out);
            return NULL;
        }
        out[used++] = (char)byte;
    }
    out[used] = '\0';
    return out;
}

/* A decimal number up to max, all of text; -1 for anything else. */
static int parse_number(const char *text, size_t len, int max)
{
    int value = 0;
    if (len == 0 || len > 6) {
        return -1;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
    }
    return value <= max ? value : -1;
}

/* [user]:password@ in front of *text; moves *text behind it. */
static int parse_account(struct journal_redis_url *url, const char **text, struct err *err)
{
    size_t authority = strcspn(*text, "/?");
    const char *at = NULL;
    for (size_t i = 0; i < authority; i++) {
        at = (*text)[i] == '@' ? *text + i : at;
    }
    if (at == NULL) {
        return 0;
    }
    const char *colon = memchr(*text, ':', (size_t)(at - *text));
    if (colon == NULL || colon + 1 == at) {
        return err_set(err, ERR_INVALID, "a Redis URL with `@` needs user:password or :password before it");
    }
    if (colon > *text) {
        url->user = unescape(*text, (size_t)(colon - *text));
    }
    url->password = unescape(colon + 1, (size_t)(at - colon - 1));
    if ((colon > *text && url->user == NULL) || url->password == NULL) {
        return err_set(err, ERR_INVALID,
                       "user or password of the Redis URL: %%XX with two hex digits expected "
                       "(%% itself is %%25)");
    }
    *text = at + 1;
    return 0;
}

static int parse_db(struct journal_redis_url *url, const char *text, struct err *err)
{
    url->db = parse_number(text, strlen(text), MAX_DB);
    if (url->db < 0) {
        return err_set(err, ERR_INVALID, "database `%.40s` of the Redis URL: a number from 0 to %d expected",
                       text, MAX_DB);
    }
    return 0;
}

static int parse_address(struct journal_redis_url *url, const char *text, struct err *err)
{
    size_t len = strcspn(text, "/?");
    const char *rest = text + len;
    const char *host = text;
    size_t host_len;
    const char *port = NULL;
    if (len > 0 && text[0] == '[') {
        const char *end = memchr(text, ']', len);
        if (end == NULL) {
            return err_set(err, ERR_INVALID, "host of the Redis URL: `]` is missing");
        }
        host = text + 1;
        host_len = (size_t)(end - host);
        port = end + 1 < rest ? end + 1 : NULL;
    } else {
        port = memchr(text, ':', len);
        host_len = port == NULL ? len : (size_t)(port - text);
    }
    url->port = DEFAULT_PORT;
    if (port != NULL) {
        url->port = *port == ':' ? parse_number(port + 1, (size_t)(rest - port - 1), MAX_PORT) : -1;
    }
    if (url->port <= 0) {
        return err_set(err, ERR_INVALID, "port of the Redis URL: a number from 1 to %d expected", MAX_PORT);
    }
    if (host_len == 0) {
        return err_set(err, ERR_INVALID, "the Redis URL names no host: %s", expected);
    }
    url->host = xstrndup(host, host_len);
    if (rest[0] == '?') {
        return err_set(err, ERR_INVALID, "the Redis URL has an unknown part `%.40s`: %s", rest, expected);
    }
    int status = rest[0] == '/' && rest[1] != '\0' ? parse_db(url, rest + 1, err) : 0;
    bool is_ip6 = strchr(url->host, ':') != NULL;
    (void)snprintf(url->shown, sizeof(url->shown), "redis://%s%.120s%s:%d/%d", is_ip6 ? "[" : "", url->host,
                   is_ip6 ? "]" : "", url->port, url->db);
    return status;
}

static int parse_socket(struct journal_redis_url *url, const char *text, struct err *err)
{
    size_t len = strcspn(text, "?");
    if (len == 0 || text[0] != '/') {
        return err_set(err, ERR_INVALID, "unix socket of the Redis URL: an absolute path expected");
    }
    url->path = unescape(text, len);
    if (url->path == NULL) {
        return err_set(err, ERR_INVALID, "path of the Redis URL: %%XX with two hex digits expected");
    }
    int status = 0;
    if (text[len] == '?') {
        if (strncmp(text + len, "?db=", 4) != 0) {
            return err_set(err, ERR_INVALID, "the Redis URL has an unknown part `%.40s`: %s", text + len,
                           expected);
        }
        status = parse_db(url, text + len + 4, err);
    }
    (void)snprintf(url->shown, sizeof(url->shown), "unix://%.120s?db=%d", url->path, url->db);
    return status;
}

int journal_redis_url_parse(struct journal_redis_url *url, const char *text, struct err *err)
{
    static const char tcp[] = "redis://";
    static const char tls[] = "rediss://";
    static const char local[] = "unix://";
    *url = (struct journal_redis_url){0};
    int status;
    if (strncmp(text, tls, sizeof(tls) - 1) == 0) {
        status =
            err_set(err, ERR_INVALID,
                    "rediss:// (TLS) is not offered: hiredis 0.14 has none; reach the server through a TLS "
                    "tunnel on this machine, with redis:// or unix://");
    } else if (strncmp(text, tcp, sizeof(tcp) - 1) == 0) {
        text += sizeof(tcp) - 1;
        status = parse_account(url, &text, err);
        status = status == 0 ? parse_address(url, text, err) : status;
    } else if (strncmp(text, local, sizeof(local) - 1) == 0) {
        text += sizeof(local) - 1;
        status = parse_account(url, &text, err);
        status = status == 0 ? parse_socket(url, text, err) : status;
    } else {
        status = err_set(err, ERR_INVALID, "the Redis URL has an unknown scheme: %s", expected);
    }
    if (status != 0) {
        journal_redis_url_deinit(url);
    }
    return status;
}

void journal_redis_url_deinit(struct journal_redis_url *url)
{
    if (url->password != NULL) {
        explicit_bzero(url->password, strlen(url->password));
    }
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
    *url = (struct journal_redis_url){0};
}
