/* A disk whose power can be cut, for tests: records what a program does to one directory and makes what may
 * be left of it after any of the calls. Include it in one file of a program: it takes the place of libc's
 * functions there, which are called in turn, except that nothing is really flushed.
 *
 * What is left after a cut: of each file, what was flushed last; of each later change, everything, nothing
 * or, of a write, any of its sectors, some of them garbage. Names likewise: what was there when the directory
 * was flushed last, and of later changes any. That is more than a journaling file system would do. */
#pragma once

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "test.h"

enum { POWER_NAME = 64, POWER_FDS = 1024, POWER_SECTOR = 512 };

enum power_kind {
    POWER_CREATE,
    POWER_WRITE,
    POWER_SIZE,
    POWER_SYNC,
    POWER_SYNC_DIR,
    POWER_RENAME,
    POWER_REMOVE,
    POWER_MARK
};

/* What a disk does not do although it is asked to: a test must notice. */
enum power_lie { POWER_HONEST, POWER_IGNORES_DATA = 1, POWER_IGNORES_NAMES = 2 };

struct power_event {
    enum power_kind kind;
    int file;              /* -1: none */
    char name[POWER_NAME]; /* CREATE, REMOVE; RENAME: the old one */
    char to[POWER_NAME];
    uint64_t at; /* WRITE: offset; SIZE: the size, or with is_least what it is at least */
    bool is_least;
    size_t covers;    /* SYNC: events before this number are flushed */
    unsigned mark[2]; /* MARK: the test's own */
    struct buf data;
};

struct power_name {
    char name[POWER_NAME];
    int file;
};

/* Names and what is in the files. */
struct power_image {
    struct power_name names[128];
    size_t name_count;
    struct buf *files;
    size_t file_count;
};

