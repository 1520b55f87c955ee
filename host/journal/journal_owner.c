/* The holder of a directory; see journal_owner.h. */
#include "journal/journal_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/xmem.h"
#include "journal/journal_segment.h"

enum { TEXT = 192, HOST = 65, SINCE = 32 };

struct journal_owner {
    int dir_fd; /* borrowed */
    int fd;
    char *dir;
    char *name;
    struct stat stat;
    uint64_t epoch;
    char text[TEXT]; /* what is in the file */
};

/* What the file says. */
struct holder {
    long pid;
    unsigned long long epoch;
    char host[HOST];
    char since[SINCE];
};

/* "pid epoch host since"; what is not there stays unknown (an earlier version wrote the pid alone). */
static void parse(const char *text, struct holder *holder)
{
    *holder = (struct holder){.host = "an unknown host", .since = "an unknown time"};
    char *end;
    holder->pid = strtol(text, &end, 10);
    holder->epoch = strtoull(end, &end, 10);
    if (*end == ' ') {
        (void)sscanf(end, " %64s %31s", holder->host, holder->since);
    }
}

static void read_text(int fd, char text[TEXT])
{
    ssize_t len = journal_read_all(fd, text, TEXT - 1, 0);
    text[len > 0 ? len : 0] = '\0';
}

static int tell_busy(int fd, const char *dir, struct err *err)
{
    char text[TEXT];
    struct holder holder;
    read_text(fd, text);
    parse(text, &holder);
    return err_set(err, ERR_BUSY, "journal %s is in use by process %ld on %s since %s (epoch %llu)", dir,
                   holder.pid, holder.host, holder.since, holder.epoch);
}

int journal_owner_take(int dir_fd, const char *dir, const char *name, struct journal_owner **out,
                       struct err *err)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_set_errno(err, errno, "open the lock %s/%s", dir, name);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int status = errno == EWOULDBLOCK ? tell_busy(fd, dir, err)
                                          : err_set_errno(err, errno, "lock %s/%s", dir, name);
        (void)close(fd); /* not ours */
        return status;
    }
    struct journal_owner *owner = xcalloc(1, sizeof(*owner));
    owner->dir_fd = dir_fd;
    owner->fd = fd;
    owner->dir = xstrdup(dir);
    owner->name = xstrdup(name);
    read_text(fd, owner->text);
    *out = owner;
    return 0;
}

/* The epoch has a file of its own besides: it outlives a lock that somebody removes. */
static int raise_epoch(struct journal_owner *owner, uint64_t known)
{
    struct holder before;
    char text[TEXT];
    parse(owner->text, &before);
    int fd = openat(owner->dir_fd, "EPOCH", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    read_text(fd, text);
    uint64_t kept = strtoull(text, NULL, 10);
    known = kept > known ? kept : known;
    owner->epoch = (before.epoch > known ? before.epoch : known) + 1;
    int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)owner->epoch);
    int error = journal_write_all(fd, text, (size_t)len, 0);
    if (error == 0 && (ftruncate(fd, len) != 0 || fdatasync(fd) != 0)) {
        error = errno;
    }
    (void)close(fd); /* synced */
    return error;
}

int journal_owner_publish(struct journal_owner *owner, uint64_t known, struct err *err)
{
    int error = fault_hit("journal.owner") ? EIO : raise_epoch(owner, known);
    char host[HOST] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0' || strpbrk(host, " \n") != NULL) {
        (void)snprintf(host, sizeof(host), "?");
    }
    char since[SINCE];
    struct tm parts;
    time_t now = time(NULL);
    (void)strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    int len = snprintf(owner->text, sizeof(owner->text), "%ld %llu %s %s\n", (long)getpid(),
                       (unsigned long long)owner->epoch, host, since);
    if (error == 0) {
        error = journal_write_all(owner->fd, owner->text, (size_t)len, 0);
    }
    if (error == 0 && (ftruncate(owner->fd, len) != 0 || fdatasync(owner->fd) != 0 ||
                       fsync(owner->dir_fd) != 0 || fstat(owner->fd, &owner->stat) != 0)) {
        error = errno;
    }
    return error == 0 ? 0 : err_set_errno(err, error, "write %s/%s", owner->dir, owner->name);
}

uint64_t journal_owner_epoch(const struct journal_owner *owner)
{
    return owner->epoch;
}

static int tell_fenced(const struct journal_owner *owner, const char *text, struct err *err)
{
    struct holder holder;
    parse(text, &holder);
    return err_set(
        err, ERR_FENCED, "journal %s was taken over by process %ld on %s at %s (epoch %llu; ours was %llu)",
        owner->dir, holder.pid, holder.host, holder.since, holder.epoch, (unsigned long long)owner->epoch);
}

int journal_owner_check(const struct journal_owner *owner, struct err *err)
{
    char text[TEXT] = "";
    struct stat now;
    if (fstatat(owner->dir_fd, owner->name, &now, 0) != 0) {
        return err_set(err, ERR_FENCED, "the lock %s/%s of this process is gone (%s)", owner->dir,
                       owner->name, strerror(errno));
    }
    if (now.st_ino == owner->stat.st_ino && now.st_dev == owner->stat.st_dev) {
        read_text(owner->fd, text);
        return strcmp(text, owner->text) == 0 ? 0 : tell_fenced(owner, text, err);
    }
    int fd = openat(owner->dir_fd, owner->name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        read_text(fd, text);
        (void)close(fd); /* read only */
    }
    return tell_fenced(owner, text, err);
}

void journal_owner_drop(struct journal_owner *owner)
{
    if (owner != NULL) {
        (void)close(owner->fd); /* releases the lock */
        free(owner->dir);
        free(owner->name);
        free(owner);
    }
}
