/* The contract of journal_contract.h for the Redis backend, against a real server. */
#include "journal/journal_contract_tests.h"

#ifdef MACP_WITH_REDIS
#include "journal/journal_redis_server.h"

static void wipe(void)
{
    (void)server_do("FLUSHALL", NULL);
}

/* A server without memory refuses everything that adds something. */
static void fail_writes(bool is_broken)
{
    (void)server_do("CONFIG", "SET", "maxmemory", is_broken ? "1" : "0", NULL);
}

int main(void)
{
    help_start();
    server_open();
    const struct contract_backend backend = {
        .name = "redis",
        .opts = {.url = server_address, .lease_ms = 1000},
        .wipe = wipe,
        .is_durable = true,
        .is_exclusive = true,
        .fail_writes = fail_writes,
    };
    contract_run(&backend);
    contract_run_parking(&backend);
    server_close();
    help_end();
    return 0;
}
#else
int main(void)
{
    puts("built without Redis: nothing to test");
    return 0;
}
#endif
