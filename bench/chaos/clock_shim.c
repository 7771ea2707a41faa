/* A wall clock that can be set for one process: preloaded, it adds to CLOCK_REALTIME and CLOCK_BOOTTIME what the file
 * named by CHAOS_CLOCK says, two signed 64-bit numbers of nanoseconds that may change at any time. CLOCK_MONOTONIC
 * stays as it is, as it does when an administrator or NTP sets the clock.
 *
 * The kernel knows nothing of this, so absolute deadlines on the wall clock are shifted back on their way to it. A wait
 * that has begun does not notice a step, where a real kernel would let it end.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define WALL_ERA 1000000000LL /* seconds: no machine is up for so long, so a larger one is wall time */

static const int64_t none[2];
static const volatile int64_t *shift = none;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int handle = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (handle < 0) return;
    void *at = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, handle, 0);
    close(handle);
    if (at != MAP_FAILED) shift = at;
}

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t all = at.tv_sec * SECOND + at.tv_nsec + by;
    if (all < 0) all = 0;
    return (struct timespec){all / SECOND, all % SECOND};
}

/* What the kernel has to be told, so that it wakes when our clock says `at`. */
static const struct timespec *told(const struct timespec *at, struct timespec *room) {
    if (!at || at->tv_sec < WALL_ERA) return at;
    *room = moved(*at, -shift[0]);
    return room;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *at = moved(*at, shift[0]);
    if (result == 0 && clock == CLOCK_BOOTTIME) *at = moved(*at, shift[1]);
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *at) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec room;
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2"); /* x86-64 has an older one too */
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(cond, mutex, told(at, &room));
}

int sem_timedwait(sem_t *semaphore, const struct timespec *at) {
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec room;
    if (!real) real = dlsym(RTLD_NEXT, "sem_timedwait");
    return real(semaphore, told(at, &room));
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    struct timespec room;
    va_list given;
    long a[6];
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    va_start(given, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(given, long);
    va_end(given);
    if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && a[3])
        a[3] = (long)told((const struct timespec *)a[3], &room);
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
