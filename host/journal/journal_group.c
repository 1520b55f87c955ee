/* Group commit: appends join the open group, one group is on its way to the disk at a time, and the index
 * learns of records only when they are durable. See journal_file.h.
 *
 * A failed flush is final: after a failed fdatasync the kernel may have dropped the dirty pages, so a second
 * try would report success without data. The group fails, and everything queued behind it, because later
 * records of the same keys continue it. The next flush starts a fresh segment whose header says where the
 * valid part of the old one ends, so that no half-written record comes back after a restart. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_file.h"
#include "loop/loop.h"

#define AWAKE_SYNC_MS 0.5 /* a disk that syncs in less is awaited awake, */
#define AWAKE_SYNCS 2.0   /* for as long as so many syncs take */

static struct journal_group *open_group(struct journal_file *file, size_t size)
{
    if (!list_is_empty(&file->groups)) {
        struct journal_group *last = list_entry(file->groups.prev, struct journal_group, link);
        if (last->buf.len + size <= file->opts.max_group_bytes) {
            return last;
        }
    }
    struct journal_group *group = xcalloc(1, sizeof(*group));
    journal_ledger_add(&file->ledger, &group->span);
    list_push_back(&file->groups, &group->link);
    return group;
}

static void free_group(struct journal_group *group)
{
    buf_deinit(&group->buf);
    free(group->slots);
    free(group);
}

static void on_flush_due(void *arg)
{
    struct journal_file *file = arg;
    file->flush_scheduled = false;
    journal_group_flush(file);
    journal_file_settle(file);
}

/* Encodes one record into the open group. The flush starts when the loop turn ends, so that whatever else
 * happens in this turn travels along. */
static uint64_t add(struct journal_file *file, struct journal_key *key, struct journal_item *item,
                    uint64_t moved_from)
{
    size_t size = journal_record_size(item->key_len, item->len);
    struct journal_group *group = open_group(file, size);
    item->lsn = journal_ledger_next(&file->ledger, &group->span);
    item->first = group->buf.len == 0;
    if (group->count == group->cap) {
        group->cap = group->cap == 0 ? 64 : group->cap * 2;
        group->slots = xrealloc(group->slots, group->cap * sizeof(*group->slots));
    }
    group->slots[group->count++] = (struct journal_slot){
        .key = key,
        .epoch = item->epoch,
        .moved_from = moved_from,
        .offset = group->buf.len,
        .index = item->index,
        .kind = item->kind,
    };
    journal_record_encode(buf_reserve(&group->buf, size), file->salt, item);
    group->buf.len += size;
    file->stats.pending_bytes += size;
    if (key != NULL) {
        key->pending++;
    }
    if (!file->flush_scheduled && !file->is_flying) {
        file->flush_scheduled = true;
        loop_defer(file->loop, on_flush_due, file);
    }
    return item->lsn;
}

static int check_room(const struct journal_file *file, size_t key_len, size_t len, size_t size,
                      struct err *err)
{
    if (file->is_closing) {
        return err_set(err, ERR_CLOSED, "the journal is closed");
    }
    if (file->lost.code != 0) {
        *err = file->lost;
        return err->code;
    }
    if (key_len == 0 || key_len > JOURNAL_KEY_MAX) {
        return err_set(err, ERR_INVALID, "a journal key has 1 to %d bytes, not %zu", JOURNAL_KEY_MAX,
                       key_len);
    }
    if (len > file->opts.max_record_bytes) {
        return err_set(err, ERR_LIMIT, "a record of %zu bytes is above the limit of %zu", len,
                       file->opts.max_record_bytes);
    }
    if (file->stats.pending_bytes + size > file->opts.max_pending_bytes) {
        return err_set(err, ERR_LIMIT, "the journal has %llu bytes waiting for the disk (limit %zu)",
                       (unsigned long long)file->stats.pending_bytes, file->opts.max_pending_bytes);
    }
    return 0;
}

static int refuse_damaged(const struct journal_key *key, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the log of key \"%.*s\" is damaged", (int)key->len, key->name);
}

