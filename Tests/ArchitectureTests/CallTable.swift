// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The system calls that the functions of the C library and of the other libraries make (x86-64, glibc 2.36).
///
/// If versions of glibc use different calls, both are listed. A function that is not listed is assumed to make no
/// system call. Calls for memory, futexes and clocks belong to the runtime and are not declared: mmap munmap mprotect
/// madvise brk futex sched_yield getrandom clock_gettime exit_group rt_sigreturn.
enum CallTable {
    /// The calls of a function.
    static let functions: [String: Set<String>] = same.reduce(into: different) { table, name in
        table[name] = [name]
    }

    /// Functions with the name of their call.
    private static let same: [String] = [
        "accept", "accept4", "access", "bind", "capget", "capset", "chdir", "chroot", "clock_nanosleep", "clone",
        "close", "close_range", "connect", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl", "epoll_wait", "execve",
        "fchdir", "fchmod", "fchown", "fcntl", "flock", "fstatfs", "fsync", "ftruncate", "getegid", "geteuid", "getgid",
        "getgroups", "getpeername", "getpgrp", "getpid", "getppid", "getsid", "getsockname", "getsockopt", "gettid",
        "getuid",
        "inotify_add_watch", "inotify_init1", "inotify_rm_watch", "ioctl", "kcmp", "kill",
        "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "listen", "lseek", "memfd_create",
        "mkdir", "mount",
        "move_mount", "open_tree", "openat", "pidfd_open", "pidfd_send_signal", "pipe2", "pivot_root", "ppoll", "poll",
        "prctl", "process_vm_readv", "process_vm_writev", "read", "readlink", "readlinkat", "readv", "recvfrom",
        "recvmmsg", "recvmsg", "rename", "rmdir",
        "seccomp", "sendmmsg", "sendmsg", "sendto", "setgroups", "sethostname", "setns", "setpgid", "setresgid",
        "setresuid", "setsid", "setsockopt", "shutdown", "socket", "socketpair", "splice", "statfs", "statx",
        "timerfd_create",
        "timerfd_settime", "umask", "umount2", "unlink", "unlinkat", "unshare", "vfork", "waitid", "write", "writev",
    ]

    private static let different: [String: Set<String>] = [
        "_exit": [],
        "chmod": ["chmod"],
        "closedir": ["close"],
        "creat": ["openat"],
        "eventfd": ["eventfd2"],
        "execvp": ["execve"], "execvpe": ["execve"], "execv": ["execve"],
        "fork": ["clone"],
        "fstatat": ["newfstatat"],
        "fstat": ["fstat", "newfstatat"],
        "fdopendir": ["fcntl", "fstat", "newfstatat"],
        "getaddrinfo": ["openat", "read", "close", "socket", "connect"],
        "getgrnam": ["openat", "read", "close", "newfstatat", "socket", "connect"],
        "getgrgid": ["openat", "read", "close", "newfstatat", "socket", "connect"],
        "gethostname": ["uname"],
        "getpwnam": ["openat", "read", "close", "newfstatat", "socket", "connect"],
        "getpwuid": ["openat", "read", "close", "newfstatat", "socket", "connect"],
        "getrlimit": ["prlimit64"],
        "if_indextoname": ["close", "ioctl", "socket"],
        "if_nametoindex": ["close", "ioctl", "socket"],
        "isatty": ["ioctl"],
        "lstat": ["newfstatat"],
        "nanosleep": ["clock_nanosleep"],
        "open": ["openat"],
        "opendir": ["openat", "fstat", "newfstatat"],
        "pipe": ["pipe2"],
        "posix_spawn": ["clone", "clone3", "execve", "rt_sigprocmask"],
        "posix_spawnp": ["clone", "clone3", "execve", "rt_sigprocmask"],
        "pread": ["pread64"],
        "prlimit": ["prlimit64"],
        "pthread_create": ["clone", "clone3", "rt_sigprocmask"],
        "pthread_kill": ["tgkill"],
        "pthread_setname_np": ["prctl"],
        "pthread_sigmask": ["rt_sigprocmask"],
        "pwrite": ["pwrite64"],
        "raise": ["tgkill"],
        "readdir": ["getdents64"],
        "recv": ["recvfrom"],
        "sched_getaffinity": ["sched_getaffinity"],
        "send": ["sendto"],
        "setrlimit": ["prlimit64"],
        "sigaction": ["rt_sigaction"],
        "signal": ["rt_sigaction"],
        "signalfd": ["signalfd4"],
        "sigprocmask": ["rt_sigprocmask"],
        "sigtimedwait": ["rt_sigtimedwait"],
        "sigwaitinfo": ["rt_sigtimedwait"],
        "stat": ["newfstatat"],
        "tcgetpgrp": ["ioctl"], "tcsetpgrp": ["ioctl"],
        "uname": ["uname"],
        "usleep": ["clock_nanosleep"],
        "waitpid": ["wait4"],
        // libmnl
        "mnl_socket_open2": ["socket"],
        "mnl_socket_bind": ["bind", "getsockname"],
        "mnl_socket_sendto": ["sendto"],
        "mnl_socket_recvfrom": ["recvmsg"],
        "mnl_socket_setsockopt": ["setsockopt"],
        "mnl_socket_close": ["close"],
        // libcap
        "cap_get_proc": ["capget"], "cap_set_proc": ["capset"], "cap_get_bound": ["prctl"],
        "cap_drop_bound": ["prctl"], "cap_reset_ambient": ["prctl"], "cap_set_ambient": ["prctl"],
        "cap_get_ambient": ["prctl"],
        // libseccomp
        "seccomp_load": ["prctl", "seccomp"],
    ]

    /// Functions that take pointers and share their names with methods of ours.
    static let pointerTaking: Set<String> = [
        "accept", "bind", "connect", "open", "poll", "read", "recv", "recvfrom", "recvmsg", "send", "sendmsg", "sendto",
        "splice", "stat", "write",
    ]

    /// The system calls of our own wrappers in LinuxSystem, by the text of a call without blanks.
    static let wrappers: [String: Set<String>] = [
        "OwnedFileDescriptor.open(": ["openat", "close"],
        "OwnedFileDescriptor(taking:": ["close"],
        ".duplicate()": ["fcntl", "close"],
        "SmallFile.read(": ["openat", "read", "close"],
        "SmallFile.line(": ["openat", "read", "close"],
        "SmallFile.contents(": ["read"],
        "SymbolicLink.target(": ["readlinkat"],
        "Folder.names(": ["close", "fcntl", "fstat", "getdents64", "newfstatat", "openat"],
        "SocketOwner(": ["close", "fcntl", "fstat", "getdents64", "newfstatat", "openat", "read", "readlinkat"],
    ]

    /// The modules that declare these functions: a Swift file that imports none of them cannot call them.
    static let modules: Set<String> = ["Glibc", "CLinux", "CMnl", "CCap", "CSeccomp"]
}
