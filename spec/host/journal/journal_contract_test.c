/* The contract of journal_contract.h for the backends that need nothing but this machine. */
#include "journal/journal_contract_tests.h"

static char dir[80];

static void wipe_dir(void)
{
    help_wipe(dir);
}

#ifdef MACP_FAULTS
static void fail_file(bool is_broken)
{
    fault_arm("journal.write", is_broken ? "fail" : NULL, 0);
}

static void fail_rocksdb_write(bool is_broken)
{
    fault_arm("rocksdb.write", is_broken ? "fail" : NULL, 0);
}

/* The group is in the database, and nobody may ever see it. */
static void fail_rocksdb_sync(bool is_broken)
{
    fault_arm("rocksdb.sync", is_broken ? "fail" : NULL, 0);
}

/* The same, and it stays there until a later write. */
static void fail_rocksdb_reopen(bool is_broken)
{
    fail_rocksdb_sync(is_broken);
    fault_arm("rocksdb.reopen", is_broken ? "fail" : NULL, 0);
}

static void fail_rocksdb_take_back(bool is_broken)
{
    fail_rocksdb_sync(is_broken);
    fault_arm("rocksdb.take_back", is_broken ? "fail" : NULL, 0);
}
#else
#define fail_file NULL
#define fail_rocksdb_write NULL
#define fail_rocksdb_sync NULL
#define fail_rocksdb_reopen NULL
#define fail_rocksdb_take_back NULL
#endif

#ifdef MACP_ROCKSDB
static void run_rocksdb(void (*fail_writes)(bool is_broken),
                        void (*run)(const struct contract_backend *backend))
{
    run(&(struct contract_backend){
        .name = "rocksdb",
        .opts = {.dir = dir},
        .wipe = wipe_dir,
        .is_durable = true,
        .is_exclusive = true,
        .fail_writes = fail_writes,
    });
}
#endif

int main(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/journal-contract-%ld", (long)getpid());
    help_start();
    contract_run(&(struct contract_backend){.name = "memory", .is_immediate = true});
    const struct contract_backend file = {
        .name = "file",
        .opts = {.dir = dir, .segment_bytes = 65536},
        .wipe = wipe_dir,
        .is_durable = true,
        .is_exclusive = true,
        .fail_writes = fail_file,
    };
    contract_run(&file);
    contract_run_parking(&file);
#ifdef MACP_ROCKSDB
    run_rocksdb(fail_rocksdb_write, contract_run);
    run_rocksdb(fail_rocksdb_sync, contract_run);
    run_rocksdb(fail_rocksdb_reopen, contract_run);
    run_rocksdb(fail_rocksdb_take_back, contract_run);
    run_rocksdb(fail_rocksdb_write, contract_run_parking);
#else
    printf("# rocksdb: skipped, this build has no RocksDB\n");
#endif
    help_end();
    return 0;
}
