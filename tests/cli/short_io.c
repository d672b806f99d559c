/* LD_PRELOAD: positioned reads and writes do at most PHIQ_IO_BYTES, and every third is interrupted first. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_long n_calls;

static size_t shortened(size_t size) {
  const char *most = getenv("PHIQ_IO_BYTES");
  size_t n = most == NULL ? size : (size_t)atol(most);
  return n < size ? n : size;
}

static int is_interrupted(void) {
  if (atomic_fetch_add(&n_calls, 1) % 3 != 0) return 0;
  errno = EINTR;
  return 1;
}

ssize_t pread(int fd, void *data, size_t size, off_t offset) {
  static ssize_t (*next)(int, void *, size_t, off_t);
  if (next == NULL) next = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
  return is_interrupted() ? -1 : next(fd, data, shortened(size), offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  static ssize_t (*next)(int, const void *, size_t, off_t);
  if (next == NULL) next = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
  return is_interrupted() ? -1 : next(fd, data, shortened(size), offset);
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset) { return pread(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return pwrite(fd, data, size, offset); }
