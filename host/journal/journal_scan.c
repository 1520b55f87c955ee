/* Handing out everything, for recovery: first the segments in the order of the file, which is the order of
 * each key as well except for records that compaction moved; then the rest of the keys that were interrupted
 * by such a record. The bytes are read on the pool, one chunk at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xmem.h"
#include "journal/journal_file.h"
#include "loop/loop.h"
#include "loop/work.h"

enum { CHUNK = 256 << 10, BATCH = 256, BATCH_BYTES = 1 << 20 };

/* Part of one key's log, read by place. */
struct piece {
    char key[JOURNAL_KEY_MAX];
    uint8_t key_len;
    uint32_t first_index;
    size_t start; /* in places and items */
    size_t count;
    size_t found;
};

struct journal_scan {
    struct journal_op op; /* first: cancel gets its address. Set while a step is in flight */
    struct journal_file *file;
    struct err err;
    /* segments, in order */
    uint64_t seq;      /* the segment being read */
    uint64_t offset;   /* behind what is in chunk */
    uint64_t last_seq; /* where the scan stops */
    uint64_t last_end;
    uint64_t seq_end; /* end of segment seq */
    struct buf chunk;
    size_t at;       /* next record in chunk */
    bool needs_more; /* the rest of chunk is an incomplete record of `need` bytes */
    size_t need;
    bool segments_done;
    bool is_gathered; /* the parked keys are back */
    /* then the keys that are not complete */
    size_t cursor;
    bool is_last_round; /* the walk began at 0 and has found nothing yet */
    struct piece *pieces;
    size_t piece_count;
    uint64_t places[BATCH];
    struct journal_read_item items[BATCH];
    struct journal_record records[BATCH];
};

static void start_step(void *arg);

static void deliver(struct journal_scan *scan, size_t count)
{
    struct journal_file *file = scan->file;
    struct journal_op op = scan->op;
    struct err err = scan->err;
    if (op.is_cancelled) {
        (void)err_set(&err, ERR_CANCELLED, "the scan was cancelled");
    }
    scan->op.records = NULL;
    file->busy--;
    op.records(op.arg, scan->records, err.code == 0 ? count : 0, err.code == 0 ? NULL : &err);
    journal_compact_kick(file); /* it may have waited for the reader */
    journal_file_settle(file);
}

/* Is this stored record the next one of its key that a reader should see? */
static bool is_wanted(struct journal_scan *scan, const struct journal_item *item, uint64_t place)
{
    if (item->kind > JOURNAL_STAGED) {
        return false;
    }
    struct journal_key *key = journal_index_find(scan->file->index, item->key, item->key_len);
    if (key == NULL || key->is_damaged || item->index != key->scanned + 1 || item->index > key->scan_end ||
        item->index > key->count || key->places[item->index - 1] != place) {
        return false;
    }
    key->scanned++;
    return true;
}

/* Collects wanted records from the chunk. */
static size_t take_from_chunk(struct journal_scan *scan)
{
    size_t count = 0;
    uint64_t base = scan->offset - scan->chunk.len;
    while (count < BATCH && scan->at < scan->chunk.len) {
        struct journal_item item;
        size_t size;
        enum journal_decoded result = journal_record_decode(
            scan->chunk.data + scan->at, scan->chunk.len - scan->at, scan->file->salt, &item, &size);
        if (result == JOURNAL_SHORT && base + scan->at + size <= scan->seq_end) {
            scan->needs_more = true;
            scan->need = size;
            break;
        }
        if (result == JOURNAL_BAD_DATA || (result != JOURNAL_OK && scan->file->opts.quarantine)) {
            scan->at += result == JOURNAL_BAD_DATA ? size : JOURNAL_ALIGN; /* open has reported it */
            continue;
        }
        if (result != JOURNAL_OK) {
            uint64_t offset = base + scan->at;
            (void)err_set(&scan->err, ERR_CORRUPT, "segment %llu is damaged at offset %llu",
                          (unsigned long long)scan->seq, (unsigned long long)offset);
            break;
        }
        if (is_wanted(scan, &item, journal_place(scan->seq, base + scan->at))) {
            scan->records[count++] = (struct journal_record){
                .key = item.key,
                .key_len = item.key_len,
                .index = item.index,
                .data = item.data,
                .len = item.len,
            };
        }
        scan->at += size;
    }
    return count;
}

