/* Record and segment encoding; see journal_record.h. */
#include "journal/journal_record.h"

#include <endian.h>
#include <string.h>

#include "base/crc32c.h"
#include "journal/journal.h"

enum { VERSION = 1, FLAG_FIRST = 1 };

static const char magic[8] = {'j', 'o', 'u', 'r', 'n', 'a', 'l', '\n'};

static void put_u32(char *out, uint32_t value)
{
    value = htole32(value);
    memcpy(out, &value, sizeof(value));
}

static void put_u64(char *out, uint64_t value)
{
    value = htole64(value);
    memcpy(out, &value, sizeof(value));
}

static uint32_t get_u32(const char *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof(value));
    return le32toh(value);
}

static uint64_t get_u64(const char *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof(value));
    return le64toh(value);
}

static bool is_zero(const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

size_t journal_record_size(size_t key_len, size_t len)
{
    size_t size = JOURNAL_RECORD_HEAD + key_len + len;
    return (size + JOURNAL_ALIGN - 1) & ~(size_t)(JOURNAL_ALIGN - 1);
}

void journal_record_encode(char *out, uint32_t salt, const struct journal_item *item)
{
    size_t used = JOURNAL_RECORD_HEAD + (size_t)item->key_len + item->len;
    put_u32(out + 4, crc32c(salt, item->data, item->len));
    put_u32(out + 8, item->len);
    out[12] = (char)item->kind;
    out[13] = (char)item->key_len;
    out[14] = item->first ? FLAG_FIRST : 0;
    out[15] = 0;
    put_u64(out + 16, item->lsn);
    put_u64(out + 24, item->epoch);
    put_u32(out + 32, item->index);
    put_u32(out + 36, 0);
    if (item->key_len > 0) {
        memcpy(out + JOURNAL_RECORD_HEAD, item->key, item->key_len);
    }
    if (item->len > 0) {
        memcpy(out + JOURNAL_RECORD_HEAD + item->key_len, item->data, item->len);
    }
    memset(out + used, 0, journal_record_size(item->key_len, item->len) - used);
    put_u32(out, crc32c(salt, out + 4, JOURNAL_RECORD_HEAD - 4 + (size_t)item->key_len));
}

static bool is_plausible(const char *data)
{
    uint8_t kind = (uint8_t)data[12];
    uint8_t key_len = (uint8_t)data[13];
    if (kind < JOURNAL_DATA || kind > JOURNAL_CLOSED || get_u32(data + 8) > JOURNAL_RECORD_MAX) {
        return false;
    }
    return (data[14] & ~FLAG_FIRST) == 0 && data[15] == 0 && get_u32(data + 36) == 0 &&
           (key_len > 0) == (kind != JOURNAL_CLOSED);
}

enum journal_decoded journal_record_decode(const char *data, size_t avail, uint32_t salt,
                                           struct journal_item *item, size_t *size)
{
    *size = JOURNAL_RECORD_HEAD;
    if (avail < JOURNAL_RECORD_HEAD) {
        return JOURNAL_SHORT;
    }
    if (!is_plausible(data)) {
        return is_zero(data, JOURNAL_RECORD_HEAD) ? JOURNAL_END : JOURNAL_BAD_HEAD;
    }
    size_t key_len = (uint8_t)data[13];
    if (avail < JOURNAL_RECORD_HEAD + key_len) {
        *size = JOURNAL_RECORD_HEAD + key_len;
        return JOURNAL_SHORT;
    }
    if (crc32c(salt, data + 4, JOURNAL_RECORD_HEAD - 4 + key_len) != get_u32(data)) {
        return JOURNAL_BAD_HEAD;
    }
    *item = (struct journal_item){
        .lsn = get_u64(data + 16),
        .epoch = get_u64(data + 24),
        .index = get_u32(data + 32),
        .kind = (uint8_t)data[12],
        .first = (data[14] & FLAG_FIRST) != 0,
        .key_len = (uint8_t)key_len,
        .len = get_u32(data + 8),
        .key = data + JOURNAL_RECORD_HEAD,
        .data = data + JOURNAL_RECORD_HEAD + key_len,
    };
    *size = journal_record_size(key_len, item->len);
    if (avail < *size) {
        return JOURNAL_SHORT;
    }
    size_t used = JOURNAL_RECORD_HEAD + key_len + item->len;
    if (crc32c(salt, item->data, item->len) != get_u32(data + 4) || !is_zero(data + used, *size - used)) {
        return JOURNAL_BAD_DATA;
    }
    return JOURNAL_OK;
}

void journal_segment_encode(char out[JOURNAL_SEGMENT_HEAD], const struct journal_segment_head *head)
{
    memset(out, 0, JOURNAL_SEGMENT_HEAD);
    memcpy(out, magic, sizeof(magic));
    put_u32(out + 8, VERSION);
    put_u32(out + 12, head->salt);
    put_u64(out + 16, head->seq);
    put_u64(out + 24, head->prev_end);
    put_u64(out + 32, (uint64_t)head->created_ms);
    put_u32(out + 60, crc32c(0, out, 60));
}

int journal_segment_decode(const char data[JOURNAL_SEGMENT_HEAD], struct journal_segment_head *head,
                           struct err *err)
{
    if (memcmp(data, magic, sizeof(magic)) != 0 || crc32c(0, data, 60) != get_u32(data + 60)) {
        return err_set(err, ERR_CORRUPT, "the segment header does not verify");
    }
    if (get_u32(data + 8) != VERSION) {
        return err_set(err, ERR_CORRUPT, "format version %u is not known (this program knows %d)",
                       get_u32(data + 8), VERSION);
    }
    *head = (struct journal_segment_head){
        .salt = get_u32(data + 12),
        .seq = get_u64(data + 16),
        .prev_end = get_u64(data + 24),
        .created_ms = (int64_t)get_u64(data + 32),
    };
    return 0;
}
