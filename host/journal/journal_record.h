/* The bytes of a journal on disk: segment headers and records. Little endian, records aligned to 8 bytes.
 * Pure functions, thread-safe.
 *
 *   segment  magic[8] version:u32 salt:u32 seq:u64 prev_end:u64 created_ms:u64 zero[20] crc:u32        64
 * bytes record   head_crc:u32 data_crc:u32 len:u32 kind:u8 key_len:u8 flags:u16 lsn:u64 epoch:u64 index:u32
 * zero:u32 key[key_len] data[len] zero padding                                                  40 + n bytes
 *
 * head_crc covers the rest of the head and the key, so that a record with damaged data still names its key.
 * Both sums start from the journal's random salt: bytes that a client put into a record never verify as a
 * record. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { JOURNAL_SEGMENT_HEAD = 64, JOURNAL_RECORD_HEAD = 40, JOURNAL_ALIGN = 8 };

enum journal_kind {
    JOURNAL_DATA = 1,   /* record `index` of the log `epoch` of its key */
    JOURNAL_STAGED = 2, /* the same, and counts only when a JOURNAL_COMMIT of its epoch follows */
    JOURNAL_COMMIT = 3, /* epoch, with the records 1..index, replaces what the key had */
    JOURNAL_DELETE = 4, /* the logs of the key up to epoch are gone */
    JOURNAL_CLOSED = 5, /* orderly end; no key */
};

/* A record as fields. lsn grows with every record of the journal; epoch is the lsn that began the key's log.
 */
struct journal_item {
    uint64_t lsn;
    uint64_t epoch;
    uint32_t index;
    uint8_t kind;
    bool first; /* first record of its flush: everything before it was durable when it was written */
    uint8_t key_len;
    uint32_t len;
    const char *key;
    const char *data;
};

struct journal_segment_head {
    uint32_t salt;
    uint64_t seq;      /* from 1, without gaps */
    uint64_t prev_end; /* where the valid part of the segment before ends */
    int64_t created_ms;
};

enum journal_decoded {
    JOURNAL_OK,
    JOURNAL_END,      /* zeros: nothing was written here */
    JOURNAL_SHORT,    /* more bytes are needed: *size of them */
    JOURNAL_BAD_HEAD, /* not a record */
    JOURNAL_BAD_DATA, /* the head verifies (item is filled), the data does not */
};

/* Bytes of a record on disk, padding included. */
size_t journal_record_size(size_t key_len, size_t len);

/* Writes journal_record_size bytes to out. */
void journal_record_encode(char *out, uint32_t salt, const struct journal_item *item);

/* Reads the record at data. item points into data. *size is the record's length for OK, SHORT and BAD_DATA.
 */
enum journal_decoded journal_record_decode(const char *data, size_t avail, uint32_t salt,
                                           struct journal_item *item, size_t *size);

void journal_segment_encode(char out[JOURNAL_SEGMENT_HEAD], const struct journal_segment_head *head);
/* ERR_CORRUPT when the bytes are no header of a version we know. */
int journal_segment_decode(const char data[JOURNAL_SEGMENT_HEAD], struct journal_segment_head *head,
                           struct err *err);
