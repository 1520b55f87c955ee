/* Listening, the table of connections, draining and closing; see http_server.h. */
#include "http/http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"

static size_t or_default(size_t value, size_t fallback)
{
    return value == 0 ? fallback : value;
}

static unsigned or_default_ms(unsigned value, unsigned fallback)
{
    return value == 0 ? fallback : value;
}

/* --- listening ------------------------------------------------------------------------------ */

static int parse_address(const char *host, int port, struct sockaddr_storage *address, struct err *err)
{
    const char *name = host == NULL ? "0.0.0.0" : strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    if (port < 0 || port > 65535) {
        return err_set(err, ERR_INVALID, "listen on port %d: out of range", port);
    }
    if (uv_ip4_addr(name, port, (struct sockaddr_in *)address) != 0 &&
        uv_ip6_addr(name, port, (struct sockaddr_in6 *)address) != 0) {
        return err_set(err, ERR_INVALID, "listen on %s: not an IP address", name);
    }
    return 0;
}

/* Accepted sockets inherit TCP_NODELAY on Linux, which saves a system call per connection. */
static int set_socket_options(uv_tcp_t *listener, bool reuseport)
{
    int on = 1;
    uv_os_fd_t fd;
    int status = uv_fileno((uv_handle_t *)listener, &fd);
    if (status == 0 && reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
        status = uv_translate_sys_error(errno);
    }
    if (status == 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        status = uv_translate_sys_error(errno);
    }
    return status;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct http_server *server = listener->data;
    if (status != 0) {
        /* libuv tries again for ever, for instance while no descriptors are left: one line per second will
         * do. */
        int64_t second = loop_now_ms() / 1000;
        if (second != server->complained_second) {
            server->complained_second = second;
            log_line(LOG_WARN, "http.accept_failed", "%s", uv_strerror(status));
        }
        return;
    }
    http_conn_accept(server);
}

static int read_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static int start_listening(struct http_server *server, const struct http_server_opts *opts, struct err *err)
{
    struct sockaddr_storage address = {0};
    int status = parse_address(opts->host, opts->port, &address, err);
    if (status != 0) {
        return status;
    }
    status = uv_tcp_init_ex(loop_uv(server->loop), &server->listener, address.ss_family);
    if (status != 0) {
        return err_set_errno(err, status, "open a socket");
    }
    server->open_handles++;
    server->listener.data = server;
    status = set_socket_options(&server->listener, opts->reuseport);
    if (status == 0) {
        status = uv_tcp_bind(&server->listener, (struct sockaddr *)&address, 0);
    }
    if (status == 0) {
        int backlog = opts->backlog == 0 ? 1024 : opts->backlog;
        status = uv_listen((uv_stream_t *)&server->listener, backlog, on_connection);
    }
    if (status != 0) {
        return err_set_errno(err, status, "listen on %s:%d", opts->host == NULL ? "0.0.0.0" : opts->host,
                             opts->port);
    }
    server->is_listening = true;
    server->port = read_port(&server->listener);
    return 0;
}

static void read_opts(struct http_server *server, const struct http_server_opts *opts)
{
    unsigned *timeouts = server->deadlines.timeout_ms;
    server->limits.max_head_bytes = or_default(opts->max_head_bytes, 65536);
    server->limits.max_headers = or_default(opts->max_headers, 100);
    server->limits.max_body_bytes = or_default(opts->max_body_bytes, 1048576);
    server->max_connections = or_default(opts->max_connections, 10000);
    server->max_pending = or_default(opts->max_pending_bytes, 1048576);
    timeouts[HTTP_DEADLINE_HEAD] = or_default_ms(opts->header_timeout_ms, 10000);
    timeouts[HTTP_DEADLINE_BODY] = or_default_ms(opts->body_timeout_ms, 30000);
    timeouts[HTTP_DEADLINE_IDLE] = or_default_ms(opts->idle_timeout_ms, 75000);
    timeouts[HTTP_DEADLINE_WRITE] = or_default_ms(opts->write_timeout_ms, 30000);
    timeouts[HTTP_DEADLINE_HALF] = or_default_ms(opts->half_close_ms, 1000);
}