int journal_group_append(struct journal *journal, const char *name, size_t key_len, const void *data,
                         size_t len, uint64_t *lsn, uint64_t *index, struct err *err)
{
    struct journal_file *file = (struct journal_file *)journal;
    int status = check_room(file, key_len, len, journal_record_size(key_len, len), err);
    if (status != 0) {
        return status;
    }
    struct journal_key *key;
    status = journal_park_use(file->park, file->index, file->opts.parking.is_eager, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key->is_damaged) {
        return refuse_damaged(key, err);
    }
    if (key->next_count == UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "the log of key \"%.*s\" is full", (int)key_len, name);
    }
    if (key->next_count == 0) {
        key->next_epoch = file->ledger.next_lsn;
    }
    struct journal_item item = {
        .kind = JOURNAL_DATA,
        .epoch = key->next_epoch,
        .index = ++key->next_count,
        .key = key->name,
        .key_len = key->len,
        .data = data,
        .len = (uint32_t)len,
    };
    *index = item.index;
    *lsn = add(file, key, &item, 0);
    file->stats.appends++;
    return 0;
}

static uint64_t add_mark(struct journal_file *file, struct journal_key *key, uint8_t kind)
{
    struct journal_item item = {
        .kind = kind,
        .epoch = key->next_epoch,
        .index = key->next_count,
        .key = key->name,
        .key_len = key->len,
    };
    return add(file, key, &item, 0);
}

int journal_group_remove(struct journal *journal, const char *name, size_t key_len, uint64_t *lsn,
                         struct err *err)
{
    struct journal_file *file = (struct journal_file *)journal;
    if (file->is_closing) {
        return err_set(err, ERR_CLOSED, "the journal is closed");
    }
    if (file->lost.code != 0) {
        *err = file->lost;
        return err->code;
    }
    struct journal_key *key;
    int status = journal_park_get(file->park, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key == NULL || key->next_count == 0) {
        return err_set(err, ERR_NOT_FOUND, "the journal has no key \"%.*s\"", (int)key_len, name);
    }
    *lsn = add_mark(file, key, JOURNAL_DELETE);
    key->next_count = 0;
    return 0;
}

int journal_group_replace(struct journal *journal, const char *name, size_t key_len,
                          const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err)
{
    struct journal_file *file = (struct journal_file *)journal;
    if (count == 0) {
        return journal_group_remove(journal, name, key_len, lsn, err);
    }
    if (count >= UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "a log of %zu records is too long", count);
    }
    size_t total = journal_record_size(key_len, 0);
    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = records[i].len > largest ? records[i].len : largest;
        total += journal_record_size(key_len, records[i].len);
    }
    int status = check_room(file, key_len, largest, total, err);
    if (status != 0) {
        return status;
    }
    struct journal_key *key;
    status = journal_park_use(file->park, file->index, file->opts.parking.is_eager, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key->is_damaged) {
        return refuse_damaged(key, err);
    }
    key->next_epoch = file->ledger.next_lsn;
    for (size_t i = 0; i < count; i++) {
        struct journal_item item = {
            .kind = JOURNAL_STAGED,
            .epoch = key->next_epoch,
            .index = (uint32_t)(i + 1),
            .key = key->name,
            .key_len = key->len,
            .data = records[i].data,
            .len = (uint32_t)records[i].len,
        };
        (void)add(file, key, &item, 0); /* the lsn of the commit mark is the one that counts */
    }
    key->next_count = (uint32_t)count;
    *lsn = add_mark(file, key, JOURNAL_COMMIT);
    file->stats.appends += count;
    return 0;
}

void journal_group_add_closed(struct journal_file *file)
{
    struct journal_item item = {.kind = JOURNAL_CLOSED};
    (void)add(file, NULL, &item, 0);
}

bool journal_group_add_moved(struct journal_file *file, struct journal_key *key,
                             const struct journal_item *item, uint64_t place)
{
    struct journal_item copy = *item;
    copy.kind = JOURNAL_DATA;
    if (file->stats.pending_bytes + journal_record_size(copy.key_len, copy.len) >
        file->opts.max_pending_bytes) {
        return false;
    }
    (void)add(file, key, &copy, place);
    return true;
}

