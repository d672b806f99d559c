/* LD_PRELOAD: what an operating system may do to a run, and a record of what a run asks of it.
 *
 * PHIQ_IO_BYTES=N   reads and writes at a place do at most N bytes, and every third is interrupted first
 * PHIQ_IO_CALLS=F   the name of every call is added to the file F, a line each
 * PHIQ_IO_FAULT=K:WHAT   the K-th of these calls meets WHAT: "kill" (SIGKILL before it is made), "short" (half of
 *                   the bytes) or the number of an error. "K+:WHAT": so do all that change files from the K-th on
 * PHIQ_IO_DELAY=U   calls that change files wait U microseconds first
 * PHIQ_IO_LOG=F     what changes files and folders is added to the file F in its order, for power_loss.py:
 *                     write INODE OFFSET LENGTH\nBYTES      size INODE LENGTH      reserve INODE LENGTH      sync INODE
 *                     create FOLDER INODE NAME     mkdir FOLDER INODE NAME     rename FOLDER NAME FOLDER NAME FLAGS
 *                     link FOLDER NAME FOLDER NAME     unlink FOLDER NAME      (folders are inodes) */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kReads = 0, kChanges = 1 };
enum { kOpenFolder = O_PATH | O_CLOEXEC };

static atomic_long n_calls, n_moves;
static long most_bytes = -1, fault_at = -1, delay_us;
static int fault_lasts, fault_errno, fault_kills, fault_shortens;
static int calls_fd = -1, log_fd = -1;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Not through the functions below. */
static int open_log(const char *name) {
  const char *path = getenv(name);
  if (path == NULL) return -1;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500); /* the run's own numbers stay as they are */
  syscall(SYS_close, fd);
  return high;
}

static void add(int fd, const void *data, size_t size) {
  if (syscall(SYS_write, fd, data, size) != (long)size) abort();
}

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("PHIQ_IO_BYTES");
  if (text != NULL) most_bytes = atol(text);
  if ((text = getenv("PHIQ_IO_DELAY")) != NULL) delay_us = atol(text);
  if ((text = getenv("PHIQ_IO_FAULT")) != NULL) {
    char *end;
    fault_at = strtol(text, &end, 10);
    fault_lasts = *end == '+';
    const char *what = strchr(end, ':') + 1;
    fault_kills = strcmp(what, "kill") == 0;
    fault_shortens = strcmp(what, "short") == 0;
    fault_errno = atoi(what);
  }
  calls_fd = open_log("PHIQ_IO_CALLS");
  log_fd = open_log("PHIQ_IO_LOG");
}

/* The fault that this call meets: 0 none, -1 half of the bytes, else an error's number. */
static int met(const char *name, int changes) {
  long n = atomic_fetch_add(&n_calls, 1) + 1;
  if (calls_fd >= 0) {
    char line[64];
    add(calls_fd, line, (size_t)snprintf(line, sizeof line, "%s\n", name));
  }
  if (delay_us > 0 && changes) usleep((useconds_t)delay_us);
  if (fault_at < 0 || (fault_lasts ? n < fault_at || !changes : n != fault_at)) return 0;
  if (fault_kills) kill(getpid(), SIGKILL);
  return fault_shortens ? -1 : fault_errno;
}

static int fails(const char *name, int changes) {
  int fault = met(name, changes);
  if (fault <= 0) return 0;
  errno = fault;
  return 1;
}

static size_t at_most(size_t size, int fault) {
  size_t n = most_bytes < 0 || (size_t)most_bytes > size ? size : (size_t)most_bytes;
  return fault < 0 ? (n + 1) / 2 : n;
}

/* As a signal would. */
static int is_interrupted(void) {
  if (most_bytes < 0 || atomic_fetch_add(&n_moves, 1) % 3 != 0) return 0;
  errno = EINTR;
  return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* --- the record ------------------------------------------------------------------------------- */

static void lock(void) {
  if (log_fd >= 0) pthread_mutex_lock(&log_mutex);
}

static void unlock(void) {
  if (log_fd < 0) return;
  int saved = errno;
  pthread_mutex_unlock(&log_mutex);
  errno = saved;
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
  if (log_fd < 0) return;
  int saved = errno;
  char line[9000];
  va_list list;
  va_start(list, format);
  int n = vsnprintf(line, sizeof line, format, list);
  va_end(list);
  add(log_fd, line, (size_t)n);
  errno = saved;
}

static unsigned long inode_of(int fd, int *is_file) {
  struct stat st;
  if (syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) != 0) return 0;
  if (is_file != NULL) *is_file = S_ISREG(st.st_mode);
  return st.st_ino;
}

