/* Drives a journal synchronously, and handles its directory, for the tests beside this file. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/log.h"
#include "journal/journal.h"
#include "journal/journal_record.h"
#include "loop/loop.h"
#include "test.h"

static struct loop *help_loop;
static const char *help_backend = "file";   /* what help_open opens */
static struct journal_parking help_parking; /* and how */

/* From now on keys are in memory only while something of them is under way. Fingerprints of so few bits (0:
 * as always) that many are equal, and chunks so small that they are used again. */
static inline void help_park_all(uint8_t print_bits)
{
    help_parking = (struct journal_parking){
        .is_eager = true,
        .print_bits = print_bits,
        .chunk_bytes = 2048,
        .recent = 1,
    };
}

static inline void help_start(void)
{
    struct err err;
    log_set_level(LOG_ERROR + 1); /* the tests provoke errors */
    CHECK(loop_open(&help_loop, &err) == 0);
}

static inline void help_end(void)
{
    CHECK_INT(loop_close(help_loop), 0);
}

static inline void help_run_until(const bool *flag)
{
    while (!*flag) {
        (void)uv_run(loop_uv(help_loop), UV_RUN_ONCE);
    }
}

struct help_opened {
    struct journal *journal;
    struct err err;
    bool is_done;
};

static inline void help_on_open(void *arg, struct journal *journal, const struct err *err)
{
    struct help_opened *opened = arg;
    opened->journal = journal;
    if (err != NULL) {
        opened->err = *err;
    }
    opened->is_done = true;
}

/* The journal, or NULL with err. */
static inline struct journal *help_try_open(const struct journal_opts *opts, struct err *err)
{
    struct help_opened opened = {0};
    CHECK(journal_open(help_loop, help_backend, opts, help_on_open, &opened, err) == 0);
    help_run_until(&opened.is_done);
    *err = opened.err;
    return opened.journal;
}

static inline struct journal *help_open(const char *dir, size_t segment_bytes)
{
    struct err err;
    struct journal_opts opts = {.dir = dir, .segment_bytes = segment_bytes, .parking = help_parking};
    struct journal *journal = help_try_open(&opts, &err);
    if (journal == NULL) {
        fprintf(stderr, "open %s: %s\n", dir, err.text);
        exit(1);
    }
    return journal;
}

static inline void help_on_flag(void *arg)
{
    *(bool *)arg = true;
}

static inline void help_close(struct journal *journal)
{
    bool is_done = false;
    journal->ops->close(journal, help_on_flag, &is_done);
    help_run_until(&is_done);
}

struct help_waited {
    int code;
    bool is_done;
};

static inline void help_on_waited(void *arg, const struct err *err)
{
    struct help_waited *waited = arg;
    waited->code = err == NULL ? 0 : err->code;
    waited->is_done = true;
}

static inline int help_wait(struct journal *journal, uint64_t lsn)
{
    struct help_waited waited = {0};
    (void)journal->ops->wait(journal, lsn, help_on_waited, &waited);
    help_run_until(&waited.is_done);
    return waited.code;
}

/* Appends without waiting; returns the lsn. */
static inline uint64_t help_add(struct journal *journal, const char *key, const char *text)
{
    uint64_t lsn;
    uint64_t index;
    struct err err;
    CHECK(journal->ops->append(journal, key, strlen(key), text, strlen(text), &lsn, &index, &err) == 0);
    return lsn;
}

static inline void help_append(struct journal *journal, const char *key, const char *text)
{
    CHECK_INT(help_wait(journal, help_add(journal, key, text)), 0);
}

static inline void help_remove(struct journal *journal, const char *key)
{
    uint64_t lsn;
    struct err err;
    CHECK(journal->ops->remove(journal, key, strlen(key), &lsn, &err) == 0);
    CHECK_INT(help_wait(journal, lsn), 0);
}

struct help_text {
    struct buf *out;
    int code;
    size_t count;
    bool is_done;
};

static inline void help_on_records(void *arg, const struct journal_record *records, size_t count,
                                   const struct err *err)
{
    struct help_text *text = arg;
    text->code = err == NULL ? 0 : err->code;
    for (size_t i = 0; i < count; i++) {
        buf_append(text->out, records[i].data, records[i].len);
        buf_append_byte(text->out, ',');
    }
    text->count = count;
    text->is_done = true;
}

/* The records of a key joined by commas, in static memory; or "!CODE". */
static inline const char *help_read(struct journal *journal, const char *key)
{
    static struct buf out;
    buf_clear(&out);
    size_t from = 1;
    for (;;) {
        struct help_text text = {.out = &out};
        (void)journal->ops->read(journal, key, strlen(key), from, 1000, SIZE_MAX, help_on_records, &text);
        help_run_until(&text.is_done);
        if (text.code != 0) {
            buf_clear(&out);
            buf_printf(&out, "!%s", err_name(text.code));
            break;
        }
        if (text.count == 0) {
            break;
        }
        from += text.count;
    }
    buf_append_byte(&out, '\0');
    return out.data;
}

/* --- directories ---------------------------------------------------------------------------- */

static inline const char *help_dir(void)
{
    static char dir[64];
    (void)snprintf(dir, sizeof(dir), "/tmp/journal-test-%ld", (long)getpid());
    return dir;
}

static inline void help_wipe(const char *dir)
{
    DIR *list = opendir(dir);
    if (list == NULL) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        (void)unlink(path);
    }
    (void)closedir(list);
    (void)rmdir(dir);
}

static inline char *help_load(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*len + 1);
    CHECK(fread(data, 1, *len, file) == *len);
    CHECK(fclose(file) == 0);
    return data;
}

static inline void help_store(const char *path, const char *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(data, 1, len, file) == len);
    CHECK(fclose(file) == 0);
}

/* Copies the segments of an open journal, as a crash would leave them. */
static inline void help_copy(const char *from, const char *to)
{
    help_wipe(to);
    CHECK(mkdir(to, 0700) == 0);
    DIR *list = opendir(from);
    CHECK(list != NULL);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (strstr(entry->d_name, ".seg") == NULL) {
            continue;
        }
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", from, entry->d_name);
        size_t len;
        char *data = help_load(path, &len);
        (void)snprintf(path, sizeof(path), "%s/%s", to, entry->d_name);
        help_store(path, data, len);
        free(data);
    }
    (void)closedir(list);
}

/* Offset and size of record number `n` (from 0) of a segment image; false behind the last. */
static inline bool help_locate(const char *data, size_t len, size_t n, size_t *offset, size_t *size)
{
    struct journal_segment_head head;
    struct err err;
    CHECK(journal_segment_decode(data, &head, &err) == 0);
    *offset = JOURNAL_SEGMENT_HEAD;
    for (;; n--) {
        struct journal_item item;
        if (*offset >= len ||
            journal_record_decode(data + *offset, len - *offset, head.salt, &item, size) != JOURNAL_OK) {
            return false;
        }
        if (n == 0) {
            return true;
        }
        *offset += *size;
    }
}
