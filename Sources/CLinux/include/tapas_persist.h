// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The engine as a process of its own, for `--persist`.

#ifndef TAPAS_PERSIST_H
#define TAPAS_PERSIST_H

#include <sys/types.h>

/// Opens the program that runs, so that it can be executed again even if its path is replaced or out of reach; -1 and
/// errno. The descriptor is above 2.
int tapas_open_own_program(void);

/// Opens the program at a path, to execute it; -1 and errno.
int tapas_open_program(const char *path);

/// Starts a program as a child, with descriptor 3 as its only one besides 0, 1 and 2. It ends with the caller's thread.
/// Returns its process id, or -1 and errno. If it cannot be executed, the child ends with status 126.
pid_t tapas_start_program(int program, char *const arguments[], char *const environment[], int channel);

/// Waits until a process ends, for so many milliseconds at most: 1 if it has ended, 0 if not, -1 and errno.
int tapas_wait_for_end(pid_t process, int milliseconds);

/// Reaps a child that has ended and is none of these two; 0 if there is none.
pid_t tapas_reap_other(pid_t first, pid_t second);

#endif
