/* Opening a journal: reads the segments from the oldest to the newest, verifies every record and fills the
 * index.
 *
 * Where a segment ends is known from the header of its successor; only the last one may end in the middle of
 * a flush that a crash interrupted. Such a torn tail is cut off. It is told from damage by the records behind
 * it: a record that began a flush was written after everything before it had become durable, so what precedes
 * it was acknowledged. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_file.h"

enum { CHUNK = 1 << 20, MAX_REPORTS = 20 };

/* Progress over all segments. */
struct recovery {
    struct journal_file *file;
    uint64_t last_lsn;
    uint64_t max_index; /* no log can be longer: guards the size of its table of places */
    size_t reports;     /* damage logged so far */
};

/* A window over one segment file: bytes [base, base + buf.len), read as needed. */
struct window {
    int fd;
    uint64_t seq;
    uint64_t base;
    uint64_t limit;    /* nothing is read from here on */
    uint64_t data_end; /* zeros from here on: space that was reserved and never written */
    struct buf buf;
};

/* Where the last block with data ends, as the file system knows it; the size when it does not. To be asked
 * before anything is read: what has been read ahead counts as data. */
static uint64_t find_data_end(int fd, uint64_t size)
{
    off_t end = 0;
    for (;;) {
        off_t data = lseek(fd, end, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO ? (uint64_t)end : size;
        }
        end = lseek(fd, data, SEEK_HOLE);
        if (end < 0) {
            return size;
        }
    }
}

/* Makes `need` bytes from `offset` available if the file has them. *data points at offset. */
static int window_at(struct window *window, uint64_t offset, size_t need, const char **data, size_t *avail,
                     struct err *err)
{
    uint64_t end = window->base + window->buf.len;
    if (offset < window->base || (offset + need > end && end < window->limit)) {
        size_t want = CHUNK;
        if (offset + want > window->data_end) {
            want = offset < window->data_end ? (size_t)(window->data_end - offset) : 0;
        }
        if (want < need) {
            want = need; /* a file system may keep no block for zeros that were written */
        }
        if (want > window->limit - offset) {
            want = (size_t)(window->limit - offset);
        }
        buf_clear(&window->buf);
        ssize_t n = journal_read_all(window->fd, buf_reserve(&window->buf, want), want, offset);
        if (n < 0) {
            return err_set_errno(err, errno, "read segment %llu", (unsigned long long)window->seq);
        }
        window->base = offset;
        window->buf.len = (size_t)n;
        if ((size_t)n < want) {
            window->limit = offset + (uint64_t)n; /* the file became shorter while we read */
        }
    }
    *data = window->buf.data + (offset - window->base);
    *avail = window->base + window->buf.len - offset;
    return 0;
}

/* Decodes the record at offset, reading on while it is incomplete. JOURNAL_SHORT then means that the file
 * ends. */
static int decode_at(struct window *window, uint64_t offset, uint32_t salt, struct journal_item *item,
                     size_t *size, enum journal_decoded *result, struct err *err)
{
    size_t need = JOURNAL_RECORD_HEAD;
    for (;;) {
        const char *data = NULL;
        size_t avail = 0;
        int status = window_at(window, offset, need, &data, &avail, err);
        if (status != 0) {
            return status;
        }
        *result = journal_record_decode(data, avail, salt, item, size);
        if (*result != JOURNAL_SHORT || offset + *size > window->limit) {
            return 0;
        }
        need = *size;
    }
}

static int corrupt(uint64_t seq, uint64_t offset, struct err *err, const char *what)
{
    char name[JOURNAL_SEGMENT_NAME];
    journal_segment_name(name, seq);
    return err_set(err, ERR_CORRUPT, "segment %s is damaged at offset %llu: %s", name,
                   (unsigned long long)offset, what);
}

static void take_log(struct journal_key *key, uint64_t epoch)
{
    journal_key_clear(key);
    key->epoch = epoch;
    key->is_damaged = false;
}

/* Applies one verified record. Records of a dead generation are skipped; compaction may have left a live
 * record twice, then the later place counts. */
