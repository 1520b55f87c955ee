/* Embedded files by name; see embed.h. The table is generated at build time. */
#include "embed/embed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/xmem.h"

/* Open addressing over embed_files, built at first use: one of the allowed module-level states (style C15).
 */
static const struct embed_file **slots;
static size_t slot_count;

static size_t hash(const char *name)
{
    uint64_t value = 1469598103934665603ULL; /* FNV-1a */
    for (; *name != '\0'; name++) {
        value = (value ^ (unsigned char)*name) * 1099511628211ULL;
    }
    return (size_t)value;
}

static void build(void)
{
    slot_count = 16;
    while (slot_count < (size_t)embed_file_count * 2) {
        slot_count *= 2;
    }
    slots = xcalloc(slot_count, sizeof(*slots));
    for (unsigned i = 0; i < embed_file_count; i++) {
        size_t at = hash(embed_files[i].name) & (slot_count - 1);
        while (slots[at] != NULL) {
            at = (at + 1) & (slot_count - 1);
        }
        slots[at] = &embed_files[i];
    }
}

const struct embed_file *embed_find(const char *name)
{
    if (slots == NULL) {
        build();
    }
    for (size_t at = hash(name) & (slot_count - 1); slots[at] != NULL; at = (at + 1) & (slot_count - 1)) {
        if (strcmp(slots[at]->name, name) == 0) {
            return slots[at];
        }
    }
    return NULL;
}

void embed_forget(void)
{
    uintptr_t first = UINTPTR_MAX;
    uintptr_t last = 0;
    for (unsigned i = 0; i < embed_file_count; i++) {
        uintptr_t at = (uintptr_t)embed_files[i].data;
        first = at < first ? at : first;
        last = at + embed_files[i].len > last ? at + embed_files[i].len : last;
    }
    /* Constants, so their pages are those of the program's file; what else is on them comes back, too. */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    first = (first + page - 1) & ~(page - 1);
    last &= ~(page - 1);
    if (first < last) {
        (void)madvise((void *)first, last - first, MADV_DONTNEED); /* a hint */
    }
}
