/* The contract of journal_contract.h for the backends that need nothing but this machine. */
#include "journal/journal_contract_tests.h"

static char dir[80];

static void wipe_file(void)
{
    help_wipe(dir);
}

#ifdef MACP_FAULTS
static void fail_file(bool is_broken)
{
    fault_arm("journal.write", is_broken ? "fail" : NULL, 0);
}
#else
#define fail_file NULL
#endif

int main(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/journal-contract-%ld", (long)getpid());
    help_start();
    contract_run(&(struct contract_backend){.name = "memory", .is_immediate = true});
    contract_run(&(struct contract_backend){
        .name = "file",
        .opts = {.dir = dir, .segment_bytes = 65536},
        .wipe = wipe_file,
        .is_durable = true,
        .is_exclusive = true,
        .fail_writes = fail_file,
    });
    help_end();
    return 0;
}
