/* host.net: a plain TCP client. One task reads and one writes at a time; data is only taken from the kernel
 * while a task waits for it, so a reader that does not read exerts backpressure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "lua/arg.h"
#include "lua/task.h"
#include "lua/vm.h"

#define META "host.net.socket"

enum { DEFAULT_READ_BYTES = 65536, MAX_READ_BYTES = 1 << 24 };

/* Freed when its handle is closed and no resolver call refers to it. */
struct sock {
    uv_tcp_t tcp;
    uv_getaddrinfo_t resolver;
    uv_connect_t connector;
    struct task_wait *connect_wait;
    struct task_wait *read_wait;
    char *read_buf;
    size_t read_max;
    int recv_buffer; /* SO_RCVBUF, 0: the system's choice */
    int refs;
    bool is_closed;
};

struct write_op {
    uv_write_t request;
    struct task_wait *wait; /* NULL: nobody waits any more */
    char data[];
};

static void unref(struct sock *sock)
{
    if (--sock->refs == 0) {
        free(sock->read_buf);
        free(sock);
    }
}

static void on_closed(uv_handle_t *handle)
{
    unref(handle->data);
}

static void fail(struct task_wait **wait, int code, const char *text)
{
    if (*wait != NULL) {
        struct err err;
        struct task_wait *waiter = *wait;
        *wait = NULL;
        err_set(&err, code, "%s", text);
        task_wake_err(waiter, &err);
    }
}

static void close_socket(struct sock *sock)
{
    if (!sock->is_closed) {
        sock->is_closed = true;
        fail(&sock->read_wait, ERR_CLOSED, "the socket was closed");
        uv_close((uv_handle_t *)&sock->tcp, on_closed);
    }
}

static struct sock *check_sock(lua_State *L)
{
    struct sock **box = luaL_checkudata(L, 1, META);
    return *box;
}

static int push_closed(lua_State *L)
{
    struct err err;
    err_set(&err, ERR_CLOSED, "the socket is closed");
    return arg_return_err(L, &err);
}

/* --- connecting ----------------------------------------------------------------------------- */

static int push_sock(lua_State *L, void *arg)
{
    struct sock **box = lua_newuserdata(L, sizeof(*box));
    *box = arg;
    luaL_getmetatable(L, META);
    lua_setmetatable(L, -2);
    return 1;
}

static void connect_failed(struct sock *sock, int status)
{
    if (sock->connect_wait != NULL) {
        struct err err;
        struct task_wait *wait = sock->connect_wait;
        sock->connect_wait = NULL;
        if (status == UV_ECANCELED) {
            err_set(&err, ERR_CANCELLED, "connect: cancelled");
        } else {
            err_set_errno(&err, status, "connect");
        }
        task_wake_err(wait, &err);
    }
    close_socket(sock);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct sock *sock = request->data;
    if (status != 0 || sock->connect_wait == NULL) {
        connect_failed(sock, status);
        return;
    }
    struct task_wait *wait = sock->connect_wait;
    sock->connect_wait = NULL;
    (void)uv_tcp_nodelay(&sock->tcp, 1); /* latency only */
    task_wake(wait, push_sock, sock);
}

static int start_connect(struct sock *sock, const struct sockaddr *address)
{
    if (sock->recv_buffer > 0) {
        uv_os_fd_t fd;
        int size = sock->recv_buffer;
        if (uv_fileno((uv_handle_t *)&sock->tcp, &fd) == 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); /* a hint */
        }
    }
    sock->connector.data = sock;
    return uv_tcp_connect(&sock->connector, &sock->tcp, address, on_connect);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct sock *sock = request->data;
    if (status == 0 && !sock->is_closed) {
        status = start_connect(sock, list->ai_addr);
    }
    if (status != 0) {
        connect_failed(sock, status);
    }
    uv_freeaddrinfo(list);
    unref(sock);
}

static void cancel_connect(void *arg)
{
    connect_failed(arg, UV_ECANCELED);
}

static int begin(struct sock *sock, uv_loop_t *uv, const char *host, int port, struct err *err)
{
    struct sockaddr_storage address;
    bool is_v6 = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&address) == 0;
    bool is_numeric = is_v6 || uv_ip4_addr(host, port, (struct sockaddr_in *)&address) == 0;
    int status = uv_tcp_init_ex(uv, &sock->tcp, is_v6 ? AF_INET6 : AF_INET);
    if (status != 0) {
        return err_set_errno(err, status, "open a socket");
    }
    sock->tcp.data = sock;
    sock->refs = 1;
    if (is_numeric) {
        status = start_connect(sock, (struct sockaddr *)&address);
    } else {
        char service[8];
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
        (void)snprintf(service, sizeof(service), "%d", port);
        sock->resolver.data = sock;
        status = uv_getaddrinfo(uv, &sock->resolver, on_resolved, host, service, &hints);
        sock->refs += status == 0 ? 1 : 0;
    }
    if (status != 0) {
        close_socket(sock);
        return err_set_errno(err, status, "connect to %s:%d", host, port);
    }
    return 0;
}

/* net.connect(host, port[, {recv_buffer=bytes}]) -> socket | nil, err        (yields) */
static int l_connect(lua_State *L)
{
    const char *host = luaL_checkstring(L, 1);
    int port = (int)arg_check_int(L, 2, 1, 65535);
    int recv_buffer = (int)arg_opt_int(L, 3, "recv_buffer", 0, 1, 1 << 30);
    struct task_wait *wait = task_wait_begin(L, cancel_connect);
    struct sock *sock = xcalloc(1, sizeof(*sock));
    struct err err;
    sock->recv_buffer = recv_buffer;
    if (begin(sock, loop_uv(task_loop(L)), host, port, &err) != 0) {
        if (sock->refs == 0) {
            free(sock);
        }
        return task_wait_fail(L, wait, &err);
    }
    sock->connect_wait = wait;
    task_wait_set_op(wait, sock);
    return task_wait_yield(L, wait);
}

