/* Giving space back. Records die when their key is removed or replaced; once most of what the closed segments
 * hold is dead, the live records of the oldest segment are appended again and the segment is removed.
 *
 * Always the oldest one: the mark that killed a record lies behind the record, so a segment and the records
 * it could revive are gone before the mark is. For the same reason each removal is made durable before the
 * next one. The stored bytes stay below about twice the live ones, and every record is rewritten about once
 * per such doubling. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_file.h"
#include "loop/work.h"

enum { CHUNK = 512 << 10 };

enum phase { IDLE, READING, COPYING, REMOVING, BLOCKED };

struct journal_cleaner {
    enum phase phase;
    uint64_t seq;
    uint64_t seq_end;
    uint64_t offset; /* behind what is in chunk */
    struct buf chunk;
    size_t at;
    size_t need;       /* bytes of an incomplete record at the end of chunk */
    uint64_t wait_lsn; /* copies up to here must be decided before going on */
    struct err err;
    bool is_fetching; /* the key of the next record */
};

static void block(struct journal_file *file, const struct err *err)
{
    file->cleaner->phase = BLOCKED;
    log_line(LOG_ERROR, "journal.compaction_stopped", "until the next start: %s", err->text);
}

static void run_remove(void *arg)
{
    struct journal_file *file = arg;
    if (journal_owner_check(file->owner, &file->cleaner->err) == 0) {
        (void)fault_hit("journal.before_remove"); /* what is live is in two places */
        (void)journal_segment_remove(file->dir_fd, file->cleaner->seq, !file->opts.no_sync,
                                     &file->cleaner->err);
    }
}

static void on_removed(void *arg)
{
    struct journal_file *file = arg;
    struct journal_cleaner *cleaner = file->cleaner;
    file->busy--;
    if (cleaner->err.code != 0) {
        block(file, &cleaner->err);
    } else {
        cleaner->phase = IDLE;
        journal_segments_shift(&file->segments);
        file->stats.compacted++;
    }
    journal_compact_kick(file);
    journal_file_settle(file);
}

static void remove_oldest(struct journal_file *file)
{
    struct journal_cleaner *cleaner = file->cleaner;
    cleaner->seq = file->segments.items[0].seq;
    cleaner->phase = REMOVING;
    file->busy++;
    work_queue(file->loop, run_remove, on_removed, file);
}

static void run_read(void *arg)
{
    struct journal_file *file = arg;
    struct journal_cleaner *cleaner = file->cleaner;
    int fd;
    if (journal_segment_open(file->dir_fd, cleaner->seq, O_RDONLY, &fd, NULL, &cleaner->err) != 0) {
        return;
    }
    buf_consume(&cleaner->chunk, cleaner->at);
    cleaner->at = 0;
    size_t want = cleaner->need > CHUNK ? cleaner->need : CHUNK;
    if (want > cleaner->seq_end - cleaner->offset) {
        want = (size_t)(cleaner->seq_end - cleaner->offset);
    }
    if (journal_read_all(fd, buf_reserve(&cleaner->chunk, want), want, cleaner->offset) != (ssize_t)want) {
        (void)err_set_errno(&cleaner->err, errno == 0 ? EIO : errno, "read segment %llu",
                            (unsigned long long)cleaner->seq);
    } else {
        cleaner->chunk.len += want;
        cleaner->offset += want;
    }
    (void)close(fd); /* read only */
}

static void on_read(void *arg)
{
    struct journal_file *file = arg;
    struct journal_cleaner *cleaner = file->cleaner;
    file->busy--;
    cleaner->need = 0;
    if (cleaner->err.code != 0) {
        block(file, &cleaner->err);
    } else {
        cleaner->phase = COPYING;
        cleaner->wait_lsn = 0;
    }
    journal_compact_kick(file);
    journal_file_settle(file);
}

static void read_chunk(struct journal_file *file)
{
    file->cleaner->phase = READING;
    file->busy++;
    work_queue(file->loop, run_read, on_read, file);
}

static void on_back(void *arg, const struct err *err)
{
    struct journal_file *file = arg;
    file->cleaner->is_fetching = false;
    if (err != NULL) {
        block(file, err);
    }
    journal_compact_kick(file);
}

/* Appends the record again when it is live. A key that is about to be removed or replaced is left alone: the
 * copy would lie behind the mark that kills it. false: no room now, or the key has to be brought back first.
 */
