// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): clone close close_range dup3 execveat fcntl openat pidfd_open poll prctl wait4 waitid

#define _GNU_SOURCE
#include "tapas_persist.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int tapas_open_own_program(void) { return tapas_open_program("/proc/self/exe"); }

int tapas_open_program(const char *path) { return open(path, O_PATH | O_CLOEXEC); }

pid_t tapas_start_program(int program, char *const arguments[], char *const environment[], int channel) {
    pid_t child = fork();
    if (child != 0) return child;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    // Numbers that are not in each other's way, whatever the two were. All but 3 are closed by the execution.
    int kept_program = fcntl(program, F_DUPFD_CLOEXEC, 10);
    int kept_channel = fcntl(channel, F_DUPFD_CLOEXEC, 10);
    if (kept_program < 0 || kept_channel < 0 || dup3(kept_channel, 3, 0) < 0) _exit(126);
    (void)syscall(SYS_close_range, 4u, 9u, 0u);
    (void)syscall(SYS_execveat, kept_program, "", arguments, environment, AT_EMPTY_PATH);
    _exit(126);
}

int tapas_wait_for_end(pid_t process, int milliseconds) {
    int handle = (int)syscall(SYS_pidfd_open, process, 0);
    if (handle < 0) return -1;
    struct pollfd entry = {.fd = handle, .events = POLLIN};
    int result;
    do result = poll(&entry, 1, milliseconds);
    while (result < 0 && errno == EINTR);
    int error = errno;
    close(handle);
    errno = error;
    return result;
}

pid_t tapas_reap_other(pid_t first, pid_t second) {
    siginfo_t child;
    child.si_pid = 0;
    // WNOWAIT: looked at first, because the two are reaped elsewhere.
    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || child.si_pid == 0) return 0;
    if (child.si_pid == first || child.si_pid == second) return 0;
    return waitpid(child.si_pid, NULL, WNOHANG) > 0 ? child.si_pid : 0;
}
