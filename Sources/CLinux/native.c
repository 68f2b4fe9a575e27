// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): capget capset ioctl kcmp openat pidfd_getfd pidfd_open process_vm_readv process_vm_writev
// syscalls: called(any): recvfrom sendto

#define _GNU_SOURCE

#include "tapas_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// The oldest supported headers lack these.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
enum { pidfd_thread = O_EXCL };

static int kind_of(int number) {
    switch (number) {
    case SYS_connect: return TAPAS_CALL_CONNECT;
    case SYS_bind: return TAPAS_CALL_BIND;
    case SYS_listen: return TAPAS_CALL_LISTEN;
    case SYS_getsockname: return TAPAS_CALL_GETSOCKNAME;
    case SYS_setsockopt: return TAPAS_CALL_SETSOCKOPT;
    case SYS_ioctl: return TAPAS_CALL_IOCTL;
#ifdef SYS_epoll_create
    case SYS_epoll_create:
#endif
    case SYS_epoll_create1: return TAPAS_CALL_EPOLL_CREATE;
    default: return TAPAS_CALL_OTHER;
    }
}

// The kernel's structures may become longer (SECCOMP_GET_NOTIF_SIZES): there is room behind ours.
int tapas_notification_receive(int listener, struct tapas_notification *notification) {
    union {
        struct seccomp_notif notification;
        char room[512];
    } received;
    memset(&received, 0, sizeof(received));
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &received) < 0) return -1;
    notification->id = received.notification.id;
    notification->thread = (pid_t)received.notification.pid;
    notification->call = kind_of(received.notification.data.nr);
    for (int index = 0; index < 6; index++)
        notification->arguments[index] = received.notification.data.args[index];
    return 0;
}

int tapas_notification_waits(int listener, uint64_t id) {
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static int answer(int listener, uint64_t id, int64_t value, int error, unsigned flags) {
    union {
        struct seccomp_notif_resp answer;
        char room[512];
    } sent;
    memset(&sent, 0, sizeof(sent));
    sent.answer.id = id;
    sent.answer.val = error ? 0 : value;
    sent.answer.error = -error;
    sent.answer.flags = flags;
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &sent);
}

int tapas_notification_answer(int listener, uint64_t id, int64_t value, int error) {
    return answer(listener, id, value, error, 0);
}

int tapas_notification_continue(int listener, uint64_t id) {
    return answer(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

int tapas_notification_replace(int listener, uint64_t id, int source, int target, int closes_on_exec) {
    struct seccomp_notif_addfd addition = {
        .id = id,
        .flags = SECCOMP_ADDFD_FLAG_SETFD,
        .srcfd = (unsigned)source,
        .newfd = (unsigned)target,
        .newfd_flags = closes_on_exec ? O_CLOEXEC : 0,
    };
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addition) < 0 ? -1 : 0;
}

void tapas_listener_hand_over(int listener) {
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

int tapas_open_thread(pid_t thread) { return (int)syscall(SYS_pidfd_open, thread, pidfd_thread); }
int tapas_take_descriptor(int pidfd, int fd) { return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0); }

ssize_t tapas_read_memory(pid_t process, uint64_t address, void *memory, size_t length) {
    struct iovec here = {memory, length};
    struct iovec there = {(void *)(uintptr_t)address, length};
    return process_vm_readv(process, &here, 1, &there, 1, 0);
}

ssize_t tapas_write_memory(pid_t process, uint64_t address, const void *memory, size_t length) {
    struct iovec here = {(void *)(uintptr_t)memory, length};
    struct iovec there = {(void *)(uintptr_t)address, length};
    return process_vm_writev(process, &here, 1, &there, 1, 0);
}

int tapas_compare_registered(pid_t thread, int epoll, int fd) {
    struct kcmp_epoll_slot slot = {.efd = (unsigned)epoll, .tfd = (unsigned)fd, .toff = 0};
    return (int)syscall(SYS_kcmp, thread, thread, KCMP_EPOLL_TFD, (unsigned long)fd, &slot);
}

int tapas_open_below(int folder, const char *path, int flags) { return openat(folder, path, flags | O_CLOEXEC); }

int tapas_route_interface(int netlink, const void *address, size_t length, uint32_t *sequence) {
    struct {
        struct nlmsghdr header;
        struct rtmsg route;
        struct rtattr attribute;
        char address[16];
    } request;
    memset(&request, 0, sizeof(request));
    request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(request.route)) + RTA_LENGTH(length));
    request.header.nlmsg_type = RTM_GETROUTE;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.header.nlmsg_seq = ++*sequence;
    request.route.rtm_family = length == 4 ? AF_INET : AF_INET6;
    request.route.rtm_dst_len = (unsigned char)(length * 8);
    request.attribute.rta_type = RTA_DST;
    request.attribute.rta_len = (unsigned short)RTA_LENGTH(length);
    memcpy(request.address, address, length);
    if (send(netlink, &request, request.header.nlmsg_len, 0) < 0) return -1;
    // The kernel answers before send(2) returns.
    for (;;) {
        union {
            struct nlmsghdr header;
            char bytes[4096];
        } answer;
        struct sockaddr_nl sender;
        socklen_t sender_length = sizeof(sender);
        ssize_t received =
            recvfrom(netlink, &answer, sizeof(answer), MSG_DONTWAIT, (struct sockaddr *)&sender, &sender_length);
        if (received < 0) return -1;
        // A process of the namespace can send to this socket, too.
        if (sender_length != sizeof(sender) || sender.nl_pid != 0) continue;
        if (!NLMSG_OK(&answer.header, (size_t)received) || answer.header.nlmsg_seq != *sequence) continue;
        if (answer.header.nlmsg_type != RTM_NEWROUTE) return 0;
        struct rtmsg *route = NLMSG_DATA(&answer.header);
        if (answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*route)) || route->rtm_type != RTN_UNICAST) return 0;
        int rest = (int)(answer.header.nlmsg_len - NLMSG_LENGTH(sizeof(*route)));
        for (struct rtattr *part = RTM_RTA(route); RTA_OK(part, rest); part = RTA_NEXT(part, rest)) {
            if (part->rta_type != RTA_OIF || RTA_PAYLOAD(part) != sizeof(int)) continue;
            int index;
            memcpy(&index, RTA_DATA(part), sizeof(index));
            return index;
        }
        return 0;
    }
}

