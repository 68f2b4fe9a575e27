// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// rtnetlink(7): the kernel's constants, so that none is retyped in Swift, and the one call that must see the sender.

#ifndef TAPAS_NETLINK_H
#define TAPAS_NETLINK_H

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// recvmsg(2) with MSG_DONTWAIT and MSG_TRUNC: the datagram's whole length, which may be above `size`, and the port of
/// its sender, 0 being the kernel. A sender of another kind gives UINT32_MAX.
ssize_t tapas_netlink_receive(int fd, void *buffer, size_t size, uint32_t *sender);

/// Expressions that Swift does not import.
enum {
    TAPAS_RTEXT_FILTER_SKIP_STATS = 1 << 3, // RTEXT_FILTER_SKIP_STATS
    TAPAS_NLA_TYPE_MASK = 0x3FFF,           // NLA_TYPE_MASK: without NLA_F_NESTED and NLA_F_NET_BYTEORDER
};

/// prctl(2) for a helper process: die with the parent's thread (PR_SET_PDEATHSIG) if asked, no new privileges, not
/// dumpable, a name of its own; then capset(2) to nothing at all. The first error is returned.
int tapas_renounce_privileges(const char *name, int dies_with_parent);

#endif
