/* A wall clock that can be set: preloaded into a program, it adds the milliseconds that stand in a mapped
 * file (environment variable WALL_CLOCK_FILE, eight bytes of this machine's order) to the time of day. What
 * passes monotonically is left alone. The writer stops the program while it writes. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset_ms; /* mapped for the life of the process; NULL: no file */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_file(void)
{
    const char *path = getenv("WALL_CLOCK_FILE");
    const int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    offset_ms = at == MAP_FAILED ? NULL : at;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, id, now) != 0) {
        return -1;
    }
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE) {
        return 0;
    }
    (void)pthread_once(&once, map_file);
    const int64_t ms = offset_ms == NULL ? 0 : *offset_ms;
    now->tv_sec += (time_t)(ms / 1000);
    now->tv_nsec += (long)(ms % 1000) * 1000000;
    if (now->tv_nsec >= 1000000000) {
        now->tv_sec++;
        now->tv_nsec -= 1000000000;
    } else if (now->tv_nsec < 0) {
        now->tv_sec--;
        now->tv_nsec += 1000000000;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) {
        return -1;
    }
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return (time_t)-1;
    }
    if (at != NULL) {
        *at = now.tv_sec;
    }
    return now.tv_sec;
}
