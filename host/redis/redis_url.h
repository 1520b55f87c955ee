/* Where a Redis server is and who we are there, from one URL. Needs no Redis library. Thread-safe. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct redis_url {
    char *host;     /* NULL with a unix socket */
    int port;       /* with host */
    char *path;     /* of the unix socket, or NULL */
    char *user;     /* NULL: the server's default user */
    char *password; /* NULL: no authentication */
    int db;
    bool has_tls;
    char *ca;        /* with TLS: file of certificate authorities, NULL: the system's */
    char *cert;      /* and files of our certificate and */
    char *key;       /* its key, both or none */
    char shown[160]; /* the URL for people: without user and password, shortened when long */
};

/* Reads redis://[[user]:password@]host[:port][/db], rediss:// (TLS) with the same and
 * [?ca=FILE][&cert=FILE&key=FILE], or unix://[[user]:password@]/path/of.socket[?db=N]; user, password and
 * files may hold %XX. ERR_INVALID says what is wrong and never repeats a password. */
int redis_url_parse(struct redis_url *url, const char *text, struct err *err);
void redis_url_deinit(struct redis_url *url); /* wipes the password; safe on zeros */
