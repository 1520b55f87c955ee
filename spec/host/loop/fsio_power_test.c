/* Power cuts while files are replaced, as policies, registered modes and keys are: after a cut at any call
 * there is one of the versions, whole, and none older than what had been told to be stored (power_disk.h). */
#include "power_disk.h"
#include "seed.h"

#include "loop/fsio.h"

enum { FILES = 3, VERSIONS = 40, CUTS = 300 };

static const char *dir_name(const char *suffix)
{
    static char name[96];
    (void)snprintf(name, sizeof(name), "/tmp/fsio-power-%ld%s", (long)getpid(), suffix);
    return name;
}

/* Text of a version: of a length of its own, and no part of another. */
static void fill(struct buf *out, unsigned file, unsigned version)
{
    buf_clear(out);
    for (unsigned i = 0; i <= version * 97 % 300; i++) {
        buf_printf(out, "%u-%u,", file, version);
    }
}

static void path_of(char out[128], const char *dir, unsigned file)
{
    (void)snprintf(out, 128, "%s/file%u.json", dir, file);
}

/* Stores version after version of each file, and records it. */
static void work(bool sync, unsigned lies)
{
    struct err err;
    struct buf text = {0};
    CHECK(mkdir(dir_name(""), 0700) == 0);
    power_start(dir_name(""), lies);
    for (unsigned i = 0; i < FILES * VERSIONS; i++) {
        char path[128];
        path_of(path, dir_name(""), i % FILES);
        fill(&text, i % FILES, i / FILES + 1);
        CHECK(fsio_write(path, text.data, text.len, 0600, sync, &err) == 0);
        power_mark(i % FILES, i / FILES + 1);
    }
    power_stop();
    buf_deinit(&text);
}

static void remove_dir(const char *dir)
{
    struct err err;
    CHECK(fsio_remove_tree(dir, &err) == 0);
}

/* Whether a file holds version `acked` or the one that came after it. */
static bool is_good(const char *dir, unsigned file, unsigned acked)
{
    char path[128];
    struct err err;
    struct buf found = {0};
    struct buf text = {0};
    path_of(path, dir, file);
    bool is_there = fsio_read(path, 1 << 20, &found, &err) == 0;
    bool result = !is_there && acked == 0;
    for (unsigned version = acked == 0 ? 1 : acked; is_there && version <= acked + 1; version++) {
        fill(&text, file, version);
        result = result || (text.len == found.len && memcmp(text.data, found.data, found.len) == 0);
    }
    buf_deinit(&found);
    buf_deinit(&text);
    return result;
}

static unsigned cut(void)
{
    unsigned losses = 0;
    char dir[96];
    (void)snprintf(dir, sizeof(dir), "%s", dir_name("-cut"));
    for (int i = 0; i < CUTS; i++) {
        unsigned acked[FILES] = {0};
        size_t end = (size_t)rand() % (power.count + 1);
        for (size_t e = 0; e < end; e++) {
            if (power.events[e].kind == POWER_MARK) {
                acked[power.events[e].mark[0]] = power.events[e].mark[1];
            }
        }
        power_cut(end, dir);
        bool all = true;
        for (unsigned file = 0; file < FILES; file++) {
            all = all && is_good(dir, file, acked[file]);
        }
        losses += !all;
        remove_dir(dir);
    }
    power_forget();
    remove_dir(dir_name(""));
    return losses;
}

TEST(a_synced_file_is_the_old_one_or_the_new_one)
{
    work(true, POWER_HONEST);
    CHECK_INT(cut(), 0);
}

/* The test itself: without the flushes it must find something missing. */
TEST(a_file_that_is_not_synced_is_noticed)
{
    work(false, POWER_HONEST);
    CHECK(cut() > 0);
    work(true, POWER_IGNORES_DATA);
    CHECK(cut() > 0);
    work(true, POWER_IGNORES_NAMES);
    CHECK(cut() > 0);
}

int main(void)
{
    srand(test_seed());
    RUN(a_synced_file_is_the_old_one_or_the_new_one);
    RUN(a_file_that_is_not_synced_is_noticed);
    return 0;
}
