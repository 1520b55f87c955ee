/* Bytes to and from Redis; see redis_stream.h. TLS is done in memory: what arrives is put into one end of
 * OpenSSL, what it wants to say is taken from the other and written. */
#include "redis/redis_stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/xmem.h"
#include "loop/loop.h"
#include "redis/redis_tls.h"

enum { PIECE_BYTES = 65536, KEEPALIVE_S = 15, MAX_ADDRESSES = 8 };

/* Freed when its handle is closed and nothing refers to it. */
struct redis_stream {
    struct loop *loop;
    const struct redis_url *url;
    const struct redis_stream_events *events;
    void *arg;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    uv_connect_t connector;
    uv_getaddrinfo_t resolver;
    struct sockaddr_storage addresses[MAX_ADDRESSES]; /* of the name, IPv4 first */
    int address_count;
    int next_address;
    SSL *ssl; /* NULL: no TLS */
    BIO *in;  /* the ends of ssl, which owns them */
    BIO *out;
    char *piece; /* what is read */
    size_t unsent;
    int refs;
    bool has_handle; /* initialised and not closed */
    bool is_open;
    bool is_shaking; /* hands, with TLS */
    bool is_wanted;  /* bytes */
    bool is_closed;  /* no event any more */
};

struct write_op {
    uv_write_t request;
    struct redis_stream *stream; /* a reference */
    size_t len;
    char data[];
};

static void unref(struct redis_stream *stream)
{
    if (--stream->refs == 0) {
        SSL_free(stream->ssl);
        free(stream->piece);
        free(stream);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    unref(handle->data);
}

static void close_handle(struct redis_stream *stream, uv_close_cb fn)
{
    if (stream->has_handle) {
        stream->has_handle = false;
        uv_close(&stream->io.handle, fn);
    }
}

static void lose(struct redis_stream *stream, struct err *err)
{
    if (stream->is_closed) {
        return;
    }
    (void)err_wrap(err, "Redis at %s", stream->url->shown);
    stream->is_closed = true;
    stream->refs++; /* the event may close us */
    close_handle(stream, on_handle_closed);
    stream->events->on_lost(stream->arg, err);
    unref(stream);
}

static void lose_uv(struct redis_stream *stream, int status, const char *what)
{
    struct err err;
    if (status == UV_EOF) {
        (void)err_set(&err, ERR_UNAVAILABLE, "%s: the connection ended", what);
    } else {
        (void)err_set_errno(&err, status, "%s", what);
        err.code = ERR_UNAVAILABLE;
    }
    lose(stream, &err);
}

/* --- writing -------------------------------------------------------------------------------- */

static void on_written(uv_write_t *request, int status)
{
    struct write_op *op = request->data;
    struct redis_stream *stream = op->stream;
    stream->unsent -= op->len;
    free(op);
    if (status != 0) {
        lose_uv(stream, status, "send");
    }
    unref(stream);
}

static void write_raw(struct redis_stream *stream, struct write_op *op)
{
    op->request.data = op;
    op->stream = stream;
    stream->refs++;
    stream->unsent += op->len;
    uv_buf_t buf = uv_buf_init(op->data, (unsigned)op->len);
    int status = uv_write(&op->request, &stream->io.stream, &buf, 1, on_written);
    if (status != 0) {
        stream->unsent -= op->len;
        stream->refs--; /* not the last: the handle is open */
        free(op);
        lose_uv(stream, status, "send");
    }
}

static struct write_op *op_new(size_t len)
{
    struct write_op *op = xmalloc(sizeof(*op) + len);
    op->len = len;
    return op;
}

/* Sends what OpenSSL has to say. */
static void flush_tls(struct redis_stream *stream)
{
    size_t len = BIO_ctrl_pending(stream->out);
    if (len == 0 || stream->is_closed) {
        return;
    }
    struct write_op *op = op_new(len);
    int taken = BIO_read(stream->out, op->data, (int)len);
    if (taken <= 0) {
        free(op);
        return;
    }
    op->len = (size_t)taken;
    write_raw(stream, op);
}

static void lose_tls(struct redis_stream *stream, const char *what)
{
    struct err err;
    (void)err_set(&err, ERR_UNAVAILABLE, "%s: TLS: %s", what, redis_tls_reason());
    lose(stream, &err);
}

void redis_stream_write(struct redis_stream *stream, const char *data, size_t len)
{
    if (stream->is_closed || len == 0) {
        return;
    }
    if (stream->ssl == NULL) {
        struct write_op *op = op_new(len);
        memcpy(op->data, data, len);
        write_raw(stream, op);
        return;
    }
    size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex(stream->ssl, data, len, &written) != 1) { /* memory always has room */
        lose_tls(stream, "send");
        return;
    }
    flush_tls(stream);
}