int tapas_interface_index(int fd, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    return ioctl(fd, SIOCGIFINDEX, &request) < 0 ? 0 : request.ifr_ifindex;
}

int tapas_ioctl_structure(int fd, unsigned long request, void *structure) { return ioctl(fd, request, structure); }

int tapas_interface_list(int fd, void *list, int *length) {
    struct ifconf request = {.ifc_len = list ? *length : 0, .ifc_buf = list};
    int result = ioctl(fd, SIOCGIFCONF, &request);
    *length = request.ifc_len;
    return result;
}

_Static_assert((unsigned)TAPAS_NOTIFICATION_RECEIVE == (unsigned)SECCOMP_IOCTL_NOTIF_RECV, "the kernel's number");
_Static_assert((unsigned)TAPAS_NOTIFICATION_SEND == (unsigned)SECCOMP_IOCTL_NOTIF_SEND, "the kernel's number");
_Static_assert((unsigned)TAPAS_NOTIFICATION_WAITS == (unsigned)SECCOMP_IOCTL_NOTIF_ID_VALID, "the kernel's number");
_Static_assert((unsigned)TAPAS_NOTIFICATION_ADD == (unsigned)SECCOMP_IOCTL_NOTIF_ADDFD, "the kernel's number");
_Static_assert((unsigned)TAPAS_NOTIFICATION_SET_FLAGS == (unsigned)SECCOMP_IOCTL_NOTIF_SET_FLAGS, "the kernel's number");
_Static_assert(TAPAS_CAPABILITY_PTRACE == 1 << CAP_SYS_PTRACE, "the kernel's number");
_Static_assert(
    TAPAS_CAPABILITIES_NETWORK == (1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW),
    "the kernel's numbers");

static int set_capabilities(uint64_t mask, int limits) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) < 0) return -1;
    for (int word = 0; word < 2; word++) {
        uint32_t part = (uint32_t)(mask >> (32 * word));
        if (limits) {
            sets[word].permitted &= part;
            sets[word].inheritable = 0;
        }
        sets[word].effective = sets[word].permitted & part;
    }
    return (int)syscall(SYS_capset, &header, sets);
}

int tapas_set_effective(uint64_t mask) { return set_capabilities(mask, 0); }
int tapas_limit_capabilities(uint64_t mask) { return set_capabilities(mask, 1); }
