/* Yardstick: appends of 300 bytes to a preallocated file, each followed by fdatasync. Prints one line of
 * JSON.
 *
 *     fdatasync FILE */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loop/loop.h"

enum { ROUNDS = 2000, RECORD = 300, FILE_SIZE = 4 << 20 };

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fdatasync FILE\n");
        return 3;
    }
    int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || posix_fallocate(fd, 0, FILE_SIZE) != 0 || fsync(fd) != 0) {
        perror(argv[1]);
        return 1;
    }
    char record[RECORD];
    memset(record, 'x', sizeof(record));
    uint64_t began = loop_mono_ns();
    for (int i = 0; i < ROUNDS; i++) {
        if (pwrite(fd, record, sizeof(record), (off_t)i * RECORD) != RECORD || fdatasync(fd) != 0) {
            perror(argv[1]);
            return 1;
        }
    }
    double seconds = (double)(loop_mono_ns() - began) / 1e9;
    (void)printf("{\"rate\":%.1f}\n", ROUNDS / seconds);
    (void)close(fd); /* measured already */
    return 0;
}
