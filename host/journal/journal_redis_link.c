/* Connections to Redis; see journal_redis_link.h. */
#include "journal/journal_redis_link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

void journal_redis_add(struct journal_redis_args *args, const void *data, size_t len)
{
    buf_printf(&args->body, "$%zu\r\n", len);
    buf_append(&args->body, data, len);
    buf_append(&args->body, "\r\n", 2);
    args->count++;
}

void journal_redis_add_pair(struct journal_redis_args *args, const void *head, size_t head_len,
                            const void *data, size_t len)
{
    buf_printf(&args->body, "$%zu\r\n", head_len + len);
    buf_append(&args->body, head, head_len);
    buf_append(&args->body, data, len);
    buf_append(&args->body, "\r\n", 2);
    args->count++;
}

void journal_redis_add_str(struct journal_redis_args *args, const char *text)
{
    journal_redis_add(args, text, strlen(text));
}

void journal_redis_add_int(struct journal_redis_args *args, uint64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%" PRIu64, value);
    journal_redis_add(args, text, (size_t)len);
}

void journal_redis_clear(struct journal_redis_args *args)
{
    buf_clear(&args->body);
    args->count = 0;
}

void journal_redis_disconnect(struct journal_redis_link *link)
{
    journal_redis_tls_close(link->tls);
    link->tls = NULL;
    if (link->context != NULL) {
        redisFree(link->context);
        link->context = NULL;
    }
}

/* The connection broke, or never was one: says why and gives it up. */
static int give_up(struct journal_redis_link *link, const char *what, struct err *err)
{
    const redisContext *context = link->context;
    int status;
    if (context == NULL) {
        status = err_set(err, ERR_UNAVAILABLE, "Redis at %s: %s", link->url->shown, what);
    } else if (context->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        status = err_set(err, ERR_TIMEOUT, "Redis at %s: %s: no answer within %d ms", link->url->shown, what,
                         link->timeout_ms);
    } else {
        status = err_set(err, ERR_UNAVAILABLE, "Redis at %s: %s: %s", link->url->shown, what,
                         context->errstr[0] != '\0' ? context->errstr : "the connection ended");
    }
    journal_redis_disconnect(link);
    return status;
}

/* The same for a connection with TLS, whose part of err says what happened. */
static int give_up_tls(struct journal_redis_link *link, struct err *err)
{
    journal_redis_disconnect(link);
    return err_wrap(err, "Redis at %s", link->url->shown);
}

static redisReply *receive_tls(struct journal_redis_link *link, struct err *err)
{
    redisReader *reader = link->context->reader;
    char bytes[16384];
    for (;;) {
        void *reply = NULL;
        size_t len = 0;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            (void)err_set(err, ERR_UNAVAILABLE, "the answer to a command: %s", reader->errstr);
            (void)give_up_tls(link, err);
            return NULL;
        }
        if (reply != NULL) {
            return reply;
        }
        if (journal_redis_tls_read(link->tls, bytes, sizeof(bytes), &len, err) != 0) {
            (void)give_up_tls(link, err);
            return NULL;
        }
        (void)redisReaderFeed(reader, bytes, len); /* a failure shows in the next round */
    }
}

static redisReply *receive(struct journal_redis_link *link, struct err *err)
{
    void *reply = NULL;
    if (link->tls != NULL) {
        return receive_tls(link, err);
    }
    errno = 0;
    if (redisGetReply(link->context, &reply) != REDIS_OK) {
        (void)give_up(link, "the answer to a command", err);
        return NULL;
    }
    return reply;
}

static redisReply *send_all(struct journal_redis_link *link, const char *head,
                            const struct journal_redis_args *args, struct err *err)
{
    if (link->context == NULL) {
        (void)give_up(link, "not connected", err);
        return NULL;
    }
    if (link->tls != NULL) {
        if (journal_redis_tls_write(link->tls, head, strlen(head), err) != 0 ||
            journal_redis_tls_write(link->tls, args->body.data, args->body.len, err) != 0) {
            (void)give_up_tls(link, err);
            return NULL;
        }
        return receive(link, err);
    }
    if (redisAppendFormattedCommand(link->context, head, strlen(head)) != REDIS_OK ||
        redisAppendFormattedCommand(link->context, args->body.data, args->body.len) != REDIS_OK) {
        (void)give_up(link, "queue a command", err);
        return NULL;
    }
    return receive(link, err);
}

redisReply *journal_redis_call(struct journal_redis_link *link, const struct journal_redis_args *args,
                               struct err *err)
{
    char head[32];
    (void)snprintf(head, sizeof(head), "*%zu\r\n", args->count);
    return send_all(link, head, args, err);
}

enum journal_redis_answer journal_redis_judge(const redisReply *reply, struct err *err)
{
    static const char *const later[] = {"LOADING",    "BUSY ",    "TRYAGAIN",  "CLUSTERDOWN",
                                        "MASTERDOWN", "READONLY", "UNKILLABLE"};
    if (reply->type != REDIS_REPLY_ERROR) {
        return JOURNAL_REDIS_FINE;
    }
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        if (strncmp(reply->str, later[i], strlen(later[i])) == 0) {
            (void)err_set(err, ERR_UNAVAILABLE, "Redis: %s", reply->str);
            return JOURNAL_REDIS_LATER;
        }
    }
    int code = ERR_IO;
    if (strncmp(reply->str, "OOM ", 4) == 0) {
        code = ERR_LIMIT;
    } else if (strncmp(reply->str, "NOAUTH", 6) == 0 || strncmp(reply->str, "NOPERM", 6) == 0) {
        code = ERR_DENIED;
    }
    (void)err_set(err, code, "Redis refuses: %s", reply->str);
    return JOURNAL_REDIS_REFUSED;
}

