/* One transfer: options, guard, the four curl callbacks and the translation of failures. */
#include "http/http_client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/xmem.h"
#include "http/http_guard.h"
#include "loop/timer.h"

enum {
    HOLD_BYTES = 256 * 1024,       /* of a streaming reply, before the server is held back */
    FEED_BYTES = 64 * 1024,        /* of a streaming request body, before its source waits */
    MAX_HEADER_BYTES = 256 * 1024, /* all reply fields together */
};

/* --- the guard ------------------------------------------------------------------------------ */

static bool is_allowed_host(const struct http_fetch *fetch)
{
    bool is_allowed = false;
    char *url = NULL;
    char *host = NULL;
    CURLU *parts = fetch->allow_host_count == 0 ? NULL : curl_url();
    (void)curl_easy_getinfo(fetch->easy, CURLINFO_EFFECTIVE_URL, &url); /* of the current redirect */
    if (parts != NULL && url != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        for (size_t i = 0; i < fetch->allow_host_count && !is_allowed; i++) {
            is_allowed = strcasecmp(fetch->allow_hosts[i], host) == 0;
        }
    }
    curl_free(host);
    curl_url_cleanup(parts);
    return is_allowed;
}

static void note_denied(struct http_fetch *fetch, const char *address)
{
    (void)snprintf(fetch->denied, sizeof(fetch->denied), "%s", address); /* an address always fits */
}

/* Called with the resolved address, before connecting: what was checked is what is connected to. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_fetch *fetch = arg;
    if (fetch->public_only && !http_guard_is_public(&address->addr) && !is_allowed_host(fetch)) {
        char text[INET6_ADDRSTRLEN] = "?";
        if (address->family == AF_INET6) {
            (void)uv_ip6_name((struct sockaddr_in6 *)&address->addr, text,
                              sizeof(text)); /* for the message */
        } else if (address->family == AF_INET) {
            (void)uv_ip4_name((struct sockaddr_in *)&address->addr, text, sizeof(text));
        }
        note_denied(fetch, text);
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Called before the request is sent: also for connections that a less strict transfer has opened. */
static int on_connected(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    struct http_fetch *fetch = arg;
    (void)snprintf(fetch->ip, sizeof(fetch->ip), "%s", remote_ip);
    if (fetch->public_only && !http_guard_is_public_text(remote_ip) && !is_allowed_host(fetch)) {
        note_denied(fetch, remote_ip);
        return CURL_PREREQFUNC_ABORT;
    }
    fetch->denied[0] = '\0'; /* another address of the host was refused, this one is fine */
    return CURL_PREREQFUNC_OK;
}

/* --- the reply ------------------------------------------------------------------------------ */

static void complete_head(struct http_fetch *fetch)
{
    long status = 0;
    if (!fetch->has_head) {
        fetch->has_head = true;
        (void)curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status); /* a known option */
        fetch->status = (int)status;
        timer_close(fetch->head_timer);
        fetch->head_timer = NULL;
        http_client_notify(fetch->client, fetch, HTTP_FETCH_HEAD);
    }
}

static bool will_follow(const struct http_fetch *fetch, long status)
{
    return fetch->follow > 0 &&
           (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

static void keep_header(struct http_fetch *fetch, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || memchr(line, '\0', len) != NULL) {
        return;
    }
    for (const char *c = line; c < colon; c++) {
        buf_append_byte(&fetch->headers, (unsigned char)(*c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c));
    }
    const char *value = colon + 1;
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r' || end[-1] == '\n')) {
        end--;
    }
    buf_append_byte(&fetch->headers, '\0');
    buf_append(&fetch->headers, value, (size_t)(end - value));
    buf_append_byte(&fetch->headers, '\0');
}

/* One line per call. A status line begins a new block: interim replies and followed redirects are forgotten.
 */
static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct http_fetch *fetch = arg;
    size_t len = size * count;
    if (fetch->has_head) {
        return len; /* trailers */
    }
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        buf_clear(&fetch->headers);
    } else if (line[0] == '\r' || line[0] == '\n') {
        long status = 0;
        (void)curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status); /* a known option */
        if (status >= 200 && !will_follow(fetch, status)) {
            complete_head(fetch);
        }
    } else {
        keep_header(fetch, line, len);
    }
    fetch->is_too_large = fetch->headers.len > MAX_HEADER_BYTES;
    return fetch->is_too_large ? 0 : len;
}