static bool copy_record(struct journal_file *file, const struct journal_item *item, uint64_t place)
{
    if (item->kind > JOURNAL_STAGED) {
        return true;
    }
    if (journal_park_holds(file->park, item->key, item->key_len)) {
        file->cleaner->is_fetching = true;
        journal_park_fetch(file->park, item->key, item->key_len, on_back, file);
        return false;
    }
    struct journal_key *key = journal_index_find(file->index, item->key, item->key_len);
    if (key == NULL || item->index > key->count || key->places[item->index - 1] != place ||
        key->next_epoch != key->epoch || key->next_count == 0) {
        return true;
    }
    return journal_group_add_moved(file, key, item, place);
}

/* Copies what is in the chunk. true when it is used up. */
static bool copy_chunk(struct journal_file *file)
{
    struct journal_cleaner *cleaner = file->cleaner;
    uint64_t base = cleaner->offset - cleaner->chunk.len;
    while (cleaner->at < cleaner->chunk.len) {
        struct journal_item item;
        size_t size;
        enum journal_decoded result = journal_record_decode(
            cleaner->chunk.data + cleaner->at, cleaner->chunk.len - cleaner->at, file->salt, &item, &size);
        if (result == JOURNAL_SHORT && base + cleaner->at + size <= cleaner->seq_end) {
            cleaner->need = size;
            return true;
        }
        if (result != JOURNAL_OK && file->opts.quarantine) {
            cleaner->at +=
                result == JOURNAL_BAD_DATA ? size : JOURNAL_ALIGN; /* of a key that was removed since */
            continue;
        }
        if (result != JOURNAL_OK) {
            uint64_t offset = base + cleaner->at;
            struct err err;
            (void)err_set(&err, ERR_CORRUPT, "segment %llu is damaged at offset %llu",
                          (unsigned long long)cleaner->seq, (unsigned long long)offset);
            block(file, &err);
            return false;
        }
        if (!copy_record(file, &item, journal_place(cleaner->seq, base + cleaner->at))) {
            return false;
        }
        cleaner->at += size;
    }
    return true;
}

static void copy_step(struct journal_file *file)
{
    struct journal_cleaner *cleaner = file->cleaner;
    if (cleaner->is_fetching || cleaner->wait_lsn > file->ledger.decided_lsn) {
        return; /* what comes back, or the flush, kicks again */
    }
    uint64_t before = file->ledger.next_lsn;
    bool used_up = copy_chunk(file);
    if (file->ledger.next_lsn > before) {
        cleaner->wait_lsn = file->ledger.next_lsn - 1;
        return;
    }
    if (!used_up) {
        return;
    }
    if (cleaner->offset < cleaner->seq_end) {
        read_chunk(file);
        return;
    }
    cleaner->phase = IDLE;
    const struct journal_segment *oldest = &file->segments.items[0];
    if (oldest->live == 0 && oldest->readers == 0) {
        remove_oldest(file);
    }
}

/* More than half of what the closed segments hold is dead, and worth a segment. */
static bool is_worthwhile(const struct journal_file *file)
{
    uint64_t records = 0;
    uint64_t live = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i + 1 < file->segments.count; i++) {
        records += file->segments.items[i].records;
        live += file->segments.items[i].live;
        bytes += file->segments.items[i].end;
    }
    return records > 0 && (records - live) * 2 > records &&
           bytes / records * (records - live) >= file->opts.segment_bytes / 2;
}

void journal_compact_kick(struct journal_file *file)
{
    if (file->cleaner == NULL) {
        file->cleaner = xcalloc(1, sizeof(*file->cleaner));
    }
    struct journal_cleaner *cleaner = file->cleaner;
    if (file->is_closing || file->segments.count < 2) {
        return;
    }
    if (cleaner->phase == COPYING) {
        copy_step(file);
        return;
    }
    /* With damaged keys about, a segment may hold the only trace of what was lost. */
    if (cleaner->phase != IDLE || file->stats.damaged > 0 || file->has_unplaced_damage) {
        return;
    }
    const struct journal_segment *oldest = &file->segments.items[0];
    if (oldest->live == 0) {
        if (oldest->readers == 0) {
            remove_oldest(file);
        }
        return;
    }
    if (is_worthwhile(file)) {
        cleaner->seq = oldest->seq;
        cleaner->seq_end = oldest->end;
        cleaner->offset = JOURNAL_SEGMENT_HEAD;
        buf_clear(&cleaner->chunk);
        cleaner->at = 0;
        read_chunk(file);
    }
}

void journal_compact_free(struct journal_file *file)
{
    if (file->cleaner != NULL) {
        buf_deinit(&file->cleaner->chunk);
        free(file->cleaner);
        file->cleaner = NULL;
    }
}
