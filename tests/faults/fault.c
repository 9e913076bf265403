/*
 * Owns the counting: this program's own malloc and its relatives, which the dynamic linker gives to
 * every library too, each forwarding to glibc's allocator unless its turn to fail has come. Nothing
 * here may allocate or lock: it runs inside malloc, in any thread, and is armed from a signal.
 */
#include "tests/faults/fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSE 0
#elif defined(__has_feature)
#define INTERPOSE                                                                                  \
    !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                       \
      __has_feature(memory_sanitizer))
#else
#define INTERPOSE 1
#endif

static atomic_long armed; /* 0: nothing fails */
static atomic_long counted, live;
static atomic_bool fired;
static void (*_Atomic watcher)(void);

void fault_arm(long nth)
{
    atomic_store(&armed, 0);
    atomic_store(&counted, 0);
    atomic_store(&fired, false);
    atomic_store(&armed, nth);
}

bool fault_disarm(void)
{
    atomic_store(&armed, 0);
    return atomic_load(&fired);
}

bool fault_fired(void)
{
    return atomic_load(&fired);
}

long fault_live(void)
{
    return atomic_load(&live);
}

long fault_count(void)
{
    return atomic_load(&counted);
}

void fault_watch(void (*seen)(void))
{
    atomic_store(&watcher, seen);
}

bool fault_continue(long n)
{
    if (n > 1 && !fault_disarm())
        return false;
    fault_arm(n);
    return true;
}

#if INTERPOSE

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* Is it this call's turn? */
static bool fails(void)
{
    long nth = atomic_load(&armed);
    if (!nth || atomic_fetch_add(&counted, 1) + 1 != nth)
        return false;
    atomic_store(&fired, true);
    void (*seen)(void) = atomic_load(&watcher);
    if (seen)
        seen();
    return true;
}

static void *counted_in(void *p)
{
    if (p)
        atomic_fetch_add(&live, 1);
    return p;
}

static void *refuse(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return fails() ? refuse() : counted_in(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return fails() ? refuse() : counted_in(__libc_calloc(n, size));
}

void *realloc(void *old, size_t size)
{
    if (fails())
        return refuse();
    void *p = __libc_realloc(old, size);
    if (!old && p)
        atomic_fetch_add(&live, 1);
    if (old && !p && !size)
        atomic_fetch_sub(&live, 1);
    return p;
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? refuse() : counted_in(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p = memalign(alignment, size);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    if (p)
        atomic_fetch_sub(&live, 1);
    __libc_free(p);
}

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef void *mmap_fn(void *, size_t, int, int, int, off_t);
static create_fn *real_create;
static mmap_fn *real_mmap;

/* Before main: looking a symbol up may allocate. */
__attribute__((constructor)) static void resolve(void)
{
    *(void **)&real_create = dlsym(RTLD_NEXT, "pthread_create");
    *(void **)&real_mmap = dlsym(RTLD_NEXT, "mmap");
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    if (!real_create)
        resolve();
    return fails() ? EAGAIN : real_create(thread, attr, run, arg);
}

void *mmap(void *addr, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!real_mmap)
        resolve();
    if (fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return real_mmap(addr, size, protection, flags, fd, offset);
}

#endif