static int apply(struct recovery *rec, const struct journal_item *item, uint64_t place, struct err *err)
{
    if (item->lsn <= rec->last_lsn) {
        return err_set(err, ERR_CORRUPT, "record %llu follows record %llu", (unsigned long long)item->lsn,
                       (unsigned long long)rec->last_lsn);
    }
    rec->last_lsn = item->lsn;
    if (item->kind == JOURNAL_CLOSED) {
        return 0;
    }
    if (item->index > rec->max_index || (item->index == 0 && item->kind < JOURNAL_COMMIT)) {
        return err_set(err, ERR_CORRUPT, "record index %u is impossible", item->index);
    }
    struct journal_key *key = journal_index_add(rec->file->index, item->key, item->key_len);
    switch (item->kind) {
    case JOURNAL_DATA:
        if (item->epoch > key->epoch) {
            take_log(key, item->epoch);
        }
        if (item->epoch == key->epoch) {
            journal_key_set(key, item->index, place);
        }
        break;
    case JOURNAL_STAGED:
        if (item->epoch > key->epoch) {
            journal_key_stage(key, item->epoch, item->index, place);
        }
        break;
    case JOURNAL_COMMIT:
        if (item->epoch > key->epoch) {
            take_log(key, item->epoch);
            if (key->staged != NULL && key->staged->epoch == item->epoch) {
                for (uint32_t i = 1; i <= key->staged->count && i <= item->index; i++) {
                    journal_key_set(key, i, key->staged->places[i - 1]);
                }
            }
            if (key->count < item->index) {
                journal_key_set(key, item->index,
                                0); /* moved to later segments, or missing: seen at the end */
            }
        }
        journal_key_unstage(key);
        break;
    default: /* JOURNAL_DELETE: nothing that it kills lies behind it, see journal_compact.c */
        if (item->epoch >= key->epoch) {
            journal_key_clear(key);
            journal_index_drop(rec->file->index, key);
        }
        break;
    }
    return 0;
}

static void report_damage(struct recovery *rec, const struct err *err)
{
    if (rec->reports++ < MAX_REPORTS) {
        log_line(LOG_ERROR, "journal.damaged", "%s", err->text);
    }
}

/* Looks for the next record that verifies, from offset on in steps of the alignment; with only_first, one
 * that began a flush. *found is the limit when there is none. Holes of the file are skipped. */
static int find_record(struct recovery *rec, struct window *window, uint64_t offset, bool only_first,
                       uint64_t *found, struct err *err)
{
    while (offset < window->data_end && offset + JOURNAL_RECORD_HEAD <= window->limit) {
        if (offset % 4096 == 0 || offset % CHUNK == 0) {
            off_t data = lseek(window->fd, (off_t)offset, SEEK_DATA);
            if (data < 0 && errno == ENXIO) {
                break;
            }
            if (data > (off_t)offset) {
                offset = ((uint64_t)data + JOURNAL_ALIGN - 1) & ~(uint64_t)(JOURNAL_ALIGN - 1);
            }
        }
        struct journal_item item;
        size_t size;
        enum journal_decoded result;
        int status = decode_at(window, offset, rec->file->salt, &item, &size, &result, err);
        if (status != 0) {
            return status;
        }
        if (result == JOURNAL_OK && item.lsn > rec->last_lsn && (item.first || !only_first)) {
            *found = offset;
            return 0;
        }
        offset += JOURNAL_ALIGN;
    }
    *found = window->limit;
    return 0;
}

/* A record of this generation of the key cannot be read; harmless when the generation is dead already. */
static void note_lost(struct journal_key *key, uint64_t epoch)
{
    if (epoch > key->epoch) {
        take_log(key, epoch);
    }
    if (epoch == key->epoch) {
        key->is_damaged = true;
    }
}

