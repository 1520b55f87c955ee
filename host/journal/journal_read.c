/* Reading one key's records: the places come from the index, the bytes from the segments, on the pool.
 * Neighbouring records are fetched with one pread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/xmem.h"
#include "journal/journal_file.h"
#include "loop/loop.h"
#include "loop/work.h"

/* One pread covers records that lie at most NEAR apart, up to SPAN in all; ALONE is fetched for a lone
 * record. */
enum { NEAR = 16 << 10, SPAN = 256 << 10, ALONE = 2 << 10, MAX_RECORDS = 65536 };

struct read_op {
    struct journal_op op; /* first: cancel gets its address */
    uint64_t *places;
    size_t count;
    uint64_t from_index;
    size_t max_records;
    size_t max_bytes;
    struct buf out;
    struct journal_read_item *items;
    size_t found;
    struct err err;
    char key[JOURNAL_KEY_MAX];
    size_t key_len;
};

/* An open segment and the part of it that is in memory. */
struct source {
    int dir_fd;
    int fd;
    uint64_t seq;
    uint64_t base;
    struct buf buf;
};

/* How much to fetch at places[0]: up to the last of the following places that is near its predecessor. */
static size_t plan_span(const uint64_t *places, size_t count)
{
    uint64_t start = journal_place_offset(places[0]);
    uint64_t end = start;
    for (size_t i = 1; i < count && journal_place_seq(places[i]) == journal_place_seq(places[0]); i++) {
        uint64_t offset = journal_place_offset(places[i]);
        if (offset < end || offset - end > NEAR || offset - start > SPAN) {
            break;
        }
        end = offset;
    }
    return (size_t)(end - start) + ALONE;
}

static int fetch(struct source *source, uint64_t seq, uint64_t offset, size_t len, struct err *err)
{
    if (source->fd < 0 || source->seq != seq) {
        if (source->fd >= 0) {
            (void)close(source->fd); /* read only */
        }
        int status = journal_segment_open(source->dir_fd, seq, O_RDONLY, &source->fd, NULL, err);
        if (status != 0) {
            return status;
        }
        source->seq = seq;
    }
    buf_clear(&source->buf);
    ssize_t n = journal_read_all(source->fd, buf_reserve(&source->buf, len), len, offset);
    if (n < 0) {
        return err_set_errno(err, errno, "read segment %llu", (unsigned long long)seq);
    }
    source->base = offset;
    source->buf.len = (size_t)n;
    return 0;
}

static bool holds(const struct source *source, uint64_t seq, uint64_t offset)
{
    return source->fd >= 0 && source->seq == seq && offset >= source->base &&
           offset < source->base + source->buf.len;
}

/* Decodes the record at places[0], fetching what is missing: first as planned, then as much as the record
 * needs. */
static int load(struct source *source, uint32_t salt, const uint64_t *places, size_t count,
                struct journal_item *item, struct err *err)
{
    uint64_t seq = journal_place_seq(places[0]);
    uint64_t offset = journal_place_offset(places[0]);
    size_t fetched = 0;
    for (;;) {
        size_t size = 0;
        enum journal_decoded result = JOURNAL_SHORT;
        if (holds(source, seq, offset)) {
            size_t at = (size_t)(offset - source->base);
            result = journal_record_decode(source->buf.data + at, source->buf.len - at, salt, item, &size);
            if (result == JOURNAL_OK) {
                return 0;
            }
        }
        if (result != JOURNAL_SHORT || source->buf.len < fetched) {
            return err_set(err, ERR_CORRUPT, "segment %llu is damaged at offset %llu",
                           (unsigned long long)seq, (unsigned long long)offset);
        }
        size_t planned = plan_span(places, count);
        fetched = size > planned ? size : planned;
        int status = fetch(source, seq, offset, fetched, err);
        if (status != 0) {
            return status;
        }
    }
}

int journal_read_places(int dir_fd, uint32_t salt, const uint64_t *places, size_t count, uint32_t first_index,
                        size_t max_bytes, struct buf *out, struct journal_read_item *items, size_t *found,
                        struct err *err)
{
    struct source source = {.dir_fd = dir_fd, .fd = -1};
    int status = 0;
    *found = 0;
    for (size_t i = 0; i < count; i++) {
        struct journal_item item = {0};
        status = load(&source, salt, places + i, count - i, &item, err);
        if (status == 0 && item.index != first_index + i) {
            status = err_set(err, ERR_CORRUPT, "record %zu was expected and record %u was found",
                             first_index + i, item.index);
        }
        if (status != 0 || (i > 0 && out->len + item.len > max_bytes)) {
            break;
        }
        items[i] = (struct journal_read_item){out->len, item.len};
        buf_append(out, item.data, item.len);
        *found = i + 1;
    }
    if (source.fd >= 0) {
        (void)close(source.fd); /* read only */
    }
    buf_deinit(&source.buf);
    return status;
}

