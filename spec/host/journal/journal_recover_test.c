/* Opening what a crash or a bad disk left behind. */
#include "journal/journal_help.h"

enum { SEGMENT = 16384 };

static const char *copy_dir(void)
{
    static char dir[80];
    (void)snprintf(dir, sizeof(dir), "%s-copy", help_dir());
    return dir;
}

static const char *segment_path(const char *dir, int seq)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%010d.seg", dir, seq);
    return path;
}

/* Three flushes: a, then b, then c; a crash image of them in copy_dir. The image of segment 1 is returned. */
static char *make_image(size_t *len)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "first");
    help_append(journal, "b", "second");
    help_append(journal, "a", "the third and last record");
    help_copy(help_dir(), copy_dir());
    help_close(journal);
    return help_load(segment_path(copy_dir(), 1), len);
}

static void check_usable(const char *dir)
{
    struct journal *journal = help_open(dir, SEGMENT);
    CHECK_STR(help_read(journal, "a"), "first,");
    CHECK_STR(help_read(journal, "b"), "second,");
    help_append(journal, "a", "later");
    help_close(journal);
    journal = help_open(dir, SEGMENT);
    CHECK_STR(help_read(journal, "a"), "first,later,");
    CHECK_STR(help_read(journal, "b"), "second,");
    help_close(journal);
}

/* The tail from `cut` on is missing, zero, or garbage. */
static void check_torn(const char *image, size_t len, size_t offset, size_t size, size_t cut)
{
    for (int how = 0; how < 3; how++) {
        char *bad = malloc(len);
        memcpy(bad, image, len);
        size_t keep = offset + cut;
        if (how == 1) {
            memset(bad + keep, 0, offset + size - keep);
        } else if (how == 2) {
            memset(bad + keep, 0xa5, offset + size - keep);
        }
        /* cutting only zero padding changes nothing */
        bool is_same = how == 1 && memcmp(bad, image, len) == 0;
        help_store(segment_path(copy_dir(), 1), bad, how == 0 ? keep : len);
        if (!is_same) {
            check_usable(copy_dir());
        }
        free(bad);
    }
}

TEST(W4_torn_tail_at_every_byte)
{
    size_t len;
    char *image = make_image(&len);
    size_t offset;
    size_t size;
    CHECK(help_locate(image, len, 2, &offset, &size));
    for (size_t cut = 0; cut < size; cut++) {
        help_wipe(copy_dir());
        CHECK(mkdir(copy_dir(), 0700) == 0);
        check_torn(image, len, offset, size, cut);
    }
    free(image);
}

TEST(a_crash_without_damage_loses_nothing)
{
    size_t len;
    free(make_image(&len));
    struct journal *journal = help_open(copy_dir(), SEGMENT);
    CHECK_STR(help_read(journal, "a"), "first,the third and last record,");
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.truncated, 0);
    help_close(journal);
}

/* Bytes that this process has read so far. */
static long bytes_read(void)
{
    FILE *file = fopen("/proc/self/io", "r");
    CHECK(file != NULL);
    long count = -1;
    CHECK(fscanf(file, "rchar: %ld", &count) == 1);
    CHECK(fclose(file) == 0);
    return count;
}

/* A segment of which only the first `len` bytes were ever written. */
static void store_sparse(const char *path, const char *data, size_t len, size_t size)
{
    help_store(path, data, len);
    CHECK(truncate(path, (off_t)size) == 0);
}

TEST(reserved_space_is_not_read_after_a_crash)
{
    enum { RESERVED = 8 << 20 };
    size_t len;
    char *image = make_image(&len);
    size_t offset;
    size_t size;
    CHECK(help_locate(image, len, 2, &offset, &size));
    store_sparse(segment_path(copy_dir(), 1), image, offset + size, RESERVED);
    free(image);
    long before = bytes_read();
    struct journal *journal = help_open(copy_dir(), RESERVED);
    CHECK(bytes_read() - before < RESERVED / 16);
    CHECK_STR(help_read(journal, "a"), "first,the third and last record,");
    help_close(journal);
}

TEST(zeros_of_a_record_need_no_block_on_disk)
{
    enum { ZEROS = 3 << 20, ROOM = 4 << 20 };
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), ROOM);
    char *zeros = calloc(1, ZEROS);
    uint64_t lsn;
    uint64_t index;
    struct err err;
    CHECK(journal->ops->append(journal, "a", 1, zeros, ZEROS, &lsn, &index, &err) == 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    help_copy(help_dir(), copy_dir());
    help_close(journal);
    free(zeros);
    size_t len;
    char *image = help_load(segment_path(copy_dir(), 1), &len);
    store_sparse(segment_path(copy_dir(), 1), image, JOURNAL_SEGMENT_HEAD + JOURNAL_RECORD_HEAD + 1, len);
    free(image);
    journal = help_open(copy_dir(), ROOM);
    CHECK_INT(journal->ops->count(journal, "a", 1, NULL), 1);
    CHECK_STR(help_read(journal, "a"), ""); /* a zero is what comes first */
    help_close(journal);
}

