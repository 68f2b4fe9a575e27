// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The wrapped command is not process 1 of its process namespace. Process 1 does not get signals from its own namespace
// that it has no handler for, so `kill $$` in a shell would do nothing, and the command would have to reap orphans. So
// an init process stands between tapas and the command:
//
//     tapas ──clone──▶ init (process 1) ──vfork, exec──▶ command
//       ▲                │  │
//       └── reports ─────┘  └── reaps everything, passes on the signals that tapas sends it
//
// The init is a copy of tapas (clone without exec). So it may only use what is safe in such a child: system calls, and
// functions that neither allocate nor lock. First it closes every descriptor except 0, 1, 2 and its channel.
//
// All three processes are in the process group of tapas, so signals from the terminal's keys reach the command
// directly. The init therefore does not pass on signals that come from the terminal (si_code SI_KERNEL), only those of
// kill(2). Signals stay blocked in the init, which takes them with sigwaitinfo(2); process 1 receives blocked signals
// even where their default action is to be ignored.
//
// syscalls: called(any): access chdir chroot clone close close_range dup3 execve fchmod fcntl fstatfs getegid geteuid
// syscalls: called(any): getgroups getpid inotify_add_watch inotify_init1 ioctl kill mount move_mount open_tree openat
// syscalls: called(any): pidfd_open pidfd_send_signal read readlink statx
// syscalls: called(any): pivot_root prctl recvfrom recvmsg rt_sigaction rt_sigprocmask rt_sigtimedwait sendmsg sendto
// syscalls: called(any): setgroups sethostname setns setresgid setresuid socketpair statfs umount2 unshare vfork
// syscalls: called(any): wait4 waitid write writev

#define _GNU_SOURCE

#include "tapas_namespace.h"
#include "tapas_native.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(TAPAS_NEW_MOUNT == CLONE_NEWNS && TAPAS_NEW_UTS == CLONE_NEWUTS, "as in sched.h");
_Static_assert(TAPAS_NEW_IPC == CLONE_NEWIPC && TAPAS_NEW_USER == CLONE_NEWUSER, "as in sched.h");
_Static_assert(TAPAS_NEW_PID == CLONE_NEWPID && TAPAS_NEW_NETWORK == CLONE_NEWNET, "as in sched.h");

int tapas_unshare(int flags) { return unshare(flags); }
int tapas_setns(int fd, int kind) { return setns(fd, kind); }
int tapas_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int tapas_pidfd_send_signal(int pidfd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}
int tapas_namespace_type(int fd) { return ioctl(fd, NS_GET_NSTYPE); }

long tapas_filesystem_type(const char *path) {
    struct statfs status;
    return statfs(path, &status) < 0 ? -1 : (long)status.f_type;
}

long tapas_filesystem_type_of(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) < 0 ? -1 : (long)status.f_type;
}

int tapas_open_node(int folder, const char *name) { return openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC); }

int tapas_mounts_make_slave(void) { return mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL); }

int tapas_mount_empty(const char *folder) {
    return mount("tapas", folder, "tmpfs", MS_NODEV | MS_NOEXEC | MS_NOSUID | MS_RDONLY, "nr_inodes=2,nr_blocks=1");
}

int tapas_pivot_into(const char *folder) {
    if (chdir(folder) < 0) return -1;
    if (syscall(SYS_pivot_root, ".", ".") < 0) return -1;
    // The old root is mounted over the new one now, so "." is the old one; it is unmounted with everything below it.
    if (umount2(".", MNT_DETACH) < 0) return -1;
    return chdir("/");
}

int tapas_move_into(const char *folder) {
    if (chdir(folder) < 0) return -1;
    if (mount(".", "/", NULL, MS_MOVE, NULL) < 0) return -1;
    if (chroot(".") < 0) return -1;
    return chdir("/");
}

int tapas_set_dumpable(int on) { return prctl(PR_SET_DUMPABLE, on, 0, 0, 0); }
int tapas_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
int tapas_set_keep_capabilities(int on) { return prctl(PR_SET_KEEPCAPS, on, 0, 0, 0); }
int tapas_set_child_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
int tapas_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
int tapas_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

int tapas_clear_groups(void) { return setgroups(0, NULL); }

