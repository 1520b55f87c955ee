/* The file of parked keys; see journal_spill.h. */
#include "journal/journal_spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "base/xmem.h"
#include "journal/journal_index.h"
#include "journal/journal_parked.h"
#include "journal/journal_segment.h"

enum { HEAD = 25, ALIGN = 8, CHUNK = 1 << 20, FIRST_READ = 512, MAX_SIZE = 1 << 30 };

struct chunk {
    uint32_t used; /* bytes; the first ALIGN are none */
    uint32_t live; /* entries */
};

struct journal_spill {
    char *dir;
    int fd; /* -1: nothing was written yet */
    size_t chunk_bytes;
    struct chunk *chunks;
    size_t count;
    size_t cap;
    size_t current; /* takes entries; valid with count > 0 */
    uint32_t *unused;
    size_t unused_count;
    size_t unused_cap;
    int readers;
};

struct journal_spill *journal_spill_new(const char *dir, size_t chunk_bytes)
{
    struct journal_spill *spill = xcalloc(1, sizeof(*spill));
    const char *temporary = getenv("TMPDIR");
    temporary = temporary != NULL && temporary[0] != '\0' ? temporary : "/tmp";
    spill->dir = xstrdup(dir != NULL ? dir : temporary);
    spill->fd = -1;
    spill->chunk_bytes = chunk_bytes == 0 ? CHUNK : chunk_bytes;
    return spill;
}

void journal_spill_free(struct journal_spill *spill)
{
    if (spill == NULL) {
        return;
    }
    if (spill->fd >= 0) {
        (void)close(spill->fd); /* nobody needs what is in it */
    }
    free(spill->dir);
    free(spill->chunks);
    free(spill->unused);
    free(spill);
}

/* --- entries ------------------------------------------------------------------------------------------ */

static void put_number(struct buf *out, uint64_t number)
{
    for (; number >= 0x80; number >>= 7) {
        buf_append_byte(out, (unsigned char)(number | 0x80));
    }
    buf_append_byte(out, (unsigned char)number);
}

static bool get_number(const unsigned char **at, const unsigned char *end, uint64_t *number)
{
    *number = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static void put_places(struct buf *out, const uint64_t *places, uint32_t count)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t ahead = places[i] - before; /* two's complement: compaction may have moved it backwards */
        put_number(out, ahead << 1 ^ (0 - (ahead >> 63)));
        before = places[i];
    }
}

size_t journal_spill_encode(struct buf *out, const struct journal_key *key)
{
    size_t start = out->len;
    char head[HEAD] = {0};
    buf_append(out, head, sizeof(head));
    buf_append(out, key->name, key->len);
    size_t before = out->len;
    if (key->places != NULL) {
        put_places(out, key->places, key->count);
    }
    uint32_t places_len = (uint32_t)(out->len - before);
    while ((out->len - start) % ALIGN != 0) {
        buf_append_byte(out, 0);
    }
    char *entry = out->data + start;
    uint32_t size = (uint32_t)(out->len - start);
    memcpy(entry + 4, &size, 4);
    memcpy(entry + 8, &key->epoch, 8);
    memcpy(entry + 16, &key->count, 4);
    memcpy(entry + 20, &places_len, 4);
    entry[24] = (char)key->len;
    uint32_t crc = crc32c(0, entry + 4, size - 4);
    memcpy(entry, &crc, 4);
    return size;
}

bool journal_spill_decode(const char *data, size_t avail, struct journal_spill_item *item, size_t *size)
{
    uint32_t crc;
    uint32_t entry_size;
    uint32_t places_len;
    if (avail < HEAD) {
        return false;
    }
    memcpy(&crc, data, 4);
    memcpy(&entry_size, data + 4, 4);
    memcpy(&item->epoch, data + 8, 8);
    memcpy(&item->count, data + 16, 4);
    memcpy(&places_len, data + 20, 4);
    item->name_len = (uint8_t)data[24];
    if (entry_size > avail || entry_size < HEAD + (size_t)item->name_len + places_len ||
        crc32c(0, data + 4, entry_size - 4) != crc) {
        return false;
    }
    item->name = data + HEAD;
    item->places = (const unsigned char *)data + HEAD + item->name_len;
    item->places_len = places_len;
    *size = entry_size;
    return true;
}

uint64_t *journal_spill_places(const struct journal_spill_item *item)
{
    if (item->places_len < item->count) { /* each takes a byte at least */
        return NULL;
    }
    uint64_t *places = xcalloc((size_t)item->count + 1, sizeof(*places));
    const unsigned char *at = item->places;
    uint64_t before = 0;
    for (uint32_t i = 0; i < item->count; i++) {
        uint64_t number;
        if (!get_number(&at, item->places + item->places_len, &number)) {
            free(places);
            return NULL;
        }
        before += number >> 1 ^ (0 - (number & 1));
        places[i] = before;
    }
    return places;
}

/* --- chunks ------------------------------------------------------------------------------------------- */

