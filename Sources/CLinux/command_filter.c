// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The command's filter with --native-sockets. It sees numbers and arguments of calls, not what pointers lead to, nor
// which socket a descriptor is. So it reports what may decide where a socket leads, and the supervisor looks at the
// socket (Sources/NativeSockets):
//
//     connect bind listen getsockname      always
//     setsockopt ioctl                     those that could lead a socket of the host elsewhere, or show its interfaces
//     epoll_create                         so that the supervisor knows who may have registered sockets
//
// and refuses what cannot be reported in a useful way:
//
//     sendto sendmsg sendmmsg with MSG_FASTOPEN    EOPNOTSUPP, as where the kernel's client side of it is off
//     io_uring_*                                   ENOSYS: it makes all of these calls past the filter
//     clone with CLONE_FILES without a thread      EPERM; clone3 ENOSYS, and the C library uses clone
//     the same calls of 32-bit programs            ENOSYS: these have no sockets
//
// With the last but one, only the threads of one process share descriptors. So a process with one thread cannot exchange
// a descriptor behind a call that waits for its answer. read, write, recv and all other calls whose arguments it does not
// test are allowed by the kernel's table without executing the filter (since Linux 5.11).
//
// Landlock is the second line: it denies TCP's bind(2) and connect(2) to the command altogether, and the supervisor makes
// these calls in its place. So even if the kernel carries out a reported call (SECCOMP_USER_NOTIF_FLAG_CONTINUE) on
// another socket than the one that the supervisor has seen, no socket of the host is bound or connected by that.
//
// syscalls: called(any): close landlock_create_ruleset landlock_restrict_self kcmp getpid seccomp socket

#define _GNU_SOURCE

#include "tapas_native.h"
#include "tapas_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// The filter is a list of tests of the number, each with its own block of instructions, so that no jump is longer than
// its block.
struct assembler {
    struct sock_filter *program;
    size_t count;
};

static void put(struct assembler *assembler, uint16_t code, uint32_t k, uint8_t yes, uint8_t no) {
    assembler->program[assembler->count++] = (struct sock_filter){code, yes, no, k};
}

static void load(struct assembler *assembler, size_t offset) {
    put(assembler, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void give(struct assembler *assembler, uint32_t action) { put(assembler, BPF_RET | BPF_K, action, 0, 0); }

static uint32_t refusal(int error) { return SECCOMP_RET_ERRNO | (uint32_t)error; }

/// The low half of an argument: the calls in question take an int.
static size_t argument(int index) {
    size_t offset = offsetof(struct seccomp_data, args) + (size_t)index * sizeof(uint64_t);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    offset += 4;
#endif
    return offset;
}

/// The number is in the accumulator, before and after.
static void number_gives(struct assembler *assembler, uint32_t number, uint32_t action) {
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    give(assembler, action);
}

/// A call with any of these bits in an argument gives an action, and is allowed otherwise.
static void bits_give(struct assembler *assembler, uint32_t number, int index, uint32_t bits, uint32_t action) {
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4);
    load(assembler, argument(index));
    put(assembler, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    give(assembler, action);
    give(assembler, SECCOMP_RET_ALLOW);
}

/// clone(2) that shares descriptors without making a thread.
static void clone_gives(struct assembler *assembler, uint32_t number, uint32_t action) {
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 5);
    load(assembler, argument(0));
    put(assembler, BPF_ALU | BPF_AND | BPF_K, CLONE_FILES | CLONE_THREAD, 0, 0);
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, CLONE_FILES, 0, 1);
    give(assembler, action);
    give(assembler, SECCOMP_RET_ALLOW);
}

