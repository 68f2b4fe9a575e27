// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): close recvmsg sendmsg

#define _GNU_SOURCE
#include "tapas_descriptors.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// The descriptors that a received message may have.
enum { most_descriptors = 16 };

ssize_t tapas_receive_descriptors(int fd, void *memory, size_t length, int *descriptors, int capacity, int *count) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(most_descriptors * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = memory, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t received;
    do received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0) return received;
    int first = *count;
    // The kernel sets the flag if it had no room for all of them.
    bool too_many = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS || part->cmsg_len < CMSG_LEN(0)) continue;
        size_t bytes = part->cmsg_len - CMSG_LEN(0);
        for (size_t offset = 0; offset + sizeof(int) <= bytes; offset += sizeof(int)) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + offset, sizeof descriptor);
            if (*count < capacity) {
                descriptors[(*count)++] = descriptor;
            } else {
                close(descriptor);
                too_many = true;
            }
        }
    }
    if (!too_many) return received;
    while (*count > first) close(descriptors[--*count]);
    errno = EMSGSIZE;
    return -1;
}

ssize_t tapas_send_descriptors(int fd, const void *memory, size_t length, const int *descriptors, int count) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * most_descriptors * sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = (void *)memory, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > 2 * most_descriptors) {
        errno = EINVAL;
        return -1;
    }
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}