/* Every bit of the two records that were followed by another flush: never silently accepted, never cut off.
 */
TEST(flipped_bits_in_the_middle_are_refused)
{
    size_t len;
    char *image = make_image(&len);
    size_t first;
    size_t last;
    size_t size;
    CHECK(help_locate(image, len, 0, &first, &size));
    CHECK(help_locate(image, len, 2, &last, &size));
    for (size_t bit = first * 8; bit < last * 8; bit++) {
        image[bit / 8] ^= (char)(1 << bit % 8);
        help_store(segment_path(copy_dir(), 1), image, len);
        image[bit / 8] ^= (char)(1 << bit % 8);
        struct err err;
        struct journal_opts opts = {.dir = copy_dir(), .segment_bytes = SEGMENT};
        CHECK(help_try_open(&opts, &err) == NULL);
        CHECK_INT(err.code, ERR_CORRUPT);
        CHECK(strstr(err.text, "0000000001.seg is damaged at offset ") != NULL);
        CHECK(strstr(err.text, copy_dir()) != NULL);
    }
    free(image);
}

TEST(flipped_bits_of_a_closed_journal_are_refused_everywhere)
{
    size_t len;
    free(make_image(&len));
    char *image = help_load(segment_path(help_dir(), 1), &len);
    size_t last;
    size_t size;
    CHECK(help_locate(image, len, 2, &last, &size));
    for (size_t bit = last * 8; bit < (last + size) * 8; bit += 3) {
        image[bit / 8] ^= (char)(1 << bit % 8);
        help_store(segment_path(help_dir(), 1), image, len);
        image[bit / 8] ^= (char)(1 << bit % 8);
        struct err err;
        struct journal_opts opts = {.dir = help_dir(), .segment_bytes = SEGMENT};
        CHECK(help_try_open(&opts, &err) == NULL);
        CHECK_INT(err.code, ERR_CORRUPT);
    }
    free(image);
}

TEST(quarantine_serves_the_other_keys)
{
    size_t len;
    char *image = make_image(&len);
    size_t offset;
    size_t size;
    CHECK(help_locate(image, len, 0, &offset, &size));
    image[offset + JOURNAL_RECORD_HEAD + 2] ^= 4; /* data of the first record of a */
    help_store(segment_path(copy_dir(), 1), image, len);
    struct err err;
    struct journal_opts opts = {.dir = copy_dir(), .segment_bytes = SEGMENT, .quarantine = true};
    for (int round = 0; round < 2; round++) {
        struct journal *journal = help_try_open(&opts, &err);
        CHECK(journal != NULL);
        CHECK_STR(help_read(journal, "a"), "!CORRUPT");
        CHECK(strncmp(help_read(journal, "b"), "second,", 7) == 0);
        uint64_t lsn;
        uint64_t index;
        CHECK_INT(journal->ops->append(journal, "a", 1, "x", 1, &lsn, &index, &err), ERR_CORRUPT);
        help_append(journal, "b", "more");
        struct journal_stats stats;
        journal->ops->stats(journal, &stats);
        CHECK_INT(stats.damaged, 1);
        help_close(journal);
    }
    struct journal *journal = help_try_open(&opts, &err);
    help_remove(journal, "a"); /* the way out */
    help_append(journal, "a", "new");
    CHECK_STR(help_read(journal, "a"), "new,");
    CHECK_STR(help_read(journal, "b"), "second,more,more,");
    help_close(journal);
    CHECK(access(segment_path(copy_dir(), 1), F_OK) == 0);
    char evidence[160];
    (void)snprintf(evidence, sizeof(evidence), "%s.bad", segment_path(copy_dir(), 1));
    CHECK(access(evidence, F_OK) == 0);
    free(image);
}

TEST(quarantine_finds_keys_by_their_gaps)
{
    size_t len;
    char *image = make_image(&len);
    size_t offset;
    size_t size;
    CHECK(help_locate(image, len, 0, &offset, &size));
    memset(image + offset, 0x5a, JOURNAL_RECORD_HEAD); /* nobody knows whose record this was */
    help_store(segment_path(copy_dir(), 1), image, len);
    struct err err;
    struct journal_opts opts = {.dir = copy_dir(), .segment_bytes = SEGMENT, .quarantine = true};
    struct journal *journal = help_try_open(&opts, &err);
    CHECK(journal != NULL);
    CHECK_STR(help_read(journal, "a"), "!CORRUPT");
    CHECK_STR(help_read(journal, "b"), "second,");
    help_close(journal);
    free(image);
}

