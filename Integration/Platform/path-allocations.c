// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Counts calls of the allocator, to be loaded before the C library (LD_PRELOAD) by path-allocations.sh.

#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static atomic_long calls;

// What the test asks for by name.
long tapas_allocation_count(void) { return atomic_load(&calls); }

void *malloc(size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    *memory = __libc_memalign(alignment, size);
    return *memory == NULL ? 12 : 0;
}
