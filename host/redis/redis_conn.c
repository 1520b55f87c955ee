/* A connection to Redis; see redis_conn.h. */
#include "redis/redis_conn.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "redis/redis_stream.h"
#include "redis/redis_url.h"

/* Freed when it is closed and no flush is due. */
struct redis_conn {
    struct loop *loop;
    struct redis_url url;
    struct redis_stream *stream;
    struct timer *timer; /* of connecting */
    int timeout_ms;
    redis_conn_fn ready; /* NULL when it has run */
    void *ready_arg;
    redisReader *reader;
    size_t unread; /* bytes since the last whole reply */
    int asked;     /* replies to AUTH and SELECT that are still to come */
    bool is_auth_asked;
    struct buf unsent; /* commands of this turn */
    bool is_flush_due;
    struct err lost;   /* code 0: not */
    redis_reply_fn fn; /* waiting for the next reply */
    void *arg;
    int refs;
};

static void unref(struct redis_conn *conn)
{
    if (--conn->refs == 0) {
        redisReaderFree(conn->reader);
        buf_deinit(&conn->unsent);
        redis_url_deinit(&conn->url);
        free(conn);
    }
}

static void lose(struct redis_conn *conn, const struct err *err)
{
    if (conn->lost.code != 0) {
        return;
    }
    conn->lost = *err;
    timer_stop(conn->timer);
    redis_stream_close(conn->stream);
    conn->stream = NULL;
    redis_conn_fn ready = conn->ready;
    redis_reply_fn fn = conn->fn;
    conn->ready = NULL;
    conn->fn = NULL;
    if (ready != NULL) {
        ready(conn->ready_arg, err);
    } else if (fn != NULL) {
        fn(conn->arg, NULL, err);
    }
}

/* --- commands ------------------------------------------------------------------------------- */

static void flush(void *arg)
{
    struct redis_conn *conn = arg;
    conn->is_flush_due = false;
    if (conn->stream != NULL) {
        redis_stream_write(conn->stream, conn->unsent.data, conn->unsent.len);
    }
    /* A burst may have been large, and passwords were among it. */
    if (conn->unsent.len > 0) {
        explicit_bzero(conn->unsent.data, conn->unsent.len);
    }
    buf_deinit(&conn->unsent);
    unref(conn);
}

static void append(struct redis_conn *conn, size_t count, const char *const *args, const size_t *lens)
{
    buf_printf(&conn->unsent, "*%zu\r\n", count);
    for (size_t i = 0; i < count; i++) {
        size_t len = lens != NULL ? lens[i] : strlen(args[i]);
        buf_printf(&conn->unsent, "$%zu\r\n", len);
        buf_append(&conn->unsent, args[i], len);
        buf_append(&conn->unsent, "\r\n", 2);
    }
    if (!conn->is_flush_due) {
        conn->is_flush_due = true;
        conn->refs++;
        loop_defer(conn->loop, flush, conn);
    }
}

int redis_conn_send(struct redis_conn *conn, size_t count, const char *const *args, const size_t *lens,
                    struct err *err)
{
    if (conn->lost.code != 0) {
        *err = conn->lost;
        return err->code;
    }
    size_t waiting = conn->unsent.len + redis_stream_unsent(conn->stream);
    for (size_t i = 0; i < count && waiting <= REDIS_CONN_MAX_UNSENT; i++) {
        waiting += lens[i] <= REDIS_CONN_MAX_UNSENT ? lens[i] : REDIS_CONN_MAX_UNSENT + 1;
    }
    if (waiting > REDIS_CONN_MAX_UNSENT) {
        return err_set(err, ERR_LIMIT, "Redis at %s takes commands too slowly: %d bytes wait to be sent",
                       conn->url.shown, REDIS_CONN_MAX_UNSENT);
    }
    append(conn, count, args, lens);
    return 0;
}

/* --- connecting ----------------------------------------------------------------------------- */

/* What the server says to AUTH and SELECT. */
static void judge(struct redis_conn *conn, const redisReply *reply)
{
    struct err err;
    const struct redis_url *url = &conn->url;
    bool is_auth = conn->is_auth_asked;
    conn->is_auth_asked = false;
    if (reply->type != REDIS_REPLY_ERROR) {
        if (--conn->asked == 0) {
            redis_conn_fn ready = conn->ready;
            conn->ready = NULL;
            timer_stop(conn->timer);
            redis_stream_read(conn->stream, false);
            ready(conn->ready_arg, NULL);
        }
        return;
    }
    if (strncmp(reply->str, "LOADING", 7) == 0 || strncmp(reply->str, "BUSY ", 5) == 0) {
        (void)err_set(&err, ERR_UNAVAILABLE, "Redis at %s: %s", url->shown, reply->str);
    } else if (is_auth) {
        /* A server that does not know AUTH quotes the arguments in its answer. */
        bool is_safe = strstr(reply->str, url->password) == NULL;
        (void)err_set(&err, ERR_DENIED, "Redis at %s refuses the password of user `%s`: %s", url->shown,
                      url->user == NULL ? "default" : url->user, is_safe ? reply->str : "AUTH failed");
    } else {
        (void)err_set(&err, ERR_DENIED, "Redis at %s refuses: %s", url->shown, reply->str);
    }
    lose(conn, &err);
}

