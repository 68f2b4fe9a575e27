// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): fstat newfstatat rt_sigaction

#define _GNU_SOURCE
#include "tapas_vhost.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

// MARK: Descriptors of the other side

bool tapas_may_be_eventfd(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && (status.st_mode & S_IFMT) == 0;
}

int64_t tapas_mappable_size(int fd, int64_t *unit) {
    struct stat status;
    if (fstat(fd, &status) != 0) return -1;
    if (!S_ISREG(status.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    *unit = status.st_blksize;
    return status.st_size;
}

void *tapas_map_shared(int fd, size_t length) {
    void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return start == MAP_FAILED ? NULL : start;
}

int tapas_unmap(void *start, size_t length) { return munmap(start, length); }

// MARK: Files that become shorter
//
// The handler runs on the thread that has touched the memory, and reads atomic variables only. A slot is free (0), being
// written (1), or in use (2). Only its owner changes a slot that is in use. The owner is the thread that touches the
// memory, so the handler never sees a slot half written.

enum { slot_count = 256 };

static struct {
    atomic_int state;
    _Atomic(uintptr_t) start;
    atomic_size_t length;
    atomic_bool is_lost;
} slots[slot_count];

static atomic_uint lost_mappings;
static struct sigaction previous_action;
static pthread_mutex_t installation = PTHREAD_MUTEX_INITIALIZER;
static bool is_installed;

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    int error = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    for (int slot = 0; slot < slot_count; slot++) {
        if (atomic_load(&slots[slot].state) != 2) continue;
        uintptr_t start = atomic_load(&slots[slot].start);
        size_t length = atomic_load(&slots[slot].length);
        if (address < start || address - start >= length) continue;
        // The whole mapping, because a part of a huge page cannot be replaced.
        void *result = mmap(
            (void *)start, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        if (result == MAP_FAILED) break;
        atomic_store(&slots[slot].is_lost, true);
        atomic_fetch_add(&lost_mappings, 1);
        errno = error;
        return;
    }
    // The fault is in no guarded mapping. The access is repeated with the previous action in force.
    sigaction(number, &previous_action, NULL);
    errno = error;
}

static int install(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&installation);
    int result = is_installed ? 0 : sigaction(SIGBUS, &action, &previous_action);
    if (result == 0) is_installed = true;
    pthread_mutex_unlock(&installation);
    return result;
}

int tapas_guard_mapping(void *start, size_t length) {
    if (install() != 0) return -1;
    for (int slot = 0; slot < slot_count; slot++) {
        int free = 0;
        if (!atomic_compare_exchange_strong(&slots[slot].state, &free, 1)) continue;
        atomic_store(&slots[slot].start, (uintptr_t)start);
        atomic_store(&slots[slot].length, length);
        atomic_store(&slots[slot].is_lost, false);
        atomic_store(&slots[slot].state, 2);
        return slot;
    }
    errno = ENOMEM;
    return -1;
}

void tapas_unguard_mapping(int slot) { atomic_store(&slots[slot].state, 0); }

bool tapas_mapping_is_lost(int slot) { return atomic_load(&slots[slot].is_lost); }

unsigned tapas_lost_mappings(void) { return atomic_load(&lost_mappings); }
