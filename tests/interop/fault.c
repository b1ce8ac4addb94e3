// Preloaded into a recorder: lets the n-th call that changes something below a folder end the process, fail or
// hang. Calls are counted over all threads, and those on sockets and other files are not.
//
//   FAULT_FOLDER  the folder
//   FAULT_AT      which call, counted from 1; 0 for none
//   FAULT         kill-before, kill-after, hang, or the number of an error
//   FAULT_GO      a file that ends the hanging when it is there
//   FAULT_TIMES   how many calls fail, this one and those that follow
//   FAULT_CALL    a file to which the name of that call is written
//   FAULT_COUNT   a file to which the number of calls is written when the process ends by itself
//   FAULT_SYNCS   a file to which the path of each file is added that is synced

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

enum verdict { GO_ON, FAIL, DIE_AFTER };

static int is_below(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int find_path(int file, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length >= 0;
}

static int is_file_below(int file) {
    char path[PATH_MAX];
    return find_path(file, path) && is_below(path);
}

static int is_told_as_synced(int file) {
    char path[PATH_MAX];
    const char *told = getenv("FAULT_SYNCS");
    FILE *list = told && find_path(file, path) ? fopen(told, "a") : NULL;
    if (list) {
        fprintf(list, "%s\n", path);
        fclose(list);
    }
    return 1;
}

static void say(const char *variable, const char *what) {
    const char *path = getenv(variable);
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%s\n", what);
        fclose(file);
    }
}

static enum verdict judge(const char *call, int counts) {
    const char *at = getenv("FAULT_AT"), *times = getenv("FAULT_TIMES"), *fault = getenv("FAULT");
    if (!counts) return GO_ON;
    long first = at ? atol(at) : 0, this = atomic_fetch_add(&calls, 1) + 1;
    if (!fault || first == 0 || this < first || this >= first + (times ? atol(times) : 1)) return GO_ON;
    if (this == first) say("FAULT_CALL", call);
    if (strcmp(fault, "kill-after") == 0) return DIE_AFTER;
    if (strcmp(fault, "hang") == 0) {
        while (access(getenv("FAULT_GO"), F_OK) != 0) usleep(10000);
        return GO_ON;
    }
    if (strcmp(fault, "kill-before") == 0) kill(getpid(), SIGKILL);
    errno = atoi(fault);
    return FAIL;
}

// The next function of that name is the one that really does it.
#define FAULTY(type, name, parameters, arguments, counts)                          \
    type name parameters {                                                         \
        static type(*really) parameters;                                           \
        if (!really) really = (type(*) parameters)dlsym(RTLD_NEXT, #name);         \
        enum verdict verdict = judge(#name, counts);                                      \
        if (verdict == FAIL) return -1;                                            \
        type result = really arguments;                                            \
        if (verdict == DIE_AFTER) kill(getpid(), SIGKILL);                         \
        return result;                                                             \
    }

FAULTY(ssize_t, write, (int file, const void *data, size_t size), (file, data, size), is_file_below(file))
FAULTY(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count), is_file_below(file))
FAULTY(int, fsync, (int file), (file), is_file_below(file) && is_told_as_synced(file))
FAULTY(int, fdatasync, (int file), (file), is_file_below(file) && is_told_as_synced(file))
FAULTY(int, ftruncate64, (int file, off64_t size), (file, size), is_file_below(file))
FAULTY(int, rename, (const char *from, const char *to), (from, to), is_below(from))
FAULTY(int, unlink, (const char *path), (path), is_below(path))
FAULTY(int, link, (const char *from, const char *to), (from, to), is_below(to))
FAULTY(int, linkat, (int at, const char *from, int to_at, const char *to, int flags),
       (at, from, to_at, to, flags), is_below(to))

int open64(const char *path, int flags, ...) {
    static int (*really)(const char *, int, ...);
    if (!really) really = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    enum verdict verdict = judge("open64", (flags & O_CREAT) && is_below(path));
    if (verdict == FAIL) return -1;
    int file = really(path, flags, mode);
    if (verdict == DIE_AFTER) kill(getpid(), SIGKILL);
    return file;
}

__attribute__((destructor)) static void say_how_many(void) {
    char number[32];
    snprintf(number, sizeof number, "%ld", atomic_load(&calls));
    say("FAULT_COUNT", number);
}
