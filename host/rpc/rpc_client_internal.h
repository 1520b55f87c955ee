/* What rpc_client.c and rpc_stream.c share. */
#pragma once

#include "base/list.h"
#include "rpc/rpc_client.h"

struct rpc_client_method {
    char *name;
    void *registered; /* the core's handle */
};

struct rpc_client {
    struct rpc_env *env;
    grpc_channel *core;
    struct rpc_client_method *methods;
    size_t method_count;
    struct list unaries; /* live struct rpc_unary */
    struct list streams; /* live struct rpc_stream */
    struct list pool;    /* free struct rpc_unary */
    uint32_t pool_len;
    uint32_t live;
    bool is_closing;
    bool is_closed; /* destroyed but for its memory */
    struct inbox_item close_item;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* A core call of method with a deadline; NULL with err set when the client is closed. */
grpc_call *rpc_client_create_call(struct rpc_client *client, const char *method, int64_t timeout_ms,
                                  struct err *err);
/* A call is over; finishes a pending close. */
void rpc_client_gone(struct rpc_client *client);
uint32_t rpc_client_headers_flags(bool waits_for_ready);
/* Cancels a live stream because its client closes. */
void rpc_stream_abort(struct list *node);
