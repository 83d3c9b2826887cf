/* The clock of the system, moved by POSTTRAIN_TESTS_CLOCK seconds: loaded before the C library. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  long failed = syscall(SYS_clock_gettime, clock, now);
  const char *moved = getenv("POSTTRAIN_TESTS_CLOCK");
  if (failed == 0 && clock == CLOCK_REALTIME && moved != NULL) now->tv_sec += atol(moved);
  return (int)failed;
}
