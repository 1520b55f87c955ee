/* host.fs: files and directories. Every function waits for the pool, so that no disk ever blocks the loop. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/xmem.h"
#include "loop/fsio.h"
#include "loop/work.h"
#include "lua/arg.h"
#include "lua/l_fswatch.h"
#include "lua/task.h"
#include "lua/vm.h"

#define LOCK_META "host.fs.lock"
enum { DEFAULT_MAX_READ = 256 * 1024 * 1024, MAX_ENTRIES = 100000 };

/* One operation on the pool. */
struct job {
    struct task_wait *wait;
    int (*run)(struct job *job, struct err *err); /* on a pool thread */
    task_push_fn push;                            /* on the loop, when run returned 0 */
    char *path;
    char *other;     /* second path, or prefix */
    struct buf data; /* in or out */
    int64_t number;  /* limits, modes, descriptors */
    int64_t second;
    bool flag;
    struct stat info;
    struct entry *entries;
    size_t entry_count;
    int status;
    struct err err;
};

struct entry {
    char *name;
    struct stat info;
};

static void free_job(struct job *job)
{
    for (size_t i = 0; i < job->entry_count; i++) {
        free(job->entries[i].name);
    }
    free(job->entries);
    free(job->path);
    free(job->other);
    buf_deinit(&job->data);
    free(job);
}

static void on_run(void *arg)
{
    struct job *job = arg;
    job->status = job->run(job, &job->err);
}

static void on_done(void *arg)
{
    struct job *job = arg;
    if (job->status != 0) {
        task_wake_err(job->wait, &job->err);
    } else if (job->push == NULL) {
        task_wake_true(job->wait);
    } else {
        task_wake(job->wait, job->push, job);
    }
    free_job(job);
}

static struct job *new_job(lua_State *L, int path_index)
{
    const char *path = luaL_checkstring(L, path_index);
    struct job *job = xcalloc(1, sizeof(*job));
    job->path = xstrdup(path);
    return job;
}

/* A file operation cannot be undone half-way; a cancelled task waits the moment it takes. */
static int start(lua_State *L, struct job *job, int (*run)(struct job *, struct err *), task_push_fn push)
{
    job->wait = task_wait_begin(L, NULL);
    job->run = run;
    job->push = push;
    work_queue(task_loop(L), on_run, on_done, job);
    return task_wait_yield(L, job->wait);
}

/* --- whole files ---------------------------------------------------------------------------- */

static int run_read(struct job *job, struct err *err)
{
    return fsio_read(job->path, (size_t)job->number, &job->data, err);
}

static int push_data(lua_State *L, void *arg)
{
    const struct job *job = arg;
    lua_pushlstring(L, job->data.data == NULL ? "" : job->data.data, job->data.len);
    return 1;
}

/* fs.read(path[, max_bytes]) -> text | nil, err        (yields) */
static int l_read(lua_State *L)
{
    int64_t max = lua_isnoneornil(L, 2) ? DEFAULT_MAX_READ : arg_check_int(L, 2, 0, INT64_C(1) << 40);
    struct job *job = new_job(L, 1);
    job->number = max;
    return start(L, job, run_read, push_data);
}

static int run_write(struct job *job, struct err *err)
{
    return fsio_write(job->path, job->data.data, job->data.len, (mode_t)job->number, job->flag, err);
}

/* fs.write(path, bytes[, {mode=, sync=true}]) -> true | nil, err        (yields) */
static int l_write(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    int64_t mode = arg_opt_int(L, 3, "mode", 0644, 0, 07777);
    bool sync = arg_opt_bool(L, 3, "sync", true);
    struct job *job = new_job(L, 1);
    job->number = mode;
    job->flag = sync;
    buf_append(&job->data, data, len);
    return start(L, job, run_write, NULL);
}

static int run_append(struct job *job, struct err *err)
{
    return fsio_append(job->path, job->data.data, job->data.len, err);
}

/* fs.append(path, bytes) -> true | nil, err        (yields) */
static int l_append(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct job *job = new_job(L, 1);
    buf_append(&job->data, data, len);
    return start(L, job, run_append, NULL);
}

/* --- directories ---------------------------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int run_list(struct job *job, struct err *err)
{
    DIR *dir = opendir(job->path);
    if (dir == NULL) {
        return err_set_errno(err, errno, "list %s", job->path);
    }
    int status = 0;
    size_t cap = 0;
    struct dirent *item;
    while ((item = readdir(dir)) != NULL) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) {
            continue;
        }
        struct entry entry = {0};
        if (fstatat(dirfd(dir), item->d_name, &entry.info, AT_SYMLINK_NOFOLLOW) != 0) {
            continue; /* it went away meanwhile */
        }
        if (job->entry_count == MAX_ENTRIES) {
            status = err_set(err, ERR_LIMIT, "%s has more than %d entries", job->path, MAX_ENTRIES);
            break;
        }
        if (job->entry_count == cap) {
            cap = cap == 0 ? 32 : cap * 2;
            job->entries = xrealloc(job->entries, cap * sizeof(*job->entries));
        }
        entry.name = xstrdup(item->d_name);
        job->entries[job->entry_count++] = entry;
    }
    (void)closedir(dir); /* read only */
    if (job->entry_count > 0) {
        qsort(job->entries, job->entry_count, sizeof(*job->entries), compare_entries);
    }
    return status;
}