int http_server_open(struct loop *loop, const struct http_server_opts *opts, struct http_server **out,
                     struct err *err)
{
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->loop = loop;
    server->refs = 1;
    list_init(&server->conns);
    list_init(&server->dirty);
    http_deadlines_init(&server->deadlines, loop_uv(loop), http_conn_expired);
    (void)uv_timer_init(loop_uv(loop), &server->drain_timer); /* always 0 */
    server->drain_timer.data = server;
    server->open_handles = 2;
    server->read_buf = xmalloc(HTTP_READ_BYTES);
    read_opts(server, opts);
    int status = start_listening(server, opts, err);
    if (status != 0) {
        http_server_close(server, NULL, NULL);
        return status;
    }
    *out = server;
    return 0;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_serve(struct http_server *server, http_request_fn handler, http_error_fn on_error, void *arg)
{
    server->handler = handler;
    server->on_error = on_error;
    server->arg = arg;
}

void http_server_get_stats(const struct http_server *server, struct http_server_stats *stats)
{
    *stats = server->stats;
}

/* --- end of turn ---------------------------------------------------------------------------- */

static void on_turn_end(void *arg)
{
    struct http_server *server = arg;
    struct list batch;
    list_init(&batch);
    server->flush_is_due = false;
    /* Whatever becomes dirty meanwhile waits for the next round. */
    while (!list_is_empty(&server->dirty)) {
        list_push_back(&batch, list_pop_front(&server->dirty));
    }
    struct list *node;
    while ((node = list_pop_front(&batch)) != NULL) {
        http_conn_run(list_entry(node, struct http_conn, dirty_node));
    }
    http_server_unref(server);
}

void http_server_mark_dirty(struct http_server *server, struct list *node)
{
    if (list_is_empty(node)) {
        list_push_back(&server->dirty, node);
    }
    if (!server->flush_is_due) {
        server->flush_is_due = true;
        server->refs++;
        loop_defer(server->loop, on_turn_end, server);
    }
}

const char *http_server_date(struct http_server *server)
{
    int64_t second = loop_now_ms() / 1000;
    if (second != server->date_second) {
        time_t now = (time_t)second;
        struct tm parts;
        (void)gmtime_r(&now, &parts); /* fails only beyond the year 2^31 */
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        char text[64];
        (void)snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday],
                       parts.tm_mday, months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                       parts.tm_sec);
        memcpy(server->date, text, HTTP_DATE_LEN + 1);
        server->date_second = second;
    }
    return server->date;
}

/* --- static replies ------------------------------------------------------------------------- */

int http_server_respond_static(struct http_server *server, const char *path, int status,
                               const struct http_header *headers, size_t count, const char *body,
                               size_t body_len, struct err *err)
{
    struct http_static *entry = xcalloc(1, sizeof(*entry));
    buf_append(&entry->body, body, body_len);
    int result = http_reply_static_head(entry, status, headers, count, err);
    if (result != 0) {
        buf_deinit(&entry->start);
        buf_deinit(&entry->rest);
        buf_deinit(&entry->body);
        free(entry);
        return result;
    }
    entry->path = xstrdup(path);
    entry->path_len = strlen(path);
    entry->next = server->statics;
    server->statics = entry;
    return 0;
}

const struct http_static *http_server_find_static(const struct http_server *server,
                                                  const struct http_msg *msg)
{
    const struct http_static *entry = server->statics;
    if (entry == NULL || (strcmp(msg->method, "GET") != 0 && !msg->is_head)) {
        return NULL;
    }
    while (entry != NULL && (entry->path_len != msg->path.len ||
                             memcmp(entry->path, http_msg_text(msg, msg->path), entry->path_len) != 0)) {
        entry = entry->next;
    }
    return entry;
}

/* --- draining and closing ------------------------------------------------------------------- */

static void free_server(struct http_server *server)
{
    while (server->statics != NULL) {
        struct http_static *entry = server->statics;
        server->statics = entry->next;
        free(entry->path);
        buf_deinit(&entry->start);
        buf_deinit(&entry->rest);
        buf_deinit(&entry->body);
        free(entry);
    }
    while (server->spare != NULL) {
        struct http_req *req = server->spare;
        server->spare = req->next;
        http_msg_deinit(&req->msg);
        free(req);
    }
    http_pool_deinit(&server->pool);
    free(server->read_buf);
    free(server);
}