static struct {
    pthread_mutex_t lock;
    bool is_on;
    unsigned lies;
    char dir[256];
    struct stat dir_stat;
    struct power_image base; /* when recording began */
    struct power_image live; /* now; its files are not kept up to date */
    int fds[POWER_FDS];      /* file of a descriptor, -1: not ours */
    struct power_event *events;
    size_t count;
    size_t cap;
} power = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define POWER_REAL(type, name, ...) ((type(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, name))

/* --- names ---------------------------------------------------------------------------------- */

static inline void power_copy_name(char out[POWER_NAME], const char *name)
{
    CHECK(strlen(name) < POWER_NAME);
    memcpy(out, name, strlen(name) + 1);
}

static inline struct power_name *power_find(struct power_image *image, const char *name)
{
    for (size_t i = 0; i < image->name_count; i++) {
        if (strcmp(image->names[i].name, name) == 0) {
            return &image->names[i];
        }
    }
    return NULL;
}

static inline void power_put(struct power_image *image, const char *name, int file)
{
    struct power_name *found = power_find(image, name);
    if (found == NULL) {
        CHECK(image->name_count < sizeof(image->names) / sizeof(image->names[0]));
        found = &image->names[image->name_count++];
        power_copy_name(found->name, name);
    }
    found->file = file;
}

static inline void power_drop(struct power_image *image, const char *name)
{
    struct power_name *found = power_find(image, name);
    if (found != NULL) {
        *found = image->names[--image->name_count];
    }
}

static inline int power_new_file(struct power_image *image)
{
    image->files = realloc(image->files, (image->file_count + 1) * sizeof(*image->files));
    CHECK(image->files != NULL);
    image->files[image->file_count] = (struct buf){0};
    return (int)image->file_count++;
}

static inline void power_image_free(struct power_image *image)
{
    for (size_t i = 0; i < image->file_count; i++) {
        buf_deinit(&image->files[i]);
    }
    free(image->files);
    *image = (struct power_image){0};
}

/* --- recording; the lock is held ------------------------------------------------------------ */

static inline struct power_event *power_add(enum power_kind kind, int file)
{
    if (power.count == power.cap) {
        power.cap = power.cap == 0 ? 1024 : power.cap * 2;
        power.events = realloc(power.events, power.cap * sizeof(*power.events));
        CHECK(power.events != NULL);
    }
    struct power_event *event = &power.events[power.count++];
    *event = (struct power_event){.kind = kind, .file = file};
    return event;
}

/* The name below the directory that a call means; NULL: it is somewhere else. */
static inline const char *power_name_of(int dir_fd, const char *path)
{
    if (!power.is_on) {
        return NULL;
    }
    size_t len = strlen(power.dir);
    if (strncmp(path, power.dir, len) == 0 && path[len] == '/') {
        return path + len + 1;
    }
    struct stat info;
    if (dir_fd < 0 || strchr(path, '/') != NULL || strcmp(path, ".") == 0 || fstat(dir_fd, &info) != 0 ||
        info.st_ino != power.dir_stat.st_ino || info.st_dev != power.dir_stat.st_dev) {
        return NULL;
    }
    return path;
}

static inline void power_note_open(int fd, const char *name, int flags)
{
    struct power_name *known = power_find(&power.live, name);
    if (known == NULL) {
        CHECK((flags & O_CREAT) != 0);
        power_put(&power.live, name, power_new_file(&power.live));
        known = power_find(&power.live, name);
        struct power_event *event = power_add(POWER_CREATE, known->file);
        power_copy_name(event->name, name);
    } else if ((flags & O_TRUNC) != 0) {
        (void)power_add(POWER_SIZE, known->file);
    }
    CHECK(fd < POWER_FDS);
    power.fds[fd] = known->file;
}

static inline int power_open(int dir_fd, const char *path, int flags, mode_t mode)
{
    (void)pthread_mutex_lock(&power.lock);
    int fd = POWER_REAL(int, "openat", int, const char *, int, ...)(dir_fd, path, flags, mode);
    const char *name = fd < 0 ? NULL : power_name_of(dir_fd, path);
    if (name != NULL) {
        power_note_open(fd, name, flags);
    } else if (fd >= 0 && fd < POWER_FDS) {
        power.fds[fd] = -1;
    }
    (void)pthread_mutex_unlock(&power.lock);
    return fd;
}

static inline int power_file_of(int fd)
{
    return power.is_on && fd >= 0 && fd < POWER_FDS ? power.fds[fd] : -1;
}

static inline int power_sync(int fd)
{
    struct stat info;
    (void)pthread_mutex_lock(&power.lock);
    int file = power_file_of(fd);
    size_t covers = power.count;
    bool is_dir = power.is_on && fstat(fd, &info) == 0 && info.st_ino == power.dir_stat.st_ino &&
                  info.st_dev == power.dir_stat.st_dev;
    (void)pthread_mutex_unlock(&power.lock);
    (void)sched_yield(); /* what others do meanwhile is not covered */
    (void)pthread_mutex_lock(&power.lock);
    if (is_dir && (power.lies & POWER_IGNORES_NAMES) == 0) {
        power_add(POWER_SYNC_DIR, -1)->covers = covers;
    } else if (file >= 0 && (power.lies & POWER_IGNORES_DATA) == 0) {
        power_add(POWER_SYNC, file)->covers = covers;
    }
    (void)pthread_mutex_unlock(&power.lock);
    return 0;
}

static inline void power_note_write(int fd, const void *data, ssize_t len, uint64_t offset)
{
    int file = power_file_of(fd);
    if (len > 0 && file >= 0) {
        struct power_event *event = power_add(POWER_WRITE, file);
        event->at = offset;
        buf_append(&event->data, data, (size_t)len);
    }
}

/* --- in libc's place ------------------------------------------------------------------------ */

int openat(int dir_fd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return power_open(dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return power_open(AT_FDCWD, path, flags, mode);
}

int mkostemp(char *path, int flags)
{
    (void)pthread_mutex_lock(&power.lock);
    int fd = POWER_REAL(int, "mkostemp", char *, int)(path, flags);
    const char *name = fd < 0 ? NULL : power_name_of(AT_FDCWD, path);
    if (name != NULL) {
        power_note_open(fd, name, O_CREAT);
    }
    (void)pthread_mutex_unlock(&power.lock);
    return fd;
}

int close(int fd)
{
    (void)pthread_mutex_lock(&power.lock);
    if (fd >= 0 && fd < POWER_FDS) {
        power.fds[fd] = -1;
    }
    int status = POWER_REAL(int, "close", int)(fd);
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    (void)pthread_mutex_lock(&power.lock);
    ssize_t done = POWER_REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, len, offset);
    power_note_write(fd, data, done, (uint64_t)offset);
    (void)pthread_mutex_unlock(&power.lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t len)
{
    (void)pthread_mutex_lock(&power.lock);
    off_t offset = power_file_of(fd) < 0 ? 0 : lseek(fd, 0, SEEK_CUR);
    ssize_t done = POWER_REAL(ssize_t, "write", int, const void *, size_t)(fd, data, len);
    power_note_write(fd, data, done, (uint64_t)offset);
    (void)pthread_mutex_unlock(&power.lock);
    return done;
}

int ftruncate(int fd, off_t size)
{
    (void)pthread_mutex_lock(&power.lock);
    int status = POWER_REAL(int, "ftruncate", int, off_t)(fd, size);
    if (status == 0 && power_file_of(fd) >= 0) {
        power_add(POWER_SIZE, power_file_of(fd))->at = (uint64_t)size;
    }
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    (void)pthread_mutex_lock(&power.lock);
    int status = POWER_REAL(int, "fallocate", int, int, off_t, off_t)(fd, mode, offset, len);
    if (status == 0 && power_file_of(fd) >= 0) {
        struct power_event *event = power_add(POWER_SIZE, power_file_of(fd));
        event->at = (uint64_t)(offset + len);
        event->is_least = true;
    }
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

int fsync(int fd)
{
    return power_sync(fd);
}

int fdatasync(int fd)
{
    return power_sync(fd);
}

static inline int power_note_rename(int status, int from_fd, const char *from, int to_fd, const char *to)
{
    const char *old = status == 0 ? power_name_of(from_fd, from) : NULL;
    const char *name = old == NULL ? NULL : power_name_of(to_fd, to);
    if (name != NULL) {
        int file = power_find(&power.live, old)->file;
        struct power_event *event = power_add(POWER_RENAME, file);
        power_copy_name(event->name, old);
        power_copy_name(event->to, name);
        power_drop(&power.live, event->name);
        power_put(&power.live, event->to, file);
    }
    return status;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    (void)pthread_mutex_lock(&power.lock);
    int status = POWER_REAL(int, "renameat", int, const char *, int, const char *)(from_fd, from, to_fd, to);
    (void)power_note_rename(status, from_fd, from, to_fd, to);
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

int rename(const char *from, const char *to)
{
    (void)pthread_mutex_lock(&power.lock);
    int status = POWER_REAL(int, "rename", const char *, const char *)(from, to);
    (void)power_note_rename(status, AT_FDCWD, from, AT_FDCWD, to);
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

int unlinkat(int dir_fd, const char *path, int flags)
{
    (void)pthread_mutex_lock(&power.lock);
    int status = POWER_REAL(int, "unlinkat", int, const char *, int)(dir_fd, path, flags);
    const char *name = status == 0 ? power_name_of(dir_fd, path) : NULL;
    struct power_name *known = name == NULL ? NULL : power_find(&power.live, name);
    if (known != NULL) {
        struct power_event *event = power_add(POWER_REMOVE, known->file);
        power_copy_name(event->name, name);
        power_drop(&power.live, event->name);
    }
    (void)pthread_mutex_unlock(&power.lock);
    return status;
}

/* --- what tests call ------------------------------------------------------------------------ */

/* Begins to record what happens in dir; what is there now counts as flushed. */
static inline void power_start(const char *dir, unsigned lies)
{
    (void)snprintf(power.dir, sizeof(power.dir), "%s", dir);
    CHECK(stat(dir, &power.dir_stat) == 0);
    DIR *list = opendir(dir);
    CHECK(list != NULL);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        int file = power_new_file(&power.base);
        power_put(&power.base, entry->d_name, file);
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        FILE *stream = fopen(path, "rb");
        CHECK(stream != NULL);
        char chunk[8192];
        for (size_t n; (n = fread(chunk, 1, sizeof(chunk), stream)) > 0;) {
            buf_append(&power.base.files[file], chunk, n);
        }
        (void)fclose(stream); /* only read */
    }
    (void)closedir(list);
    memcpy(power.live.names, power.base.names, sizeof(power.base.names));
    power.live.name_count = power.base.name_count;
    for (size_t i = 0; i < power.base.file_count; i++) {
        (void)power_new_file(&power.live);
    }
    for (int fd = 0; fd < POWER_FDS; fd++) {
        power.fds[fd] = -1;
    }
    power.lies = lies;
    power.is_on = true;
}

/* Notes something of the test between what happens on the disk. Thread-safe. */
static inline void power_mark(unsigned first, unsigned second)
{
    (void)pthread_mutex_lock(&power.lock);
    struct power_event *event = power_add(POWER_MARK, -1);
    event->mark[0] = first;
    event->mark[1] = second;
    (void)pthread_mutex_unlock(&power.lock);
}

/* Ends recording; what was recorded stays. */
static inline void power_stop(void)
{
    power.is_on = false;
}

static inline void power_forget(void)
{
    for (size_t i = 0; i < power.count; i++) {
        buf_deinit(&power.events[i].data);
    }
    power.count = 0;
    power_image_free(&power.base);
    power_image_free(&power.live);
}

static inline void power_resize(struct buf *file, size_t size)
{
    if (size > file->len) {
        memset(buf_reserve(file, size - file->len), 0, size - file->len);
    }
    file->len = size;
}

/* Applies a write, or with is_torn some of its sectors. */
static inline void power_apply_write(struct buf *file, const struct power_event *event, bool is_torn)
{
    for (size_t done = 0; done < event->data.len;) {
        size_t offset = event->at + done;
        size_t len = POWER_SECTOR - offset % POWER_SECTOR;
        bool is_whole = len == POWER_SECTOR && event->data.len - done >= len;
        if (len > event->data.len - done) {
            len = event->data.len - done;
        }
        int fate = is_torn ? rand() % 8 : 0; /* below 4: written; 7: garbage, if nothing else is in it */
        if (fate < 4 || (fate == 7 && is_whole)) {
            if (offset + len > file->len) {
                power_resize(file, offset + len);
            }
            for (size_t i = 0; i < len; i++) {
                file->data[offset + i] = fate == 7 ? (char)rand() : event->data.data[done + i];
            }
        }
        done += len;
    }
}

/* Number of the first event of a file (-1: of the names) that was not flushed before `end`. */
static inline size_t power_flushed(int file, size_t end)
{
    size_t flushed = 0;
    for (size_t i = 0; i < end; i++) {
        const struct power_event *event = &power.events[i];
        bool is_sync = event->kind == (file < 0 ? POWER_SYNC_DIR : POWER_SYNC) && event->file == file;
        if (is_sync && event->covers > flushed) { /* two threads may flush the names at once */
            flushed = event->covers;
        }
    }
    return flushed;
}

static inline void power_apply(struct power_image *image, const struct power_event *event, bool is_flushed)
{
    int fate = is_flushed ? 0 : rand() % 3; /* kept, torn, lost */
    if (fate == 2) {
        return;
    }
    switch (event->kind) {
    case POWER_CREATE:
        power_put(image, event->name, event->file);
        break;
    case POWER_RENAME:
        power_drop(image, event->name);
        power_put(image, event->to, event->file);
        break;
    case POWER_REMOVE:
        power_drop(image, event->name);
        break;
    case POWER_WRITE:
        power_apply_write(&image->files[event->file], event, fate == 1);
        break;
    case POWER_SIZE:
        if (!event->is_least || event->at > image->files[event->file].len) {
            power_resize(&image->files[event->file], event->at);
        }
        break;
    default:
        break;
    }
}

/* Writes into `dir` (made anew) what may be left when the power is cut before event number `end`; rand()
 * decides what is lost. */
static inline void power_cut(size_t end, const char *dir)
{
    struct power_image image = {.name_count = power.base.name_count};
    memcpy(image.names, power.base.names, sizeof(image.names));
    size_t *flushed = calloc(power.live.file_count + 1, sizeof(*flushed));
    CHECK(flushed != NULL);
    for (size_t i = 0; i < power.live.file_count; i++) {
        int file = power_new_file(&image);
        if (i < power.base.file_count) {
            buf_append(&image.files[file], power.base.files[i].data, power.base.files[i].len);
        }
        flushed[i] = power_flushed(file, end);
    }
    size_t named = power_flushed(-1, end);
    for (size_t i = 0; i < end; i++) {
        const struct power_event *event = &power.events[i];
        bool is_name =
            event->kind == POWER_CREATE || event->kind == POWER_RENAME || event->kind == POWER_REMOVE;
        if (is_name || event->kind == POWER_WRITE || event->kind == POWER_SIZE) {
            power_apply(&image, event, i < (is_name ? named : flushed[event->file]));
        }
    }
    CHECK(mkdir(dir, 0700) == 0);
    for (size_t i = 0; i < image.name_count; i++) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, image.names[i].name);
        FILE *stream = fopen(path, "wb");
        CHECK(stream != NULL);
        const struct buf *file = &image.files[image.names[i].file];
        CHECK(file->len == 0 || fwrite(file->data, 1, file->len, stream) == file->len);
        CHECK(fclose(stream) == 0);
    }
    power_image_free(&image);
    free(flushed);
}