static void unlive(struct journal_file *file, const uint64_t *places, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (places[i] != 0) {
            journal_segments_get(&file->segments, journal_place_seq(places[i]))->live--;
        }
    }
}

static void kill_log(struct journal_file *file, struct journal_key *key)
{
    unlive(file, key->places, key->count);
    journal_key_clear(key);
    file->stats.damaged -= key->is_damaged ? 1 : 0;
    key->is_damaged = false;
}

static void kill_staged(struct journal_file *file, struct journal_key *key)
{
    if (key->staged != NULL) {
        unlive(file, key->staged->places, key->staged->count);
        journal_key_unstage(key);
    }
}

/* Something of the key has been decided: it may be gone, or at rest. */
static void settle_key(struct journal_file *file, struct journal_key *key)
{
    if (key->count == 0 && key->next_count == 0 && key->pending == 0 && key->staged == NULL) {
        journal_park_drop(file->park, key);
    } else {
        journal_park_settled(file->park, key);
    }
}

/* Notes one durable record in the index. */
static void settle_slot(struct journal_file *file, struct journal_segment *segment,
                        const struct journal_slot *slot, uint64_t place)
{
    struct journal_key *key = slot->key;
    segment->records++;
    if (key == NULL) {
        return; /* JOURNAL_CLOSED */
    }
    journal_park_changes(file->park, key);
    switch (slot->kind) {
    case JOURNAL_DATA:
        if (slot->moved_from != 0) {
            if (key->epoch != slot->epoch || slot->index > key->count ||
                key->places[slot->index - 1] != slot->moved_from) {
                return; /* died while it was being moved */
            }
            unlive(file, &slot->moved_from, 1);
        }
        key->epoch = slot->epoch;
        journal_key_set(key, slot->index, place);
        segment->live++;
        return;
    case JOURNAL_STAGED:
        journal_key_stage(key, slot->epoch, slot->index, place);
        segment->live++;
        return;
    case JOURNAL_COMMIT: {
        struct journal_staged *staged = key->staged;
        assert(staged != NULL && staged->epoch == slot->epoch && staged->count == slot->index);
        kill_log(file, key);
        key->places = staged->places;
        key->count = (uint32_t)staged->count;
        key->cap = (uint32_t)staged->cap;
        key->epoch = slot->epoch;
        staged->places = NULL;
        journal_key_unstage(key);
        return;
    }
    case JOURNAL_DELETE:
        kill_log(file, key);
        return;
    default:
        return;
    }
}

static void settle_group(struct journal_file *file, struct journal_group *group, uint64_t seq,
                         uint64_t offset)
{
    struct journal_segment *segment = journal_segments_get(&file->segments, seq);
    for (size_t i = 0; i < group->count; i++) {
        const struct journal_slot *slot = &group->slots[i];
        settle_slot(file, segment, slot, journal_place(seq, offset + slot->offset));
        if (slot->key != NULL) {
            slot->key->pending--;
            settle_key(file, slot->key);
        }
    }
    segment->end = offset + group->buf.len;
    file->stats.grouped += group->count;
    if (group->count > file->stats.largest_group) {
        file->stats.largest_group = group->count;
    }
}

/* Takes back what the records of a lost group promised: the keys are again as the disk has them. */
static void forget_group(struct journal_file *file, struct journal_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct journal_key *key = group->slots[i].key;
        if (key != NULL) {
            key->pending--;
            key->next_count = key->count;
            key->next_epoch = key->epoch;
            if (key->pending == 0) {
                kill_staged(file, key);
            }
            settle_key(file, key);
        }
    }
}