size_t redis_stream_unsent(const struct redis_stream *stream)
{
    return stream->unsent;
}

/* --- reading -------------------------------------------------------------------------------- */

/* Hands on what OpenSSL has decrypted. */
static void read_tls(struct redis_stream *stream)
{
    char bytes[16384];
    while (!stream->is_closed) {
        ERR_clear_error();
        int len = SSL_read(stream->ssl, bytes, sizeof(bytes));
        if (len > 0) {
            stream->events->on_bytes(stream->arg, bytes, (size_t)len);
            continue;
        }
        int kind = SSL_get_error(stream->ssl, len);
        if (kind == SSL_ERROR_ZERO_RETURN) {
            lose_uv(stream, UV_EOF, "read");
        } else if (kind != SSL_ERROR_WANT_READ) {
            lose_tls(stream, "read");
        }
        break;
    }
    flush_tls(stream);
}

static void shake_hands(struct redis_stream *stream)
{
    ERR_clear_error();
    int result = SSL_do_handshake(stream->ssl);
    int kind = SSL_get_error(stream->ssl, result);
    flush_tls(stream); /* also an alert that says why */
    if (result == 1) {
        stream->is_shaking = false;
        stream->is_open = true;
        redis_stream_read(stream, stream->is_wanted);
        stream->events->on_open(stream->arg);
        if (!stream->is_closed) {
            read_tls(stream); /* what came with the last of the handshake */
        }
    } else if (kind != SSL_ERROR_WANT_READ) {
        struct err err;
        if (redis_tls_is_refused(stream->ssl, &err)) {
            lose(stream, &err);
        } else {
            lose_tls(stream, "TLS handshake");
        }
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct redis_stream *stream = handle->data;
    if (stream->piece == NULL) {
        stream->piece = xmalloc(PIECE_BYTES);
    }
    *buf = uv_buf_init(stream->piece, PIECE_BYTES);
}

static void on_read(uv_stream_t *uv, ssize_t count, const uv_buf_t *buf)
{
    struct redis_stream *stream = uv->data;
    if (stream->is_closed || count == 0) {
        return;
    }
    if (count < 0) {
        lose_uv(stream, (int)count, stream->is_shaking ? "TLS handshake" : "read");
        return;
    }
    stream->refs++;
    if (stream->ssl == NULL) {
        stream->events->on_bytes(stream->arg, buf->base, (size_t)count);
    } else if (BIO_write(stream->in, buf->base, (int)count) != count) {
        lose_tls(stream, "read");
    } else if (stream->is_shaking) {
        shake_hands(stream);
    } else {
        read_tls(stream);
    }
    unref(stream);
}

void redis_stream_read(struct redis_stream *stream, bool is_wanted)
{
    stream->is_wanted = is_wanted;
    if (stream->is_closed || !(stream->is_open || stream->is_shaking)) {
        return;
    }
    if (is_wanted || stream->is_shaking) {
        int status = uv_read_start(&stream->io.stream, on_alloc, on_read);
        if (status != 0 && status != UV_EALREADY) {
            lose_uv(stream, status, "read");
        }
    } else {
        (void)uv_read_stop(&stream->io.stream); /* always 0 */
    }
}

/* --- connecting ----------------------------------------------------------------------------- */

static void connect_next(struct redis_stream *stream);

/* An address did not answer; its handle is gone, so another one can take its place. */
static void on_retry(uv_handle_t *handle)
{
    struct redis_stream *stream = handle->data;
    if (!stream->is_closed) {
        connect_next(stream);
    }
    unref(stream);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct redis_stream *stream = request->data;
    if (stream->is_closed) {
        return;
    }
    if (status != 0 && stream->next_address < stream->address_count) {
        close_handle(stream, on_retry);
        return;
    }
    if (status != 0) {
        lose_uv(stream, status, "connect");
        return;
    }
    if (stream->url->path == NULL) {
        (void)uv_tcp_nodelay(&stream->io.tcp, 1); /* latency only */
        (void)uv_tcp_keepalive(&stream->io.tcp, 1, KEEPALIVE_S);
    }
    stream->refs++;
    stream->is_shaking = stream->ssl != NULL;
    stream->is_open = stream->ssl == NULL;
    redis_stream_read(stream, stream->is_wanted);
    if (stream->is_shaking) {
        shake_hands(stream);
    } else {
        stream->events->on_open(stream->arg);
    }
    unref(stream);
}

static void connect_next(struct redis_stream *stream)
{
    uv_loop_t *uv = loop_uv(stream->loop);
    const struct sockaddr *address = (struct sockaddr *)&stream->addresses[stream->next_address++];
    int status = uv_tcp_init(uv, &stream->io.tcp);
    if (status == 0) {
        stream->io.handle.data = stream;
        stream->has_handle = true;
        stream->refs++;
        stream->connector.data = stream;
        status = uv_tcp_connect(&stream->connector, &stream->io.tcp, address, on_connect);
    }
    if (status != 0) {
        lose_uv(stream, status, "connect");
    }
}

static void connect_pipe(struct redis_stream *stream)
{
    int status = uv_pipe_init(loop_uv(stream->loop), &stream->io.pipe, 0);
    if (status != 0) {
        lose_uv(stream, status, "connect");
        return;
    }
    stream->io.handle.data = stream;
    stream->has_handle = true;
    stream->refs++;
    stream->connector.data = stream;
    uv_pipe_connect(&stream->connector, &stream->io.pipe, stream->url->path, on_connect);
}

/* Keeps addresses of one family. */
static void keep_addresses(struct redis_stream *stream, const struct addrinfo *list, int family)
{
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        if (at->ai_family == family && stream->address_count < MAX_ADDRESSES) {
            memcpy(&stream->addresses[stream->address_count++], at->ai_addr, at->ai_addrlen);
        }
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct redis_stream *stream = request->data;
    if (status == 0 && !stream->is_closed) {
        keep_addresses(stream, list, AF_INET);
        keep_addresses(stream, list, AF_INET6);
        status = stream->address_count == 0 ? UV_EAI_NONAME : 0;
    }
    if (status != 0) {
        lose_uv(stream, status, "look up its host");
    } else if (!stream->is_closed) {
        connect_next(stream);
    }
    uv_freeaddrinfo(list);
    unref(stream);
}

/* The first turn: from here on failures are events. */
static void start(void *arg)
{
    struct redis_stream *stream = arg;
    const struct redis_url *url = stream->url;
    if (stream->is_closed) {
        unref(stream);
    } else if (url->path != NULL) {
        connect_pipe(stream);
        unref(stream);
    } else {
        char service[8];
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        (void)snprintf(service, sizeof(service), "%d", url->port);
        stream->resolver.data = stream; /* the reference is the resolver's now */
        int status =
            uv_getaddrinfo(loop_uv(stream->loop), &stream->resolver, on_resolved, url->host, service, &hints);
        if (status != 0) {
            lose_uv(stream, status, "look up its host");
            unref(stream);
        }
    }
}

struct redis_stream *redis_stream_open(struct loop *loop, const struct redis_url *url,
                                       const struct redis_stream_events *events, void *arg, struct err *err)
{
    SSL *ssl = NULL;
    if (url->has_tls && redis_tls_new(&ssl, url, err) != 0) {
        (void)err_wrap(err, "Redis at %s", url->shown);
        return NULL;
    }
    struct redis_stream *stream = xcalloc(1, sizeof(*stream));
    stream->loop = loop;
    stream->url = url;
    stream->events = events;
    stream->arg = arg;
    stream->refs = 2; /* the owner's, and start's */
    if (ssl != NULL) {
        stream->ssl = ssl;
        stream->in = BIO_new(BIO_s_mem());
        stream->out = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl, stream->in, stream->out);
        SSL_set_connect_state(ssl);
    }
    loop_defer(loop, start, stream);
    return stream;
}

void redis_stream_close(struct redis_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (stream->ssl != NULL && stream->is_open && !stream->is_closed) {
        (void)SSL_shutdown(stream->ssl); /* one way: nobody waits for the answer */
        ERR_clear_error();
        flush_tls(stream);
    }
    stream->is_closed = true;
    close_handle(stream, on_handle_closed);
    unref(stream);
}