/* Quarantine: steps over what does not verify and remembers what was lost. */
static int step_over(struct recovery *rec, struct window *window, uint64_t *offset,
                     enum journal_decoded result, const struct journal_item *item, size_t size,
                     struct err *err)
{
    struct err what;
    if (result == JOURNAL_BAD_DATA) {
        (void)corrupt(window->seq, *offset, &what, "a record does not match its checksum");
        report_damage(rec, &what);
        if (item->key_len > 0) {
            note_lost(journal_index_add(rec->file->index, item->key, item->key_len), item->epoch);
        }
        rec->last_lsn = item->lsn;
        *offset += size;
        return 0;
    }
    uint64_t next;
    int status = find_record(rec, window, *offset + JOURNAL_ALIGN, false, &next, err);
    if (status != 0) {
        return status;
    }
    (void)corrupt(window->seq, *offset, &what, "no record here");
    (void)err_wrap(&what, "%llu bytes skipped", (unsigned long long)(next - *offset));
    report_damage(rec, &what);
    rec->file->has_unplaced_damage = true;
    *offset = next;
    return 0;
}

/* The records of one segment, up to window->limit. *end is where they stop: the limit, or (in the last
 * segment) the beginning of a torn tail or of unused space. */
static int scan_records(struct recovery *rec, struct window *window, bool is_last, uint64_t *end,
                        struct err *err)
{
    struct journal_segment *segment = journal_segments_last(&rec->file->segments);
    uint64_t offset = JOURNAL_SEGMENT_HEAD;
    while (offset < window->limit) {
        struct journal_item item;
        size_t size;
        enum journal_decoded result;
        int status = decode_at(window, offset, rec->file->salt, &item, &size, &result, err);
        if (status != 0) {
            return status;
        }
        if (result == JOURNAL_OK) {
            if (apply(rec, &item, journal_place(window->seq, offset), err) != 0) {
                return corrupt(window->seq, offset, err, err->text);
            }
            rec->file->is_marked_closed = item.kind == JOURNAL_CLOSED;
            segment->records++;
            offset += size;
            continue;
        }
        uint64_t later = window->limit;
        if (is_last) {
            status = find_record(rec, window, offset + JOURNAL_ALIGN, true, &later, err);
            if (status != 0) {
                return status;
            }
            if (later == window->limit) {
                break; /* nothing durable follows: the tail */
            }
        }
        if (!rec->file->opts.quarantine) {
            return corrupt(window->seq, offset, err,
                           result == JOURNAL_BAD_DATA ? "a record does not match its checksum"
                                                      : "no record here, and valid ones follow");
        }
        status = step_over(rec, window, &offset, result, &item, size, err);
        if (status != 0) {
            return status;
        }
    }
    *end = offset < window->limit ? offset : window->limit;
    return 0;
}

/* Is anything but zeros left behind the last record? */
static int measure_tail(struct window *window, uint64_t from, uint64_t *used, struct err *err)
{
    *used = 0;
    for (uint64_t offset = from; offset < window->limit && offset < window->data_end;) {
        off_t next = lseek(window->fd, (off_t)offset, SEEK_DATA);
        if (next < 0 && errno == ENXIO) {
            return 0;
        }
        if (next > (off_t)offset) {
            offset = (uint64_t)next;
            continue;
        }
        const char *data = NULL;
        size_t avail = 0;
        int status = window_at(window, offset, 1, &data, &avail, err);
        if (status != 0) {
            return status;
        }
        for (size_t i = 0; i < avail; i++) {
            if (data[i] != 0) {
                *used = offset + i + 1 - from;
            }
        }
        offset += avail;
    }
    return 0;
}