static void fail_groups(struct journal_file *file, struct journal_group *first, const struct err *err)
{
    struct list lost;
    list_init(&lost);
    if (first != NULL) {
        list_push_back(&lost, &first->link);
    }
    for (struct list *node; (node = list_pop_front(&file->groups)) != NULL;) {
        list_push_back(&lost, node);
    }
    size_t records = 0;
    list_each (node, &lost) {
        struct journal_group *group = list_entry(node, struct journal_group, link);
        forget_group(file, group);
        journal_ledger_decide(&file->ledger, &group->span, err);
        records += group->count;
    }
    file->stats.pending_bytes = 0;
    file->stats.failed_syncs++;
    if (err->code == ERR_FENCED) {
        file->lost = *err;
    }
    file->must_rotate = true;
    log_line(LOG_ERROR, "journal.flush_failed", "%zu records are lost: %s", records, err->text);
    for (struct list *node; (node = list_pop_front(&lost)) != NULL;) {
        struct journal_group *group = list_entry(node, struct journal_group, link);
        journal_ledger_wake(&group->span, err);
        free_group(group);
    }
}

static void on_flushed(struct journal_job *job)
{
    struct journal_file *file = list_entry(job, struct journal_file, job);
    struct journal_group *group = file->flying;
    struct err err = job->err;
    file->flying = NULL;
    file->is_flying = false;
    loop_may_sleep(file->loop);
    if (job->has_rotated) {
        (void)journal_segments_add(&file->segments, job->seq); /* valid until the next add: looked up again */
        file->must_rotate = false;
    }
    if (err.code != 0) {
        if (group != NULL) {
            fail_groups(file, group, &err);
        }
        /* A fresh segment at once settles where the old one ends. When even that fails, the next append tries
         * again. */
        if ((group != NULL && !file->is_closing) || !list_is_empty(&file->groups)) {
            journal_group_flush(file);
        }
        journal_file_settle(file);
        return;
    }
    if (group != NULL) {
        file->stats.syncs++;
        file->stats.last_sync_ms = job->sync_ms;
        file->stats.pending_bytes -= group->buf.len;
        settle_group(file, group, journal_segments_last(&file->segments)->seq, job->offset);
        journal_ledger_decide(&file->ledger, &group->span, NULL);
        file->is_marked_closed = group->slots[group->count - 1].kind == JOURNAL_CLOSED;
    }
    journal_group_flush(file); /* the disk works again before anybody is told */
    if (group != NULL) {
        journal_ledger_wake(&group->span, NULL);
        free_group(group);
    }
    journal_compact_kick(file);
    journal_file_settle(file);
}

/* A record that is alone has one caller waiting for nothing but the disk. On a fast one, going to sleep and
 * being woken up would cost as much as the sync itself; a group has enough others to do meanwhile, and a slow
 * disk is not worth the core. */
static void stay_awake_for(struct journal_file *file, const struct journal_group *group)
{
    double sync_ms = file->stats.last_sync_ms;
    if (file->has_cores && group != NULL && group->count == 1 && sync_ms > 0 && sync_ms <= AWAKE_SYNC_MS) {
        loop_stay_awake(file->loop, (uint64_t)(AWAKE_SYNCS * sync_ms * 1e6));
    }
}

void journal_group_flush(struct journal_file *file)
{
    if (file->is_flying || (list_is_empty(&file->groups) && !file->must_rotate)) {
        return;
    }
    struct list *node = list_pop_front(&file->groups);
    struct journal_group *group = node == NULL ? NULL : list_entry(node, struct journal_group, link);
    struct journal_segment *last = journal_segments_last(&file->segments);
    struct journal_job *job = &file->job;
    size_t len = group == NULL ? 0 : group->buf.len;
    job->rotate = file->must_rotate || last == NULL ||
                  (last->end > JOURNAL_SEGMENT_HEAD && last->end + len > file->opts.segment_bytes);
    job->prev_end = last == NULL ? 0 : last->end;
    job->seq = last == NULL ? 1 : last->seq + 1;
    job->offset = job->rotate ? JOURNAL_SEGMENT_HEAD : last->end;
    job->data = group == NULL ? NULL : group->buf.data;
    job->len = len;
    job->finish = false;
    job->done = on_flushed;
    file->flying = group;
    file->is_flying = true;
    journal_writer_submit(file->writer, job);
    stay_awake_for(file, group);
}
