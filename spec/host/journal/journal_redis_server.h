/* A private redis-server for the tests beside this file: on a unix socket in a directory of its own, with an
 * append-only file. Needs the program redis-server. */
#pragma once

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "journal/journal_help.h"
#include "journal/journal_redis_link.h"

static char server_dir[80];
static char server_address[128];
static const char *server_fsync = "everysec"; /* set before server_open */
static pid_t server_pid;
static struct redis_url server_url;
static struct journal_redis_link server_link = {.url = &server_url, .timeout_ms = 5000};

static inline void server_start(void)
{
    struct err err;
    char socket_path[100];
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", server_dir);
    server_pid = fork();
    CHECK(server_pid >= 0);
    if (server_pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive a test that failed */
        (void)execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--dir",
                     server_dir, "--appendonly", "yes", "--appendfsync", server_fsync, "--save", "",
                     "--logfile", "log", (char *)NULL);
        perror("redis-server");
        _exit(127);
    }
    for (int i = 0; journal_redis_connect(&server_link, &err) != 0; i++) {
        if (i == 1000 || waitpid(server_pid, NULL, WNOHANG) != 0) {
            fprintf(stderr, "redis-server does not answer: %s\n", err.text);
            exit(1);
        }
        (void)usleep(10000);
    }
}

static inline void server_kill(void)
{
    journal_redis_disconnect(&server_link);
    CHECK_INT(kill(server_pid, SIGKILL), 0);
    CHECK_INT(waitpid(server_pid, NULL, 0), server_pid);
}

static inline void server_open(void)
{
    struct err err;
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    (void)snprintf(server_dir, sizeof(server_dir), "/tmp/macp-redis-%ld", (long)getpid());
    CHECK_INT(mkdir(server_dir, 0700), 0);
    (void)snprintf(server_address, sizeof(server_address), "unix://%s/socket", server_dir);
    CHECK_INT(redis_url_parse(&server_url, server_address, &err), 0);
    server_start();
}

static inline void server_close(void)
{
    server_kill();
    redis_url_deinit(&server_url);
    char command[120];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", server_dir);
    CHECK_INT(system(command), 0); /* NOLINT(cert-env33-c): a path of our own making */
}

/* One command; what it answers as text ("" for nil and arrays), valid until the next. */
static inline const char *server_do(const char *first, ...)
{
    static char answer[256];
    struct journal_redis_args args = {0};
    struct err err = {0};
    va_list words;
    va_start(words, first);
    for (const char *word = first; word != NULL; word = va_arg(words, const char *)) {
        journal_redis_add_str(&args, word);
    }
    va_end(words);
    if (server_link.context == NULL) {
        CHECK_INT(journal_redis_connect(&server_link, &err), 0);
    }
    redisReply *reply = journal_redis_call(&server_link, &args, &err);
    CHECK(reply != NULL);
    if (reply->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "%s: %s\n", first, reply->str);
        exit(1);
    }
    if (reply->type == REDIS_REPLY_INTEGER) {
        (void)snprintf(answer, sizeof(answer), "%lld", reply->integer);
    } else {
        (void)snprintf(answer, sizeof(answer), "%s", reply->str == NULL ? "" : reply->str);
    }
    freeReplyObject(reply);
    buf_deinit(&args.body);
    return answer;
}