static void fill(struct journal *journal, int count)
{
    char text[100];
    for (int i = 0; i < count; i++) {
        (void)snprintf(text, sizeof(text), "%080d", i);
        help_append(journal, "k", text);
    }
}

TEST(missing_and_foreign_segments_are_refused)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), 4096);
    fill(journal, 100);
    help_close(journal);
    help_copy(help_dir(), copy_dir());
    CHECK(unlink(segment_path(copy_dir(), 2)) == 0);
    struct err err;
    struct journal_opts opts = {.dir = copy_dir(), .segment_bytes = 4096};
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK_INT(err.code, ERR_CORRUPT);
    CHECK(strstr(err.text, "0000000003.seg") != NULL);

    help_copy(help_dir(), copy_dir());
    size_t len;
    char *image = help_load(segment_path(copy_dir(), 2), &len);
    help_store(segment_path(copy_dir(), 2), image, len - 8);
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK(strstr(err.text, "shorter") != NULL);
    help_store(segment_path(copy_dir(), 2), "not a segment", 13);
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK(strstr(err.text, "0000000002.seg is damaged at offset 0") != NULL);
    free(image);

    help_copy(help_dir(), copy_dir());
    CHECK(unlink(segment_path(copy_dir(), 1)) == 0); /* as after compaction, but its records are gone */
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK(strstr(err.text, "record 1 of key \"k\" is missing") != NULL);
}

TEST(a_client_cannot_smuggle_records_in)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    help_append(journal, "a", "one");
    size_t len;
    char *image = help_load(segment_path(help_dir(), 1), &len);
    size_t offset;
    size_t size;
    CHECK(help_locate(image, len, 0, &offset, &size));
    image[offset + 14] = 1; /* as if it began a flush */
    uint64_t lsn;
    uint64_t index;
    struct err err;
    /* A payload with the bytes of a record, in a flush that gets torn. Its salt is not this journal's. */
    struct journal_item fake = {.lsn = 99,
                                .epoch = 99,
                                .index = 1,
                                .kind = JOURNAL_DATA,
                                .first = true,
                                .key = "evil",
                                .key_len = 4,
                                .data = "x",
                                .len = 1};
    char payload[64];
    journal_record_encode(payload, 42, &fake);
    CHECK(journal->ops->append(journal, "aaaaaaaa", 8, payload, 48, &lsn, &index, &err) == 0);
    CHECK_INT(help_wait(journal, lsn), 0);
    free(image);
    help_copy(help_dir(), copy_dir());
    help_close(journal);
    image = help_load(segment_path(copy_dir(), 1), &len);
    CHECK(help_locate(image, len, 1, &offset, &size));
    image[offset] ^= 1;
    help_store(segment_path(copy_dir(), 1), image, len);
    free(image);
    journal = help_open(copy_dir(), SEGMENT);
    CHECK_STR(help_read(journal, "a"), "one,");
    CHECK_STR(help_read(journal, "evil"), "");
    help_close(journal);
}

TEST(a_second_opener_is_refused)
{
    help_wipe(help_dir());
    struct journal *journal = help_open(help_dir(), SEGMENT);
    struct err err;
    struct journal_opts opts = {.dir = help_dir()};
    CHECK(help_try_open(&opts, &err) == NULL);
    CHECK_INT(err.code, ERR_BUSY);
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    CHECK(strstr(err.text, pid) != NULL);
    help_close(journal);
}

int main(void)
{
    help_start();
    RUN(W4_torn_tail_at_every_byte);
    RUN(a_crash_without_damage_loses_nothing);
    RUN(reserved_space_is_not_read_after_a_crash);
    RUN(zeros_of_a_record_need_no_block_on_disk);
    RUN(flipped_bits_in_the_middle_are_refused);
    RUN(flipped_bits_of_a_closed_journal_are_refused_everywhere);
    RUN(quarantine_serves_the_other_keys);
    RUN(quarantine_finds_keys_by_their_gaps);
    RUN(missing_and_foreign_segments_are_refused);
    RUN(a_client_cannot_smuggle_records_in);
    RUN(a_second_opener_is_refused);
    help_wipe(help_dir());
    help_wipe(copy_dir());
    help_end();
    return 0;
}
