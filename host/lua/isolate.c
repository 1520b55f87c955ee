/* The allocator, the hook and the protected calls. Limits are counted here and nowhere else.
 *
 * Host code touches the state only with the cap lifted: an allocation then either succeeds or ends
 * the process, so plain API calls on plain values cannot raise and need no protected call of their
 * own. */
#include "lua/isolate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>

#include "base/xmem.h"
#include "crypto/digest.h"
#include "loop/loop.h"
#include "lua/isolate_inside.h"

/* A cycle starts when a large heap has grown by 30 %: scripts keep many small objects, and what a peak
 * leaves between them the system does not get back. */
enum { GC_PERCENT = 30, GC_ALLOWANCE = 2 << 20 };

#define DEFAULT_MEMORY ((size_t)256 << 20)
#define DEFAULT_WALL_MS 2000
#define DEFAULT_STEP 1000
#define BYTES_PER_INSTRUCTION 256 /* what allocating costs of the budget */
#define SCRATCH_KEEP ((size_t)1 << 20)
#define MAX_ENTRIES 1000

static void *allocate(void *ud, void *ptr, size_t old_size, size_t new_size)
{
    struct isolate *isolate = ud;
    if (new_size == 0) {
        isolate->used -= old_size;
        free(ptr);
        return NULL;
    }
    if (new_size > old_size) {
        size_t extra = new_size - old_size;
        if (isolate->used > isolate->cap || extra > isolate->cap - isolate->used) {
            isolate->breach = BREACH_GROWTH;
            return NULL;
        }
        isolate->allocated += extra;
    }
    void *memory = xrealloc(ptr, new_size);
    isolate->used = isolate->used - old_size + new_size;
    return memory;
}

struct isolate *isolate_of(lua_State *L)
{
    void *ud;
    (void)lua_getallocf(L, &ud);
    return ud;
}

void isolate_lift_cap(struct isolate *isolate)
{
    isolate->cap = SIZE_MAX;
}

void isolate_restore_cap(struct isolate *isolate)
{
    isolate->cap = isolate->hard_limit;
}

struct buf *isolate_scratch(struct isolate *isolate)
{
    if (isolate->scratch.cap > SCRATCH_KEEP) {
        buf_deinit(&isolate->scratch);
    }
    buf_clear(&isolate->scratch);
    return &isolate->scratch;
}

int64_t isolate_left(const struct isolate *isolate)
{
    if (isolate->budget == ISOLATE_NO_LIMIT) {
        return ISOLATE_NO_LIMIT;
    }
    return isolate->spent < isolate->budget ? isolate->budget - isolate->spent : 0;
}

/* The next full collection is due half way to the limit, so their number per call is logarithmic.
 */
static void plan_collection(struct isolate *isolate)
{
    isolate->collect_at = isolate->used;
    if (isolate->used < isolate->call_limit) {
        isolate->collect_at += (isolate->call_limit - isolate->used) / 2;
    }
}

static void collect(struct isolate *isolate)
{
    size_t cap = isolate->cap;
    isolate_lift_cap(isolate);
    lua_gc(isolate->L, LUA_GCCOLLECT, 0);
    isolate->cap = cap;
    isolate->live_bytes = isolate->used;
    plan_collection(isolate);
}

static void on_count(lua_State *L, lua_Debug *ar);

/* From here on every instruction raises again: a pcall of the trusted code cannot swallow a breach.
 */
