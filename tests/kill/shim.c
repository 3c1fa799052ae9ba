/* Kills the process at a chosen system call of SQLite: preloaded, it stands before the C library.

   qkan_watch(n) counts from then on; at the n-th call the process is killed, before the call where n
   is odd and after it where n is even. With 0 the calls are only counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

static long at = -1, calls = 0;

void qkan_watch(long number) { at = number; calls = 0; }
long qkan_calls(void) { return calls; }

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
static void before(void) { if (at >= 0 && ++calls == at && at % 2) die(); }
static void after(void) { if (at > 0 && calls == at && at % 2 == 0) die(); }

#define WATCH(type, name, parameters, arguments)                    \
    type name parameters {                                          \
        static type(*found) parameters;                             \
        if (!found) found = (type(*) parameters)real(#name);        \
        before();                                                   \
        type result = found arguments;                              \
        after();                                                    \
        return result;                                              \
    }

WATCH(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t place), (fd, data, size, place))
WATCH(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t place), (fd, data, size, place))
WATCH(int, fsync, (int fd), (fd))
WATCH(int, fdatasync, (int fd), (fd))
WATCH(int, unlink, (const char *path), (path))
WATCH(int, ftruncate64, (int fd, off64_t size), (fd, size))
WATCH(int, ftruncate, (int fd, off_t size), (fd, size))