static void on_open(void *arg)
{
    struct redis_conn *conn = arg;
    const struct redis_url *url = &conn->url;
    if (url->password != NULL) {
        const char *auth[3] = {"AUTH"};
        size_t count = 1;
        if (url->user != NULL) {
            auth[count++] = url->user;
        }
        auth[count++] = url->password;
        append(conn, count, auth, NULL);
        conn->is_auth_asked = true;
        conn->asked++;
    }
    char db[16];
    (void)snprintf(db, sizeof(db), "%d", url->db);
    const char *prove[] = {url->db == 0 ? "PING" : "SELECT", db};
    append(conn, url->db == 0 ? 1 : 2, prove, NULL); /* also tells what a server without a password wants */
    conn->asked++;
    redis_stream_read(conn->stream, true);
}

static void on_timeout(void *arg)
{
    struct redis_conn *conn = arg;
    struct err err;
    (void)err_set(&err, ERR_TIMEOUT, "Redis at %s: no connection within %d ms", conn->url.shown,
                  conn->timeout_ms);
    lose(conn, &err);
}

/* --- replies -------------------------------------------------------------------------------- */

/* The next whole reply, NULL for none. */
static redisReply *parse(struct redis_conn *conn)
{
    void *reply = NULL;
    struct err err;
    if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
        (void)err_set(&err, ERR_PROTOCOL, "Redis at %s does not speak its protocol: %s", conn->url.shown,
                      conn->reader->errstr);
        lose(conn, &err);
        return NULL;
    }
    if (reply != NULL) {
        conn->unread = conn->reader->len - conn->reader->pos;
    }
    return reply;
}

static void on_bytes(void *arg, const char *data, size_t len)
{
    struct redis_conn *conn = arg;
    conn->refs++;
    (void)redisReaderFeed(conn->reader, data, len); /* a failure shows in the next parse */
    conn->unread += len;
    while (conn->ready != NULL && conn->lost.code == 0) {
        redisReply *reply = parse(conn);
        if (reply == NULL) {
            break;
        }
        judge(conn, reply);
        freeReplyObject(reply);
    }
    redisReply *reply = conn->fn != NULL ? parse(conn) : NULL;
    if (reply != NULL) {
        redis_reply_fn fn = conn->fn;
        conn->fn = NULL;
        redis_stream_read(conn->stream, false);
        fn(conn->arg, reply, NULL);
    } else if (conn->unread > REDIS_CONN_MAX_REPLY) {
        struct err err;
        (void)err_set(&err, ERR_LIMIT, "Redis at %s sends a reply of more than %d bytes", conn->url.shown,
                      REDIS_CONN_MAX_REPLY);
        lose(conn, &err);
    }
    unref(conn);
}

static void on_lost(void *arg, const struct err *err)
{
    lose(arg, err);
}

int redis_conn_take(struct redis_conn *conn, redisReply **reply, struct err *err)
{
    *reply = parse(conn);
    if (*reply == NULL && conn->lost.code != 0) {
        *err = conn->lost;
        return err->code;
    }
    return 0;
}

void redis_conn_next(struct redis_conn *conn, redis_reply_fn fn, void *arg)
{
    conn->fn = fn;
    conn->arg = arg;
    redis_stream_read(conn->stream, true);
}

void redis_conn_cancel_next(struct redis_conn *conn)
{
    redis_reply_fn fn = conn->fn;
    conn->fn = NULL;
    if (conn->stream != NULL) {
        redis_stream_read(conn->stream, false);
    }
    if (fn != NULL) {
        struct err err;
        (void)err_set(&err, ERR_CANCELLED, "the wait was cancelled");
        fn(conn->arg, NULL, &err);
    }
}

bool redis_conn_is_waiting(const struct redis_conn *conn)
{
    return conn->fn != NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

struct redis_conn *redis_conn_open(struct loop *loop, const char *url, int timeout_ms, redis_conn_fn ready,
                                   void *arg, struct err *err)
{
    static const struct redis_stream_events events = {
        .on_open = on_open,
        .on_bytes = on_bytes,
        .on_lost = on_lost,
    };
    struct redis_conn *conn = xcalloc(1, sizeof(*conn));
    conn->refs = 1;
    conn->loop = loop;
    conn->timeout_ms = timeout_ms;
    buf_init(&conn->unsent);
    if (redis_url_parse(&conn->url, url, err) != 0) {
        goto failed;
    }
    conn->stream = redis_stream_open(loop, &conn->url, &events, conn, err);
    if (conn->stream == NULL) {
        goto failed;
    }
    conn->reader = redisReaderCreate();
    if (conn->reader == NULL) {
        abort(); /* no memory for a small object, as in xmalloc */
    }
    conn->ready = ready;
    conn->ready_arg = arg;
    conn->timer = timer_open(loop, on_timeout, conn);
    timer_start(conn->timer, (uint64_t)timeout_ms, 0);
    return conn;
failed:
    redis_url_deinit(&conn->url);
    free(conn);
    return NULL;
}

void redis_conn_close(struct redis_conn *conn)
{
    if (conn == NULL) {
        return;
    }
    struct err err;
    (void)err_set(&err, ERR_CLOSED, "the connection to Redis is closed");
    lose(conn, &err);
    timer_close(conn->timer);
    unref(conn);
}
