// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What the supervisor of native sockets needs: seccomp user notification (seccomp_unotify(2)), the descriptors and memory
// of the processes that are supervised, and a question about a route.

#ifndef TAPAS_NATIVE_H
#define TAPAS_NATIVE_H

#include <stdint.h>
#include <sys/types.h>

#include "tapas_linux.h"

/// The calls that the command's filter reports.
enum tapas_call {
    TAPAS_CALL_OTHER = 0,
    TAPAS_CALL_CONNECT,
    TAPAS_CALL_BIND,
    TAPAS_CALL_LISTEN,
    TAPAS_CALL_GETSOCKNAME,
    TAPAS_CALL_SETSOCKOPT,
    TAPAS_CALL_IOCTL,
    TAPAS_CALL_EPOLL_CREATE,
};

/// A call that waits for its answer.
struct tapas_notification {
    uint64_t id;
    /// The thread, as the supervisor's process namespace numbers it; 0 if it is not in there.
    pid_t thread;
    /// An enum tapas_call.
    int call;
    uint64_t arguments[6];
};

/// Writes the filter of the command to `program` (at least 256 instructions); returns their number.
///
/// It reports what decides where a socket leads, and refuses what cannot be decided. All else is allowed.
size_t tapas_command_filter(tapas_filter_instruction *program);

/// For the calling thread and what it starts: denies bind(2) and connect(2) of TCP sockets by Landlock, and loads a filter
/// of which the listener is returned (close-on-exec), or -1 and errno.
int tapas_confine_command(const tapas_filter_instruction *program, size_t count);

/// Sends a netlink socket of the calling process's network namespace: it shows the supervisor which sockets are the
/// namespace's, and where its routes lead.
void tapas_show_namespace(int channel);

/// Whether the kernel has what native sockets need: 0, or the errno of what is missing, which `what` names.
int tapas_native_lack(const char **what);

/// SECCOMP_IOCTL_NOTIF_RECV. Returns 0, or -1 and errno (ENOENT if the call has gone meanwhile).
int tapas_notification_receive(int listener, struct tapas_notification *notification);
/// SECCOMP_IOCTL_NOTIF_ID_VALID: whether the call still waits.
int tapas_notification_waits(int listener, uint64_t id);
/// SECCOMP_IOCTL_NOTIF_SEND: the call fails with `error`, or returns `value` if that is 0. Returns 0, or -1 and errno.
int tapas_notification_answer(int listener, uint64_t id, int64_t value, int error);
/// The same with SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel carries the call out.
int tapas_notification_continue(int listener, uint64_t id);
/// SECCOMP_IOCTL_NOTIF_ADDFD with SECCOMP_ADDFD_FLAG_SETFD: puts `source` in place of the caller's descriptor `target`.
int tapas_notification_replace(int listener, uint64_t id, int source, int target, int closes_on_exec);
/// SECCOMP_IOCTL_NOTIF_SET_FLAGS: caller and supervisor wake each other on the same processor. Best effort.
void tapas_listener_hand_over(int listener);

/// pidfd_open(2) for a thread (PIDFD_THREAD).
int tapas_open_thread(pid_t thread);
/// pidfd_getfd(2).
int tapas_take_descriptor(int pidfd, int fd);
/// process_vm_readv(2) and process_vm_writev(2) of one range.
ssize_t tapas_read_memory(pid_t process, uint64_t address, void *memory, size_t length);
ssize_t tapas_write_memory(pid_t process, uint64_t address, const void *memory, size_t length);
/// kcmp(2) KCMP_EPOLL_TFD: 0 if the file of `fd` is registered under that number in `epoll`, both of that thread.
int tapas_compare_registered(pid_t thread, int epoll, int fd);
/// open(2) of a file or folder below a folder.
int tapas_open_below(int folder, const char *path, int flags);

/// The interface that a route of a network namespace leads out by (RTM_GETROUTE of a socket there), for an address of 4
/// or 16 bytes; 0 if there is none or the route is no unicast route. -1 and errno if the kernel does not answer.
int tapas_route_interface(int netlink, const void *address, size_t length, uint32_t *sequence);
/// The index of an interface of the network namespace of a socket; 0 if there is none.
int tapas_interface_index(int fd, const char *name);
/// ioctl(2) with a structure.
int tapas_ioctl_structure(int fd, unsigned long request, void *structure);
/// SIOCGIFCONF: lists interfaces to `list`, or only their size if that is NULL. `length` is the room and then the size.
int tapas_interface_list(int fd, void *list, int *length);

/// Capabilities that the supervisor keeps, as bits of a mask.
enum {
    TAPAS_CAPABILITY_PTRACE = 1 << 19,
    TAPAS_CAPABILITIES_NETWORK = 1 << 10 | 1 << 12 | 1 << 13, // NET_BIND_SERVICE, NET_ADMIN, NET_RAW
};

/// The ioctl(2) requests of a listener.
enum {
    TAPAS_NOTIFICATION_RECEIVE = 0x40502100 | 0x80000000,
    TAPAS_NOTIFICATION_SEND = 0x40182101 | 0x80000000,
    TAPAS_NOTIFICATION_WAITS = 0x40082102,
    TAPAS_NOTIFICATION_ADD = 0x40182103,
    TAPAS_NOTIFICATION_SET_FLAGS = 0x40082104,
};

/// Sets the effective capabilities of the calling thread to those of `mask` that it is permitted.
int tapas_set_effective(uint64_t mask);
/// Permits only the capabilities of `mask`.
int tapas_limit_capabilities(uint64_t mask);

#endif
