// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What Swift cannot import: headers that the Glibc module leaves out, function-like macros, and calls that are declared
// only under _GNU_SOURCE. Prototypes begin with tapas_. Each wraps the call that it is named for and returns as that
// call does (-1 and errno); Swift code decides what the results mean.

#ifndef TAPAS_LINUX_H
#define TAPAS_LINUX_H

#include <time.h>
#include <linux/errqueue.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>

/// strerrorname_np(3): "ENOENT", or NULL for an unknown number.
const char *tapas_errno_name(int error);

/// fcntl(2) F_DUPFD_CLOEXEC.
int tapas_dup_cloexec(int fd, int lowest);
/// fcntl(2) F_GETFL and F_SETFL that change only O_NONBLOCK.
int tapas_set_nonblocking(int fd, int enabled);
/// close_range(2).
int tapas_close_range(unsigned first, unsigned last);

/// TUNSETIFF with a name of up to 15 bytes and IFF_* flags; writes the name that the kernel chose to chosen[16].
int tapas_tun_set_interface(int fd, const char *name, short flags, char *chosen);
/// TUNGETIFF: writes the name to chosen[16] and the IFF_* flags.
int tapas_tun_get_interface(int fd, char *chosen, short *flags);
/// TUNSETOFFLOAD with TUN_F_* flags.
int tapas_tun_set_offload(int fd, unsigned flags);
/// TUNSETVNETHDRSZ in bytes.
int tapas_tun_set_header_size(int fd, int size);
/// TUNSETCARRIER: 1 on, 0 off.
int tapas_tun_set_carrier(int fd, int on);
/* Whether an interface of the network namespace of socket `fd` is running (IFF_RUNNING); -1 with errno. */
int tapas_interface_is_running(int fd, const char *name);

/// SIOCGIFHWADDR of the tap itself, in whichever namespace its interface is.
int tapas_tun_get_mac(int fd, uint8_t mac[6]);

/// TUN_F_USO4 | TUN_F_USO6, which the oldest supported headers lack.
unsigned tapas_tun_uso_flags(void);

/// FIONREAD and the like: an ioctl(2) that reads one int.
int tapas_ioctl_get_int(int fd, unsigned long request, int *value);
/// The request number of SIOCINQ, which Swift does not import.
unsigned long tapas_siocinq(void);

/// read(2), write(2), writev(2), sendmsg(2) and recvmsg(2) that are no cancellation points. In a program with threads,
/// those of the C library execute two more atomic operations, which is measurable with one call for each datagram.
ssize_t tapas_read(int fd, void *memory, size_t length);
ssize_t tapas_write(int fd, const void *memory, size_t length);
/// Sleeps for less than a second; a signal ends it early (clock_nanosleep(2)).
void tapas_rest(int64_t nanoseconds);
/// Sets how late the kernel may expire timers of the calling thread (PR_SET_TIMERSLACK, prctl(2)).
int tapas_set_timer_slack(unsigned long nanoseconds);
ssize_t tapas_writev(int fd, const struct iovec *vectors, int count);
ssize_t tapas_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t tapas_recvmsg(int fd, struct msghdr *message, int flags);

/// accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC.
int tapas_accept(int fd, struct sockaddr_storage *address, socklen_t *length);
/// struct mmsghdr, which the headers keep under _GNU_SOURCE.
struct tapas_message {
    struct msghdr header;
    unsigned length;
};

/// recvmmsg(2) without a timeout.
int tapas_recvmmsg(int fd, struct tapas_message *messages, unsigned count, int flags);
/// sendmmsg(2).
int tapas_sendmmsg(int fd, struct tapas_message *messages, unsigned count, int flags);
/// pipe2(2).
int tapas_pipe(int fds[2], int flags);
/// fcntl(2) F_SETPIPE_SZ; returns the size in bytes that the kernel set.
int tapas_pipe_resize(int fd, int size);
/// splice(2) between two descriptors without offsets.
ssize_t tapas_splice(int in, int out, size_t length, unsigned flags);
enum {
    TAPAS_SPLICE_MOVE = 1,     // SPLICE_F_MOVE
    TAPAS_SPLICE_NONBLOCK = 2, // SPLICE_F_NONBLOCK
};

/// The control-message macros of cmsg(3) over one message.
struct cmsghdr *tapas_cmsg_first(struct msghdr *message);
struct cmsghdr *tapas_cmsg_next(struct msghdr *message, struct cmsghdr *control);
void *tapas_cmsg_data(struct cmsghdr *control);
size_t tapas_cmsg_space(size_t length);
size_t tapas_cmsg_length(size_t length);

/// Socket options that the headers of the oldest supported distribution lack or declare under _GNU_SOURCE only.
enum {
    TAPAS_SO_BUF_LOCK = 72, // asm-generic/socket.h, Linux 5.17; missing in older headers
    TAPAS_UDP_SEGMENT = 103, // linux/udp.h, not compatible with netinet/udp.h
    TAPAS_UDP_GRO = 104,
    TAPAS_IP_BIND_ADDRESS_NO_PORT = 24,
};

/// Flags and request numbers that Swift does not import.
enum {
    TAPAS_O_PATH = 010000000,         // open(2)
    TAPAS_F_SETPIPE_SZ = 1031,        // fcntl(2)
    TAPAS_F_GETOWN_EX = 16,
    TAPAS_TUNSETCARRIER = 0x400454e2, // linux/if_tun.h
};

/// The options of prctl(2) that threads set while the program runs, and all CLONE_NEW* flags of clone(2).
enum {
    TAPAS_PR_SET_PDEATHSIG = 1,
    TAPAS_PR_SET_DUMPABLE = 4,
    TAPAS_PR_SET_NAME = 15,
    TAPAS_PR_SET_TIMERSLACK = 29,
    TAPAS_PR_SET_NO_NEW_PRIVS = 38,
    TAPAS_CLONE_NEW_NAMESPACES = 0x7E020000,
};

/// An instruction of a system call filter (struct sock_filter of linux/filter.h), as one word.
typedef uint64_t tapas_filter_instruction;
/// The version of Landlock's interface that the kernel has; -1 and errno without it (landlock_create_ruleset(2)).
int tapas_landlock_version(void);
/// Gives up the file system, but for removing files beneath some folders, and abstract UNIX sockets of others, for the
/// calling thread and what it starts, as far as this version of Landlock can. Returns 0, or -1 and errno.
int tapas_landlock_restrict(int version, const int *folders, size_t count);
/// memfd_create(2) with MFD_CLOEXEC.
int tapas_open_memory(void);
/// seccomp(2) SECCOMP_SET_MODE_FILTER for the calling thread and what it starts. Returns 0, or -1 and errno.
int tapas_load_filter(const tapas_filter_instruction *program, size_t count);

/// gettid(2).
pid_t tapas_gettid(void);

/// Whether the calling thread serves an event loop; a thread-local mark.
int tapas_serves_loop(void);
void tapas_set_serves_loop(int serves);

#endif