static size_t on_data(char *data, size_t size, size_t count, void *arg)
{
    struct http_fetch *fetch = arg;
    size_t len = size * count;
    complete_head(fetch); /* a redirect without a target is an ordinary reply */
    if (fetch->streams_reply && fetch->data.len > 0 && fetch->data.len + len > HOLD_BYTES) {
        fetch->recv_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    fetch->received += len;
    if (fetch->max_body > 0 && fetch->received > fetch->max_body) {
        fetch->is_too_large = true;
        return 0;
    }
    buf_append(&fetch->data, data, len);
    http_client_notify(fetch->client, fetch, HTTP_FETCH_DATA);
    return len;
}

/* --- the request body ----------------------------------------------------------------------- */

static size_t on_feed(char *to, size_t size, size_t count, void *arg)
{
    struct http_fetch *fetch = arg;
    size_t len = size * count < fetch->feed.len ? size * count : fetch->feed.len;
    if (len == 0 && !fetch->feed_ended) {
        fetch->send_paused = true;
        return CURL_READFUNC_PAUSE;
    }
    if (len > 0) {
        memcpy(to, fetch->feed.data, len);
        buf_consume(&fetch->feed, len);
    }
    if (fetch->feed.len < FEED_BYTES) {
        http_client_notify(fetch->client, fetch, HTTP_FETCH_ROOM);
    }
    return len;
}

/* --- failures ------------------------------------------------------------------------------- */

static int code_of(CURLcode result)
{
    switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
        return ERR_UNAVAILABLE;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return ERR_CLOSED;
    case CURLE_PEER_FAILED_VERIFICATION:
        return ERR_DENIED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CACERT_BADFILE:
        return ERR_INVALID;
    case CURLE_TOO_MANY_REDIRECTS:
        return ERR_LIMIT;
    default:
        return ERR_PROTOCOL;
    }
}

static void explain(struct http_fetch *fetch, CURLcode result)
{
    const char *text = fetch->error_text[0] != '\0' ? fetch->error_text : curl_easy_strerror(result);
    fetch->has_failed = true;
    if (fetch->denied[0] != '\0') {
        err_set(&fetch->err, ERR_DENIED, "the target's address %s is not public", fetch->denied);
    } else if (fetch->is_too_large) {
        err_set(&fetch->err, ERR_LIMIT, "the reply is larger than allowed (%zu bytes)",
                fetch->max_body > 0 ? fetch->max_body : (size_t)MAX_HEADER_BYTES);
    } else {
        err_set_detail(&fetch->err, code_of(result), (int)result, "%s", text);
    }
}

static void end(struct http_fetch *fetch)
{
    fetch->is_done = true;
    timer_close(fetch->head_timer);
    fetch->head_timer = NULL;
    http_client_remove(fetch->client, fetch);
    http_client_notify(fetch->client, fetch, HTTP_FETCH_DONE);
}

void http_fetch_finish(struct http_fetch *fetch, CURLcode result)
{
    if (result != CURLE_OK) {
        explain(fetch, result);
    } else {
        complete_head(fetch);
    }
    end(fetch);
}

void http_fetch_fail(struct http_fetch *fetch, const struct err *err)
{
    if (!fetch->is_done) {
        fetch->has_failed = true;
        fetch->err = *err;
        end(fetch);
    }
}

static void on_head_timeout(void *arg)
{
    struct err err;
    err_set(&err, ERR_TIMEOUT, "no reply in time");
    http_fetch_fail(arg, &err);
}

/* --- options -------------------------------------------------------------------------------- */

static bool has_control(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 && text[i] != '\t') {
            return true;
        }
    }
    return false;
}

static int check_url(const char *url, struct err *err)
{
    char *scheme = NULL;
    char *port = NULL;
    CURLU *parts = curl_url();
    int status = 0;
    CURLUcode result =
        has_control(url, strlen(url)) ? CURLUE_MALFORMED_INPUT : curl_url_set(parts, CURLUPART_URL, url, 0);
    if (result != CURLUE_OK) {
        status = err_set(err, ERR_INVALID, "\"%.100s\" is not a URL: %s", url, curl_url_strerror(result));
        goto out;
    }
    (void)curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0); /* present after a successful set */
    if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        status = err_set(err, ERR_INVALID, "\"%.100s\": only http and https are supported", url);
        goto out;
    }
    if (curl_url_get(parts, CURLUPART_PORT, &port, 0) == CURLUE_OK && strcmp(port, "0") == 0) {
        status = err_set(err, ERR_INVALID, "\"%.100s\": port 0 cannot be connected to", url);
    }
