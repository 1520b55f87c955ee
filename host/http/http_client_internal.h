/* What the two files of the HTTP client share. */
#pragma once

#include <curl/curl.h>
#include <uv.h>

#include "base/list.h"
#include "http/http_client.h"

struct timer;

struct http_client {
    struct loop *loop;
    CURLM *multi;
    uv_timer_t *timer;  /* only while transfers run */
    struct list notify; /* transfers with undelivered events */
    size_t refs;        /* the owner, every transfer, a deferred delivery */
    size_t active;      /* transfers inside multi */
    bool delivery_is_due;
};

struct http_fetch {
    struct http_client *client;
    CURL *easy;
    struct list notify_node;
    http_fetch_fn fn;
    void *arg;
    int events;     /* to be delivered */
    bool is_active; /* inside the multi handle */
    bool is_done;
    bool has_failed;
    bool has_head;
    bool streams_reply;
    bool public_only;
    bool recv_paused;
    bool send_paused;
    bool feed_ended;
    bool is_too_large;
    unsigned follow;
    size_t max_body; /* 0: no limit */
    size_t received; /* body bytes so far */
    struct err err;
    int status;
    char ip[64];
    char error_text[CURL_ERROR_SIZE];
    char denied[64]; /* an address that the guard refused */
    struct buf headers;
    struct buf data;
    struct buf feed; /* request body: given, or waiting to be sent when it streams */
    struct curl_slist *fields;
    char **allow_hosts;
    size_t allow_host_count;
    struct timer *head_timer; /* streaming replies: up to the head */
};

void http_client_ref(struct http_client *client);
void http_client_unref(struct http_client *client);
int http_client_add(struct http_client *client, struct http_fetch *fetch, struct err *err);
void http_client_remove(struct http_client *client, struct http_fetch *fetch);
void http_client_notify(struct http_client *client, struct http_fetch *fetch, int events);
void http_fetch_finish(struct http_fetch *fetch, CURLcode result);
