/* Writes and syncs the segments of the file backend, on a thread of its own: one job at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "journal/journal_thread.h"

struct loop;
struct journal_owner;
struct journal_writer;

struct journal_writer_opts {
    int dir_fd;    /* kept */
    uint32_t salt; /* for the headers of new segments */
    size_t segment_bytes;
    bool sync;
    int fd; /* taken: the segment to go on with, or -1 */
    const struct journal_owner
        *owner; /* kept: asked before each job; ERR_FENCED without having done anything */
};

/* Filled by the loop before submit; the results are filled when done runs. */
struct journal_job {
    struct journal_task task;
    struct journal_writer *writer;
    bool rotate; /* first cut the present segment at prev_end and start segment seq */
    uint64_t seq;
    uint64_t prev_end; /* also with finish */
    const char *data;  /* kept until done; NULL: nothing to write */
    size_t len;
    uint64_t offset;
    bool finish;      /* cut the present segment at prev_end and close it; no data */
    bool has_rotated; /* result: segment seq exists and is in use */
    struct err err;   /* result: code 0 when everything asked for is durable */
    double sync_ms;   /* result */
    void (*done)(struct journal_job *job);
};

struct journal_writer *journal_writer_open(struct loop *loop, const struct journal_writer_opts *opts);
void journal_writer_submit(struct journal_writer *writer, struct journal_job *job);
void journal_writer_close(
    struct journal_writer *writer); /* no job in flight; joins the thread; NULL is fine */