out:
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(parts);
    return status;
}

bool http_fetch_names_closed_address(const char *url)
{
    char *host = NULL;
    bool is_closed = false;
    CURLU *parts = curl_url();
    if (curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) { /* "127.1" has become "127.0.0.1" */
        size_t len = strlen(host);
        char *address = host;
        if (len >= 2 && host[0] == '[') {
            host[len - 1] = '\0';
            address = host + 1;
        }
        is_closed = http_guard_is_address_text(address) && !http_guard_is_public_text(address);
    }
    curl_free(host);
    curl_url_cleanup(parts);
    return is_closed;
}

static void add_field(struct http_fetch *fetch, const char *text)
{
    struct curl_slist *list = curl_slist_append(fetch->fields, text);
    if (list == NULL) {
        abort(); /* out of memory on a small allocation */
    }
    fetch->fields = list;
}

static bool is_named(const struct http_header *header, const char *name)
{
    return header->name_len == strlen(name) && strncasecmp(header->name, name, header->name_len) == 0;
}

static int set_fields(struct http_fetch *fetch, const struct http_fetch_opts *opts, struct err *err)
{
    bool has_type = false;
    for (size_t i = 0; i < opts->header_count; i++) {
        const struct http_header *header = &opts->headers[i];
        if (header->name_len == 0 || strcspn(header->name, ":;, \t\r\n") < header->name_len ||
            memchr(header->name, '\0', header->name_len) != NULL ||
            has_control(header->value, header->value_len)) {
            return err_set(err, ERR_INVALID, "header %.60s cannot be sent", header->name);
        }
        if (is_named(header, "content-length") || is_named(header, "transfer-encoding")) {
            return err_set(err, ERR_INVALID, "header %.60s is set by the client itself", header->name);
        }
        has_type = has_type || is_named(header, "content-type");
        struct buf line = {0};
        buf_append(&line, header->name, header->name_len);
        if (header->value_len == 0) {
            buf_append_byte(&line, ';'); /* how curl spells an empty value */
        } else {
            buf_append_str(&line, ": ");
            buf_append(&line, header->value, header->value_len);
        }
        buf_append_byte(&line, '\0');
        add_field(fetch, line.data);
        buf_deinit(&line);
    }
    add_field(fetch, "Expect:");
    if (!has_type) {
        add_field(fetch, "Content-Type:"); /* curl would claim a form */
    }
    return 0;
}

/* The options are known and the values valid, so the results of curl_easy_setopt are not looked at below. */
static int set_method(struct http_fetch *fetch, const struct http_fetch_opts *opts, struct err *err)
{
    CURL *easy = fetch->easy;
    const char *method = opts->method == NULL ? "GET" : opts->method;
    if (method[0] == '\0' || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != strlen(method)) {
        return err_set(err, ERR_INVALID, "\"%.40s\" is not a request method", method);
    }
    bool has_body = opts->body != NULL || opts->streams_body || strcmp(method, "POST") == 0;
    if (opts->streams_body) {
        (void)curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_feed);
        (void)curl_easy_setopt(easy, CURLOPT_READDATA, fetch);
        add_field(fetch, "Transfer-Encoding: chunked");
    } else if (has_body) {
        buf_append(&fetch->feed, opts->body, opts->body_len);
        buf_append_byte(&fetch->feed, '\0');
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(fetch->feed.len - 1));
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fetch->feed.data);
    } else if (strcmp(method, "HEAD") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return 0;
    }
    bool is_native = strcmp(method, has_body ? "POST" : "GET") == 0 && !opts->streams_body;
    if (!is_native) {
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    }
    return 0;
}

