/* Group commit above a database: appends join the open group, one group is with the driver at a time, and the
 * index learns of records only when they are durable. See journal_store.h.
 *
 * When a group fails, everything queued behind it fails with it, because later records of the same keys
 * continue it. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xmem.h"
#include "journal/journal_store_state.h"
#include "loop/loop.h"

static void flush(struct journal_store *store);

/* The group for changes of so many bytes: they are not divided. */
static struct journal_store_group *open_group(struct journal_store *store, size_t bytes)
{
    if (!list_is_empty(&store->groups)) {
        struct journal_store_group *last = list_entry(store->groups.prev, struct journal_store_group, link);
        if (last->bytes + bytes <= store->opts.max_group_bytes) {
            return last;
        }
    }
    struct journal_store_group *group = xcalloc(1, sizeof(*group));
    journal_ledger_add(&store->ledger, &group->span);
    list_push_back(&store->groups, &group->link);
    return group;
}

static void free_group(struct journal_store_group *group)
{
    buf_deinit(&group->data);
    free(group->writes);
    free(group->keys);
    free(group);
}

static void on_flush_due(void *arg)
{
    struct journal_store *store = arg;
    store->flush_scheduled = false;
    flush(store);
    journal_store_settle(store);
}

/* Adds one change of a key to the group. The flush starts when the loop turn ends, so that whatever else
 * happens in this turn travels along. */
static uint64_t add(struct journal_store *store, struct journal_store_group *group, struct journal_key *key,
                    uint8_t kind, const void *data, size_t len)
{
    if (group->count == group->cap) {
        group->cap = group->cap == 0 ? 64 : group->cap * 2;
        group->writes = xrealloc(group->writes, group->cap * sizeof(*group->writes));
        group->keys = xrealloc(group->keys, group->cap * sizeof(*group->keys));
    }
    uint64_t lsn = journal_ledger_next(&store->ledger, &group->span);
    group->keys[group->count] = key;
    group->writes[group->count++] = (struct journal_write){
        .key = key->name,
        .len = len,
        .epoch = key->next_epoch,
        .index = key->next_count,
        .kind = kind,
        .key_len = key->len,
    };
    buf_append(&group->data, data, len);
    group->bytes += key->len + len;
    store->stats.pending_bytes += key->len + len;
    key->pending++;
    if (!store->flush_scheduled && store->flying == NULL) {
        store->flush_scheduled = true;
        loop_defer(store->loop, on_flush_due, store);
    }
    return lsn;
}

static int check_room(const struct journal_store *store, size_t key_len, size_t largest, size_t total,
                      struct err *err)
{
    if (store->is_closing) {
        return err_set(err, ERR_CLOSED, "the journal is closed");
    }
    if (store->lost.code != 0) {
        *err = store->lost;
        return err->code;
    }
    if (key_len == 0 || key_len > JOURNAL_KEY_MAX) {
        return err_set(err, ERR_INVALID, "a journal key has 1 to %d bytes, not %zu", JOURNAL_KEY_MAX,
                       key_len);
    }
    if (largest > store->opts.max_record_bytes) {
        return err_set(err, ERR_LIMIT, "a record of %zu bytes is above the limit of %zu", largest,
                       store->opts.max_record_bytes);
    }
    if (store->stats.pending_bytes + total > store->opts.max_pending_bytes) {
        return err_set(err, ERR_LIMIT, "the journal has %llu bytes waiting for the disk (limit %zu)",
                       (unsigned long long)store->stats.pending_bytes, store->opts.max_pending_bytes);
    }
    return 0;
}

static int refuse_damaged(const struct journal_key *key, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the log of key \"%.*s\" is damaged", (int)key->len, key->name);
}

int journal_store_append(struct journal *journal, const char *name, size_t key_len, const void *data,
                         size_t len, uint64_t *lsn, uint64_t *index, struct err *err)
{
    struct journal_store *store = journal_store_of(journal);
    int status = check_room(store, key_len, len, key_len + len, err);
    if (status != 0) {
        return status;
    }
    struct journal_key *key;
    status =
        journal_park_use(store->park, store->index, store->opts.parking.is_eager, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key->is_damaged) {
        return refuse_damaged(key, err);
    }
    if (key->next_count == UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "the log of key \"%.*s\" is full", (int)key_len, name);
    }
    struct journal_store_group *group = open_group(store, key_len + len);
    if (key->next_count == 0) {
        key->next_epoch = store->ledger.next_lsn;
    }
    *index = ++key->next_count;
    *lsn = add(store, group, key, JOURNAL_WRITE_RECORD, data, len);
    store->stats.appends++;
    return 0;
}

int journal_store_remove(struct journal *journal, const char *name, size_t key_len, uint64_t *lsn,
                         struct err *err)
{
    struct journal_store *store = journal_store_of(journal);
    struct journal_key *key;
    int status = journal_park_get(store->park, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key == NULL || key->next_count == 0) {
        return err_set(err, ERR_NOT_FOUND, "the journal has no key \"%.*s\"", (int)key_len, name);
    }
    status = check_room(store, key_len, 0, 0, err); /* giving room back needs none */
    if (status != 0) {
        return status;
    }
    struct journal_store_group *group = open_group(store, key_len);
    key->next_epoch = store->ledger.next_lsn;
    key->next_count = 0;
    *lsn = add(store, group, key, JOURNAL_WRITE_DROP, NULL, 0);
    return 0;
}

