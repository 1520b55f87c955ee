/* Segment files; see journal_segment.h. */
#include "journal/journal_segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/xmem.h"
#include "journal/journal_record.h"

static const char temp_name[] = "next.tmp";
static const char suffix[] = ".seg";

void journal_segments_deinit(struct journal_segments *segments)
{
    free(segments->items);
    memset(segments, 0, sizeof(*segments));
}

struct journal_segment *journal_segments_add(struct journal_segments *segments, uint64_t seq)
{
    assert(segments->count == 0 || segments->items[segments->count - 1].seq + 1 == seq);
    if (segments->count == segments->cap) {
        segments->cap = segments->cap == 0 ? 16 : segments->cap * 2;
        segments->items = xrealloc(segments->items, segments->cap * sizeof(*segments->items));
    }
    struct journal_segment *segment = &segments->items[segments->count++];
    *segment = (struct journal_segment){.seq = seq, .end = JOURNAL_SEGMENT_HEAD};
    return segment;
}

struct journal_segment *journal_segments_get(const struct journal_segments *segments, uint64_t seq)
{
    assert(segments->count > 0 && seq - segments->items[0].seq < segments->count);
    return &segments->items[seq - segments->items[0].seq];
}

struct journal_segment *journal_segments_last(const struct journal_segments *segments)
{
    return segments->count == 0 ? NULL : &segments->items[segments->count - 1];
}

void journal_segments_shift(struct journal_segments *segments)
{
    segments->count--;
    memmove(segments->items, segments->items + 1, segments->count * sizeof(*segments->items));
}

void journal_segment_name(char out[JOURNAL_SEGMENT_NAME], uint64_t seq)
{
    (void)snprintf(out, JOURNAL_SEGMENT_NAME, "%010llu%s", (unsigned long long)seq, suffix);
}

bool journal_segment_parse_name(const char *name, uint64_t *seq)
{
    size_t len = strlen(name);
    size_t tail = sizeof(suffix) - 1;
    return len > tail && strcmp(name + len - tail, suffix) == 0 && num_parse_u64(name, len - tail, seq) &&
           *seq > 0;
}

int journal_segment_open(int dir_fd, uint64_t seq, int flags, int *fd, uint64_t *size, struct err *err)
{
    char name[JOURNAL_SEGMENT_NAME];
    journal_segment_name(name, seq);
    *fd = openat(dir_fd, name, flags | O_CLOEXEC);
    if (*fd < 0) {
        return err_set_errno(err, errno, "open segment %s", name);
    }
    struct stat stat;
    if (fstat(*fd, &stat) != 0) {
        int status = err_set_errno(err, errno, "stat segment %s", name);
        (void)close(*fd); /* nothing was written */
        *fd = -1;
        return status;
    }
    if (size != NULL) {
        *size = (uint64_t)stat.st_size;
    }
    return 0;
}

/* Reserves blocks, so that a flush changes no metadata and a full disk shows here. 0 or an errno. */
static int preallocate(int fd, size_t bytes, size_t needed)
{
    if (fault_hit("journal.rotate")) {
        return ENOSPC;
    }
    int error = fallocate(fd, 0, 0, (off_t)bytes) == 0 ? 0 : errno;
    if (error == ENOSPC && needed < bytes) {
        error = fallocate(fd, 0, 0, (off_t)needed) == 0 ? 0 : errno;
    }
    return error == EOPNOTSUPP ? 0 : error; /* such file systems allocate while writing */
}

int journal_segment_create(int dir_fd, const struct journal_segment_head *head, size_t bytes, size_t needed,
                           bool sync, int *out, struct err *err)
{
    char name[JOURNAL_SEGMENT_NAME];
    journal_segment_name(name, head->seq);
    char header[JOURNAL_SEGMENT_HEAD];
    journal_segment_encode(header, head);
    const char *what = "create";
    int error = 0;
    int fd = openat(dir_fd, temp_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        error = errno;
        goto out;
    }
    what = "reserve";
    error = preallocate(fd, bytes, needed);
    if (error != 0) {
        goto out;
    }
    what = "write";
    error = journal_write_all(fd, header, sizeof(header), 0);
    if (error == 0 && sync && fsync(fd) != 0) {
        error = errno;
    }
    if (error != 0) {
        goto out;
    }
    what = "rename";
    if (renameat(dir_fd, temp_name, dir_fd, name) != 0) {
        error = errno;
        goto out;
    }
    (void)fault_hit("journal.renamed"); /* an empty segment at the end */
    if (sync && fsync(dir_fd) != 0) {
        error = errno;
        goto out;
    }
    *out = fd;
    fd = -1; /* moved to the caller */
out:
    if (fd >= 0) {
        (void)close(fd); /* abandoned: the next attempt truncates it */
        (void)unlinkat(dir_fd, temp_name, 0);
    }
    return error == 0 ? 0 : err_set_errno(err, error, "%s segment %s", what, name);
}

int journal_segment_remove(int dir_fd, uint64_t seq, bool sync, struct err *err)
{
    char name[JOURNAL_SEGMENT_NAME];
    journal_segment_name(name, seq);
    int error = unlinkat(dir_fd, name, 0) == 0 ? 0 : errno;
    (void)fault_hit("journal.removed");
    if (error == 0 && sync && fsync(dir_fd) != 0) {
        error = errno;
    }
    return error == 0 ? 0 : err_set_errno(err, error, "remove segment %s", name);
}

/* Makes the entry of path in its parent directory durable. */
static int sync_parent(const char *path)
{
    char *copy = xstrdup(path);
    char *slash = strrchr(copy, '/');
    const char *parent = ".";
    if (slash == copy) {
        parent = "/";
    } else if (slash != NULL) {
        *slash = '\0';
        parent = copy;
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) {
        (void)close(fd); /* read only */
    }
    free(copy);
    return error;
}

static int make_dir(const char *path)
{
    if (mkdir(path, 0700) == 0) {
        return sync_parent(path);
    }
    return errno == EEXIST ? 0 : errno;
}

int journal_dir_open(const char *dir, int *dir_fd, struct err *err)
{
    char *path = xstrdup(dir);
    int error = 0;
    for (char *p = path + 1; *p != '\0' && error == 0; p++) {
        if (*p == '/' && p[1] != '\0' && p[1] != '/') {
            *p = '\0';
            error = make_dir(path);
            *p = '/';
        }
    }
    if (error == 0) {
        size_t len = strlen(path);
        while (len > 1 && path[len - 1] == '/') {
            path[--len] = '\0';
        }
        error = make_dir(path);
    }
    *dir_fd = error == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (error == 0 && *dir_fd < 0) {
        error = errno;
    }
    free(path);
    return error == 0 ? 0 : err_set_errno(err, error, "open journal directory %s", dir);
}

int journal_write_all(int fd, const char *data, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        if (n == 0) {
            return EIO;
        }
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

ssize_t journal_read_all(int fd, char *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}
