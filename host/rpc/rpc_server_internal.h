/* What rpc_server.c and rpc_server_call.c share. */
#pragma once

#include "base/list.h"
#include "rpc/rpc_certs.h"
#include "rpc/rpc_server.h"

struct timer;

struct rpc_method {
    struct rpc_server *server;
    char *name;
    size_t index;
    enum rpc_kind kind;
    bool has_late_headers;
    void *registered; /* the core's handle */
    uint32_t slots;   /* with the core while nothing arrives; see rpc_server.c */
    uint32_t empty;   /* of these, now without a call */
};

/* A call, and before that the slot in which the core delivers one. */
struct rpc_server_call {
    struct rpc_call base;
    struct rpc_server *server;
    struct rpc_method *method; /* NULL: the catch-all */
    struct list node;          /* in server->live, or linked in the pool */
    struct list age_node;      /* in server->fresh, ->waiting or ->slow */
    uint64_t expires_ns;       /* in ->slow: when unary_timeout_ms is over */
    struct rpc_tag new_tag;
    struct rpc_tag close_tag;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_call_details *details; /* catch-all only */
    grpc_byte_buffer *payload;  /* target of the core; moved into request */
    grpc_slice request;
    int cancelled;       /* written by the core */
    bool is_close_armed; /* the core will tell when the call is over */
    bool is_close_seen;
    bool is_held;        /* the user has not released it */
    bool is_refused;     /* never delivered to the user */
    bool is_cut;         /* ended by us: rpc_server_drain or unary_timeout_ms */
    bool is_closed_told; /* the closed event has been delivered */
    bool is_answered;
    grpc_status_code status;
    grpc_slice details_text;
    struct rpc_metadata headers;
    struct rpc_metadata trailing;
};

struct rpc_server {
    struct rpc_env *env;
    grpc_server *core;
    struct rpc_certs *certs; /* NULL: plaintext */
    int port;
    struct rpc_method *methods;
    size_t method_count;
    struct rpc_call_limits limits;
    uint32_t max_calls;
    rpc_call_fn fn;
    void *arg;
    struct list live;  /* delivered and not yet over */
    struct list fresh; /* unary calls whose end the core does not report yet; see rpc_server_call.c */
    struct list waiting;
    struct list slow; /* unary calls under the timeout, the one that expires first in front */
    struct timer *age_timer;
    bool is_aging;
    uint64_t unary_timeout_ms;
    struct timer *expire_timer;
    bool is_expiring; /* expire_timer runs */
    struct list pool;
    uint32_t pool_len;
    uint32_t requested; /* slots with the core */
    uint32_t refusing;  /* refused calls on their way out */
    struct rpc_server_stats stats;
    bool is_draining;
    bool is_closing;
    bool is_core_down; /* the shutdown tag has arrived */
    struct inbox_item drain_item;
    struct timer *drain_timer;
    rpc_drained_fn drained;
    void *drained_arg;
    struct rpc_tag shutdown_tag;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* A slot from the pool, reset. */
struct rpc_server_call *rpc_server_call_take(struct rpc_server *server, struct rpc_method *method);
/* Frees what the slot holds and puts it back. */
void rpc_server_call_recycle(struct rpc_server_call *call);
void rpc_server_call_free(struct rpc_server_call *call);
/* The core has filled the slot: starts what its kind needs. */
void rpc_server_call_begin(struct rpc_server_call *call);
/* Answers without delivering. */
void rpc_server_call_refuse(struct rpc_server_call *call, grpc_status_code status, const char *message);
/* Ends a live stream because the server goes away. */
void rpc_server_call_drain(struct rpc_server_call *call);
/* Timer: asks the core to report the end of unary calls that take longer. */
void rpc_server_call_on_age(void *server);
/* Timer: ends the unary calls whose time is over. */
void rpc_server_call_on_expire(void *server);
/* A call has gone; checks whether a drain or close can finish. */
void rpc_server_call_gone(struct rpc_server *server);