int tapas_set_ids(uid_t uid, gid_t gid) {
    if (setresgid(gid, gid, gid) < 0) return -1;
    return setresuid(uid, uid, uid);
}

pid_t tapas_fork(void) { return fork(); }

int tapas_open_as(uid_t uid, gid_t gid, const char *path, int flags, mode_t mode) {
    uid_t own_user = geteuid();
    gid_t own_group = getegid();
    int count = getgroups(0, NULL);
    if (count < 0) return -1;
    gid_t *groups = calloc((size_t)count + 1, sizeof(*groups));
    if (!groups) return -1;
    count = getgroups(count, groups);
    int fd = -1;
    // If the groups cannot be dropped, the program continues with the same groups.
    int has_dropped = count >= 0 && setgroups(0, NULL) == 0;
    if (setresgid((gid_t)-1, gid, (gid_t)-1) == 0 && setresuid((uid_t)-1, uid, (uid_t)-1) == 0)
        fd = open(path, flags, mode);
    int error = errno;
    // The program must not continue with the ids of another user.
    if (geteuid() != own_user && setresuid((uid_t)-1, own_user, (uid_t)-1) < 0) abort();
    if (getegid() != own_group && setresgid((gid_t)-1, own_group, (gid_t)-1) < 0) abort();
    if (has_dropped && setgroups((size_t)count, groups) < 0) abort();
    free(groups);
    errno = error;
    return fd;
}

static void report(int channel, int kind, int value, int error) {
    struct tapas_report message = {kind, value, error};
    // If the other end is closed, this process is about to end, too.
    (void)send(channel, &message, sizeof(message), MSG_NOSIGNAL);
}

int tapas_read_report(int channel, int wait, struct tapas_report *report) {
    ssize_t length;
    do length = recv(channel, report, sizeof(*report), wait ? 0 : MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length < 0) return errno == ECONNRESET ? 0 : -1;
    return length == (ssize_t)sizeof(*report) ? 1 : 0;
}

int tapas_release_command(int channel) { return send(channel, "", 1, MSG_NOSIGNAL) == 1 ? 0 : -1; }

/// Closes every descriptor except 0, 1, 2, one other, which becomes 3, and a second one, which becomes 4 unless it is -1.
static int keep_both(int fd, int *second) {
    // Neither is overwritten by the other.
    int high = *second < 0 ? -1 : fcntl(*second, F_DUPFD_CLOEXEC, 10);
    if ((fd != 3 && dup3(fd, 3, O_CLOEXEC) < 0) || (*second >= 0 && dup3(high, 4, O_CLOEXEC) < 0)) _exit(1);
    if (*second >= 0) *second = 4;
    (void)syscall(SYS_close_range, *second < 0 ? 4u : 5u, ~0u, 0u);
    return 3;
}

static int keep_only(int fd) {
    int none = -1;
    return keep_both(fd, &none);
}

/// Waits for one byte; ends the process when the other end is closed.
static void wait_for_word(int channel) {
    char byte;
    ssize_t length;
    do length = recv(channel, &byte, 1, 0);
    while (length < 0 && errno == EINTR);
    if (length != 1) _exit(1);
}

// MARK: Descriptors as messages

union descriptor_message {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
};