/// ioctl(2) of the family of interfaces: those of type 0x89 except for what concerns only the socket itself.
static void interface_requests_give(struct assembler *assembler, uint32_t number, uint32_t action) {
    // FIOSETOWN to SIOCGSTAMPNS, SIOCOUTQNSD
    static const uint32_t harmless[] = {0x8901, 0x8902, 0x8903, 0x8904, 0x8905, 0x8906, 0x8907, 0x894B};
    enum { count = sizeof(harmless) / sizeof(harmless[0]) };
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 6 + count);
    load(assembler, argument(1));
    put(assembler, BPF_ALU | BPF_AND | BPF_K, 0xFFFF, 0, 0);
    for (int index = 0; index < count; index++)
        put(assembler, BPF_JMP | BPF_JEQ | BPF_K, harmless[index], (uint8_t)(count - index + 2), 0);
    put(assembler, BPF_ALU | BPF_AND | BPF_K, 0xFF00, 0, 0);
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, 0x8900, 0, 1);
    give(assembler, action);
    give(assembler, SECCOMP_RET_ALLOW);
}

// Names of options that the oldest supported headers lack.
enum {
    so_bindtodevice = 25,
    so_bindtoifindex = 62,
    ip_options = 4,
    ip_retopts = 7,
    ip_transparent = 19,
    ip_unicast_if = 50,
    tcp_repair = 19,
    tcp_ulp = 31,
    ipv6_2292pktoptions = 6,
    ipv6_nexthop = 9,
    ipv6_flowlabel_mgr = 32,
    ipv6_pktinfo = 50,
    ipv6_hopopts = 54,
    ipv6_rthdrdstopts = 55,
    ipv6_rthdr = 57,
    ipv6_dstopts = 59,
    ipv6_transparent = 75,
    ipv6_unicast_if = 76,
};

static const uint32_t socket_options[] = {so_bindtodevice, so_bindtoifindex, 0};
static const uint32_t ipv4_options[] = {ip_options, ip_retopts, ip_transparent, ip_unicast_if, 0};
static const uint32_t tcp_options[] = {tcp_repair, tcp_ulp, 0};
static const uint32_t ipv6_options[] = {
    ipv6_2292pktoptions, ipv6_nexthop, ipv6_flowlabel_mgr, ipv6_pktinfo, ipv6_hopopts, ipv6_rthdrdstopts, ipv6_rthdr,
    ipv6_dstopts, ipv6_transparent, ipv6_unicast_if, 0};

static const struct {
    uint32_t level;
    const uint32_t *options;
} levels[] = {
    {SOL_SOCKET, socket_options}, {IPPROTO_IP, ipv4_options}, {IPPROTO_TCP, tcp_options},
    {IPPROTO_IPV6, ipv6_options}};

/// setsockopt(2) of an option that could lead a socket elsewhere.
static void options_give(struct assembler *assembler, uint32_t number, uint32_t action) {
    size_t test = assembler->count;
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 0);
    for (size_t level = 0; level < sizeof(levels) / sizeof(levels[0]); level++) {
        size_t count = 0;
        while (levels[level].options[count]) count++;
        load(assembler, argument(1));
        put(assembler, BPF_JMP | BPF_JEQ | BPF_K, levels[level].level, 0, (uint8_t)(count + 3));
        load(assembler, argument(2));
        for (size_t index = 0; index < count; index++)
            put(assembler, BPF_JMP | BPF_JEQ | BPF_K, levels[level].options[index], (uint8_t)(count - index), 0);
        give(assembler, SECCOMP_RET_ALLOW);
        give(assembler, action);
    }
    give(assembler, SECCOMP_RET_ALLOW);
    assembler->program[test].jf = (uint8_t)(assembler->count - test - 1);
}

