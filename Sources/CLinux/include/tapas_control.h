// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Functions of unix(7) and socket(7) for the control socket that Swift cannot import.

#ifndef TAPAS_CONTROL_H
#define TAPAS_CONTROL_H

#include <stdint.h>
#include <sys/types.h>

/// The peer's effective user id and process id as this process sees them (SO_PEERCRED).
int tapas_peer_credentials(int fd, uid_t *user, pid_t *process);

/// The cookie of the network namespace that a socket belongs to (SO_NETNS_COOKIE, Linux 5.14).
int tapas_network_namespace_cookie(int fd, uint64_t *cookie);

#endif