/* Cuts the last segment behind its last record; the space may be reserved again behind that. */
static int repair_tail(struct recovery *rec, struct window *window, uint64_t end, struct err *err)
{
    struct journal_file *file = rec->file;
    uint64_t used;
    int status = measure_tail(window, end, &used, err);
    if (status != 0) {
        return status;
    }
    if (used > 0) {
        log_line(LOG_WARN, "journal.tail_truncated",
                 "segment %llu: %llu bytes of an interrupted flush behind offset %llu removed",
                 (unsigned long long)window->seq, (unsigned long long)used, (unsigned long long)end);
        file->stats.truncated += used;
    }
    if (ftruncate(window->fd, (off_t)end) != 0) {
        return err_set_errno(err, errno, "cut the tail of segment %llu", (unsigned long long)window->seq);
    }
    if (end < file->opts.segment_bytes) {
        (void)fallocate(window->fd, 0, 0,
                        (off_t)file->opts.segment_bytes); /* a full disk shows when writing */
    }
    if (!file->opts.no_sync && fsync(window->fd) != 0) {
        return err_set_errno(err, errno, "sync segment %llu", (unsigned long long)window->seq);
    }
    return 0;
}

static int read_head(const struct journal_file *file, uint64_t seq, struct journal_segment_head *head,
                     uint64_t *size, struct err *err)
{
    int fd;
    int status = journal_segment_open(file->dir_fd, seq, O_RDONLY, &fd, size, err);
    if (status != 0) {
        return status;
    }
    char data[JOURNAL_SEGMENT_HEAD];
    if (journal_read_all(fd, data, sizeof(data), 0) != sizeof(data)) {
        status = err_set(err, ERR_CORRUPT, "the segment has no header");
    } else {
        status = journal_segment_decode(data, head, err);
    }
    (void)close(fd); /* read only */
    if (status == 0 && head->seq != seq) {
        status = err_set(err, ERR_CORRUPT, "the header names segment %llu", (unsigned long long)head->seq);
    }
    return status == 0 ? 0 : corrupt(seq, 0, err, err->text);
}

/* One segment; its valid part ends at `end`, or is to be found out when it is the last. */
static int scan_segment(struct recovery *rec, uint64_t seq, uint64_t end, bool is_last, int *keep_fd,
                        struct err *err)
{
    struct journal_file *file = rec->file;
    struct window window = {.seq = seq, .fd = -1};
    uint64_t size;
    int status = journal_segment_open(file->dir_fd, seq, is_last ? O_RDWR : O_RDONLY, &window.fd, &size, err);
    if (status != 0) {
        return status;
    }
    window.base = UINT64_MAX; /* nothing read yet */
    window.limit = is_last ? size : end;
    window.data_end = is_last ? find_data_end(window.fd, size) : end;
    (void)posix_fadvise(window.fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* a hint */
    (void)journal_segments_add(&file->segments, seq);
    if (window.limit > size) {
        status = corrupt(seq, size, err, "the file is shorter than its successor says");
        goto out;
    }
    uint64_t stop = 0;
    status = scan_records(rec, &window, is_last, &stop, err);
    if (status == 0 && is_last) {
        status = repair_tail(rec, &window, stop, err);
    }
    if (status == 0) {
        journal_segments_last(&file->segments)->end = stop;
        if (is_last && stop < file->opts.segment_bytes) {
            *keep_fd = window.fd;
            window.fd = -1; /* moved to the caller */
        }
    }
out:
    if (window.fd >= 0) {
        (void)close(window.fd);
    }
    buf_deinit(&window.buf);
    return status;
}

static int compare_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Numbers of the segment files, sorted. */
static int list_segments(const struct journal_file *file, uint64_t **out, size_t *count, struct err *err)
{
    int fd = openat(file->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int status = err_set_errno(err, errno, "list journal %s", file->dir);
        if (fd >= 0) {
            (void)close(fd);
        }
        return status;
    }
    size_t cap = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        uint64_t seq;
        if (!journal_segment_parse_name(entry->d_name, &seq)) {
            continue;
        }
        if (*count == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            *out = xrealloc(*out, cap * sizeof(**out));
        }
        (*out)[(*count)++] = seq;
    }
    (void)closedir(dir);
    if (*count > 0) {
        qsort(*out, *count, sizeof(**out), compare_seq);
    }
    return 0;
}