/* --- reading -------------------------------------------------------------------------------- */

struct piece {
    const char *data;
    size_t len;
};

static int push_piece(lua_State *L, void *arg)
{
    const struct piece *piece = arg;
    lua_pushlstring(L, piece->data, piece->len);
    return 1;
}

static int push_end(lua_State *L, void *arg)
{
    lua_pushnil(L);
    return 1;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct sock *sock = handle->data;
    sock->read_buf = xrealloc(sock->read_buf, sock->read_max);
    *buf = uv_buf_init(sock->read_buf, (unsigned)sock->read_max);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct sock *sock = stream->data;
    struct task_wait *wait = sock->read_wait;
    if (count == 0 || wait == NULL) {
        return;
    }
    (void)uv_read_stop(stream); /* always 0 */
    sock->read_wait = NULL;
    if (count == UV_EOF) {
        task_wake(wait, push_end, NULL);
    } else if (count < 0) {
        struct err err;
        err_set_errno(&err, (int)count, "read");
        task_wake_err(wait, &err);
    } else {
        struct piece piece = {buf->base, (size_t)count};
        task_wake(wait, push_piece, &piece);
    }
}

static void cancel_read(void *arg)
{
    struct sock *sock = arg;
    (void)uv_read_stop((uv_stream_t *)&sock->tcp); /* always 0 */
    fail(&sock->read_wait, ERR_CANCELLED, "read: cancelled");
}

/* socket:read([max]) -> bytes | nil (end) | nil, err        (yields) */
static int l_read(lua_State *L)
{
    struct sock *sock = check_sock(L);
    size_t max = lua_isnoneornil(L, 2) ? DEFAULT_READ_BYTES : (size_t)arg_check_int(L, 2, 1, MAX_READ_BYTES);
    if (sock == NULL) {
        return push_closed(L);
    }
    if (sock->read_wait != NULL) {
        return luaL_error(L, "another task is reading from this socket");
    }
    struct task_wait *wait = task_wait_begin(L, cancel_read);
    sock->read_max = max;
    int status = uv_read_start((uv_stream_t *)&sock->tcp, on_alloc, on_read);
    if (status != 0) {
        struct err err;
        err_set_errno(&err, status, "read");
        return task_wait_fail(L, wait, &err);
    }
    sock->read_wait = wait;
    task_wait_set_op(wait, sock);
    return task_wait_yield(L, wait);
}

/* --- writing -------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status)
{
    struct write_op *op = request->data;
    if (op->wait != NULL && status == 0) {
        task_wake_true(op->wait);
    } else if (op->wait != NULL) {
        struct err err;
        if (status == UV_ECANCELED) {
            err_set(&err, ERR_CLOSED, "the socket was closed");
        } else {
            err_set_errno(&err, status, "write");
        }
        task_wake_err(op->wait, &err);
    }
    free(op);
}

static void cancel_write(void *arg)
{
    struct write_op *op = arg;
    fail(&op->wait, ERR_CANCELLED, "write: cancelled"); /* what was queued still goes out */
}

/* socket:write(bytes) -> true | nil, err        (yields until the kernel has taken everything) */
static int l_write(lua_State *L)
{
    struct sock *sock = check_sock(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    if (sock == NULL) {
        return push_closed(L);
    }
    struct task_wait *wait = task_wait_begin(L, cancel_write);
    struct write_op *op = xmalloc(sizeof(*op) + len);
    memcpy(op->data, data, len);
    op->request.data = op;
    op->wait = wait;
    uv_buf_t buf = uv_buf_init(op->data, (unsigned)len);
    int status = uv_write(&op->request, (uv_stream_t *)&sock->tcp, &buf, 1, on_written);
    if (status != 0) {
        struct err err;
        free(op);
        err_set_errno(&err, status, "write");
        return task_wait_fail(L, wait, &err);
    }
    task_wait_set_op(wait, op);
    return task_wait_yield(L, wait);
}

/* socket:shutdown() : no more is sent, reading goes on */
static int l_shutdown(lua_State *L)
{
    struct sock *sock = check_sock(L);
    uv_os_fd_t fd;
    if (sock != NULL && uv_fileno((uv_handle_t *)&sock->tcp, &fd) == 0) {
        (void)shutdown(fd, SHUT_WR); /* fails when the peer is gone, which a read will tell */
    }
    return 0;
}

/* --- closing -------------------------------------------------------------------------------- */

/* socket:close() : writes that still wait fail */
static int l_close(lua_State *L)
{
    struct sock **box = luaL_checkudata(L, 1, META);
    if (*box != NULL) {
        close_socket(*box);
        *box = NULL;
    }
    return 0;
}

/* socket:reset() : closes with RST, the peer sees an error */
static int l_reset(lua_State *L)
{
    struct sock **box = luaL_checkudata(L, 1, META);
    struct sock *sock = *box;
    uv_os_fd_t fd;
    if (sock != NULL && uv_fileno((uv_handle_t *)&sock->tcp, &fd) == 0) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)); /* else it is an ordinary close */
    }
    return l_close(L);
}

int luaopen_host_net(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"read", l_read},   {"write", l_write}, {"shutdown", l_shutdown},
        {"close", l_close}, {"reset", l_reset}, {NULL, NULL},
    };
    static const luaL_Reg functions[] = {{"connect", l_connect}, {NULL, NULL}};
    arg_class(L, META, methods, l_close);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
