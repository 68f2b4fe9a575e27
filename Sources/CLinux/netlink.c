// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE

#include "tapas_netlink.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

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
