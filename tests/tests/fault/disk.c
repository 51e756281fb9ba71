/* Faults of a disk, for a program that runs with this library in LD_PRELOAD.
 *
 * Every call that changes something below FAULT_ROOT is a point: creating and writing files, syncing, renaming,
 * removing, making folders. At point FAULT_AT, and by FAULT_MODE:
 *
 *   count    nothing happens; at the end the number of points is written to FAULT_COUNT
 *   eio      this call fails with EIO
 *   enospc   this call and all later ones that need room fail with ENOSPC
 *   kill     the process gets SIGKILL before the call
 *   power    as kill, and what was not synced is undone: contents of files to their length at the last fsync, names
 *            in a folder to those at the last fsync of the folder
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { OFF, COUNT, EIO_ONCE, FULL, KILL, POWER };

static enum mode mode;
static long at, point;
static const char *root;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside;

#define REAL(type, name, ...) \
    static type (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name)

/* ---- what a power cut undoes ---- */

/* A file that was written: a descriptor of our own, and its length at the last fsync. */
struct dirty { dev_t dev; ino_t ino; int fd; off_t synced; };
static struct dirty files[4096];
static int file_count;

/* A name that was changed and whose folder was not synced since, newest last. */
struct change { enum { MADE, RENAMED, REMOVED, GONE } kind; char path[PATH_MAX], from[PATH_MAX], backup[PATH_MAX]; };
static struct change *changes;
static int change_count, backups;

static void folder_of(const char *path, char *folder) {
    strncpy(folder, path, PATH_MAX - 1);
    folder[PATH_MAX - 1] = 0;
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
}

static void keep_backup(const char *path, char *backup) {
    struct stat found;
    backup[0] = 0;
    if (lstat(path, &found) || !S_ISREG(found.st_mode)) return;
    snprintf(backup, PATH_MAX, "%s.backup-%d", root, backups++);
    if (link(path, backup)) backup[0] = 0;
}

static void changed(int kind, const char *path, const char *from, const char *backup) {
    if (mode != POWER) return;
    if (!changes) changes = calloc(4096, sizeof *changes);
    if (change_count == 4096) return;
    struct change *c = &changes[change_count++];
    c->kind = kind;
    snprintf(c->path, PATH_MAX, "%s", path);
    snprintf(c->from, PATH_MAX, "%s", from ? from : "");
    snprintf(c->backup, PATH_MAX, "%s", backup ? backup : "");
}

static struct dirty *dirty_file(int fd) {
    struct stat found;
    if (fstat(fd, &found) || !S_ISREG(found.st_mode)) return NULL;
    for (int i = 0; i < file_count; i++)
        if (files[i].dev == found.st_dev && files[i].ino == found.st_ino) return &files[i];
    return NULL;
}

/* Before a file is written or cut: what it has now is on the disk, unless it was written before. */
static void before_write(int fd) {
    struct stat found;
    if (mode != POWER || dirty_file(fd) || fstat(fd, &found) || file_count == 4096) return;
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int own = open(name, O_RDWR | O_CLOEXEC);
    if (own >= 0) files[file_count++] = (struct dirty){found.st_dev, found.st_ino, own, found.st_size};
}

static void synced(int fd, const char *path) {
    struct stat found;
    if (mode != POWER || fstat(fd, &found)) return;
    if (S_ISREG(found.st_mode)) {
        struct dirty *file = dirty_file(fd);
        if (file) file->synced = found.st_size;
        return;
    }
    for (int i = 0; i < change_count; i++) {
        char folder[PATH_MAX];
        folder_of(changes[i].path, folder);
        if (!strcmp(folder, path)) changes[i].kind = GONE;
    }
}

static void remove_all(const char *path) {
    char command[PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    unsetenv("LD_PRELOAD");
    if (system(command)) {}
}

static void power_cut(void) {
    for (int i = change_count - 1; i >= 0; i--) {
        struct change *c = &changes[i];
        if (c->kind == MADE) remove_all(c->path);
        if (c->kind == RENAMED) {
            if (rename(c->path, c->from)) {}
            if (c->backup[0] && rename(c->backup, c->path)) {}
        }
        if (c->kind == REMOVED && c->backup[0] && rename(c->backup, c->path)) {}
    }
    for (int i = 0; i < file_count; i++)
        if (ftruncate(files[i].fd, files[i].synced)) {}
}

/* ---- points ---- */

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAULT_MODE");
    root = getenv("FAULT_ROOT");
    if (!name || !root) return;
    at = atol(getenv("FAULT_AT") ? getenv("FAULT_AT") : "0");
    mode = !strcmp(name, "count") ? COUNT : !strcmp(name, "eio") ? EIO_ONCE : !strcmp(name, "enospc") ? FULL
         : !strcmp(name, "kill") ? KILL : !strcmp(name, "power") ? POWER : OFF;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    if (mode != COUNT || !path) return;
    mode = OFF;
    FILE *file = fopen(path, "w");
    if (file) { fprintf(file, "%ld\n", point); fclose(file); }
}

static int below(const char *path) {
    size_t length = strlen(root);
    return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path of a name or of a descriptor, if it is below the root. */
static int named(int folder, const char *name, char *path) {
    if (mode == OFF || inside) return 0;
    if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
    else {
        char start[PATH_MAX / 2];
        if (folder == AT_FDCWD) { if (!getcwd(start, sizeof start)) return 0; }
        else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, start, sizeof start - 1);
            if (length < 0) return 0;
            start[length] = 0;
        }
        snprintf(path, PATH_MAX, "%s/%s", start, name);
    }
    return below(path);
}

