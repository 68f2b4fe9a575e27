// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Namespaces, the wrapped command's init, and the helper that opens a file in another namespace. Whatever runs between
// a fork or clone and the exec (or the end) of the child is in namespace.c: no Swift runs there.

#ifndef TAPAS_NAMESPACE_H
#define TAPAS_NAMESPACE_H

#include <linux/magic.h>
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#include "tapas_linux.h"

/// CLONE_NEW*: <sched.h> keeps them under _GNU_SOURCE.
enum {
    TAPAS_NEW_MOUNT = 0x00020000,
    TAPAS_NEW_UTS = 0x04000000,
    TAPAS_NEW_IPC = 0x08000000,
    TAPAS_NEW_USER = 0x10000000,
    TAPAS_NEW_PID = 0x20000000,
    TAPAS_NEW_NETWORK = 0x40000000,
};

/// unshare(2).
int tapas_unshare(int flags);
/// setns(2).
int tapas_setns(int fd, int kind);
/// pidfd_open(2) without flags.
int tapas_pidfd_open(pid_t pid);

/// pidfd_send_signal(2) as kill(2) would send the signal.
int tapas_pidfd_send_signal(int pidfd, int number);
/// ioctl_ns(2) NS_GET_NSTYPE: a CLONE_NEW* constant; ENOTTY if the file is not a namespace.
int tapas_namespace_type(int fd);

/// statfs(2): the magic number of the file system that holds a path, or -1.
long tapas_filesystem_type(const char *path);
/// The same for an open descriptor.
long tapas_filesystem_type_of(int fd);
/// openat(2) with O_PATH and O_NOFOLLOW: opens the entry itself, also a symbolic link.
int tapas_open_node(int folder, const char *name);

/// mount(2): makes every mount of the calling process's mount namespace a slave, so that no mount made here propagates
/// back.
int tapas_mounts_make_slave(void);
/// mount(2): an empty tmpfs, read-only, noexec, nosuid, nodev on a folder.
int tapas_mount_empty(const char *folder);
/// pivot_root(".", ".") in a folder that is a mount, and umount2(MNT_DETACH) of the old root.
int tapas_pivot_into(const char *folder);
/// As tapas_pivot_into, by MS_MOVE and chroot(2), for a root that pivot_root(2) refuses. The old root stays, but cannot
/// be reached.
int tapas_move_into(const char *folder);

/// prctl(2).
int tapas_set_dumpable(int on);
int tapas_set_no_new_privileges(void);
int tapas_set_keep_capabilities(int on);
int tapas_set_child_subreaper(void);
int tapas_set_parent_death_signal(int signal);
int tapas_set_thread_name(const char *name);

/// setgroups(2) with an empty list, setresgid(2), setresuid(2) of the calling (single) thread.
int tapas_clear_groups(void);
int tapas_set_ids(uid_t uid, gid_t gid);

/// open(2) with the rights of another user and group, without supplementary groups. The process must have one thread
/// only.
int tapas_open_as(uid_t uid, gid_t gid, const char *path, int flags, mode_t mode);

/// fork(2). The process must have one thread only.
pid_t tapas_fork(void);

/// What the init of the wrapped command sets up before it waits for its start byte.
struct tapas_command {
    /// The program for execvp(3).
    const char *file;
    /// Its name for a message, with control characters escaped.
    const char *display_name;
    /// Its arguments, NULL-terminated.
    char *const *arguments;
    /// The host name, or NULL to keep it.
    const char *host_name;
    /// The text of the command's own resolv.conf, or NULL to leave the host's.
    const char *resolver_text;
    /// CLONE_NEW* flags of clone(2).
    int namespaces;
    /// The signal mask that the command starts with.
    const sigset_t *signal_mask;
    /// The filter that the init loads after it has started the command, and its length; 0 for none.
    const tapas_filter_instruction *filter;
    size_t filter_length;
    /// The channel to the supervisor of native sockets, or -1. The init sends it a netlink socket of the namespace, and
    /// the command before its start the listener of its filter.
    int supervisor;
    /// The filter of the command, with which Landlock's rules come (tapas_confine_command); only with a supervisor.
    const tapas_filter_instruction *supervised_filter;
    size_t supervised_filter_length;
};

/// Steps of the init that may fail without being fatal.
enum tapas_step {
    TAPAS_STEP_PROPAGATION = 1,
    TAPAS_STEP_PROC,
    TAPAS_STEP_SYS,
    TAPAS_STEP_HOST_NAME,
    TAPAS_STEP_PING_GROUP_RANGE,
    TAPAS_STEP_RESOLVER,
};

/// What the init reports, one message each.
enum tapas_report_kind {
    /// A step failed: value is the step, error its errno.
    TAPAS_REPORT_STEP_FAILED = 1,
    /// All steps are done; the init waits for its start byte.
    TAPAS_REPORT_READY,
    /// The command was stopped: value is the signal.
    TAPAS_REPORT_STOPPED,
    /// The command was ended by a signal: value is the signal. The init ends with 128+N right after.
    TAPAS_REPORT_KILLED,
};

struct tapas_report {
    int32_t kind;
    int32_t value;
    int32_t error;
};

/// Clones the init of the wrapped command into new namespaces.
///
/// The child is process 1 of its process namespace. It carries out the steps, reports, and waits for one byte on the
/// channel; it ends if the channel is closed. Then it starts the command, passes signals on to it, and reaps processes.
/// It ends with the command's exit status (128+N for a signal), and dies with the calling thread.
///
/// channel: the caller's end of a SOCK_SEQPACKET pair. Returns the child's process id, or -1 and errno.
pid_t tapas_clone_init(const struct tapas_command *command, int *channel);

/// Receives the init's network namespace, which is its first message; call it before any report is read. The child is
/// not dumpable (PR_SET_DUMPABLE), so its files in /proc cannot be opened from here. Returns the descriptor, or -1 and
/// errno.
int tapas_receive_namespace(int channel);
/// Reads one report; with `wait` 0 without waiting. Returns 1, 0 when the channel is closed, or -1 and errno (EAGAIN).
int tapas_read_report(int channel, int wait, struct tapas_report *report);
/// Sends the start byte.
int tapas_release_command(int channel);

/// Sends a word other than 0 over a SOCK_SEQPACKET pair, with a descriptor unless that is -1. Returns 0, or -1 and errno.
int tapas_send_word(int channel, int word, int fd);
/// Waits for a word and a descriptor, which is -1 if none came. Returns 1, or 0 at the end of the channel.
int tapas_receive_word(int channel, int *word, int *fd);

/// Forks a helper that keeps the present credentials. Later it opens `path` for reading and writing in a network
/// namespace that it is sent; the caller may change its own ids meanwhile. Returns its process id; channel as above.
pid_t tapas_fork_opener(const char *path, int *channel);
/// Has the helper enter the network namespace and open the file, and reaps the helper. Returns the descriptor, or -1
/// and errno.
int tapas_open_by_opener(pid_t opener, int channel, int network_namespace);

/// Defers the last closing of a descriptor until after the process has ended, to the kernel's garbage collector of
/// sockets in flight. The descriptor stays open here until then. The call opens two more, which stay open.
int tapas_close_after_exit(int fd);

#endif