static void run_chunk(void *arg)
{
    struct journal_scan *scan = arg;
    int fd;
    if (journal_segment_open(scan->file->dir_fd, scan->seq, O_RDONLY, &fd, NULL, &scan->err) != 0) {
        return;
    }
    buf_consume(&scan->chunk, scan->at);
    scan->at = 0;
    size_t want = scan->need > CHUNK ? scan->need : CHUNK;
    if (want > scan->seq_end - scan->offset) {
        want = (size_t)(scan->seq_end - scan->offset);
    }
    ssize_t n = journal_read_all(fd, buf_reserve(&scan->chunk, want), want, scan->offset);
    if (n != (ssize_t)want) {
        (void)err_set_errno(&scan->err, n < 0 ? errno : EIO, "read segment %llu",
                            (unsigned long long)scan->seq);
    } else {
        scan->chunk.len += want;
        scan->offset += want;
    }
    (void)close(fd); /* read only */
}

static void on_chunk(void *arg)
{
    struct journal_scan *scan = arg;
    uint64_t place = journal_place(scan->seq, 0);
    journal_read_hold(scan->file, &place, 1, -1);
    start_step(scan);
}

/* Moves on to the next segment with something live; false behind the last. */
static bool next_segment(struct journal_scan *scan)
{
    const struct journal_segments *segments = &scan->file->segments;
    while (segments->count > 0) {
        scan->seq = scan->seq + 1 > segments->items[0].seq ? scan->seq + 1 : segments->items[0].seq;
        if (scan->seq > scan->last_seq) {
            break;
        }
        const struct journal_segment *segment = journal_segments_get(segments, scan->seq);
        if (segment->live > 0) {
            scan->seq_end = scan->seq == scan->last_seq ? scan->last_end : segment->end;
            scan->offset = JOURNAL_SEGMENT_HEAD;
            buf_clear(&scan->chunk);
            scan->at = 0;
            return true;
        }
    }
    return false;
}

/* Starts a read of the next chunk; false when the segments are done. */
static bool read_chunk(struct journal_scan *scan)
{
    if (scan->offset >= scan->seq_end && !next_segment(scan)) {
        return false;
    }
    if (scan->seq < scan->file->segments.items[0].seq) { /* compaction took it: its records are elsewhere */
        if (!next_segment(scan)) {
            return false;
        }
    }
    if (!scan->needs_more) {
        scan->need = 0;
    }
    scan->needs_more = false;
    uint64_t place = journal_place(scan->seq, 0);
    journal_read_hold(scan->file, &place, 1, 1);
    work_queue(scan->file->loop, run_chunk, on_chunk, scan);
    return true;
}

static void run_pieces(void *arg)
{
    struct journal_scan *scan = arg;
    buf_clear(&scan->chunk);
    for (size_t i = 0; i < scan->piece_count && scan->err.code == 0; i++) {
        struct piece *piece = &scan->pieces[i];
        size_t before = scan->chunk.len;
        if (before >= BATCH_BYTES) {
            break; /* the rest comes with the next step */
        }
        (void)journal_read_places(scan->file->dir_fd, scan->file->salt, scan->places + piece->start,
                                  piece->count, piece->first_index, BATCH_BYTES, &scan->chunk,
                                  scan->items + piece->start, &piece->found, &scan->err);
    }
}

static void on_pieces(void *arg)
{
    struct journal_scan *scan = arg;
    struct journal_file *file = scan->file;
    size_t count = 0;
    for (size_t i = 0; i < scan->piece_count; i++) {
        const struct piece *piece = &scan->pieces[i];
        journal_read_hold(file, scan->places + piece->start, piece->count, -1);
        struct journal_key *key = journal_index_find(file->index, piece->key, piece->key_len);
        if (key != NULL) {
            key->scanned = piece->first_index - 1 + (uint32_t)piece->found;
        }
        for (size_t k = 0; k < piece->found; k++) {
            const struct journal_read_item *item = &scan->items[piece->start + k];
            scan->records[count++] = (struct journal_record){
                .key = piece->key,
                .key_len = piece->key_len,
                .index = (uint64_t)piece->first_index + k,
                .data = item->len == 0 ? "" : scan->chunk.data + item->offset,
                .len = item->len,
            };
        }
    }
    deliver(scan, count);
}

