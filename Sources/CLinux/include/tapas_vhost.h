// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What vhost-user needs of mmap(2) and sigaction(2) that Swift cannot import.

#ifndef TAPAS_VHOST_H
#define TAPAS_VHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Whether a descriptor may be an eventfd(2): its file has no type. Pipes, sockets and files do.
bool tapas_may_be_eventfd(int fd);

/// The size of a regular file in bytes, and the unit of its mappings in bytes (the size of a huge page on hugetlbfs);
/// -1 with EINVAL if it is no regular file.
int64_t tapas_mappable_size(int fd, int64_t *unit);

/// Maps the first bytes of a file for reading and writing, shared; NULL with errno.
void *tapas_map_shared(int fd, size_t length);

/// Removes a mapping.
int tapas_unmap(void *start, size_t length);

/// Guards a mapping of a file: if the file loses the bytes behind it, the first access replaces the whole mapping by
/// empty memory instead of ending the process (SIGBUS). The first call installs the handler.
///
/// Returns a slot, or -1 with errno. The mapping must be removed after tapas_unguard_mapping, not before.
int tapas_guard_mapping(void *start, size_t length);
void tapas_unguard_mapping(int slot);
/// Whether a guarded mapping has been replaced.
bool tapas_mapping_is_lost(int slot);
/// How many mappings have been replaced in this process.
unsigned tapas_lost_mappings(void);

#endif