void journal_read_hold(struct journal_file *file, const uint64_t *places, size_t count, int delta)
{
    for (size_t i = 0; i < count; i++) {
        journal_segments_get(&file->segments, journal_place_seq(places[i]))->readers += delta;
    }
}

static void run_read(void *arg)
{
    struct read_op *read = arg;
    const struct journal_file *file = (const struct journal_file *)read->op.journal;
    (void)journal_read_places(file->dir_fd, file->salt, read->places, read->count, (uint32_t)read->from_index,
                              read->max_bytes, &read->out, read->items, &read->found, &read->err);
}

static void finish(struct read_op *read)
{
    if (read->op.is_cancelled) {
        (void)err_set(&read->err, ERR_CANCELLED, "the read was cancelled");
    }
    if (read->err.code != 0) {
        read->op.records(read->op.arg, NULL, 0, &read->err);
    } else {
        struct journal_record *records = xcalloc(read->found + 1, sizeof(*records));
        for (size_t i = 0; i < read->found; i++) {
            records[i] = (struct journal_record){
                .key = read->key,
                .key_len = read->key_len,
                .index = read->from_index + i,
                .data = read->items[i].len == 0 ? "" : read->out.data + read->items[i].offset,
                .len = read->items[i].len,
            };
        }
        read->op.records(read->op.arg, records, read->found, NULL);
        free(records);
    }
    buf_deinit(&read->out);
    free(read->items);
    free(read->places);
    free(read);
}

static void on_read(void *arg)
{
    struct read_op *read = arg;
    struct journal_file *file = (struct journal_file *)read->op.journal;
    journal_read_hold(file, read->places, read->count, -1);
    finish(read);
    file->busy--;
    journal_compact_kick(file); /* it may have waited for the reader */
    journal_file_settle(file);
}

/* From the index to places; false when there is nothing to read. */
static bool plan(struct read_op *read)
{
    struct journal_file *file = (struct journal_file *)read->op.journal;
    const struct journal_key *key = journal_index_find(file->index, read->key, read->key_len);
    if (file->is_closing) {
        (void)err_set(&read->err, ERR_CLOSED, "the journal is closed");
        return false;
    }
    if (key != NULL && key->is_damaged) {
        (void)err_set(&read->err, ERR_CORRUPT, "the log of key \"%.*s\" is damaged", (int)key->len,
                      key->name);
        return false;
    }
    if (key == NULL || read->from_index < 1 || read->from_index > key->count || read->max_records == 0) {
        return false;
    }
    size_t available = key->count - (size_t)(read->from_index - 1);
    read->count = read->max_records < available ? read->max_records : available;
    read->count = read->count < MAX_RECORDS ? read->count : MAX_RECORDS;
    read->places = xcalloc(read->count + 1, sizeof(*read->places));
    memcpy(read->places, key->places + (read->from_index - 1), read->count * sizeof(*read->places));
    read->items = xcalloc(read->count, sizeof(*read->items));
    journal_read_hold(file, read->places, read->count, 1);
    return true;
}

static void on_back(void *arg, const struct err *err)
{
    struct read_op *read = arg;
    if (err != NULL) {
        read->err = *err;
    } else if (!read->op.is_cancelled && plan(read)) {
        work_queue(((struct journal_file *)read->op.journal)->loop, run_read, on_read, read);
        return;
    }
    on_read(read);
}

struct journal_op *journal_read(struct journal *journal, const char *name, size_t key_len,
                                uint64_t from_index, size_t max_records, size_t max_bytes,
                                journal_records_fn fn, void *arg)
{
    struct journal_file *file = (struct journal_file *)journal;
    struct read_op *read = xcalloc(1, sizeof(*read));
    read->op.journal = journal;
    read->op.records = fn;
    read->op.arg = arg;
    read->from_index = from_index;
    read->max_records = max_records;
    read->max_bytes = max_bytes;
    read->key_len = key_len <= JOURNAL_KEY_MAX ? key_len : 0; /* there is no key with a longer name */
    memcpy(read->key, name, read->key_len);
    file->busy++;
    if (!file->is_closing && journal_park_holds(file->park, read->key, read->key_len)) {
        journal_park_fetch(file->park, read->key, read->key_len, on_back, read);
    } else if (plan(read)) {
        work_queue(file->loop, run_read, on_read, read);
    } else {
        loop_defer(file->loop, on_read, read);
    }
    return &read->op;
}
