// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Counts a whole program's calls of the allocator where another process can read them: loaded before the C library
// (LD_PRELOAD) by allocations.sh. The file named by TAPAS_ALLOCATION_COUNTS holds two 64-bit counters, of memory
// asked for and of memory given back.

#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static atomic_ulong own[2];
static atomic_ulong *counts = own;

__attribute__((constructor)) static void share(void) {
    const char *path = getenv("TAPAS_ALLOCATION_COUNTS");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof(own), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) counts = memory;
    close(file);
}

static void taken(void) { atomic_fetch_add_explicit(&counts[0], 1, memory_order_relaxed); }

void *malloc(size_t size) {
    taken();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    taken();
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    taken();
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    taken();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    taken();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    taken();
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? 12 : 0;
}

void free(void *memory) {
    if (memory != NULL) atomic_fetch_add_explicit(&counts[1], 1, memory_order_relaxed);
    __libc_free(memory);
}
