/* Loading RocksDB; see journal_rocksdb_api.h. */
#include "journal/journal_rocksdb_api.h"

#ifdef MACP_ROCKSDB

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

static struct rocksdb_api api;
static struct err failure;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    void *library = dlopen(MACP_ROCKSDB, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)err_set(&failure, ERR_NOT_FOUND, "load RocksDB: %s", dlerror());
        return;
    }
    static const struct {
        const char *name;
        size_t offset;
    } functions[] = {
#define ENTRY(name) {"rocksdb_" #name, offsetof(struct rocksdb_api, name)},
        ROCKSDB_FUNCTIONS(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (symbol == NULL) {
            (void)err_set(&failure, ERR_NOT_FOUND, "load RocksDB: " MACP_ROCKSDB " has no %s",
                          functions[i].name);
            return;
        }
        *(void **)((char *)&api + functions[i].offset) =
            symbol; /* POSIX: the two kinds of pointer are alike */
    }
}

const struct rocksdb_api *rocksdb_api_load(struct err *err)
{
    (void)pthread_once(&once, load);
    if (failure.code != 0) {
        *err = failure;
        return NULL;
    }
    return &api;
}

#else

typedef int rocksdb_api_is_absent; /* a translation unit declares something */

#endif
