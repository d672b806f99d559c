/* LD_PRELOAD: the n-th allocation of the process fails (PHIQ_FAIL_AT; with PHIQ_FAIL_ON all that come
 * behind it fail too), or how many there were is written to the file PHIQ_COUNT_TO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_long n_calls;
static long fail_at = -1;
static int fail_on;

static int fails(void) {
  long n = atomic_fetch_add(&n_calls, 1) + 1;
  if (fail_at < 0 || (fail_on ? n < fail_at : n != fail_at)) return 0;
  errno = ENOMEM;
  return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
void *memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  void *got = memalign(alignment, size);
  if (got == NULL) return ENOMEM;
  *out = got;
  return 0;
}

/* What libraries allocate before main is not phiq's to handle: counting begins there. */
static int (*real_main)(int, char **, char **);

static int counted_main(int argc, char **argv, char **environment) {
  const char *at = getenv("PHIQ_FAIL_AT");
  atomic_store(&n_calls, 0);
  fail_on = getenv("PHIQ_FAIL_ON") != NULL;
  if (at != NULL) fail_at = atol(at);
  return real_main(argc, argv, environment);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end) {
  int (*next)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
  next = (int (*)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *))
      dlsym(RTLD_NEXT, "__libc_start_main");
  real_main = main;
  return next(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}

__attribute__((destructor)) static void end(void) {
  const char *name = getenv("PHIQ_COUNT_TO");
  char text[32];
  int fd, n;
  fail_at = -1;
  if (name == NULL || (fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0) return;
  n = snprintf(text, sizeof text, "%ld\n", (long)n_calls);
  if (write(fd, text, (size_t)n) != n) _exit(99);
  close(fd);
}