void http_server_unref(struct http_server *server)
{
    if (--server->refs == 0) {
        free_server(server);
    }
}

static void finish_drains(struct http_server *server)
{
    (void)uv_timer_stop(&server->drain_timer); /* always 0 */
    struct http_drain *drain = server->drains;
    server->drains = NULL;
    while (drain != NULL) {
        struct http_drain *next = drain->next;
        drain->done(drain->arg);
        free(drain);
        drain = next;
    }
}

/* After a connection or a handle is gone, and once per deferred check. */
static void check_progress(void *arg)
{
    struct http_server *server = arg;
    if (server->stats.connections == 0 && server->drains != NULL) {
        finish_drains(server);
    }
    if (server->is_closing && server->open_handles == 0 && server->stats.connections == 0) {
        server->open_handles = -1; /* only once */
        if (server->closed != NULL) {
            server->closed(server->closed_arg);
        }
        server->refs--; /* of the open server */
    }
    http_server_unref(server); /* of this check */
}

static void check_later(struct http_server *server)
{
    server->refs++;
    loop_defer(server->loop, check_progress, server);
}

void http_server_conn_gone(struct http_server *server)
{
    server->stats.connections--;
    server->refs++;
    check_progress(server);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;
    server->open_handles--;
    server->refs++;
    check_progress(server);
}

static void on_deadlines_closed(uv_handle_t *handle)
{
    struct http_deadlines *deadlines = handle->data;
    struct http_server *server = list_entry(deadlines, struct http_server, deadlines);
    server->open_handles--;
    server->refs++;
    check_progress(server);
}

static void cut_all(struct http_server *server)
{
    list_each_safe (node, &server->conns) {
        http_conn_cut(list_entry(node, struct http_conn, node));
    }
}

void http_server_stop_listening(struct http_server *server)
{
    if (server->is_listening) {
        server->is_listening = false;
        uv_close((uv_handle_t *)&server->listener, on_listener_closed);
    }
}

static void on_drain_timeout(uv_timer_t *timer)
{
    cut_all(timer->data);
}

void http_server_drain(struct http_server *server, unsigned timeout_ms, http_done_fn done, void *arg)
{
    struct http_drain *drain = xcalloc(1, sizeof(*drain));
    *drain = (struct http_drain){.next = server->drains, .done = done, .arg = arg};
    server->drains = drain;
    if (!server->is_closing) {
        server->is_draining = true;
        http_server_stop_listening(server);
        list_each_safe (node, &server->conns) {
            http_conn_close_idle(list_entry(node, struct http_conn, node));
        }
        (void)uv_timer_start(&server->drain_timer, on_drain_timeout, timeout_ms,
                             0); /* fails only when closing */
    }
    check_later(server);
}

void http_server_close(struct http_server *server, http_done_fn done, void *arg)
{
    server->is_closing = true;
    server->closed = done;
    server->closed_arg = arg;
    if (server->is_listening) {
        http_server_stop_listening(server);
    } else if (server->listener.data != NULL && !uv_is_closing((uv_handle_t *)&server->listener)) {
        uv_close((uv_handle_t *)&server->listener, on_listener_closed); /* opened, but it never listened */
    }
    cut_all(server);
    uv_close((uv_handle_t *)&server->deadlines.timer, on_deadlines_closed);
    uv_close((uv_handle_t *)&server->drain_timer, on_listener_closed);
}

void http_server_abandon(struct http_server *server)
{
    list_each (node, &server->conns) {
        struct http_req *req = list_entry(node, struct http_conn, node)->req;
        if (req != NULL) {
            req->on_gone = NULL;
            list_init(&req->waits);
        }
    }
    while (server->drains != NULL) {
        struct http_drain *drain = server->drains;
        server->drains = drain->next;
        free(drain);
    }
    http_server_serve(server, NULL, NULL, NULL);
    http_server_close(server, NULL, NULL);
}