static void make_unused(struct journal_spill *spill, size_t chunk)
{
    if (spill->unused_count == spill->unused_cap) {
        spill->unused_cap = spill->unused_cap == 0 ? 16 : spill->unused_cap * 2;
        spill->unused = xrealloc(spill->unused, spill->unused_cap * sizeof(*spill->unused));
    }
    spill->chunks[chunk].used = 0;
    spill->unused[spill->unused_count++] = (uint32_t)chunk;
}

/* Makes an empty chunk the current one. */
static bool move_on(struct journal_spill *spill)
{
    size_t before = spill->current;
    bool was_any = spill->count > 0;
    if (spill->unused_count > 0 && spill->readers == 0) {
        spill->current = spill->unused[--spill->unused_count];
    } else {
        if ((spill->count + 1) * spill->chunk_bytes / ALIGN > JOURNAL_PARKED_MAX_PLACE) {
            return false;
        }
        if (spill->count == spill->cap) {
            spill->cap = spill->cap == 0 ? 16 : spill->cap * 2;
            spill->chunks = xrealloc(spill->chunks, spill->cap * sizeof(*spill->chunks));
        }
        spill->current = spill->count++;
    }
    spill->chunks[spill->current] = (struct chunk){.used = ALIGN};
    if (was_any && spill->chunks[before].live == 0) {
        make_unused(spill, before);
    }
    return true;
}

uint64_t journal_spill_reserve(struct journal_spill *spill, size_t size, bool may_move)
{
    if (size + ALIGN > spill->chunk_bytes) {
        return 0;
    }
    if (spill->count == 0 || spill->chunks[spill->current].used + size > spill->chunk_bytes) {
        if (!may_move || !move_on(spill)) {
            return 0;
        }
    }
    struct chunk *chunk = &spill->chunks[spill->current];
    uint64_t offset = (uint64_t)spill->current * spill->chunk_bytes + chunk->used;
    chunk->used += (uint32_t)size;
    chunk->live++;
    return offset / ALIGN;
}

void journal_spill_drop(struct journal_spill *spill, uint64_t place)
{
    size_t number = (size_t)(place * ALIGN / spill->chunk_bytes);
    if (--spill->chunks[number].live == 0 && number != spill->current) {
        make_unused(spill, number);
    }
}

void journal_spill_hold(struct journal_spill *spill, int delta)
{
    spill->readers += delta;
}

bool journal_spill_next(const struct journal_spill *spill, size_t *chunk, uint64_t *place, size_t *len)
{
    for (; *chunk < spill->count; (*chunk)++) {
        if (spill->chunks[*chunk].live > 0) {
            *place = ((uint64_t)*chunk * spill->chunk_bytes + ALIGN) / ALIGN;
            *len = spill->chunks[*chunk].used - ALIGN;
            return true;
        }
    }
    return false;
}

uint64_t journal_spill_bytes(const struct journal_spill *spill)
{
    return (uint64_t)spill->count * spill->chunk_bytes;
}

/* --- the file ----------------------------------------------------------------------------------------- */

static int make_file(struct journal_spill *spill, struct err *err)
{
    int fd = open(spill->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) { /* not on this file system */
        struct buf path = {0};
        buf_printf(&path, "%s/parked-XXXXXX", spill->dir);
        buf_append_byte(&path, '\0');
        fd = mkostemp(path.data, O_CLOEXEC);
        if (fd >= 0) {
            (void)unlink(path.data); /* else it stays behind, which harms nobody */
        }
        buf_deinit(&path);
    }
    spill->fd = fd;
    return fd < 0 ? err_set_errno(err, errno, "make a temporary file in %s", spill->dir) : 0;
}

int journal_spill_write(struct journal_spill *spill, uint64_t place, const char *data, size_t len,
                        struct err *err)
{
    if (fault_hit("journal.spill_write")) {
        return err_set(err, ERR_IO, "a fault was asked for");
    }
    if (spill->fd < 0) {
        int status = make_file(spill, err);
        if (status != 0) {
            return status;
        }
    }
    int error = journal_write_all(spill->fd, data, len, place * ALIGN);
    return error == 0 ? 0 : err_set_errno(err, error, "write to a temporary file in %s", spill->dir);
}

int journal_spill_load(const struct journal_spill *spill, uint64_t place, size_t len, struct buf *out,
                       struct err *err)
{
    buf_clear(out);
    ssize_t n = journal_read_all(spill->fd, buf_reserve(out, len), len, place * ALIGN);
    if (n < 0 || fault_hit("journal.spill_read")) {
        return err_set_errno(err, n < 0 ? errno : EIO, "read a temporary file in %s", spill->dir);
    }
    out->len = (size_t)n;
    return 0;
}

int journal_spill_read(const struct journal_spill *spill, uint64_t place, struct buf *out, struct err *err)
{
    size_t want = FIRST_READ;
    for (;;) {
        int status = journal_spill_load(spill, place, want, out, err);
        if (status != 0) {
            return status;
        }
        uint32_t size = 0;
        if (out->len >= HEAD) {
            memcpy(&size, out->data + 4, 4);
        }
        if (size < HEAD || size > spill->chunk_bytes || (want >= size && out->len < size)) {
            return err_set(err, ERR_CORRUPT, "a temporary file in %s was changed", spill->dir);
        }
        if (out->len >= size) {
            out->len = size;
            return 0;
        }
        want = size;
    }
}