#if defined(__x86_64__)
/// The calls of i386 programs, by their numbers there (arch/x86/entry/syscalls/syscall_32.tbl).
static void refuse_foreign(struct assembler *assembler) {
    // socketcall, socket, socketpair is harmless, bind, connect, listen, setsockopt, sendto, sendmsg, sendmmsg,
    // io_uring_setup, _enter, _register, clone3
    static const uint32_t numbers[] = {102, 359, 361, 362, 363, 366, 369, 370, 345, 425, 426, 427, 435};
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 1, 0);
    give(assembler, SECCOMP_RET_KILL_PROCESS);
    load(assembler, offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < sizeof(numbers) / sizeof(numbers[0]); index++)
        number_gives(assembler, numbers[index], refusal(ENOSYS));
    clone_gives(assembler, 120, refusal(EPERM));
    interface_requests_give(assembler, 54, refusal(ENOSYS));
    give(assembler, SECCOMP_RET_ALLOW);
}
enum { native_architecture = AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
static void refuse_foreign(struct assembler *assembler) { give(assembler, SECCOMP_RET_KILL_PROCESS); }
enum { native_architecture = AUDIT_ARCH_AARCH64 };
#else
#error "the command's filter does not know this architecture"
#endif

size_t tapas_command_filter(tapas_filter_instruction *program) {
    struct assembler whole = {(struct sock_filter *)program, 0};
    struct assembler *assembler = &whole;
    load(assembler, offsetof(struct seccomp_data, arch));
    size_t test = assembler->count;
    put(assembler, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)native_architecture, 0, 0);
    refuse_foreign(assembler);
    assembler->program[test].jt = (uint8_t)(assembler->count - test - 1);
    load(assembler, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    // The calls of the x32 architecture.
    put(assembler, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    give(assembler, refusal(ENOSYS));
#endif
    number_gives(assembler, SYS_connect, SECCOMP_RET_USER_NOTIF);
    number_gives(assembler, SYS_getsockname, SECCOMP_RET_USER_NOTIF);
    number_gives(assembler, SYS_bind, SECCOMP_RET_USER_NOTIF);
    number_gives(assembler, SYS_listen, SECCOMP_RET_USER_NOTIF);
    number_gives(assembler, SYS_epoll_create1, SECCOMP_RET_USER_NOTIF);
#ifdef SYS_epoll_create
    number_gives(assembler, SYS_epoll_create, SECCOMP_RET_USER_NOTIF);
#endif
    bits_give(assembler, SYS_sendto, 3, MSG_FASTOPEN, refusal(EOPNOTSUPP));
    bits_give(assembler, SYS_sendmsg, 2, MSG_FASTOPEN, refusal(EOPNOTSUPP));
    bits_give(assembler, SYS_sendmmsg, 3, MSG_FASTOPEN, refusal(EOPNOTSUPP));
    interface_requests_give(assembler, SYS_ioctl, SECCOMP_RET_USER_NOTIF);
    clone_gives(assembler, SYS_clone, refusal(EPERM));
    number_gives(assembler, SYS_clone3, refusal(ENOSYS));
    number_gives(assembler, SYS_io_uring_setup, refusal(ENOSYS));
    number_gives(assembler, SYS_io_uring_enter, refusal(ENOSYS));
    number_gives(assembler, SYS_io_uring_register, refusal(ENOSYS));
    options_give(assembler, SYS_setsockopt, SECCOMP_RET_USER_NOTIF);
    give(assembler, SECCOMP_RET_ALLOW);
    return assembler->count;
}

int tapas_confine_command(const tapas_filter_instruction *program, size_t count) {
    // LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP, without a rule that allows a port.
    struct {
        uint64_t files;
        uint64_t network;
    } rules = {0, 3};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (ruleset < 0) return -1;
    int result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int error = errno;
    close(ruleset);
    errno = error;
    if (result < 0) return -1;
    struct sock_fprog whole = {.len = (unsigned short)count, .filter = (struct sock_filter *)(uintptr_t)program};
    return (int)syscall(
        SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &whole);
}

void tapas_show_namespace(int channel) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    (void)tapas_send_word(channel, fd < 0 ? errno : 0, fd);
    if (fd >= 0) close(fd);
}

int tapas_native_lack(const char **what) {
    int version = tapas_landlock_version();
    if (version < 4) {
        *what = "Landlock for TCP (Linux 6.7, and 'landlock' in the list of lsm=)";
        return version < 0 ? errno : EOPNOTSUPP;
    }
    pid_t self = getpid();
    int pidfd = tapas_open_thread(self);
    if (pidfd < 0) {
        *what = "descriptors of threads (PIDFD_THREAD, Linux 6.9)";
        return errno;
    }
    close(pidfd);
    if (syscall(SYS_kcmp, self, self, KCMP_FILES, 0, 0) < 0) {
        *what = "kcmp(2) (CONFIG_KCMP)";
        return errno;
    }
    return 0;
}
