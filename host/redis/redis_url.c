/* Parsing of Redis URLs; see redis_url.h. */
#include "redis/redis_url.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xmem.h"

enum { DEFAULT_PORT = 6379, MAX_PORT = 65535, MAX_DB = 65535 };

static const char expected[] = "redis://[user:password@]host[:port][/db], "
                               "rediss://...[?ca=FILE][&cert=FILE&key=FILE] or "
                               "unix:///path[?db=N] expected";

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
static int parse_account(struct redis_url *url, const char **text, struct err *err)
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

static int parse_db(struct redis_url *url, const char *text, size_t len, struct err *err)
{
    url->db = parse_number(text, len, MAX_DB);
    if (url->db < 0) {
        return err_set(err, ERR_INVALID, "database `%.*s` of the Redis URL: a number from 0 to %d expected",
                       (int)(len < 40 ? len : 40), text, MAX_DB);
    }
    return 0;
}

static int refuse_part(const char *text, struct err *err)
{
    return err_set(err, ERR_INVALID, "the Redis URL has an unknown part `%.40s`: %s", text, expected);
}

/* One name=value of the files of TLS. */
static int parse_file(struct redis_url *url, const char *text, size_t len, struct err *err)
{
    static const char *const names[] = {"ca=", "cert=", "key="};
    char **const files[] = {&url->ca, &url->cert, &url->key};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t name_len = strlen(names[i]);
        if (len < name_len || strncmp(text, names[i], name_len) != 0) {
            continue;
        }
        if (*files[i] != NULL) {
            return err_set(err, ERR_INVALID, "the Redis URL names `%s` twice", names[i]);
        }
        *files[i] = len == name_len ? NULL : unescape(text + name_len, len - name_len);
        if (*files[i] == NULL) {
            return err_set(err, ERR_INVALID,
                           "`%s` of the Redis URL: the path of a file expected, %%XX with two hex digits",
                           names[i]);
        }
        return 0;
    }
    return refuse_part(text, err);
}

/* What follows the address: files of TLS, or nothing. */
static int parse_query(struct redis_url *url, const char *text, struct err *err)
{
    if (text[0] != '\0' && !url->has_tls) {
        return refuse_part(text, err);
    }
    while (text[0] != '\0') {
        size_t len = strcspn(text + 1, "&");
        int status = parse_file(url, text + 1, len, err);
        if (status != 0) {
            return status;
        }
        text += 1 + len;
    }
    if ((url->cert == NULL) != (url->key == NULL)) {
        return err_set(err, ERR_INVALID, "the Redis URL names `%s=` without `%s=`: they go together",
                       url->cert == NULL ? "key" : "cert", url->cert == NULL ? "cert" : "key");
    }
    return 0;
}

static int parse_address(struct redis_url *url, const char *text, struct err *err)
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
    const char *query = rest + strcspn(rest, "?");
    int status = query - rest > 1 ? parse_db(url, rest + 1, (size_t)(query - rest - 1), err) : 0;
    status = status == 0 ? parse_query(url, query, err) : status;
    bool is_ip6 = strchr(url->host, ':') != NULL;
    (void)snprintf(url->shown, sizeof(url->shown), "%s://%s%.120s%s:%d/%d", url->has_tls ? "rediss" : "redis",
                   is_ip6 ? "[" : "", url->host, is_ip6 ? "]" : "", url->port, url->db);
    return status;
}

static int parse_socket(struct redis_url *url, const char *text, struct err *err)
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
            return refuse_part(text + len, err);
        }
        status = parse_db(url, text + len + 4, strlen(text + len + 4), err);
    }
    (void)snprintf(url->shown, sizeof(url->shown), "unix://%.120s?db=%d", url->path, url->db);
    return status;
}

int redis_url_parse(struct redis_url *url, const char *text, struct err *err)
{
    static const char tcp[] = "redis://";
    static const char tls[] = "rediss://";
    static const char local[] = "unix://";
    *url = (struct redis_url){0};
    int status;
    url->has_tls = strncmp(text, tls, sizeof(tls) - 1) == 0;
    if (url->has_tls || strncmp(text, tcp, sizeof(tcp) - 1) == 0) {
        text += url->has_tls ? sizeof(tls) - 1 : sizeof(tcp) - 1;
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
        redis_url_deinit(url);
    }
    return status;
}

void redis_url_deinit(struct redis_url *url)
{
    if (url->password != NULL) {
        explicit_bzero(url->password, strlen(url->password));
    }
    free(url->host);
    free(url->path);
    free(url->ca);
    free(url->cert);
    free(url->key);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}
