/* Embedded files by name; see embed.h. The table is generated at build time. */
#include "embed/embed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
