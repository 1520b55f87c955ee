/* Segment files and their directory. Functions that touch files block: for the pool or the writer thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct journal_segment_head;

enum { JOURNAL_SEGMENT_NAME = 32 };

/* What the loop knows of one segment file. */
struct journal_segment {
    uint64_t seq;
    uint64_t end;     /* bytes in use, header included */
    uint64_t records; /* stored */
    uint64_t live;    /* of those, the ones an index entry points to */
    int readers;      /* pool jobs that have it open: it is not removed meanwhile */
};

/* The segments of a journal: consecutive numbers, oldest first; the last one is written to. */
struct journal_segments {
    struct journal_segment *items;
    size_t count;
    size_t cap;
};

void journal_segments_deinit(struct journal_segments *segments);
struct journal_segment *journal_segments_add(struct journal_segments *segments, uint64_t seq);
/* The segment of that number, which must exist. Valid until the next add or shift. */
struct journal_segment *journal_segments_get(const struct journal_segments *segments, uint64_t seq);
struct journal_segment *journal_segments_last(const struct journal_segments *segments); /* NULL when empty */
void journal_segments_shift(struct journal_segments *segments); /* forgets the oldest */

void journal_segment_name(char out[JOURNAL_SEGMENT_NAME], uint64_t seq);
bool journal_segment_parse_name(const char *name, uint64_t *seq);

/* Opens a segment file of dir_fd. *size (may be NULL) is its length. */
int journal_segment_open(int dir_fd, uint64_t seq, int flags, int *fd, uint64_t *size, struct err *err);

/* A new segment with its header, `bytes` preallocated (fewer, at least `needed`, when the disk is nearly
 * full). With sync, header and directory entry are durable on return; the file appears under its name only
 * then. */
int journal_segment_create(int dir_fd, const struct journal_segment_head *head, size_t bytes, size_t needed,
                           bool sync, int *fd, struct err *err);

/* Removes the file durably. */
int journal_segment_remove(int dir_fd, uint64_t seq, bool sync, struct err *err);

/* Creates dir with its missing parents, each made durable, and opens it. */
int journal_dir_open(const char *dir, int *dir_fd, struct err *err);

/* Whole-buffer variants of pwrite and pread; read stops early only at the end of the file. */
int journal_write_all(int fd, const char *data, size_t len, uint64_t offset);
ssize_t journal_read_all(int fd, char *data, size_t len, uint64_t offset);
