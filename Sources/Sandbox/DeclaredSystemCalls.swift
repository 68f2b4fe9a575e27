// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Made by contrib/dev/system-calls from the `// syscalls:` lines of all sources; do not edit.

/// The system calls that the sources declare for the running program, by thread and process.
enum DeclaredSystemCalls {
    static let dataPath = [
        "accept4", "bind", "clock_nanosleep", "close", "connect", "epoll_ctl", "epoll_wait", "fcntl", "fstat",
        "ftruncate", "getpeername", "getpid", "getsockname", "getsockopt", "ioctl", "kill", "lseek", "newfstatat",
        "poll", "prctl", "pread64", "prlimit64", "pwrite64", "read", "readv", "recvfrom", "recvmmsg", "recvmsg",
        "rt_sigaction", "rt_sigprocmask", "seccomp", "sendmsg", "sendto", "setsockopt", "shutdown", "socket",
        "socketpair", "unlinkat", "wait4", "write", "writev",
    ]

    static let control = [
        "accept4", "bind", "clock_nanosleep", "close", "epoll_ctl", "epoll_wait", "fstat", "ftruncate", "geteuid",
        "getpid", "getsockname", "getsockopt", "kill", "newfstatat", "poll", "prctl", "pread64", "pwrite64", "read",
        "recvfrom", "recvmsg", "seccomp", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
        "timerfd_settime", "wait4", "write",
    ]

    static let ports = [
        "accept4", "bind", "clock_nanosleep", "close", "connect", "epoll_ctl", "epoll_wait", "fcntl", "ftruncate",
        "geteuid", "getpeername", "getpid", "getsockname", "getsockopt", "ioctl", "listen", "lseek", "openat", "pipe2",
        "prctl", "pread64", "prlimit64", "pwrite64", "read", "recvfrom", "recvmmsg", "recvmsg", "seccomp", "sendmmsg",
        "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "splice", "write",
    ]

    static let namespace = [
        "close", "ftruncate", "getpid", "openat", "poll", "pread64", "pwrite64", "recvmsg", "seccomp", "sendto",
        "socket", "write",
    ]

    static let commandInit = [
        "access", "close", "close_range", "dup3", "execve", "fchmod", "fcntl", "inotify_add_watch", "inotify_init1",
        "kill", "landlock_create_ruleset", "landlock_restrict_self", "mount", "move_mount", "open_tree", "openat",
        "prctl", "read", "readlink", "recvfrom", "rt_sigaction", "rt_sigprocmask", "rt_sigtimedwait", "seccomp",
        "sendmsg", "sendto", "sethostname", "socket", "statfs", "statx", "umount2", "vfork", "waitid", "write",
        "writev",
    ]

    static let resolverWatcher = [
        "capset", "chdir", "clone", "close", "close_range", "dup2", "fcntl", "fstat", "getpid", "inotify_add_watch",
        "inotify_init1", "inotify_rm_watch", "newfstatat", "openat", "poll", "prctl", "read", "readlinkat", "recvmsg",
        "seccomp", "sendmsg", "sendto", "setsid", "socketpair", "wait4",
    ]

    static let nativeSockets = [
        "bind", "capget", "capset", "close", "connect", "epoll_create1", "epoll_ctl", "epoll_wait", "eventfd2", "fcntl",
        "fstat", "getdents64", "getpeername", "getsockname", "getsockopt", "ioctl", "kcmp", "listen", "newfstatat",
        "openat", "pidfd_getfd", "pidfd_open", "poll", "prctl", "process_vm_readv", "process_vm_writev", "read",
        "readlinkat", "recvfrom", "recvmsg", "sendto", "setsockopt", "socket", "write",
    ]
}
