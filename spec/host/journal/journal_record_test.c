/* Records and segment headers: what is written is read, and no changed bit goes unnoticed. */
#include "journal/journal_record.h"

#include "journal/journal.h"
#include "test.h"

enum { SALT = 0x1234567 };

static size_t encode(char *out, const char *key, const char *data, size_t len)
{
    struct journal_item item = {
        .lsn = 0x1122334455667788,
        .epoch = 0x99,
        .index = 7,
        .kind = JOURNAL_DATA,
        .first = true,
        .key = key,
        .key_len = (uint8_t)strlen(key),
        .data = data,
        .len = (uint32_t)len,
    };
    journal_record_encode(out, SALT, &item);
    return journal_record_size(item.key_len, item.len);
}

TEST(round_trip)
{
    for (size_t len = 0; len < 40; len++) {
        char out[256];
        char data[40];
        memset(data, 'd', sizeof(data));
        size_t size = encode(out, "key", data, len);
        CHECK_INT(size % JOURNAL_ALIGN, 0);
        struct journal_item item;
        size_t got;
        CHECK_INT(journal_record_decode(out, size, SALT, &item, &got), JOURNAL_OK);
        CHECK_INT(got, size);
        CHECK_INT(item.lsn, 0x1122334455667788);
        CHECK_INT(item.epoch, 0x99);
        CHECK_INT(item.index, 7);
        CHECK(item.first);
        CHECK_INT(item.len, len);
        CHECK(memcmp(item.key, "key", 3) == 0 && memcmp(item.data, data, len) == 0);
    }
}

TEST(every_flipped_bit_is_found)
{
    char good[256];
    size_t size = encode(good, "a-key", "some data here", 14);
    for (size_t bit = 0; bit < size * 8; bit++) {
        char bad[256];
        memcpy(bad, good, size);
        bad[bit / 8] ^= (char)(1 << bit % 8);
        struct journal_item item;
        size_t got;
        CHECK(journal_record_decode(bad, size, SALT, &item, &got) != JOURNAL_OK);
    }
}

TEST(damaged_data_still_names_the_key)
{
    char out[256];
    size_t size = encode(out, "a-key", "some data here", 14);
    out[JOURNAL_RECORD_HEAD + 5] ^= 1;
    struct journal_item item;
    size_t got;
    CHECK_INT(journal_record_decode(out, size, SALT, &item, &got), JOURNAL_BAD_DATA);
    CHECK_INT(got, size);
    CHECK(item.key_len == 5 && memcmp(item.key, "a-key", 5) == 0);
}

TEST(asks_for_missing_bytes)
{
    char out[256];
    size_t size = encode(out, "key", "0123456789", 10);
    struct journal_item item;
    for (size_t avail = 0; avail < size; avail++) {
        size_t got;
        CHECK_INT(journal_record_decode(out, avail, SALT, &item, &got), JOURNAL_SHORT);
        CHECK(got > avail && got <= size);
    }
}

TEST(other_salts_and_zeros_are_no_records)
{
    char out[256];
    size_t size = encode(out, "key", "data", 4);
    struct journal_item item;
    size_t got;
    CHECK_INT(journal_record_decode(out, size, SALT + 1, &item, &got), JOURNAL_BAD_HEAD);
    memset(out, 0, sizeof(out));
    CHECK_INT(journal_record_decode(out, sizeof(out), SALT, &item, &got), JOURNAL_END);
}

TEST(segment_headers)
{
    struct journal_segment_head head = {.salt = 5, .seq = 6, .prev_end = 7, .created_ms = 8};
    char out[JOURNAL_SEGMENT_HEAD];
    journal_segment_encode(out, &head);
    struct journal_segment_head got;
    struct err err;
    CHECK_INT(journal_segment_decode(out, &got, &err), 0);
    CHECK(got.salt == 5 && got.seq == 6 && got.prev_end == 7 && got.created_ms == 8);
    for (size_t bit = 0; bit < sizeof(out) * 8; bit++) {
        out[bit / 8] ^= (char)(1 << bit % 8);
        CHECK_INT(journal_segment_decode(out, &got, &err), ERR_CORRUPT);
        out[bit / 8] ^= (char)(1 << bit % 8);
    }
}

int main(void)
{
    RUN(round_trip);
    RUN(every_flipped_bit_is_found);
    RUN(damaged_data_still_names_the_key);
    RUN(asks_for_missing_bytes);
    RUN(other_salts_and_zeros_are_no_records);
    RUN(segment_headers);
    return 0;
}