const char *journal_redis_text(const redisReply *reply, size_t i)
{
    if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements || reply->element[i]->str == NULL) {
        return "";
    }
    return reply->element[i]->str;
}

const char *journal_redis_word(const redisReply *reply)
{
    return journal_redis_text(reply, 0);
}

/* A command that has to be answered with anything but an error. */
static int expect_fine(struct journal_redis_link *link, const struct journal_redis_args *args,
                       struct err *err)
{
    redisReply *reply = journal_redis_call(link, args, err);
    if (reply == NULL) {
        return err->code;
    }
    enum journal_redis_answer answer = journal_redis_judge(reply, err);
    freeReplyObject(reply);
    return answer == JOURNAL_REDIS_FINE ? 0 : err->code;
}

static int authenticate(struct journal_redis_link *link, struct journal_redis_args *args, struct err *err)
{
    const struct redis_url *url = link->url;
    if (url->password == NULL) {
        return 0;
    }
    journal_redis_clear(args);
    journal_redis_add_str(args, "AUTH");
    if (url->user != NULL) {
        journal_redis_add_str(args, url->user);
    }
    journal_redis_add_str(args, url->password);
    redisReply *reply = journal_redis_call(link, args, err);
    explicit_bzero(args->body.data, args->body.len);
    if (reply == NULL) {
        return err->code;
    }
    int status = 0;
    struct err ignored;
    if (journal_redis_judge(reply, &ignored) == JOURNAL_REDIS_LATER) {
        status = err_set(err, ERR_UNAVAILABLE, "Redis: %s", reply->str);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        /* A server that does not know AUTH quotes the arguments in its answer. */
        bool is_safe = strstr(reply->str, url->password) == NULL;
        status = err_set(err, ERR_DENIED, "Redis at %s refuses the password of user `%s`: %s", url->shown,
                         url->user == NULL ? "default" : url->user, is_safe ? reply->str : "AUTH failed");
    }
    freeReplyObject(reply);
    return status;
}

static int load_script(struct journal_redis_link *link, enum journal_redis_script script, struct err *err)
{
    struct journal_redis_args args = {0};
    journal_redis_add_str(&args, "SCRIPT");
    journal_redis_add_str(&args, "LOAD");
    journal_redis_add_str(&args, journal_redis_scripts[script]);
    redisReply *reply = journal_redis_call(link, &args, err);
    buf_deinit(&args.body);
    if (reply == NULL) {
        return err->code;
    }
    int status = 0;
    if (journal_redis_judge(reply, err) != JOURNAL_REDIS_FINE) {
        status = err->code;
    } else if (reply->len != sizeof(link->shas[script]) - 1) {
        status = err_set(err, ERR_PROTOCOL, "Redis at %s: SCRIPT LOAD gave no digest", link->url->shown);
    } else {
        memcpy(link->shas[script], reply->str, reply->len + 1);
    }
    freeReplyObject(reply);
    return status;
}

static int prepare(struct journal_redis_link *link, struct err *err)
{
    struct journal_redis_args args = {0};
    int status = authenticate(link, &args, err);
    if (status == 0) {
        journal_redis_clear(&args);
        journal_redis_add_str(&args, "SELECT");
        journal_redis_add_int(&args, (uint64_t)link->url->db);
        status = expect_fine(link, &args, err);
    }
    buf_deinit(&args.body);
    for (int i = 0; i < JOURNAL_REDIS_SCRIPT_COUNT && status == 0; i++) {
        status = load_script(link, i, err);
    }
    if (status != 0) {
        journal_redis_disconnect(link);
    }
    return status;
}

int journal_redis_connect(struct journal_redis_link *link, struct err *err)
{
    const struct redis_url *url = link->url;
    struct timeval limit = {.tv_sec = link->timeout_ms / 1000, .tv_usec = link->timeout_ms % 1000 * 1000};
    journal_redis_disconnect(link);
    errno = 0;
    link->context = url->path != NULL ? redisConnectUnixWithTimeout(url->path, limit)
                                      : redisConnectWithTimeout(url->host, url->port, limit);
    if (link->context == NULL || link->context->err != 0) {
        return give_up(link, "connect", err);
    }
    if (redisSetTimeout(link->context, limit) != REDIS_OK) {
        return give_up(link, "set a timeout", err);
    }
    if (url->path == NULL && redisEnableKeepAlive(link->context) != REDIS_OK) {
        return give_up(link, "keep the connection alive", err);
    }
    if (url->has_tls && journal_redis_tls_open(&link->tls, link->context->fd, url, err) != 0) {
        return give_up_tls(link, err);
    }
    int status = prepare(link, err);
    if (status == ERR_UNAVAILABLE && url->has_tls && url->cert == NULL) {
        /* TLS 1.3: a server that wants one ends the connection after the handshake */
        return err_wrap(err, "without a certificate of ours");
    }
    return status;
}

redisReply *journal_redis_eval(struct journal_redis_link *link, enum journal_redis_script script,
                               const struct journal_redis_args *args, struct err *err)
{
    for (bool is_repeated = false;; is_repeated = true) {
        char head[96];
        (void)snprintf(head, sizeof(head), "*%zu\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n", args->count + 2,
                       link->shas[script]);
        redisReply *reply = send_all(link, head, args, err);
        if (reply == NULL || is_repeated || reply->type != REDIS_REPLY_ERROR ||
            strncmp(reply->str, "NOSCRIPT", 8) != 0) {
            return reply;
        }
        freeReplyObject(reply);
        if (load_script(link, script, err) != 0) {
            journal_redis_disconnect(link); /* the script was not run; the caller may try again */
            return NULL;
        }
    }
}