/* Keeps a second name of a damaged file, because compaction will remove the first one. */
static void keep_evidence(const struct journal_file *file, uint64_t seq)
{
    char from[JOURNAL_SEGMENT_NAME];
    char to[JOURNAL_SEGMENT_NAME + 8];
    journal_segment_name(from, seq);
    (void)snprintf(to, sizeof(to), "%s.bad", from);
    if (linkat(file->dir_fd, from, file->dir_fd, to, 0) != 0 && errno != EEXIST) {
        log_line(LOG_WARN, "journal.evidence", "link %s to %s: %s", from, to, strerror(errno));
    }
}

/* Every log must be complete now; counts what the segments hold and prepares the keys for appending. */
static int finish_keys(struct recovery *rec, struct err *err)
{
    struct journal_file *file = rec->file;
    struct journal_index *index = file->index;
    struct journal_key **dead = NULL;
    size_t dead_count = 0;
    size_t dead_cap = 0;
    int status = 0;
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(index, &cursor)) != NULL;) {
        journal_key_unstage(key); /* an interrupted replacement */
        key->next_epoch = key->epoch;
        key->next_count = key->count;
        for (uint32_t i = 0; i < key->count; i++) {
            if (key->places[i] != 0) {
                journal_segments_get(&file->segments, journal_place_seq(key->places[i]))->live++;
                continue;
            }
            (void)err_set(err, ERR_CORRUPT, "record %u of key \"%.*s\" is missing", i + 1, (int)key->len,
                          key->name);
            if (!file->opts.quarantine) {
                status = err->code;
                goto out;
            }
            if (!key->is_damaged) {
                report_damage(rec, err);
            }
            key->is_damaged = true;
        }
        if (key->count == 0 && !key->is_damaged) {
            if (dead_count == dead_cap) {
                dead_cap = dead_cap == 0 ? 64 : dead_cap * 2;
                dead = xrealloc(dead, dead_cap * sizeof(*dead));
            }
            dead[dead_count++] = key;
        } else if (key->is_damaged) {
            file->stats.damaged++;
            key->next_count = key->next_count == 0 ? 1 : key->next_count; /* so that it can be removed */
        }
    }
    for (size_t i = 0; i < dead_count; i++) {
        journal_index_drop(index, dead[i]);
    }
out:
    free(dead);
    return status;
}

static void choose_salt(struct journal_file *file)
{
    if (getrandom(&file->salt, sizeof(file->salt), GRND_NONBLOCK) != sizeof(file->salt)) {
        file->salt = (uint32_t)getpid() ^ (uint32_t)(uintptr_t)file; /* only has to be hard to guess */
    }
}

int journal_recover(struct journal_file *file, int *fd, struct err *err)
{
    struct recovery rec = {.file = file};
    uint64_t *seqs = NULL;
    size_t count = 0;
    struct journal_segment_head *heads = NULL;
    *fd = -1;
    int status = list_segments(file, &seqs, &count, err);
    if (status != 0) {
        goto out;
    }
    heads = xcalloc(count + 1, sizeof(*heads));
    for (size_t i = 0; i < count; i++) {
        uint64_t size = 0;
        status = read_head(file, seqs[i], &heads[i], &size, err);
        if (status == 0 && i > 0 && (seqs[i] != seqs[i - 1] + 1 || heads[i].salt != heads[0].salt)) {
            status = corrupt(seqs[i], 0, err, "it does not continue the segment before");
        }
        if (status != 0) {
            goto out;
        }
        rec.max_index += size / JOURNAL_RECORD_HEAD;
    }
    if (count > 0) {
        file->salt = heads[0].salt;
    } else {
        choose_salt(file);
    }
    for (size_t i = 0; i < count; i++) {
        size_t reports = rec.reports;
        status = scan_segment(&rec, seqs[i], heads[i + 1].prev_end, i + 1 == count, fd, err);
        if (status != 0) {
            goto out;
        }
        if (rec.reports > reports) {
            keep_evidence(file, seqs[i]);
        }
    }
    status = finish_keys(&rec, err);
    journal_ledger_start(&file->ledger, rec.last_lsn);
out:
    free(seqs);
    free(heads);
    if (status != 0 && *fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
    return status;
}
