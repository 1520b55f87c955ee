/* Recovery of a journal from arbitrary bytes. The input is a program: each step writes a well-formed record
 * with arbitrary fields (checksums right, meaning perhaps not), raw bytes, zeros, or starts another segment.
 * Opening must either refuse or give logs without gaps. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "journal/journal_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SALT = 77, MAX_IMAGE = 1 << 16 };

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next_byte(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->data++;
}

static void put_head(struct buf *image, uint64_t seq, uint64_t prev_end)
{
    struct journal_segment_head head = {.salt = SALT, .seq = seq, .prev_end = prev_end};
    char bytes[JOURNAL_SEGMENT_HEAD];
    journal_segment_encode(bytes, &head);
    buf_append(image, bytes, sizeof(bytes));
}

static void put_record(struct buf *image, struct input *input, uint64_t *lsn)
{
    static const char *const keys[] = {"a", "b", "a-longer-key", "c"};
    uint8_t shape = next_byte(input);
    const char *key = keys[next_byte(input) % 4];
    char text[256];
    memset(text, 'x', sizeof(text));
    *lsn += (shape & 0x80) != 0 ? next_byte(input) : 1;
    struct journal_item item = {
        .lsn = *lsn,
        .epoch = next_byte(input),
        .index = (shape & 0x40) != 0 ? next_byte(input) * 0x01010101U : next_byte(input) % 8U,
        .kind = (uint8_t)(1 + shape % 5),
        .first = (shape & 0x20) != 0,
        .key = key,
        .key_len = shape % 5 == 4 ? 0 : (uint8_t)strlen(key),
        .data = text,
        .len = next_byte(input),
    };
    size_t len = journal_record_size(item.key_len, item.len);
    journal_record_encode(buf_reserve(image, len), SALT, &item);
    image->len += len;
}

static void store(const char *dir, uint64_t seq, const struct buf *image)
{
    char name[JOURNAL_SEGMENT_NAME];
    char path[128];
    journal_segment_name(name, seq);
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(image->data, 1, image->len, file) != image->len || fclose(file) != 0) {
        abort();
    }
}

/* Writes the segments that the input describes; returns how many. */
static uint64_t write_segments(const char *dir, struct input *input)
{
    uint64_t seq = 1;
    uint64_t lsn = 0;
    struct buf image = {0};
    put_head(&image, seq, 0);
    while (input->left > 0 && image.len < MAX_IMAGE) {
        uint8_t step = next_byte(input);
        if (step < 200) {
            put_record(&image, input, &lsn);
        } else if (step < 220) {
            for (int i = step % 16; i >= 0; i--) {
                buf_append_byte(&image, next_byte(input));
            }
        } else if (step < 240) {
            memset(buf_reserve(&image, 64), 0, 64);
            image.len += step % 64;
        } else if (seq < 4) {
            store(dir, seq, &image);
            uint64_t end = image.len - (step < 250 ? 0 : step % 4U);
            buf_clear(&image);
            put_head(&image, ++seq, end);
        }
    }
    store(dir, seq, &image);
    buf_deinit(&image);
    return seq;
}

static void check(struct journal_file *file)
{
    size_t cursor = 0;
    for (struct journal_key *key; (key = journal_index_next(file->index, &cursor)) != NULL;) {
        for (uint32_t i = 0; i < key->count && !key->is_damaged; i++) {
            if (key->places[i] == 0) {
                abort();
            }
        }
    }
}

static int recover(const char *dir, bool quarantine)
{
    struct journal_file file = {.dir = (char *)dir};
    file.opts = (struct journal_opts){.segment_bytes = 4096, .no_sync = true, .quarantine = quarantine};
    file.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file.index = journal_index_new(false);
    int fd;
    struct err err;
    int status = journal_recover(&file, &fd, &err);
    if (status == 0) {
        check(&file);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    (void)close(file.dir_fd);
    journal_index_free(file.index);
    journal_segments_deinit(&file.segments);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char dir[64];
    if (dir[0] == '\0') {
        (void)snprintf(dir, sizeof(dir), "/dev/shm/journal-fuzz-%ld", (long)getpid());
        (void)mkdir(dir, 0700);
        log_set_level(LOG_ERROR + 1);
    }
    struct input input = {data, size};
    uint64_t count = write_segments(dir, &input);
    int status = recover(dir, false);
    if (status == 0 && recover(dir, false) != 0) {
        abort(); /* what was repaired must open */
    }
    (void)recover(dir, true);
    for (uint64_t seq = 1; seq <= count; seq++) {
        char name[JOURNAL_SEGMENT_NAME];
        char path[128];
        journal_segment_name(name, seq);
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        (void)unlink(path);
        (void)snprintf(path, sizeof(path), "%s/%s.bad", dir, name);
        (void)unlink(path);
    }
    return 0;
}
