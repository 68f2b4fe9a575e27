// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE

#include "tapas_netlink.h"

#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// syscalls: called(any): capset prctl recvmsg

_Static_assert(TAPAS_RTEXT_FILTER_SKIP_STATS == RTEXT_FILTER_SKIP_STATS, "the kernel's number");
_Static_assert((uint16_t)TAPAS_NLA_TYPE_MASK == (uint16_t)NLA_TYPE_MASK, "the kernel's number");

ssize_t tapas_netlink_receive(int fd, void *buffer, size_t size, uint32_t *sender) {
    struct sockaddr_nl address;
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof(address), .msg_iov = &part, .msg_iovlen = 1};
    memset(&address, 0, sizeof(address));
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC);
    int known = message.msg_namelen == sizeof(address) && address.nl_family == AF_NETLINK;
    *sender = length >= 0 && known ? address.nl_pid : UINT32_MAX;
    return length;
}

int tapas_renounce_privileges(const char *name, int dies_with_parent) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    memset(none, 0, sizeof(none));
    if (prctl(PR_SET_NAME, name, 0, 0, 0) < 0) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    if (syscall(SYS_capset, &header, none) < 0) return -1;
    // After capset: a change of credentials clears both of these (prctl(2)).
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -1;
    if (dies_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return -1;
    return 0;
}