static void raise_breach(struct isolate *isolate, lua_State *L)
{
    isolate_lift_cap(isolate);
    isolate->armed_step = 1;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    lua_pushlstring(L, "limit", 5); /* the text comes from isolate_explain */
    lua_error(L);
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail for the own thread */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Has the call used its time? The first look starts the clocks. */
static bool is_out_of_time(struct isolate *isolate)
{
    uint64_t now_ns = loop_mono_ns();
    if (isolate->deadline_ns == 0) {
        uint64_t span_ns = (uint64_t)isolate->call_wall_ms * 1000000u;
        isolate->deadline_ns = now_ns + span_ns;
        isolate->cpu_end_ns = cpu_now_ns() + span_ns;
    }
    if (now_ns <= isolate->deadline_ns) {
        return false;
    }
    uint64_t cpu_ns = cpu_now_ns();
    if (cpu_ns > isolate->cpu_end_ns) {
        return true;
    }
    isolate->deadline_ns = now_ns + (isolate->cpu_end_ns - cpu_ns);
    return false;
}

static void check_limits(struct isolate *isolate, lua_State *L)
{
    isolate->spent += (int64_t)(isolate->allocated / BYTES_PER_INSTRUCTION);
    isolate->allocated %= BYTES_PER_INSTRUCTION;
    if (isolate->breach != BREACH_NONE) {
        return;
    }
    if (isolate->used > isolate->collect_at) {
        collect(isolate);
    }
    lua_Debug frame;
    if (isolate->spent > isolate->budget) {
        isolate->breach = BREACH_INSTRUCTIONS;
    } else if (isolate->used > isolate->call_limit) {
        isolate->breach = BREACH_GROWTH;
    } else if (is_out_of_time(isolate)) {
        isolate->breach = BREACH_WALL;
    } else if (lua_getstack(L, ISOLATE_MAX_DEPTH, &frame)) {
        isolate->breach = BREACH_DEPTH;
    }
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    struct isolate *isolate = isolate_of(L);
    isolate->spent += isolate->armed_step;
    check_limits(isolate, L);
    if (isolate->breach != BREACH_NONE) {
        raise_breach(isolate, L);
    }
}

void isolate_charge(lua_State *L, size_t n)
{
    struct isolate *isolate = isolate_of(L);
    isolate->spent += (int64_t)n;
    if (isolate->spent > isolate->budget || isolate->breach != BREACH_NONE) {
        if (isolate->breach == BREACH_NONE) {
            isolate->breach = BREACH_INSTRUCTIONS;
        }
        raise_breach(isolate, L);
    }
}

static int open_inside(lua_State *L)
{
    isolate_open_base(L);
    isolate_open_string(L);
    isolate_open_native(L);
    return 0;
}

struct isolate *isolate_new(const struct isolate_opts *opts)
{
    struct isolate *isolate = xcalloc(1, sizeof(*isolate));
    isolate->memory_bytes = opts->memory_bytes > 0 ? opts->memory_bytes : DEFAULT_MEMORY;
    isolate->call_limit = SIZE_MAX;
    isolate->hard_limit = SIZE_MAX;
    isolate->cap = SIZE_MAX;
    isolate->collect_at = SIZE_MAX;
    isolate->budget = ISOLATE_NO_LIMIT;
    isolate->wall_ms = opts->wall_ms > 0 ? opts->wall_ms : DEFAULT_WALL_MS;
    isolate->step = DEFAULT_STEP;
    isolate->name = xstrdup(opts->name == NULL ? "isolate" : opts->name);
    isolate->digest = digest_new();
    isolate->failure = (struct isolate_failure){.message = "", .file = "", .traceback = ""};
    isolate->L = lua_newstate(allocate, isolate);
    if (isolate->L == NULL) {
        abort(); /* no memory for 12 KiB */
    }
    luaJIT_setmode(isolate->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    gc_pace_start(&isolate->pace, isolate->L, GC_ALLOWANCE, GC_PERCENT);
    lua_pushcfunction(isolate->L, open_inside);
    if (lua_pcall(isolate->L, 0, 0, 0) != 0) {
        abort(); /* our own libraries only; nothing in them can fail */
    }
    lua_pushcfunction(isolate->L, isolate_on_error); /* stays at index 1 */
    isolate->live_bytes = isolate->used;
    return isolate;
}

void isolate_free(struct isolate *isolate)
{
    if (isolate == NULL) {
        return;
    }
    isolate_lift_cap(isolate);
    lua_sethook(isolate->L, NULL, 0, 0);
    lua_close(isolate->L);
    for (int i = 0; i < isolate->entry_count; i++) {
        free(isolate->entry_names[i]);
    }
    free(isolate->entry_names);
    free(isolate->entry_refs);
    digest_free(isolate->digest);
    buf_deinit(&isolate->scratch);
    buf_deinit(&isolate->message);
    buf_deinit(&isolate->file);
    buf_deinit(&isolate->traceback);
    free(isolate->name);
    free(isolate);
}

static void set_limits(struct isolate *isolate, const struct isolate_limits *limits)
{
    static const struct isolate_limits none = {0};
    limits = limits == NULL ? &none : limits;
    isolate->breach = BREACH_NONE;
    isolate->spent = 0;
    isolate->allocated = 0;
    isolate->budget = limits->instructions > 0 ? limits->instructions : ISOLATE_NO_LIMIT;
    isolate->call_wall_ms = limits->wall_ms > 0 ? limits->wall_ms : isolate->wall_ms;
    isolate->deadline_ns = 0;
    size_t growth = limits->growth_bytes > 0 ? limits->growth_bytes : isolate->memory_bytes;
    /* A little below what the allocator refuses, so that the hook finds a breach first and can tell
     * the line. */
    isolate->call_limit = isolate->memory_bytes / 16 * 15;
    isolate->hard_limit = isolate->memory_bytes;
    /* Near the limit of the state garbage counts, so clear it first, unless that was just done in
     * vain. */
    bool is_near = isolate->used > isolate->memory_bytes / 4 * 3;
    if (is_near && isolate->used > isolate->live_bytes + isolate->live_bytes / 8) {
        collect(isolate);
    }
    if (growth < isolate->call_limit && isolate->used < isolate->call_limit - growth) {
        isolate->call_limit = isolate->used + growth;
        if (isolate->call_limit < isolate->memory_bytes - growth) {
            isolate->hard_limit = isolate->call_limit + growth;
        }
    }
    plan_collection(isolate);
    isolate->armed_step = isolate->step;
    lua_sethook(isolate->L, on_count, LUA_MASKCOUNT, isolate->step);
}

lua_State *isolate_begin(struct isolate *isolate, int entry)
{
    lua_State *L = isolate->L;
    lua_settop(L, 1);
    if (entry >= 0 && entry < isolate->entry_count) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, isolate->entry_refs[entry]);
    } else {
        lua_pushnil(L); /* calling it fails with a located error */
    }
    (void)lua_checkstack(L, 64);
    return L;
}

