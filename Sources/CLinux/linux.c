// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): accept4 clock_nanosleep close close_range fcntl gettid ioctl landlock_add_rule
// syscalls: called(any): landlock_create_ruleset landlock_restrict_self memfd_create pipe2 prctl read recvmmsg
// syscalls: called(any): recvmsg seccomp sendmmsg sendmsg splice write writev

#define _GNU_SOURCE

#include "tapas_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

const char *tapas_errno_name(int error) { return strerrorname_np(error); }

int tapas_dup_cloexec(int fd, int lowest) { return fcntl(fd, F_DUPFD_CLOEXEC, lowest); }

int tapas_set_nonblocking(int fd, int enabled) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -1;
    return fcntl(fd, F_SETFL, enabled ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int tapas_close_range(unsigned first, unsigned last) { return (int)syscall(SYS_close_range, first, last, 0); }

int tapas_tun_set_interface(int fd, const char *name, short flags, char *chosen) {
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = flags;
    int result = ioctl(fd, TUNSETIFF, &request);
    if (result == 0) memcpy(chosen, request.ifr_name, IFNAMSIZ);
    return result;
}

int tapas_tun_get_interface(int fd, char *chosen, short *flags) {
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    int result = ioctl(fd, TUNGETIFF, &request);
    if (result != 0) return result;
    memcpy(chosen, request.ifr_name, IFNAMSIZ);
    *flags = request.ifr_flags;
    return 0;
}

int tapas_tun_set_offload(int fd, unsigned flags) { return ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags); }
int tapas_tun_set_header_size(int fd, int size) { return ioctl(fd, TUNSETVNETHDRSZ, &size); }
int tapas_tun_set_carrier(int fd, int on) { return ioctl(fd, TUNSETCARRIER, &on); }

int tapas_interface_is_running(int fd, const char *name) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -1;
    return (request.ifr_flags & IFF_RUNNING) != 0;
}
int tapas_tun_get_mac(int fd, uint8_t mac[6]) {
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    int result = ioctl(fd, SIOCGIFHWADDR, &request);
    if (result == 0) memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    return result;
}
unsigned tapas_tun_uso_flags(void) { return TUN_F_USO4 | TUN_F_USO6; }

int tapas_ioctl_get_int(int fd, unsigned long request, int *value) { return ioctl(fd, request, value); }
unsigned long tapas_siocinq(void) { return SIOCINQ; }

ssize_t tapas_read(int fd, void *memory, size_t length) { return syscall(SYS_read, fd, memory, length); }
ssize_t tapas_write(int fd, const void *memory, size_t length) { return syscall(SYS_write, fd, memory, length); }
ssize_t tapas_writev(int fd, const struct iovec *vectors, int count) { return syscall(SYS_writev, fd, vectors, count); }
ssize_t tapas_sendmsg(int fd, const struct msghdr *message, int flags) {
    return syscall(SYS_sendmsg, fd, message, flags);
}
ssize_t tapas_recvmsg(int fd, struct msghdr *message, int flags) { return syscall(SYS_recvmsg, fd, message, flags); }

void tapas_rest(int64_t nanoseconds) {
    struct timespec time = {.tv_sec = 0, .tv_nsec = nanoseconds};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}
int tapas_set_timer_slack(unsigned long nanoseconds) { return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0); }

int tapas_accept(int fd, struct sockaddr_storage *address, socklen_t *length) {
    return accept4(fd, (struct sockaddr *)address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

_Static_assert(sizeof(struct tapas_message) == sizeof(struct mmsghdr), "the same layout");
_Static_assert(offsetof(struct tapas_message, length) == offsetof(struct mmsghdr, msg_len), "the same layout");

int tapas_recvmmsg(int fd, struct tapas_message *messages, unsigned count, int flags) {
    return recvmmsg(fd, (struct mmsghdr *)messages, count, flags, NULL);
}

int tapas_sendmmsg(int fd, struct tapas_message *messages, unsigned count, int flags) {
    return sendmmsg(fd, (struct mmsghdr *)messages, count, flags);
}

int tapas_pipe(int fds[2], int flags) { return pipe2(fds, flags); }

int tapas_pipe_resize(int fd, int size) { return fcntl(fd, F_SETPIPE_SZ, size); }

_Static_assert(TAPAS_SPLICE_MOVE == SPLICE_F_MOVE && TAPAS_SPLICE_NONBLOCK == SPLICE_F_NONBLOCK, "the kernel's flags");

ssize_t tapas_splice(int in, int out, size_t length, unsigned flags) {
    return splice(in, NULL, out, NULL, length, flags);
}

struct cmsghdr *tapas_cmsg_first(struct msghdr *message) { return CMSG_FIRSTHDR(message); }
struct cmsghdr *tapas_cmsg_next(struct msghdr *message, struct cmsghdr *control) {
    return CMSG_NXTHDR(message, control);
}
void *tapas_cmsg_data(struct cmsghdr *control) { return CMSG_DATA(control); }
size_t tapas_cmsg_space(size_t length) { return CMSG_SPACE(length); }
size_t tapas_cmsg_length(size_t length) { return CMSG_LEN(length); }

pid_t tapas_gettid(void) { return (pid_t)syscall(SYS_gettid); }

static _Thread_local int serves_loop;

int tapas_serves_loop(void) { return serves_loop; }
void tapas_set_serves_loop(int serves) { serves_loop = serves; }

// The oldest supported headers know the first version only.
struct landlock_ruleset {
    uint64_t handled_file_access;
    uint64_t handled_network_access; // version 4
    uint64_t scoped;                 // version 6
};

int tapas_landlock_version(void) {
    // LANDLOCK_CREATE_RULESET_VERSION
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
}

int tapas_landlock_restrict(int version, const int *folders, size_t count) {
    struct landlock_ruleset rules = {.handled_file_access = (1ULL << 13) - 1};
    size_t size = 8;
    if (version >= 2) rules.handled_file_access |= 1ULL << 13; // REFER
    if (version >= 3) rules.handled_file_access |= 1ULL << 14; // TRUNCATE
    if (version >= 5) rules.handled_file_access |= 1ULL << 15; // IOCTL_DEV
    if (version >= 6) {
        rules.scoped = 1; // LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
        size = sizeof(rules);
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (ruleset < 0) return -1;
    int result = 0;
    for (size_t index = 0; index < count && result == 0; index++) {
        struct landlock_path_beneath_attr rule = {
            .allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE, .parent_fd = folders[index]};
        result = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    if (result == 0) result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int error = errno;
    close(ruleset);
    errno = error;
    return result;
}

int tapas_open_memory(void) { return memfd_create("tapas", MFD_CLOEXEC); }

int tapas_load_filter(const tapas_filter_instruction *program, size_t count) {
    struct sock_fprog whole = {
        .len = (unsigned short)count, .filter = (struct sock_filter *)(uintptr_t)program};
    // Without the flag kernels before 5.16 switch speculation off in the thread, which costs tens of per cents; no code
    // of others runs in this process.
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &whole);
}