static int described(int fd, char *path) {
    if (mode == OFF || inside) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* A point; -1 where the call is to fail, with errno set. */
static int reached(int needs_room) {
    long now = __atomic_add_fetch(&point, 1, __ATOMIC_SEQ_CST);
    if (mode == EIO_ONCE && now == at) { errno = EIO; return -1; }
    if (mode == FULL && now >= at && needs_room) { errno = ENOSPC; return -1; }
    if ((mode == KILL || mode == POWER) && now == at) {
        inside = 1;
        if (mode == POWER) power_cut();
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    return 0;
}

#define ENTER pthread_mutex_lock(&lock); inside = 1
#define LEAVE inside = 0; pthread_mutex_unlock(&lock)

static int opened(int (*real)(int, const char *, int, ...), int folder, const char *name, int flags, mode_t bits) {
    char path[PATH_MAX];
    struct stat found;
    if (!(flags & (O_CREAT | O_TRUNC)) || !named(folder, name, path)) return real(folder, name, flags, bits);
    int is_new = lstat(path, &found) != 0;
    if (!is_new && !(flags & O_TRUNC)) return real(folder, name, flags, bits);
    if (reached(1)) return -1;
    ENTER;
    int fd = real(folder, name, flags & ~O_TRUNC, bits);
    if (fd >= 0 && is_new) changed(MADE, path, NULL, NULL);
    if (fd >= 0 && (flags & O_TRUNC)) { before_write(fd); if (ftruncate(fd, 0)) {} }
    LEAVE;
    return fd;
}

#define BITS mode_t bits = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); bits = va_arg(more, mode_t); va_end(more); }

int openat(int folder, const char *name, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...); BITS
    return opened(real_openat, folder, name, flags, bits);
}
int openat64(int folder, const char *name, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...); BITS
    return opened(real_openat, folder, name, flags, bits);
}
int open(const char *name, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...); BITS
    return opened(real_openat, AT_FDCWD, name, flags, bits);
}
int open64(const char *name, int flags, ...) {
    REAL(int, openat, int, const char *, int, ...); BITS
    return opened(real_openat, AT_FDCWD, name, flags, bits);
}

#define POINT_OF(fd, room) char path[PATH_MAX]; if (described(fd, path)) { if (reached(room)) return -1; ENTER; before_write(fd); LEAVE; }

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    POINT_OF(fd, 1)
    return real_write(fd, bytes, count);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    POINT_OF(fd, 1)
    return real_writev(fd, parts, count);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t place) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    POINT_OF(fd, 1)
    return real_pwrite64(fd, bytes, count, place);
}
int ftruncate64(int fd, off_t length) {
    REAL(int, ftruncate64, int, off_t);
    POINT_OF(fd, 0)
    return real_ftruncate64(fd, length);
}
static int sync_with(int (*real)(int), int fd) {
    char path[PATH_MAX];
    if (!described(fd, path)) return real(fd);
    if (reached(0)) return -1;
    int result = real(fd);
    ENTER;
    if (!result) synced(fd, path);
    LEAVE;
    return result;
}
int fsync(int fd) { REAL(int, fsync, int); return sync_with(real_fsync, fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return sync_with(real_fdatasync, fd); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    char source[PATH_MAX], target[PATH_MAX], backup[PATH_MAX] = "";
    if (!named(AT_FDCWD, from, source) || !named(AT_FDCWD, to, target)) return real_rename(from, to);
    if (reached(0)) return -1;
    ENTER;
    if (mode == POWER) keep_backup(target, backup);
    int result = real_rename(from, to);
    if (!result) changed(RENAMED, target, source, backup);
    LEAVE;
    return result;
}
static int removed(int (*real)(int, const char *, int), int folder, const char *name, int flags) {
    char path[PATH_MAX], backup[PATH_MAX] = "";
    if (!named(folder, name, path)) return real(folder, name, flags);
    if (reached(0)) return -1;
    ENTER;
    if (mode == POWER) keep_backup(path, backup);
    int result = real(folder, name, flags);
    /* A folder is removed file by file: those are given back, and it with them only as far as they go. */
    if (!result && backup[0]) changed(REMOVED, path, NULL, backup);
    LEAVE;
    return result;
}
int unlinkat(int folder, const char *name, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return removed(real_unlinkat, folder, name, flags);
}
int unlink(const char *name) {
    REAL(int, unlinkat, int, const char *, int);
    return removed(real_unlinkat, AT_FDCWD, name, 0);
}
int rmdir(const char *name) {
    REAL(int, unlinkat, int, const char *, int);
    return removed(real_unlinkat, AT_FDCWD, name, AT_REMOVEDIR);
}
int mkdir(const char *name, mode_t bits) {
    REAL(int, mkdir, const char *, mode_t);
    char path[PATH_MAX];
    if (!named(AT_FDCWD, name, path)) return real_mkdir(name, bits);
    if (reached(1)) return -1;
    ENTER;
    int result = real_mkdir(name, bits);
    if (!result) changed(MADE, path, NULL, NULL);
    LEAVE;
    return result;
}