/* stack: handler, function, args... -> handler, results... */
int isolate_run(struct isolate *isolate, int nargs, const struct isolate_limits *limits)
{
    lua_State *L = isolate->L;
    set_limits(isolate, limits);
    isolate_restore_cap(isolate);
    isolate->is_running = true;
    int status = lua_pcall(L, nargs, LUA_MULTRET, 1);
    isolate->is_running = false;
    isolate_lift_cap(isolate);
    isolate->spent += (int64_t)(isolate->allocated / BYTES_PER_INSTRUCTION);
    gc_pace_look(&isolate->pace, L, isolate->used);
    if (status == 0 && isolate->breach == BREACH_NONE) {
        return 0;
    }
    isolate_explain(isolate, status);
    lua_settop(L, 1);
    if (isolate->breach == BREACH_GROWTH) {
        isolate_collect(isolate);
    }
    return isolate->failure.code;
}

void isolate_end(struct isolate *isolate)
{
    lua_settop(isolate->L, 1);
}

/* The function on top of the stack becomes the entry of that name; pops it. */
static void keep_entry(struct isolate *isolate, const char *name)
{
    lua_State *L = isolate->L;
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    int index = isolate_entry(isolate, name);
    if (index >= 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, isolate->entry_refs[index]);
        isolate->entry_refs[index] = ref;
        return;
    }
    size_t count = (size_t)isolate->entry_count + 1;
    isolate->entry_names = xrealloc(isolate->entry_names, count * sizeof(*isolate->entry_names));
    isolate->entry_refs = xrealloc(isolate->entry_refs, count * sizeof(*isolate->entry_refs));
    isolate->entry_names[count - 1] = xstrdup(name);
    isolate->entry_refs[count - 1] = ref;
    isolate->entry_count = (int)count;
}

static int refuse_boot(struct isolate *isolate, const char *chunk_name, const char *reason)
{
    buf_clear(&isolate->message);
    buf_append(&isolate->message, reason, strlen(reason) + 1);
    chunk_name += *chunk_name == '=' || *chunk_name == '@';
    buf_clear(&isolate->file);
    buf_append(&isolate->file, chunk_name, strlen(chunk_name) + 1);
    isolate->failure = (struct isolate_failure){
        .code = ERR_SCRIPT, .message = isolate->message.data, .file = isolate->file.data, .traceback = ""};
    lua_settop(isolate->L, 1);
    return ERR_SCRIPT;
}

int isolate_boot(struct isolate *isolate, const char *chunk_name, const char *text, size_t len)
{
    lua_State *L = isolate->L;
    lua_settop(L, 1);
    int status = luaL_loadbufferx(L, text, len, chunk_name, "t");
    if (status != 0) {
        isolate->breach = BREACH_NONE;
        (void)isolate_on_error(L);
        isolate_explain(isolate, status);
        lua_settop(L, 1);
        return isolate->failure.code;
    }
    status = isolate_run(isolate, 0, NULL);
    if (status != 0) {
        return status;
    }
    if (!lua_istable(L, ISOLATE_FIRST_RESULT)) {
        return refuse_boot(isolate, chunk_name, "the chunk must return a table of functions");
    }
    lua_settop(L, ISOLATE_FIRST_RESULT);
    lua_pushnil(L);
    while (lua_next(L, ISOLATE_FIRST_RESULT) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isfunction(L, -1)) {
            return refuse_boot(isolate, chunk_name, "entries must be functions with names");
        }
        if (isolate->entry_count >= MAX_ENTRIES) {
            return refuse_boot(isolate, chunk_name, "too many entries");
        }
        keep_entry(isolate, lua_tostring(L, -2));
    }
    lua_settop(L, 1);
    return 0;
}

int isolate_entry(const struct isolate *isolate, const char *name)
{
    for (int i = 0; i < isolate->entry_count; i++) {
        if (strcmp(isolate->entry_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

const struct isolate_failure *isolate_last_failure(const struct isolate *isolate)
{
    return &isolate->failure;
}

const char *isolate_name(const struct isolate *isolate)
{
    return isolate->name;
}

size_t isolate_used(const struct isolate *isolate)
{
    return isolate->used;
}

int64_t isolate_last_instructions(const struct isolate *isolate)
{
    return isolate->spent;
}

void isolate_set_step(struct isolate *isolate, int step)
{
    isolate->step = step < 1 ? 1 : step > DEFAULT_STEP ? DEFAULT_STEP : step;
}

void isolate_collect(struct isolate *isolate)
{
    collect(isolate);
}