static void push_info(lua_State *L, const struct stat *info)
{
    lua_createtable(L, 0, 8);
    lua_pushstring(L, S_ISDIR(info->st_mode)   ? "dir"
                      : S_ISLNK(info->st_mode) ? "link"
                      : S_ISREG(info->st_mode) ? "file"
                                               : "other");
    lua_setfield(L, -2, "type");
    lua_pushnumber(L, (lua_Number)info->st_size);
    lua_setfield(L, -2, "size");
    int64_t mtime_ms = (int64_t)info->st_mtim.tv_sec * 1000 + info->st_mtim.tv_nsec / 1000000;
    lua_pushnumber(L, (lua_Number)mtime_ms);
    lua_setfield(L, -2, "mtime_ms");
    lua_pushnumber(
        L, (lua_Number)info->st_ino); /* another number is another file; equality beyond 2^53 is a hint */
    lua_setfield(L, -2, "inode");
    lua_pushinteger(L, (lua_Integer)(info->st_mode & 07777));
    lua_setfield(L, -2, "mode");
    lua_pushinteger(L, (lua_Integer)info->st_uid);
    lua_setfield(L, -2, "uid");
}

static int push_entries(lua_State *L, void *arg)
{
    const struct job *job = arg;
    lua_createtable(L, (int)job->entry_count, 0);
    for (size_t i = 0; i < job->entry_count; i++) {
        push_info(L, &job->entries[i].info);
        lua_pushstring(L, job->entries[i].name);
        lua_setfield(L, -2, "name");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* fs.list(dir) -> array of { name, type, size, mtime_ms, inode, mode, uid }, by name | nil, err (yields) */
static int l_list(lua_State *L)
{
    return start(L, new_job(L, 1), run_list, push_entries);
}

static int run_stat(struct job *job, struct err *err)
{
    return stat(job->path, &job->info) == 0 ? 0 : err_set_errno(err, errno, "stat %s", job->path);
}

static int push_stat(lua_State *L, void *arg)
{
    push_info(L, &((const struct job *)arg)->info);
    return 1;
}

/* fs.stat(path) -> { type, size, mtime_ms, inode, mode, uid } | nil, err        (yields); follows links */
static int l_stat(lua_State *L)
{
    return start(L, new_job(L, 1), run_stat, push_stat);
}

static int run_mkdir_p(struct job *job, struct err *err)
{
    return fsio_mkdir_p(job->path, (mode_t)job->number, err);
}

/* fs.mkdir_p(path[, mode]) -> true | nil, err        (yields) */
static int l_mkdir_p(lua_State *L)
{
    int64_t mode = lua_isnoneornil(L, 2) ? 0755 : arg_check_int(L, 2, 0, 07777);
    struct job *job = new_job(L, 1);
    job->number = mode;
    return start(L, job, run_mkdir_p, NULL);
}

static int run_remove(struct job *job, struct err *err)
{
    return fsio_remove(job->path, err);
}

static int run_remove_tree(struct job *job, struct err *err)
{
    return fsio_remove_tree(job->path, err);
}

/* fs.remove(path) -> true | nil, err        (yields) */
static int l_remove(lua_State *L)
{
    return start(L, new_job(L, 1), run_remove, NULL);
}

/* fs.remove_tree(path) -> true | nil, err        (yields) */
static int l_remove_tree(lua_State *L)
{
    return start(L, new_job(L, 1), run_remove_tree, NULL);
}

static int run_rename(struct job *job, struct err *err)
{
    return fsio_rename(job->path, job->other, job->flag, err);
}

/* fs.rename(from, to[, { sync = true }]) -> true | nil, err        (yields) until the new name is durable,
 * unless sync is false; both are in the same directory */
static int l_rename(lua_State *L)
{
    const char *to = luaL_checkstring(L, 2);
    bool sync = arg_opt_bool(L, 3, "sync", true);
    struct job *job = new_job(L, 1);
    job->other = xstrdup(to);
    job->flag = sync;
    return start(L, job, run_rename, NULL);
}

static int run_chown(struct job *job, struct err *err)
{
    return chown(job->path, (uid_t)job->number, (gid_t)job->second) == 0
               ? 0
               : err_set_errno(err, errno, "chown %s", job->path);
}

/* fs.chown(path, uid, gid) -> true | nil, err        (yields) */
static int l_chown(lua_State *L)
{
    int64_t uid = arg_check_int(L, 2, 0, INT32_MAX);
    int64_t gid = arg_check_int(L, 3, 0, INT32_MAX);
    struct job *job = new_job(L, 1);
    job->number = uid;
    job->second = gid;
    return start(L, job, run_chown, NULL);
}

static int run_chmod(struct job *job, struct err *err)
{
    return chmod(job->path, (mode_t)job->number) == 0 ? 0 : err_set_errno(err, errno, "chmod %s", job->path);
}

/* fs.chmod(path, mode) -> true | nil, err        (yields) */
static int l_chmod(lua_State *L)
{
    int64_t mode = arg_check_int(L, 2, 0, 07777);
    struct job *job = new_job(L, 1);
    job->number = mode;
    return start(L, job, run_chmod, NULL);
}

static int run_symlink(struct job *job, struct err *err)
{
    return symlink(job->path, job->other) == 0 ? 0 : err_set_errno(err, errno, "link %s", job->other);
}

/* fs.symlink(target, path) -> true | nil, err        (yields) */
static int l_symlink(lua_State *L)
{
    const char *path = luaL_checkstring(L, 2);
    struct job *job = new_job(L, 1);
    job->other = xstrdup(path);
    return start(L, job, run_symlink, NULL);
}

static int run_realpath(struct job *job, struct err *err)
{
    char *real = realpath(job->path, NULL);
    if (real == NULL) {
        return err_set_errno(err, errno, "resolve %s", job->path);
    }
    buf_append_str(&job->data, real);
    free(real);
    return 0;
}

/* fs.realpath(path) -> absolute path without links | nil, err        (yields) */
static int l_realpath(lua_State *L)
{
    return start(L, new_job(L, 1), run_realpath, push_data);
}

static int run_temp_dir(struct job *job, struct err *err)
{
    const char *base = getenv("TMPDIR");
    buf_printf(&job->data, "%s/%s.XXXXXX", base == NULL || *base == '\0' ? "/tmp" : base, job->path);
    buf_append_byte(&job->data, '\0');
    if (mkdtemp(job->data.data) == NULL) {
        return err_set_errno(err, errno, "create a temporary directory");
    }
    job->data.len--;
    return 0;
}

/* fs.temp_dir(prefix) -> path of a new private directory | nil, err        (yields) */
static int l_temp_dir(lua_State *L)
{
    return start(L, new_job(L, 1), run_temp_dir, push_data);
}

/* --- locks ---------------------------------------------------------------------------------- */

static int run_lock(struct job *job, struct err *err)
{
    int fd = open(job->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set_errno(err, errno, "open lock %s", job->path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno == EWOULDBLOCK ? err_set(err, ERR_BUSY, "%s is locked by another process", job->path)
                                        : err_set_errno(err, errno, "lock %s", job->path);
        (void)close(fd); /* nothing was written */
        return code;
    }
    job->number = fd;
    return 0;
}

static int push_lock(lua_State *L, void *arg)
{
    int *fd = lua_newuserdata(L, sizeof(*fd));
    *fd = (int)((const struct job *)arg)->number;
    luaL_getmetatable(L, LOCK_META);
    lua_setmetatable(L, -2);
    return 1;
}

/* fs.lock(path) -> lock (released by lock:release() or the end of the process) | nil, err BUSY (yields) */
static int l_lock(lua_State *L)
{
    return start(L, new_job(L, 1), run_lock, push_lock);
}

static int l_lock_release(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, LOCK_META);
    if (*fd >= 0) {
        (void)close(*fd); /* releases the lock */
        *fd = -1;
    }
    return 0;
}

/* fs.user(name) -> { uid, gid } | nil */
static int l_user(lua_State *L)
{
    const struct passwd *user = getpwnam(luaL_checkstring(L, 1));
    if (user == NULL) {
        return 0;
    }
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)user->pw_uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, (lua_Integer)user->pw_gid);
    lua_setfield(L, -2, "gid");
    return 1;
}

int luaopen_host_fs(lua_State *L)
{
    static const luaL_Reg lock_methods[] = {{"release", l_lock_release}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"read", l_read},         {"write", l_write},
        {"append", l_append},     {"list", l_list},
        {"stat", l_stat},         {"mkdir_p", l_mkdir_p},
        {"remove", l_remove},     {"remove_tree", l_remove_tree},
        {"rename", l_rename},     {"chown", l_chown},
        {"chmod", l_chmod},       {"symlink", l_symlink},
        {"realpath", l_realpath}, {"lock", l_lock},
        {"temp_dir", l_temp_dir}, {"user", l_user},
        {"watch", l_fs_watch},    {NULL, NULL},
    };
    arg_class(L, LOCK_META, lock_methods, l_lock_release);
    l_fswatch_register(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