int journal_store_replace(struct journal *journal, const char *name, size_t key_len,
                          const struct journal_record *records, size_t count, uint64_t *lsn, struct err *err)
{
    struct journal_store *store = journal_store_of(journal);
    if (count == 0) {
        return journal_store_remove(journal, name, key_len, lsn, err);
    }
    if (count >= UINT32_MAX) {
        return err_set(err, ERR_LIMIT, "a log of %zu records is too long", count);
    }
    size_t total = key_len;
    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = records[i].len > largest ? records[i].len : largest;
        total += key_len + records[i].len;
    }
    int status = check_room(store, key_len, largest, total, err);
    if (status != 0) {
        return status;
    }
    struct journal_key *key;
    status =
        journal_park_use(store->park, store->index, store->opts.parking.is_eager, name, key_len, &key, err);
    if (status != 0) {
        return status;
    }
    if (key->is_damaged) {
        return refuse_damaged(key, err);
    }
    struct journal_store_group *group = open_group(store, total);
    key->next_epoch = store->ledger.next_lsn;
    key->next_count = 0;
    (void)add(store, group, key, JOURNAL_WRITE_BEGIN, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        key->next_count++;
        *lsn = add(store, group, key, JOURNAL_WRITE_RECORD, records[i].data, records[i].len);
    }
    store->stats.appends += count;
    return 0;
}

/* Something of the key has been decided: it may be gone, or at rest. */
static void settle_key(struct journal_store *store, struct journal_key *key)
{
    if (key->count == 0 && key->next_count == 0 && key->pending == 0) {
        journal_park_drop(store->park, key);
    } else {
        journal_park_settled(store->park, key);
    }
}

/* Notes one durable change in the index. */
static void settle_write(struct journal_store *store, struct journal_key *key,
                         const struct journal_write *write)
{
    journal_park_changes(store->park, key);
    key->epoch = write->epoch;
    if (write->kind == JOURNAL_WRITE_RECORD) {
        key->count = write->index;
        store->stats.live++;
    } else {
        store->stats.live -= key->count;
        store->stats.damaged -= key->is_damaged ? 1 : 0;
        key->count = 0;
        key->is_damaged = false;
    }
    key->pending--;
    settle_key(store, key);
}

static void settle_group(struct journal_store *store, struct journal_store_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        settle_write(store, group->keys[i], &group->writes[i]);
    }
    store->stats.pending_bytes -= group->bytes;
    store->stats.syncs++;
    store->stats.last_sync_ms = store->flush_ms;
    store->stats.grouped += group->count;
    if (group->count > store->stats.largest_group) {
        store->stats.largest_group = group->count;
    }
    journal_ledger_decide(&store->ledger, &group->span, NULL);
}

/* Takes back what the changes of a lost group promised: the keys are again as the store has them. */
static void forget_group(struct journal_store *store, struct journal_store_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct journal_key *key = group->keys[i];
        key->pending--;
        key->next_epoch = key->epoch;
        key->next_count = key->is_damaged && key->count == 0 ? 1 : key->count;
        settle_key(store, key);
    }
}

static void fail_groups(struct journal_store *store, struct journal_store_group *first, const struct err *err)
{
    struct list lost;
    list_init(&lost);
    list_push_back(&lost, &first->link);
    for (struct list *node; (node = list_pop_front(&store->groups)) != NULL;) {
        list_push_back(&lost, node);
    }
    size_t records = 0;
    list_each (node, &lost) {
        struct journal_store_group *group = list_entry(node, struct journal_store_group, link);
        forget_group(store, group);
        journal_ledger_decide(&store->ledger, &group->span, err);
        records += group->count;
    }
    store->stats.pending_bytes = 0;
    store->stats.failed_syncs++;
    if (err->code == ERR_FENCED) {
        store->lost = *err;
    }
    log_line(LOG_ERROR, "journal.flush_failed", "%zu records are lost: %s", records, err->text);
    for (struct list *node; (node = list_pop_front(&lost)) != NULL;) {
        struct journal_store_group *group = list_entry(node, struct journal_store_group, link);
        journal_ledger_wake(&group->span, err);
        free_group(group);
    }
}

/* On the writer thread. */
static void run_flush(struct journal_task *task)
{
    struct journal_store *store = list_entry(task, struct journal_store, task);
    const struct journal_store_group *group = store->flying;
    struct journal_batch batch = {
        .writes = group->writes,
        .count = group->count,
        .bytes = group->bytes,
        .first_lsn = group->span.first_lsn,
        .last_lsn = group->span.last_lsn,
    };
    uint64_t start = loop_mono_ns();
    int status = store->driver->write(store->self, &batch, &store->flush_err);
    store->flush_err.code = status;
    store->flush_ms = (double)(loop_mono_ns() - start) / 1e6;
}

static void on_flushed(struct journal_task *task)
{
    struct journal_store *store = list_entry(task, struct journal_store, task);
    struct journal_store_group *group = store->flying;
    struct err err = store->flush_err;
    store->flying = NULL;
    if (err.code != 0) {
        fail_groups(store, group, &err);
        flush(store); /* what the waiters have added */
        journal_store_read_on(store);
        journal_store_settle(store);
        return;
    }
    settle_group(store, group);
    flush(store); /* the disk works again before anybody is told */
    journal_ledger_wake(&group->span, NULL);
    free_group(group);
    journal_store_read_on(store);
    journal_store_settle(store);
}

static void flush(struct journal_store *store)
{
    struct list *node = store->flying != NULL ? NULL : list_pop_front(&store->groups);
    if (node == NULL) {
        return;
    }
    struct journal_store_group *group = list_entry(node, struct journal_store_group, link);
    size_t offset = 0;
    for (size_t i = 0; i < group->count; i++) { /* the buffer moves no more */
        group->writes[i].data = group->writes[i].len == 0 ? "" : group->data.data + offset;
        offset += group->writes[i].len;
    }
    store->flying = group;
    store->flush_err = (struct err){0};
    store->task.run = run_flush;
    store->task.done = on_flushed;
    journal_thread_submit(store->thread, &store->task);
}