static unsigned long inode_at(int dir, const char *path) {
  struct stat st;
  return syscall(SYS_newfstatat, dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

/* The folder of a path, and the name in it. */
static unsigned long split(int dir, const char *path, const char **name) {
  const char *slash = strrchr(path, '/');
  char folder[4096] = ".";
  *name = slash == NULL ? path : slash + 1;
  if (slash != NULL) snprintf(folder, sizeof folder, "%.*s", (int)(slash - path + 1), path);
  struct stat st;
  return syscall(SYS_newfstatat, dir, folder, &st, 0) == 0 ? st.st_ino : 0;
}

static void note_write(int fd, const void *data, ssize_t n, off_t offset) {
  int is_file = 0;
  unsigned long inode = log_fd < 0 || n <= 0 ? 0 : inode_of(fd, &is_file);
  if (!is_file) return;
  note("write %lu %lld %zd\n", inode, (long long)offset, n);
  add(log_fd, data, (size_t)n);
}

/* --- bytes ------------------------------------------------------------------------------------ */

ssize_t pread(int fd, void *data, size_t size, off_t offset) {
  int fault = met("pread", kReads);
  if (fault > 0) return errno = fault, -1;
  return is_interrupted() ? -1 : NEXT(pread)(fd, data, at_most(size, fault), offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  int fault = met("pwrite", kChanges);
  if (fault > 0) return errno = fault, -1;
  if (is_interrupted()) return -1;
  lock();
  ssize_t n = NEXT(pwrite)(fd, data, at_most(size, fault), offset);
  note_write(fd, data, n, offset);
  unlock();
  return n;
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset) { return pread(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return pwrite(fd, data, size, offset); }

ssize_t read(int fd, void *data, size_t size) {
  int fault = met("read", kReads);
  if (fault > 0) return errno = fault, -1;
  return NEXT(read)(fd, data, fault < 0 ? (size + 1) / 2 : size);
}

ssize_t write(int fd, const void *data, size_t size) {
  int fault = met("write", kChanges);
  if (fault > 0) return errno = fault, -1;
  lock();
  ssize_t n = NEXT(write)(fd, data, fault < 0 ? (size + 1) / 2 : size);
  if (n > 0) note_write(fd, data, n, (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) - n);
  unlock();
  return n;
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  if (fails("fallocate", kChanges)) return -1;
  lock();
  int result = NEXT(fallocate)(fd, mode, offset, length);
  if (result == 0) note("reserve %lu %lld\n", log_fd < 0 ? 0 : inode_of(fd, NULL), (long long)(offset + length));
  unlock();
  return result;
}

int ftruncate(int fd, off_t length) {
  if (fails("ftruncate", kChanges)) return -1;
  lock();
  int result = NEXT(ftruncate)(fd, length);
  if (result == 0) note("size %lu %lld\n", log_fd < 0 ? 0 : inode_of(fd, NULL), (long long)length);
  unlock();
  return result;
}

int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

/* Only what was there before the call is durable behind it. */
#define SYNC(name)                                                          \
  int name(int fd) {                                                        \
    if (fails(#name, kChanges)) return -1;                                  \
    lock();                                                                 \
    int result = NEXT(name)(fd);                                            \
    if (result == 0) note("sync %lu\n", log_fd < 0 ? 0 : inode_of(fd, NULL)); \
    unlock();                                                               \
    return result;                                                          \
  }
SYNC(fsync)
SYNC(fdatasync)

/* A close that fails has closed all the same. */
int close(int fd) {
  int fault = met("close", kChanges);
  int result = NEXT(close)(fd);
  return fault > 0 ? (errno = fault, -1) : result;
}

/* --- names ------------------------------------------------------------------------------------ */

static int open_at(const char *call, int dir, const char *path, int flags, mode_t mode) {
  int creates = (flags & O_CREAT) != 0;
  if (fails(call, creates ? kChanges : kReads)) return -1;
  lock();
  int is_new = creates && log_fd >= 0 && inode_at(dir, path) == 0;
  int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
  if (fd >= 0 && is_new) {
    const char *name;
    unsigned long folder = split(dir, path, &name);
    note("create %lu %lu %s\n", folder, inode_of(fd, NULL), name);
  }
  unlock();
  return fd;
}

#define MODE(flags, last)                                 \
  mode_t mode = 0;                                        \
  if ((flags & O_CREAT) != 0) {                           \
    va_list list;                                         \
    va_start(list, last);                                 \
    mode = va_arg(list, mode_t);                          \
    va_end(list);                                         \
  }

int open(const char *path, int flags, ...) {
  MODE(flags, flags)
  return open_at("open", AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE(flags, flags)
  return open_at("open", AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...) {
  MODE(flags, flags)
  return open_at("openat", dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
  MODE(flags, flags)
  return open_at("openat", dir, path, flags, mode);
}

int mkdirat(int dir, const char *path, mode_t mode) {
  if (fails("mkdirat", kChanges)) return -1;
  lock();
  int result = NEXT(mkdirat)(dir, path, mode);
  const char *name;
  if (result == 0 && log_fd >= 0) {
    unsigned long folder = split(dir, path, &name);
    note("mkdir %lu %lu %s\n", folder, inode_at(dir, path), name);
  }
  unlock();
  return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static void note_two(const char *what, int dir, const char *from, int dir2, const char *to, int flags) {
  const char *name, *name2;
  if (log_fd < 0) return;
  unsigned long folder = split(dir, from, &name), folder2 = split(dir2, to, &name2);
  note("%s %lu %s %lu %s %d\n", what, folder, name, folder2, name2, flags);
}

int renameat2(int dir, const char *from, int dir2, const char *to, unsigned flags) {
  if (fails("renameat2", kChanges)) return -1;
  lock();
  int result = NEXT(renameat2)(dir, from, dir2, to, flags);
  if (result == 0) note_two("rename", dir, from, dir2, to, (int)flags);
  unlock();
  return result;
}

int renameat(int dir, const char *from, int dir2, const char *to) {
  if (fails("renameat", kChanges)) return -1;
  lock();
  int result = NEXT(renameat)(dir, from, dir2, to);
  if (result == 0) note_two("rename", dir, from, dir2, to, 0);
  unlock();
  return result;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int dir, const char *from, int dir2, const char *to, int flags) {
  if (fails("linkat", kChanges)) return -1;
  lock();
  int result = NEXT(linkat)(dir, from, dir2, to, flags);
  if (result == 0) note_two("link", dir, from, dir2, to, 0);
  unlock();
  return result;
}

int unlinkat(int dir, const char *path, int flags) {
  if (fails("unlinkat", kChanges)) return -1;
  lock();
  int result = NEXT(unlinkat)(dir, path, flags);
  if (result == 0 && log_fd >= 0) {
    const char *name;
    unsigned long folder = split(dir, path, &name);
    note("unlink %lu %s\n", folder, name);
  }
  unlock();
  return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

/* --- the rest that can fail -------------------------------------------------------------------- */

int fchmod(int fd, mode_t mode) { return fails("fchmod", kChanges) ? -1 : NEXT(fchmod)(fd, mode); }
int flock(int fd, int operation) { return operation != LOCK_UN && fails("flock", kReads) ? -1 : NEXT(flock)(fd, operation); }
int fstat(int fd, struct stat *st) { return fails("fstat", kReads) ? -1 : NEXT(fstat)(fd, st); }
int stat(const char *path, struct stat *st) { return fails("stat", kReads) ? -1 : NEXT(stat)(path, st); }
int lstat(const char *path, struct stat *st) { return fails("lstat", kReads) ? -1 : NEXT(lstat)(path, st); }

int fstatat(int dir, const char *path, struct stat *st, int flags) {
  return fails("fstatat", kReads) ? -1 : NEXT(fstatat)(dir, path, st, flags);
}

DIR *opendir(const char *path) { return fails("opendir", kReads) ? NULL : NEXT(opendir)(path); }
DIR *fdopendir(int fd) { return fails("fdopendir", kReads) ? NULL : NEXT(fdopendir)(fd); }

int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  return command == F_DUPFD_CLOEXEC && fails("fcntl", kReads) ? -1 : NEXT(fcntl)(fd, command, argument);
}