static int send_descriptor(int channel, int fd, int error) {
    union descriptor_message control;
    memset(&control, 0, sizeof(control));
    struct iovec piece = {&error, sizeof(error)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    }
    return sendmsg(channel, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/// Returns the descriptor that was sent, or -1; word is unchanged if no message came.
static int receive_word(int channel, int *word) {
    union descriptor_message control;
    struct iovec piece = {word, sizeof(*word)};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t length;
    do length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -1;
    struct cmsghdr *header = length == (ssize_t)sizeof(*word) ? CMSG_FIRSTHDR(&message) : NULL;
    int fd = -1;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/// Returns the descriptor, or -1 and the errno that was sent.
static int receive_descriptor(int channel) {
    int error = EPIPE;
    int fd = receive_word(channel, &error);
    if (fd < 0) errno = error;
    return fd;
}

int tapas_send_word(int channel, int word, int fd) { return send_descriptor(channel, fd, word); }

int tapas_receive_word(int channel, int *word, int *fd) {
    errno = 0;
    *word = 0;
    *fd = receive_word(channel, word);
    return *word != 0;
}

int tapas_receive_namespace(int channel) { return receive_descriptor(channel); }

// MARK: The init's steps

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = (ssize_t)strlen(text);
    int result = write(fd, text, (size_t)length) == length ? 0 : -1;
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static const char *const mounts_in_sys[] = {
    "/sys/fs/cgroup", "/sys/fs/bpf", "/sys/fs/selinux", "/sys/kernel/security",
};
enum { mount_count = sizeof(mounts_in_sys) / sizeof(mounts_in_sys[0]) };

/// Mounts a sysfs that shows the new network namespace, and puts back what was mounted inside the old one.
static int mount_sys(void) {
    int trees[mount_count];
    for (int index = 0; index < mount_count; index++) {
        trees[index] = -1;
        if (access(mounts_in_sys[index], F_OK) == 0 && tapas_filesystem_type(mounts_in_sys[index]) != SYSFS_MAGIC) {
            trees[index] = (int)syscall(
                SYS_open_tree, AT_FDCWD, mounts_in_sys[index], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        }
    }
    int result = mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    int error = errno;
    for (int index = 0; index < mount_count; index++) {
        if (trees[index] < 0) continue;
        if (result == 0) {
            (void)syscall(
                SYS_move_mount, trees[index], "", AT_FDCWD, mounts_in_sys[index], MOVE_MOUNT_F_EMPTY_PATH);
        }
        close(trees[index]);
    }
    errno = error;
    return result;
}

// MARK: resolv.conf
//
// The init makes the command's resolv.conf and mounts it on the host's, in the command's mount namespace only. Programs of
// the host replace their file by renaming another one over it. Then the kernel removes the mounts on the replaced file in
// every mount namespace. So the init watches the folders of the link and of the file, and mounts its own file again. The
// kernel reports events by SIGIO. The init does not touch another process's mount at that place.

static const char resolver_path[] = "/etc/resolv.conf";

struct resolver {
    /// The init's file, on a file system that is mounted below /proc and therefore invisible; -1 if there is none.
    int file;
    /// The inotify instance.
    int events;
};

/// Makes the file. The new /proc, which is mounted a moment later, hides the file system that is mounted here.
static int make_resolver_file(const char *text) {
    if (mount("tapas", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=256k,nr_inodes=2") < 0) return -1;
    int made = open("/proc/resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int file = -1;
    if (made >= 0) {
        ssize_t length = (ssize_t)strlen(text);
        // The caller's file mode mask may be narrower.
        if (fchmod(made, 0644) == 0 && write(made, text, (size_t)length) == length)
            file = open("/proc/resolv.conf", O_PATH | O_CLOEXEC);
        close(made);
    }
    return file;
}

static int has_mount(const char *path) {
    struct statx status;
    if (statx(AT_FDCWD, path, 0, 0, &status) < 0) return 0;
    return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int mount_resolver(const struct resolver *resolver) {
    int tree = (int)syscall(
        SYS_open_tree, resolver->file, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0) return -1;
    int result = (int)syscall(
        SYS_move_mount, tree, "", AT_FDCWD, resolver_path, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
    int error = errno;
    close(tree);
    errno = error;
    return result;
}

/// Watches the folder of the link, and the folder of the file that the link leads to now.
static void watch_resolver_folders(const struct resolver *resolver) {
    uint32_t mask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;
    (void)inotify_add_watch(resolver->events, "/etc", mask);
    int file = open(resolver_path, O_PATH | O_CLOEXEC);
    if (file < 0) return;
    // "/proc/self/fd/" and a number.
    char name[32] = "/proc/self/fd/";
    size_t length = strlen(name);
    if (file >= 10) name[length++] = (char)('0' + file / 10 % 10);
    name[length++] = (char)('0' + file % 10);
    name[length] = 0;
    char path[PATH_MAX];
    ssize_t end = readlink(name, path, sizeof(path) - 1);
    close(file);
    if (end <= 0) return;
    path[end] = 0;
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return;
    *slash = 0;
    (void)inotify_add_watch(resolver->events, path, mask);
}

/// Begins to watch, and mounts the file; /proc must be mounted. Returns 0, or -1 and errno.
static int begin_resolver(struct resolver *resolver) {
    resolver->events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (resolver->events >= 0) {
        // The signal waits, blocked, until the init takes it.
        (void)fcntl(resolver->events, F_SETOWN, getpid());
        (void)fcntl(resolver->events, F_SETFL, O_ASYNC | O_NONBLOCK);
        watch_resolver_folders(resolver);
    }
    return mount_resolver(resolver);
}

/// Mounts the file again if the host has replaced its own.
static void keep_resolver(const struct resolver *resolver) {
    char events[4096];
    while (read(resolver->events, events, sizeof(events)) > 0) {}
    watch_resolver_folders(resolver);
    if (!has_mount(resolver_path)) (void)mount_resolver(resolver);
}

static void prepare(const struct tapas_command *command, struct resolver *resolver, int channel) {
    if (command->namespaces & CLONE_NEWNS) {
        if (tapas_mounts_make_slave() < 0) report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_PROPAGATION, errno);
        int resolver_error = 0;
        if (command->resolver_text) {
            resolver->file = make_resolver_file(command->resolver_text);
            if (resolver->file < 0) resolver_error = errno;
        }
        int has_proc = 1;
        if ((command->namespaces & CLONE_NEWPID) &&
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
            has_proc = 0;
            report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_PROC, errno);
        }
        if (resolver->file >= 0 && has_proc) {
            if (begin_resolver(resolver) < 0) resolver_error = errno;
        } else if (command->resolver_text) {
            // The command then has the host's resolv.conf.
            if (!resolver_error) resolver_error = ENOENT;
            if (!has_proc) (void)umount2("/proc", MNT_DETACH);
        }
        if (resolver_error) report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_RESOLVER, resolver_error);
        if ((command->namespaces & CLONE_NEWNET) && mount_sys() < 0)
            report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_SYS, errno);
    }
    if (command->host_name && sethostname(command->host_name, strlen(command->host_name)) < 0)
        report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_HOST_NAME, errno);
    if ((command->namespaces & CLONE_NEWNET) && write_file("/proc/sys/net/ipv4/ping_group_range", "0 0") < 0)
        report(channel, TAPAS_REPORT_STEP_FAILED, TAPAS_STEP_PING_GROUP_RANGE, errno);
}

// MARK: The command

static void say_cannot_run(const struct tapas_command *command, int error) {
    const char *reason = strerrordesc_np(error);
    if (!reason) reason = "unknown error";
    const char *parts[] = {"tapas: cannot run '", command->display_name, "': ", reason, "\n"};
    struct iovec pieces[5];
    for (int index = 0; index < 5; index++) {
        pieces[index].iov_base = (void *)(uintptr_t)parts[index];
        pieces[index].iov_len = strlen(parts[index]);
    }
    (void)!writev(2, pieces, 5);
}

/// Whether no folder of PATH has the program's name. execvp(3) fails with EACCES as soon as it may not search one
/// folder, which says nothing about the program.
static int is_nowhere(const char *name) {
    const char *rest = getenv("PATH");
    if (!rest || strchr(name, '/')) return 0;
    char path[PATH_MAX];
    while (*rest) {
        size_t length = strcspn(rest, ":");
        if (length + 1 + strlen(name) < sizeof(path)) {
            memcpy(path, rest, length);
            path[length] = '/';
            strcpy(path + length + (length > 0), name);
            if (access(path, F_OK) == 0) return 0;
        }
        rest += length + (rest[length] == ':');
    }
    return 1;
}

static pid_t start(const struct tapas_command *command, int supervisor) {
    pid_t child = vfork();
    if (child != 0) return child;
    if (supervisor >= 0) {
        int listener = tapas_confine_command(command->supervised_filter, command->supervised_filter_length);
        if (listener < 0 || send_descriptor(supervisor, listener, 0) < 0) {
            say_cannot_run(command, errno);
            _exit(126);
        }
    }
    sigprocmask(SIG_SETMASK, command->signal_mask, NULL);
    execvp(command->file, command->arguments);
    int error = errno;
    if (error == EACCES && is_nowhere(command->file)) error = ENOENT;
    say_cannot_run(command, error);
    // The exit codes of a shell (POSIX, "Exit Status for Commands").
    _exit(error == ENOENT ? 127 : 126);
}

/// Reaps ended processes. Ends itself when the command has ended, upon which the kernel ends the whole process
/// namespace.
static void reap(pid_t command, int channel) {
    for (;;) {
        siginfo_t child;
        child.si_pid = 0;
        if (waitid(P_ALL, 0, &child, WEXITED | WSTOPPED | WNOHANG) < 0 || child.si_pid == 0) return;
        if (child.si_pid != command) continue;
        switch (child.si_code) {
        case CLD_EXITED: _exit(child.si_status);
        case CLD_KILLED:
        case CLD_DUMPED:
            report(channel, TAPAS_REPORT_KILLED, child.si_status, 0);
            _exit(128 + child.si_status);
        case CLD_STOPPED: report(channel, TAPAS_REPORT_STOPPED, child.si_status, 0); break;
        default: break;
        }
    }
}

static _Noreturn void run_init(const struct tapas_command *command, int channel) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_DFL);
    tapas_set_parent_death_signal(SIGKILL);
    tapas_set_thread_name("tapas-init");
    int supervisor = command->supervisor;
    channel = keep_both(channel, &supervisor);
    int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)send_descriptor(channel, namespace, namespace < 0 ? errno : 0);
    if (namespace >= 0) close(namespace);
    if (supervisor >= 0) tapas_show_namespace(supervisor);
    struct resolver resolver = {-1, -1};
    prepare(command, &resolver, channel);
    report(channel, TAPAS_REPORT_READY, 0, 0);
    wait_for_word(channel);

    pid_t child = start(command, supervisor);
    if (supervisor >= 0) close(supervisor);
    if (child < 0) {
        say_cannot_run(command, errno);
        _exit(126);
    }
    // The command runs by now, so it inherits neither the filter nor no_new_privs, which a filter needs.
    if (command->filter_length > 0 &&
        (tapas_set_no_new_privileges() < 0 || tapas_load_filter(command->filter, command->filter_length) < 0))
        _exit(1);
    for (;;) {
        siginfo_t info;
        int signal = sigwaitinfo(&all, &info);
        if (signal == SIGCHLD) reap(child, channel);
        else if (signal == SIGIO && info.si_code > 0) keep_resolver(&resolver);
        else if (signal > 0 && info.si_code <= 0) kill(child, signal);
    }
}

pid_t tapas_clone_init(const struct tapas_command *command, int *channel) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -1;
    // The raw call without a stack works like fork(2) with namespaces. The two arguments in use have the same position
    // on x86-64 and arm64.
    pid_t child = (pid_t)syscall(SYS_clone, (unsigned long)(command->namespaces | SIGCHLD), 0, 0, 0, 0);
    if (child == 0) {
        close(pair[0]);
        run_init(command, pair[1]);
    }
    int error = errno;
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        errno = error;
        return -1;
    }
    *channel = pair[0];
    return child;
}

