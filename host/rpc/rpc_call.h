/* What both ends of a call share: a bounded queue of messages to send, a bounded queue of messages received,
 * and the count of batches the core still works on. Server calls (rpc_server.h) and client streams
 * (rpc_stream.h) embed it. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <grpc/grpc.h>

#include "rpc/rpc_env.h"

struct bytes;
struct rpc_call;

/* Bounds of the two queues. Receiving stops being asked for while its queue is full, so the peer is slowed
 * down by flow control; sending is refused with ERR_LIMIT. One message always fits an empty queue. */
struct rpc_call_limits {
    uint32_t out_messages; /* 0: 256 */
    size_t out_bytes;      /* 0: 8 MiB */
    uint32_t in_messages;  /* 0: 256 */
    size_t in_bytes;       /* 0: 1 MiB */
};

/* Told to the user of a call, from the loop, never from inside one of its own functions. Members may be NULL.
 */
struct rpc_call_events {
    void (*readable)(void *arg); /* a message was queued, or the end was reached */
    void (*writable)(void *arg); /* a write was refused and half of the queue is free now */
    void (*headers)(void *arg);  /* client: the server's initial metadata has arrived */
    void (*closed)(void *arg);   /* once: cancelled, failed, drained, or its status is known */
};

/* What the two ends do differently. */
struct rpc_call_class {
    /* Writes the operations that end the sending side; returns their number (at most 3). */
    size_t (*end_ops)(struct rpc_call *call, grpc_op *ops);
    void (*sent)(struct rpc_call *call, bool ok); /* a send batch has completed */
    void (*idle)(struct rpc_call *call);          /* no batch is outstanding; may free the call */
};

/* A growing ring of slices. */
struct rpc_queue {
    grpc_slice *items;
    uint32_t head;
    uint32_t len;
    uint32_t cap;
    size_t bytes;
};

struct rpc_call {
    struct rpc_env *env;
    grpc_call *core; /* NULL once given back */
    const struct rpc_call_class *class;
    const struct rpc_call_events *events; /* NULL: nobody listens */
    void *arg;
    struct rpc_call_limits limits;
    int batches; /* outstanding in the core */
    struct rpc_tag send_tag;
    struct rpc_tag recv_tag;
    struct inbox_item flush;  /* starts sending at the end of the turn */
    struct inbox_item notify; /* tells readable once a burst is in */
    struct rpc_queue out;
    struct rpc_queue in;
    grpc_byte_buffer *incoming; /* target of the outstanding receive */
    grpc_metadata *headers;     /* initial metadata to send */
    size_t header_count;
    bool is_headers_sent; /* or does not go through the send queue (client) */
    bool wants_headers;   /* send them without waiting for a message */
    bool is_flushing;     /* flush is queued */
    bool is_sending;
    bool was_full;      /* a send was refused: writable is owed */
    bool is_end_queued; /* nothing may be queued after this */
    bool is_end_sent;
    bool is_dead;    /* the peer is gone: drop instead of send */
    bool is_reading; /* messages are wanted */
    bool is_receiving;
    bool gathers;      /* readable waits until nothing more arrives without a thread switch */
    bool is_notifying; /* notify is queued */
    uint32_t seen;     /* queue length when notify last looked */
    bool is_in_ended;  /* no message will follow the queued ones */
    bool is_in_failed; /* ... because the call broke, not because the peer finished */
};

void rpc_call_init(struct rpc_call *call, struct rpc_env *env, const struct rpc_call_class *class,
                   const struct rpc_call_limits *limits);
/* Gives the core's call back and drops both queues. No batch may be outstanding. */
void rpc_call_deinit(struct rpc_call *call);
/* Gives only the core's call back; queued messages stay readable. */
void rpc_call_drop_core(struct rpc_call *call);

/* Starts ops as a batch of this call. false: the core refused them (logged; the call is cancelled). */
bool rpc_call_start(struct rpc_call *call, const grpc_op *ops, size_t count, struct rpc_tag *tag);
/* Must be the last thing a tag's function does with the call: counts the batch and calls class->idle at zero.
 */
void rpc_call_done(struct rpc_call *call);

/* --- sending --- */

/* Queues one message. 0, ERR_LIMIT (queue full: writable will come) or ERR_CLOSED. Takes slice only on 0. */
int rpc_call_write(struct rpc_call *call, grpc_slice slice);
/* As rpc_call_write, and refused as well when something is queued and more than window bytes would be. */
int rpc_call_write_within(struct rpc_call *call, grpc_slice slice, size_t window);
/* As rpc_call_write, with room for it made if need be: for the last message of a call. */
int rpc_call_write_last(struct rpc_call *call, grpc_slice slice);
/* The sending side ends after what is queued. */
void rpc_call_end(struct rpc_call *call);
/* Sends what is queued at the end of this turn. */
void rpc_call_flush(struct rpc_call *call);
/* The peer is gone: drops what is queued; later writes return ERR_CLOSED. */
void rpc_call_kill(struct rpc_call *call);

/* A slice with a copy of data, or one that shares bytes (kept until the transport has sent it). */
grpc_slice rpc_call_slice(const void *data, size_t len, struct bytes *shared);

/* --- receiving --- */

enum rpc_read { RPC_READ_MESSAGE, RPC_READ_EMPTY, RPC_READ_END, RPC_READ_FAILED };

/* Starts (and goes on) fetching messages ahead of the reader. */
void rpc_call_read_start(struct rpc_call *call);
/* Takes the oldest message; the caller unrefs *out. */
enum rpc_read rpc_call_read(struct rpc_call *call, grpc_slice *out);
/* The content of a received buffer as one slice, without a copy when it is in one piece. Destroys buffer. */
grpc_slice rpc_call_flatten(grpc_byte_buffer *buffer);
