/* Preloaded under a process: counts the calls that change files below one folder (or those that
 * read them), and at the n-th of them kills the process or fails this call and some after it; or
 * writes every call, with its bytes, to a log. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, KILL, EIO_, ENOSPC_, SHORT, EINTR_, EDQUOT_, EROFS_, READ_EIO, READ_SHORT };
static long counter, target, more;
static int action, logfd = -1;
static char folder[PATH_MAX];

/* at call n, and at `again` more after it; n = 0 only counts */
void plr_arm(const char *dir, long n, int act, long again, int fd) {
    strncpy(folder, dir, PATH_MAX - 1);
    counter = 0; target = n; action = act; more = again; logfd = fd;
}
long plr_count(void) { return counter; }

static int below(const char *path) {
    char full[PATH_MAX];
    if (!folder[0] || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full)) return 0;
        strncat(full, "/", PATH_MAX - strlen(full) - 1);
        strncat(full, path, PATH_MAX - strlen(full) - 1);
        path = full;
    }
    return !strncmp(path, folder, strlen(folder));
}
static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlink, link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return below(out);
}
static void put(const void *data, size_t n) {
    const char *at = data;
    while (n) { long w = syscall(SYS_write, logfd, at, n); if (w <= 0) _exit(99); at += w; n -= w; }
}
/* one record: op, path length, path, second length, second path or data, offset */
static void record(char op, const char *path, const void *data, size_t n, long offset) {
    if (logfd < 0) return;
    unsigned int lengths[2] = {(unsigned)strlen(path), (unsigned)n};
    put(&op, 1); put(lengths, sizeof lengths); put(&offset, sizeof offset);
    put(path, lengths[0]); put(data, n);
}
/* returns 0 to go on, -1 to fail with errno set, 1 to do only part */
static int fault(int space, int writes) {
    if (!folder[0] || action >= READ_EIO) return 0;
    counter++;
    if (!action || !target || counter < target || counter > target + more) return 0;
    switch (action) {
    case KILL: raise(SIGKILL); return 0;
    case EIO_: errno = EIO; return -1;
    case EROFS_: errno = EROFS; return -1;
    case ENOSPC_: if (!space) return 0; errno = ENOSPC; return -1;
    case EDQUOT_: if (!space) return 0; errno = EDQUOT; return -1;
    case SHORT: return writes ? 1 : 0;
    case EINTR_: if (!writes) return 0; errno = EINTR; return -1;
    }
    return 0;
}
static int read_fault(int fd) {
    char path[PATH_MAX];
    if (!folder[0] || action < READ_EIO || fd <= 2 || !path_of(fd, path)) return 0;
    counter++;
    if (!target || counter < target || counter > target + more) return 0;
    if (action == READ_SHORT) return 1;
    errno = EIO;
    return -1;
}
ssize_t read(int fd, void *data, size_t n) {
    int what = read_fault(fd);
    if (what < 0) return -1;
    return syscall(SYS_read, fd, data, what > 0 && n > 1 ? n / 2 : n);
}
static ssize_t pread_any(int fd, void *data, size_t n, off_t offset) {
    int what = read_fault(fd);
    if (what < 0) return -1;
    return syscall(SYS_pread64, fd, data, what > 0 && n > 1 ? n / 2 : n, offset);
}
ssize_t pread(int fd, void *d, size_t n, off_t o) { return pread_any(fd, d, n, o); }
ssize_t pread64(int fd, void *d, size_t n, off64_t o) { return pread_any(fd, d, n, o); }

static int open_any(int dirfd, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX] = "";
    if (dirfd != AT_FDCWD && path[0] != '/') {
        path_of(dirfd, full);
        strncat(full, "/", PATH_MAX - strlen(full) - 1);
        strncat(full, path, PATH_MAX - strlen(full) - 1);
    } else strncpy(full, path, PATH_MAX - 1);
    int ours = (flags & (O_CREAT | O_TRUNC)) && below(full);
    int is_new = ours && syscall(SYS_faccessat, AT_FDCWD, full, F_OK) != 0;
    if (ours && (is_new || flags & O_TRUNC) && fault(1, 0) < 0) return -1;
    int fd = syscall(SYS_openat, dirfd, path, flags, mode);
    if (fd >= 0 && is_new) record('c', full, "", 0, 0);
    else if (fd >= 0 && ours && flags & O_TRUNC) record('t', full, "", 0, 0);
    return fd;
}
#define OPEN(name) int name(const char *path, int flags, ...) { va_list a; va_start(a, flags); \
    mode_t mode = va_arg(a, int); va_end(a); return open_any(AT_FDCWD, path, flags, mode); }
OPEN(open) OPEN(open64)
#define OPENAT(name) int name(int d, const char *path, int flags, ...) { va_list a; \
    va_start(a, flags); mode_t mode = va_arg(a, int); va_end(a); \
    return open_any(d, path, flags, mode); }
OPENAT(openat) OPENAT(openat64)

static ssize_t write_any(int fd, const void *data, size_t n, off_t offset, int positioned) {
    char path[PATH_MAX];
    int ours = fd > 2 && fd != logfd && path_of(fd, path);
    if (ours) {
        int what = fault(1, 1);
        if (what < 0) return -1;
        if (what > 0 && n > 1) n /= 2;
    } else if (fd == 1 && logfd >= 0) record('a', "", data, n, 0);
    if (ours && !positioned) { long at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
        ssize_t w = syscall(SYS_write, fd, data, n); if (w > 0) record('w', path, data, w, at);
        return w; }
    ssize_t w = positioned ? syscall(SYS_pwrite64, fd, data, n, offset) : syscall(SYS_write, fd, data, n);
    if (ours && w > 0) record('w', path, data, w, offset);
    return w;
}
ssize_t write(int fd, const void *data, size_t n) { return write_any(fd, data, n, 0, 0); }
ssize_t pwrite(int fd, const void *d, size_t n, off_t o) { return write_any(fd, d, n, o, 1); }
ssize_t pwrite64(int fd, const void *d, size_t n, off64_t o) { return write_any(fd, d, n, o, 1); }

static int sync_any(int fd, long number) {
    char path[PATH_MAX];
    int ours = path_of(fd, path);
    if (ours && fault(0, 0) < 0) return -1;
    int rc = syscall(number, fd);
    if (ours && rc == 0) record('s', path, "", 0, 0);
    return rc;
}
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

static int truncate_any(int fd, off_t size) {
    char path[PATH_MAX];
    int ours = path_of(fd, path);
    if (ours && fault(0, 0) < 0) return -1;
    int rc = syscall(SYS_ftruncate, fd, size);
    if (ours && rc == 0) record('t', path, "", 0, size);
    return rc;
}
int ftruncate(int fd, off_t size) { return truncate_any(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncate_any(fd, size); }

int unlinkat(int d, const char *path, int flags) {
    if (below(path) && fault(0, 0) < 0) return -1;
    int rc = syscall(SYS_unlinkat, d, path, flags);
    if (rc == 0 && below(path)) record('u', path, "", 0, 0);
    return rc;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int renameat(int a, const char *from, int b, const char *to) {
    if (below(to) && fault(1, 0) < 0) return -1;
    int rc = syscall(SYS_renameat2, a, from, b, to, 0);
    if (rc == 0 && below(to)) record('r', from, to, strlen(to), 0);
    return rc;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
int mkdirat(int d, const char *path, mode_t mode) {
    if (below(path) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0 && fault(1, 0) < 0) return -1;
    int rc = syscall(SYS_mkdirat, d, path, mode);
    if (rc == 0 && below(path)) record('m', path, "", 0, 0);
    return rc;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