// MARK: The opener

static _Noreturn void run_opener(const char *path, int channel) {
    tapas_set_parent_death_signal(SIGKILL);
    tapas_set_thread_name("tapas-opener");
    channel = keep_only(channel);
    int namespace = receive_descriptor(channel);
    if (namespace < 0) _exit(1);
    int fd = -1;
    if (setns(namespace, CLONE_NEWNET) == 0) fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    _exit(send_descriptor(channel, fd, fd < 0 ? errno : 0) == 0 ? 0 : 1);
}

pid_t tapas_fork_opener(const char *path, int *channel) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -1;
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        run_opener(path, pair[1]);
    }
    int error = errno;
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        errno = error;
        return -1;
    }
    *channel = pair[0];
    return child;
}

int tapas_open_by_opener(pid_t opener, int channel, int network_namespace) {
    int fd = send_descriptor(channel, network_namespace, 0) == 0 ? receive_descriptor(channel) : -1;
    int error = errno;
    close(channel);
    while (waitpid(opener, NULL, 0) < 0 && errno == EINTR) {}
    errno = error;
    return fd;
}

// MARK: Closing

int tapas_close_after_exit(int fd) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -1;
    // One end is sent to itself, together with the descriptor. When the exit has closed both ends, no process can receive
    // the message any more, and the kernel's garbage collector (unix(7), sockets in flight) releases its contents, on a
    // thread of its own.
    int fds[2] = {fd, pair[1]};
    union {
        char bytes[CMSG_SPACE(sizeof(fds))];
        struct cmsghdr header;
    } control;
    memset(&control, 0, sizeof(control));
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(header), fds, sizeof(fds));
    return sendmsg(pair[0], &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}
