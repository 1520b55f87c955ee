/* Blocking file operations; see fsio.h. */
#include "loop/fsio.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/xmem.h"

int fsio_read(const char *path, size_t max_bytes, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, errno, "open %s", path);
    }
    int status = 0;
    size_t total = 0;
    for (;;) {
        ssize_t n = read(fd, buf_reserve(out, 65536), 65536);
        if (n < 0) {
            status = err_set_errno(err, errno, "read %s", path);
            break;
        }
        if (n == 0) {
            break;
        }
        total += (size_t)n;
        if (total > max_bytes) {
            status = err_set(err, ERR_LIMIT, "%s is larger than %zu bytes", path, max_bytes);
            break;
        }
        out->len += (size_t)n;
    }
    (void)close(fd); /* read only */
    return status;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_dir(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, errno, "open directory %s", path);
    }
    int status = fsync(fd) == 0 ? 0 : err_set_errno(err, errno, "fsync directory %s", path);
    (void)close(fd); /* nothing was written through it */
    return status;
}

static int sync_parent(const char *path, struct err *err)
{
    char *copy = xstrdup(path);
    int status = sync_dir(dirname(copy), err);
    free(copy);
    return status;
}

int fsio_rename(const char *from, const char *to, bool sync, struct err *err)
{
    if (rename(from, to) != 0) {
        return err_set_errno(err, errno, "rename %s to %s", from, to);
    }
    return sync ? sync_parent(to, err) : 0;
}

int fsio_write(const char *path, const void *data, size_t len, mode_t mode, bool sync, struct err *err)
{
    struct buf temp;
    buf_init(&temp);
    buf_printf(&temp, "%s.XXXXXX", path);
    buf_append_byte(&temp, '\0');
    int status = 0;
    int fd = mkostemp(temp.data, O_CLOEXEC);
    if (fd < 0) {
        status = err_set_errno(err, errno, "create a temporary file beside %s", path);
        buf_deinit(&temp);
        return status;
    }
    if (write_all(fd, data, len) != 0 || fchmod(fd, mode) != 0 || fault_hit("fs.write")) {
        status = err_set_errno(err, errno, "write %s", path);
    } else if (sync && fsync(fd) != 0) {
        status = err_set_errno(err, errno, "fsync %s", path);
    }
    if (close(fd) != 0 && status == 0) {
        status = err_set_errno(err, errno, "close %s", path);
    }
    if (status == 0 && rename(temp.data, path) != 0) {
        status = err_set_errno(err, errno, "rename into %s", path);
    }
    if (status != 0) {
        (void)unlink(temp.data); /* best effort: the failure is already being reported */
    } else if (sync) {
        status = sync_parent(path, err);
    }
    buf_deinit(&temp);
    return status;
}

int fsio_append(const char *path, const void *data, size_t len, struct err *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set_errno(err, errno, "open %s", path);
    }
    int status = write_all(fd, data, len) == 0 ? 0 : err_set_errno(err, errno, "append to %s", path);
    if (close(fd) != 0 && status == 0) {
        status = err_set_errno(err, errno, "close %s", path);
    }
    return status;
}

int fsio_mkdir_p(const char *path, mode_t mode, struct err *err)
{
    char *copy = xstrdup(path);
    int status = 0;
    for (char *p = copy + 1; status == 0; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        bool is_last = *p == '\0';
        *p = '\0';
        if (mkdir(copy, mode) == 0) {
            status = sync_parent(copy, err);
        } else if (errno != EEXIST) {
            status = err_set_errno(err, errno, "create directory %s", copy);
        }
        if (is_last) {
            break;
        }
        *p = '/';
    }
    struct stat info;
    if (status == 0 && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))) {
        status = err_set(err, ERR_EXISTS, "%s exists and is not a directory", path);
    }
    free(copy);
    return status;
}

int fsio_remove(const char *path, struct err *err)
{
    if (remove(path) != 0) {
        return err_set_errno(err, errno, "remove %s", path);
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where)
{
    return remove(path);
}

int fsio_remove_tree(const char *path, struct err *err)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return err_set_errno(err, errno, "remove tree %s", path);
    }
    return 0;
}