static void set_behaviour(struct http_fetch *fetch, const struct http_fetch_opts *opts)
{
    CURL *easy = fetch->easy;
    unsigned timeout_ms = opts->timeout_ms == 0 ? 10000 : opts->timeout_ms;
    unsigned connect_ms = opts->connect_timeout_ms == 0 ? 3000 : opts->connect_timeout_ms;
    (void)curl_easy_setopt(easy, CURLOPT_URL, opts->url);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->error_text);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a removal must not wait for a resolver thread */
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, opts->streams_reply ? 0L : (long)timeout_ms);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT,
                           opts->user_agent == NULL ? "macp/" MACP_VERSION : opts->user_agent);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fetch->fields);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, fetch);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, fetch);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, fetch);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, opts->follow > 0 ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)opts->follow);
    if (opts->ca_pem != NULL) {
        struct curl_blob blob = {(void *)opts->ca_pem, opts->ca_pem_len, CURL_BLOB_COPY};
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (opts->streams_reply) {
        fetch->head_timer = timer_open(fetch->client->loop, on_head_timeout, fetch);
        timer_start(fetch->head_timer, timeout_ms, 0);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

int http_fetch_start(struct http_client *client, const struct http_fetch_opts *opts, http_fetch_fn fn,
                     void *arg, struct http_fetch **out, struct err *err)
{
    int status = check_url(opts->url, err);
    if (status != 0) {
        return status;
    }
    struct http_fetch *fetch = xcalloc(1, sizeof(*fetch));
    fetch->client = client;
    fetch->fn = fn;
    fetch->arg = arg;
    fetch->streams_reply = opts->streams_reply;
    fetch->public_only = opts->public_only;
    fetch->follow = opts->follow;
    fetch->max_body = opts->max_body_bytes != 0 || opts->streams_reply ? opts->max_body_bytes : 1048576;
    fetch->allow_hosts = xcalloc(opts->allow_host_count + 1, sizeof(*fetch->allow_hosts));
    for (size_t i = 0; i < opts->allow_host_count; i++) {
        fetch->allow_hosts[fetch->allow_host_count++] = xstrdup(opts->allow_hosts[i]);
    }
    list_init(&fetch->notify_node);
    http_client_ref(client);
    fetch->easy = curl_easy_init();
    if (fetch->easy == NULL) {
        status = err_set(err, ERR_INTERNAL, "libcurl has no memory");
        goto out;
    }
    status = set_fields(fetch, opts, err);
    if (status == 0) {
        status = set_method(fetch, opts, err);
    }
    if (status != 0) {
        goto out;
    }
    set_behaviour(fetch, opts);
    status = http_client_add(client, fetch, err);
    if (status == 0) {
        *out = fetch;
        fetch = NULL; /* moved to the caller */
    }
out:
    http_fetch_close(fetch);
    return status;
}

void http_fetch_close(struct http_fetch *fetch)
{
    if (fetch == NULL) {
        return;
    }
    struct http_client *client = fetch->client;
    http_client_remove(client, fetch);
    timer_close(fetch->head_timer);
    list_remove(&fetch->notify_node);
    curl_easy_cleanup(fetch->easy);
    curl_slist_free_all(fetch->fields);
    for (size_t i = 0; i < fetch->allow_host_count; i++) {
        free(fetch->allow_hosts[i]);
    }
    free(fetch->allow_hosts);
    buf_deinit(&fetch->headers);
    buf_deinit(&fetch->data);
    buf_deinit(&fetch->feed);
    free(fetch);
    http_client_unref(client);
}

bool http_fetch_is_done(const struct http_fetch *fetch)
{
    return fetch->is_done;
}

const struct err *http_fetch_error(const struct http_fetch *fetch)
{
    return fetch->has_failed ? &fetch->err : NULL;
}

int http_fetch_status(const struct http_fetch *fetch)
{
    return fetch->has_head ? fetch->status : 0;
}

const char *http_fetch_ip(const struct http_fetch *fetch)
{
    return fetch->ip;
}

const struct buf *http_fetch_headers(const struct http_fetch *fetch)
{
    return &fetch->headers;
}

struct buf *http_fetch_data(struct http_fetch *fetch)
{
    return &fetch->data;
}

/* --- flow ----------------------------------------------------------------------------------- */

static void resume(struct http_fetch *fetch)
{
    if (fetch->is_active) {
        int bits = (fetch->recv_paused ? CURLPAUSE_RECV : 0) | (fetch->send_paused ? CURLPAUSE_SEND : 0);
        (void)curl_easy_pause(fetch->easy, bits); /* a failure ends the transfer and is reported there */
    }
}

void http_fetch_took(struct http_fetch *fetch)
{
    if (fetch->recv_paused && fetch->data.len < HOLD_BYTES / 2) {
        fetch->recv_paused = false;
        resume(fetch);
    }
}

bool http_fetch_feed(struct http_fetch *fetch, const char *data, size_t len)
{
    buf_append(&fetch->feed, data, len);
    if (fetch->send_paused) {
        fetch->send_paused = false;
        resume(fetch);
    }
    return fetch->feed.len < FEED_BYTES;
}

void http_fetch_feed_end(struct http_fetch *fetch)
{
    fetch->feed_ended = true;
    if (fetch->send_paused) {
        fetch->send_paused = false;
        resume(fetch);
    }
}