/* Gathers the next records of incomplete keys, from the cursor on. */
static size_t gather_pieces(struct journal_scan *scan)
{
    struct journal_file *file = scan->file;
    size_t total = 0;
    scan->piece_count = 0;
    for (struct journal_key *key;
         total < BATCH && (key = journal_index_next(file->index, &scan->cursor)) != NULL;) {
        uint32_t end = key->scan_end < key->count ? key->scan_end : key->count;
        if (key->is_damaged || key->scanned >= end) {
            continue;
        }
        struct piece *piece = &scan->pieces[scan->piece_count++];
        size_t left = end - key->scanned;
        *piece = (struct piece){
            .key_len = key->len,
            .first_index = key->scanned + 1,
            .start = total,
            .count = left < BATCH - total ? left : BATCH - total,
        };
        memcpy(piece->key, key->name, key->len);
        memcpy(scan->places + total, key->places + key->scanned, piece->count * sizeof(*scan->places));
        journal_read_hold(file, scan->places + total, piece->count, 1);
        total += piece->count;
        if (piece->count < left) {
            scan->cursor--; /* this key again */
        }
    }
    return total;
}

/* Reads more records of incomplete keys; false when every key is complete. Keys may change their place in the
 * table between two steps, so the end is reached only when a walk over the whole table finds nothing. */
static bool read_pieces(struct journal_scan *scan)
{
    if (scan->pieces == NULL) {
        scan->pieces = xcalloc(BATCH, sizeof(*scan->pieces));
    }
    size_t total = gather_pieces(scan);
    if (total == 0 && !scan->is_last_round) {
        scan->cursor = 0;
        total = gather_pieces(scan);
        scan->is_last_round = total == 0;
    }
    if (total == 0) {
        return false;
    }
    work_queue(scan->file->loop, run_pieces, on_pieces, scan);
    return true;
}

static void on_gathered(void *arg, const struct err *err)
{
    struct journal_scan *scan = arg;
    scan->is_gathered = err == NULL;
    if (err != NULL) {
        scan->err = *err;
    }
    start_step(scan);
}

static void start_step(void *arg)
{
    struct journal_scan *scan = arg;
    if (scan->err.code == 0 && !scan->op.is_cancelled && !scan->is_gathered) {
        journal_park_fetch_all(scan->file->park, on_gathered, scan);
        return;
    }
    if (scan->err.code != 0 || scan->op.is_cancelled) {
        deliver(scan, 0);
        return;
    }
    if (!scan->segments_done) {
        size_t count = scan->needs_more ? 0 : take_from_chunk(scan);
        if (count > 0 || scan->err.code != 0) {
            deliver(scan, count);
            return;
        }
        if (read_chunk(scan)) {
            return;
        }
        scan->segments_done = true;
        scan->cursor = 0;
    }
    if (!read_pieces(scan)) {
        deliver(scan, 0);
    }
}

struct journal_scan *journal_scan_open(struct journal *journal, struct err *err)
{
    struct journal_file *file = (struct journal_file *)journal;
    if (file->is_closing || file->scan != NULL) {
        (void)err_set(err, file->is_closing ? ERR_CLOSED : ERR_BUSY, "the journal is %s",
                      file->is_closing ? "closed" : "being scanned already");
        return NULL;
    }
    struct journal_scan *scan = xcalloc(1, sizeof(*scan));
    scan->file = file;
    scan->op.journal = journal;
    const struct journal_segment *last = journal_segments_last(&file->segments);
    if (last != NULL) {
        scan->last_seq = last->seq;
        scan->last_end = last->end;
    }
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(file->index, &cursor)) != NULL;) {
        key->scanned = 0;
        key->scan_end = key->count;
    }
    file->scan = scan;
    journal_park_suspend(file->park);
    return scan;
}

struct journal_op *journal_scan_next(struct journal_scan *scan, journal_records_fn fn, void *arg)
{
    scan->op.records = fn;
    scan->op.arg = arg;
    scan->op.is_cancelled = false;
    scan->file->busy++;
    if (scan->file->is_closing) {
        (void)err_set(&scan->err, ERR_CLOSED, "the journal is closed");
    }
    loop_defer(scan->file->loop, start_step, scan);
    return &scan->op;
}

void journal_scan_close(struct journal_scan *scan)
{
    if (scan != NULL) {
        scan->file->scan = NULL;
        journal_park_resume(scan->file->park);
        buf_deinit(&scan->chunk);
        free(scan->pieces);
        free(scan);
    }
}
