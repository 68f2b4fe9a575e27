// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Messages with descriptors over UNIX sockets (SCM_RIGHTS, unix(7)).

#ifndef TAPAS_DESCRIPTORS_H
#define TAPAS_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

/// Reads without waiting, together with up to `capacity` descriptors (16 at most, close-on-exec), which are appended to
/// `descriptors` at *count. If there are more, all that arrived with this call are closed, and it fails with EMSGSIZE.
ssize_t tapas_receive_descriptors(int fd, void *memory, size_t length, int *descriptors, int capacity, int *count);

/// Sends a message together with `count` descriptors, 32 at most. Returns the number of bytes sent, or -1 and errno.
ssize_t tapas_send_descriptors(int fd, const void *memory, size_t length, const int *descriptors, int count);

#endif
