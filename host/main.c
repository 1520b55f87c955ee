/* Entry point: loop, Lua state, then the program is lua/macp/main.lua. */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/loop.h"
#include "lua/vm.h"

enum { DRAIN_MS = 5000 }; /* for tasks that are still alive when the program has decided to end */

/* A program that was started without some of the first three descriptors would give their numbers to its own
 * files, and what it logs would go into them. */
static void fill_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd); /* nothing was written */
    }
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    /* One heap: the threads besides the loop allocate little, and what they free would stay in heaps of their
     * own. */
    (void)mallopt(M_ARENA_MAX, 1);
    (void)signal(SIGPIPE, SIG_IGN);         /* writes report EPIPE instead */
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* scripts print; a pipe should see lines as they come */
    struct err err;
    struct loop *loop = NULL;
    struct vm *vm = NULL;
    if (loop_open(&loop, &err) != 0 || vm_open(loop, getenv("MACP_ROOT"), argc, argv, &vm, &err) != 0) {
        (void)fprintf(stderr, "macp: %s\n", err.text);
        return 1;
    }
    int code = 1;
    if (vm_start(vm, "host.prelude.start", &err) == 0) {
        (void)loop_run(loop);
        code = vm_exit_code(vm);
    }
    vm_drain(vm, DRAIN_MS);
    int leaks = vm_close(vm);
    (void)leaks; /* a release build goes on living with them */
#ifndef NDEBUG
    if (leaks > 0 && code == 0) {
        (void)fprintf(stderr, "macp: %d tasks or handles were left open\n", leaks);
        code = 70; /* EX_SOFTWARE: a debug build treats a leak as a failure */
    }
#endif
    return code;
}
