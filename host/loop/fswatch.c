/* Directory tree watching; see fswatch.h. inotify is not recursive, so every visible directory has a watch of
 * its own, at most three levels below the top (a mode folder has none deeper). */
#include "loop/fswatch.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "base/xmem.h"
#include "loop/loop.h"
#include "loop/timer.h"

enum { MAX_DEPTH = 3, MAX_DIRECTORIES = 4096, DEFAULT_DEBOUNCE_MS = 20, DEFAULT_POLL_MS = 2000 };
enum { MAX_DEBOUNCES = 10 }; /* a tree that never rests is told after that many quiet periods */

/* One watched directory. */
struct dir {
    uv_fs_event_t event;
    struct list node;
    struct fswatch *watch; /* NULL once closing */
    char *path;
    dev_t device;
    ino_t inode;
    unsigned seen; /* scan number that found it */
};

struct fswatch {
    struct loop *loop;
    char *path;
    uint64_t debounce_ms;
    struct timer *debounce;
    bool is_restless;     /* the debounce runs */
    uint64_t patience_ms; /* loop time until which changes may postpone it, while it runs */
    struct timer *poll;
    fswatch_fn fn;
    void *arg;
    struct list dirs;
    size_t dir_count;
    unsigned scan;
    uint64_t signature; /* of names, sizes and times at the last scan: what the poll compares */
    uint64_t scanning;  /* the same, while a scan runs */
};

static void on_dir_closed(uv_handle_t *handle)
{
    struct dir *dir = handle->data;
    free(dir->path);
    free(dir);
}

static void close_dir(struct dir *dir)
{
    if (dir->watch != NULL) {
        dir->watch->dir_count--;
        dir->watch = NULL;
        list_remove(&dir->node);
        uv_close((uv_handle_t *)&dir->event, on_dir_closed);
    }
}

/* Waits for a quiet period, but not for ever. */
static void await_quiet(struct fswatch *watch)
{
    uint64_t now = uv_now(loop_uv(watch->loop));
    if (!watch->is_restless) {
        watch->is_restless = true;
        watch->patience_ms = now + MAX_DEBOUNCES * watch->debounce_ms;
    }
    uint64_t left = watch->patience_ms > now ? watch->patience_ms - now : 0;
    timer_start(watch->debounce, left < watch->debounce_ms ? left : watch->debounce_ms, 0);
}

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    const struct dir *dir = handle->data;
    if (dir->watch != NULL) {
        await_quiet(dir->watch);
    }
}

static struct dir *find_dir(struct fswatch *watch, const char *path)
{
    list_each (node, &watch->dirs) {
        struct dir *dir = list_entry(node, struct dir, node);
        if (strcmp(dir->path, path) == 0) {
            return dir;
        }
    }
    return NULL;
}

static void mix(struct fswatch *watch, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++) {
        watch->scanning = (watch->scanning ^ bytes[i]) * 1099511628211ULL;
    }
}

static void mix_stat(struct fswatch *watch, const char *name, const struct stat *info)
{
    mix(watch, name, strlen(name));
    mix(watch, &info->st_size, sizeof(info->st_size));
    mix(watch, &info->st_mtim, sizeof(info->st_mtim));
    mix(watch, &info->st_ino, sizeof(info->st_ino));
}

/* A watch on path that belongs to the inode which is there now. */
static void ensure_dir(struct fswatch *watch, const char *path, const struct stat *info)
{
    struct dir *dir = find_dir(watch, path);
    if (dir != NULL && (dir->device != info->st_dev || dir->inode != info->st_ino)) {
        close_dir(dir);
        dir = NULL;
    }
    if (dir == NULL) {
        if (watch->dir_count == MAX_DIRECTORIES) {
            return; /* the poll still sees its files */
        }
        dir = xcalloc(1, sizeof(*dir));
        dir->watch = watch;
        dir->path = xstrdup(path);
        dir->device = info->st_dev;
        dir->inode = info->st_ino;
        dir->event.data = dir;
        list_push_back(&watch->dirs, &dir->node);
        watch->dir_count++;
        (void)uv_fs_event_init(loop_uv(watch->loop), &dir->event); /* always 0 */
        int status = uv_fs_event_start(&dir->event, on_event, path, 0);
        if (status != 0) {
            log_line(LOG_WARN, "fswatch.poll_only", "cannot watch %s: %s; polling it", path,
                     uv_strerror(status));
        }
        uv_unref((uv_handle_t *)&dir->event);
    }
    dir->seen = watch->scan;
}

static void scan_dir(struct fswatch *watch, const char *path, int depth)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return;
    }
    ensure_dir(watch, path, &info); /* before reading, so that no change falls between */
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return;
    }
    struct buf child;
    buf_init(&child);
    struct dirent *item;
    while ((item = readdir(dir)) != NULL) {
        if (item->d_name[0] == '.') {
            continue;
        }
        buf_clear(&child);
        buf_printf(&child, "%s/%s", path, item->d_name);
        buf_append_byte(&child, '\0');
        if (stat(child.data, &info) != 0) {
            continue;
        }
        mix_stat(watch, child.data, &info);
        if (S_ISDIR(info.st_mode) && depth < MAX_DEPTH) {
            scan_dir(watch, child.data, depth + 1);
        }
    }
    buf_deinit(&child);
    (void)closedir(dir); /* read only */
}

/* Follows replaced, new and vanished directories; true when names, sizes or times differ from the last scan.
 */
static bool rescan(struct fswatch *watch)
{
    watch->scan++;
    watch->scanning = 14695981039346656037ULL;
    scan_dir(watch, watch->path, 0);
    list_each_safe (node, &watch->dirs) {
        struct dir *dir = list_entry(node, struct dir, node);
        if (dir->seen != watch->scan) {
            close_dir(dir);
        }
    }
    bool has_changed = watch->scanning != watch->signature;
    watch->signature = watch->scanning;
    return has_changed;
}

static void on_quiet(void *arg)
{
    struct fswatch *watch = arg;
    watch->is_restless = false;
    (void)rescan(watch); /* an event came: the receiver compares contents in any case */
    watch->fn(watch->arg);
}

static void on_poll(void *arg)
{
    struct fswatch *watch = arg;
    if (rescan(watch)) {
        await_quiet(watch);
    }
}

int fswatch_open(struct loop *loop, const struct fswatch_opts *opts, fswatch_fn fn, void *arg,
                 struct fswatch **out, struct err *err)
{
    struct stat info;
    if (stat(opts->path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return err_set(err, ERR_NOT_FOUND, "%s is not a directory that can be watched", opts->path);
    }
    struct fswatch *watch = xcalloc(1, sizeof(*watch));
    watch->loop = loop;
    watch->path = xstrdup(opts->path);
    watch->debounce_ms = opts->debounce_ms == 0 ? DEFAULT_DEBOUNCE_MS : opts->debounce_ms;
    watch->fn = fn;
    watch->arg = arg;
    list_init(&watch->dirs);
    watch->debounce = timer_open(loop, on_quiet, watch);
    watch->poll = timer_open(loop, on_poll, watch);
    uint64_t poll_ms = opts->poll_ms == 0 ? DEFAULT_POLL_MS : opts->poll_ms;
    timer_start(watch->poll, poll_ms, poll_ms);
    (void)rescan(watch);
    *out = watch;
    return 0;
}

void fswatch_close(struct fswatch *watch)
{
    if (watch == NULL) {
        return;
    }
    list_each_safe (node, &watch->dirs) {
        close_dir(list_entry(node, struct dir, node));
    }
    timer_close(watch->debounce);
    timer_close(watch->poll);
    free(watch->path);
    free(watch);
}
