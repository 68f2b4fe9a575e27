// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Programs that run below `tapas --native-sockets`, and attack it: `native WHAT ADDRESS PORT [HOST-PORT]`, one line of
// output. ADDRESS is eligible; HOST-PORT is a port on which the host's loopback is served, which must stay out of reach.

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in to;
static int host_port;

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int new_socket(void) { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }

static int link_to(int fd, const struct sockaddr_in *address) {
    return connect(fd, (const struct sockaddr *)address, sizeof(*address));
}

/// A socket that is connected to ADDRESS; "native" if it is one of another namespace than new sockets are.
static int connected(void) {
    int fd = new_socket();
    if (link_to(fd, &to) < 0) {
        printf("not connected: %s\n", strerrorname_np(errno));
        exit(1);
    }
    return fd;
}

static int is_native(int fd) {
    uint64_t ours = 0, its = 0;
    socklen_t length = sizeof(its);
    int other = new_socket();
    getsockopt(other, SOL_SOCKET, 71, &ours, &length); // SO_NETNS_COOKIE
    length = sizeof(its);
    getsockopt(fd, SOL_SOCKET, 71, &its, &length);
    close(other);
    return ours != its;
}

static void say(const char *what, int result) {
    printf("%s=%s ", what, result < 0 ? strerrorname_np(errno) : "OK");
}

/// Every call that could make a switched socket a general one.
static int confined(void) {
    int fd = connected();
    printf("native=%d ", is_native(fd));
    struct sockaddr_in home = loopback(host_port), any = {.sin_family = AF_INET};
    say("connect", link_to(fd, &home));
    say("bind", bind(fd, (struct sockaddr *)&any, sizeof(any)));
    say("listen", listen(fd, 1));
    say("fastopen", (int)sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&home, sizeof(home)));
    struct iovec piece = {"x", 1};
    struct msghdr message = {.msg_name = &home, .msg_namelen = sizeof(home), .msg_iov = &piece, .msg_iovlen = 1};
    say("fastopen-message", (int)sendmsg(fd, &message, MSG_FASTOPEN));
    struct mmsghdr many = {.msg_hdr = message};
    say("fastopen-messages", sendmmsg(fd, &many, 1, MSG_FASTOPEN));
    say("device", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
    int index = 1;
    say("device-index", setsockopt(fd, SOL_SOCKET, 62, &index, sizeof(index)));
    unsigned char route[] = {131, 7, 4, 127, 0, 0, 1, 0};
    say("source-route", setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route, sizeof(route)));
    say("transparent", setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &index, sizeof(index)));
    say("mark", setsockopt(fd, SOL_SOCKET, SO_MARK, &index, sizeof(index)));
    say("repair", setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &index, sizeof(index)));
    say("ulp", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "espintcp", 8));
    struct ifreq request = {.ifr_name = "lo"};
    say("ioctl", ioctl(fd, SIOCGIFINDEX, &request));
    say("namespace", ioctl(fd, 0x894C, 0)); // SIOCGSKNS
    say("io_uring", (int)syscall(SYS_io_uring_setup, 1, NULL));
    say("clone-files", (int)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
    // Dissolved, it may be connected again, but to where the first connection was allowed to go only.
    struct sockaddr_in nowhere = {.sin_family = AF_UNSPEC};
    say("dissolve", link_to(fd, &nowhere));
    say("connect-again", link_to(fd, &home));
    say("bind-again", bind(fd, (struct sockaddr *)&any, sizeof(any)));
    say("listen-again", listen(fd, 1));
    printf("\n");
    return 0;
}

/// A socket that is still connecting, shut down: the kernel takes it for a new one.
static int shut_down(void) {
    int fd = new_socket();
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct sockaddr_in silent = to;
    silent.sin_addr.s_addr = inet_addr("198.51.100.77");
    say("begin", link_to(fd, &silent));
    printf("native=%d ", is_native(fd));
    say("again", link_to(fd, &silent));
    shutdown(fd, SHUT_RDWR);
    struct sockaddr_in home = loopback(host_port), any = {.sin_family = AF_INET};
    say("connect", link_to(fd, &home));
    say("bind", bind(fd, (struct sockaddr *)&any, sizeof(any)));
    say("listen", listen(fd, 1));
    printf("\n");
    return 0;
}

// MARK: Races

static struct sockaddr_in shared;
static int slot;
static int switched;
static int plain;
static volatile int stop;

/// Writes the loopback's address over an eligible one, and back.
static void *change_memory(void *unused) {
    (void)unused;
    uint32_t home = htonl(INADDR_LOOPBACK), away = to.sin_addr.s_addr;
    uint16_t home_port = htons((uint16_t)host_port), away_port = to.sin_port;
    while (!stop) {
        shared.sin_addr.s_addr = home;
        shared.sin_port = home_port;
        shared.sin_addr.s_addr = away;
        shared.sin_port = away_port;
    }
    return NULL;
}

/// Exchanges what the descriptor is: a switched socket that has been dissolved, and a UNIX socket.
static void *change_descriptor(void *unused) {
    (void)unused;
    while (!stop) {
        dup2(switched, slot);
        dup2(plain, slot);
    }
    return NULL;
}

/// Whether a socket is connected to the host's loopback.
static int has_reached_host(int fd) {
    char text[64];
    struct timeval time = {.tv_usec = 20000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
    struct sockaddr_in peer = {0};
    socklen_t length = sizeof(peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0) return 0;
    if (peer.sin_family != AF_INET || ntohl(peer.sin_addr.s_addr) >> 24 != 127) return 0;
    return is_native(fd) && recv(fd, text, sizeof(text), MSG_PEEK) >= -1;
}

static int race_memory(void) {
    pthread_t thread;
    shared = to;
    pthread_create(&thread, NULL, change_memory, NULL);
    int reached = 0, made = 0, tries = 1500;
    for (int index = 0; index < tries; index++) {
        int fd = new_socket();
        if (link_to(fd, &shared) == 0) made++;
        reached += has_reached_host(fd);
        close(fd);
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("made=%d reached=%d\n", made > 0, reached);
    return 0;
}

static int race_descriptor(void) {
    pthread_t thread;
    switched = connected();
    struct sockaddr_in nowhere = {.sin_family = AF_UNSPEC}, home = loopback(host_port);
    link_to(switched, &nowhere);
    plain = socket(AF_UNIX, SOCK_STREAM, 0);
    slot = dup(plain);
    pthread_create(&thread, NULL, change_descriptor, NULL);
    int reached = 0, listening = 0;
    for (int index = 0; index < 4000; index++) {
        (void)link_to(slot, &home);
        (void)bind(slot, (struct sockaddr *)&home, sizeof(sa_family_t));
        (void)listen(slot, 1);
        if (index % 100) continue;
        int value = 0;
        socklen_t length = sizeof(value);
        getsockopt(switched, SOL_SOCKET, SO_ACCEPTCONN, &value, &length);
        listening += value;
        reached += has_reached_host(switched);
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("native=%d reached=%d listening=%d\n", is_native(switched), reached, listening);
    return 0;
}

// MARK: What programs see

static void nothing(int number) { (void)number; }

/// A blocking connect to where nobody answers, interrupted by a signal.
static int interrupted(void) {
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    ualarm(200000, 0);
    int fd = new_socket();
    struct sockaddr_in silent = to;
    silent.sin_addr.s_addr = inet_addr("198.51.100.77");
    say("connect", link_to(fd, &silent));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    say("again", link_to(fd, &silent));
    printf("\n");
    return 0;
}

/// A socket that was registered before connect(2) stays in the epoll set.
static int registered(void) {
    int epoll = epoll_create1(0);
    int fd = new_socket();
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.fd = 77};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    epoll_wait(epoll, &event, 1, 0);
    say("connect", link_to(fd, &to));
    int count = epoll_wait(epoll, &event, 1, 3000);
    int error = -1;
    socklen_t length = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    // One that is registered afterwards is switched.
    int other = new_socket();
    fcntl(other, F_SETFL, O_NONBLOCK);
    link_to(other, &to);
    struct epoll_event second = {.events = EPOLLOUT, .data.fd = 78};
    epoll_ctl(epoll, EPOLL_CTL_ADD, other, &second);
    int after = epoll_wait(epoll, &second, 1, 3000);
    printf("events=%d data=%d error=%d native=%d later=%d native=%d\n", count, event.data.fd, error, is_native(fd), after,
           is_native(other));
    return 0;
}

/// Options, flags, and names of a switched socket.
static int carried(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1, idle = 77, size = 50000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (link_to(fd, &to) < 0) say("connect", -1);
    const int options[][2] = {
        {IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE}, {IPPROTO_TCP, TCP_KEEPIDLE}, {SOL_SOCKET, SO_RCVBUF}};
    for (int index = 0; index < 4; index++) {
        int value = 0;
        socklen_t length = sizeof(value);
        getsockopt(fd, options[index][0], options[index][1], &value, &length);
        printf("%d ", value);
    }
    printf("cloexec=%d nonblock=%d ", fcntl(fd, F_GETFD) & FD_CLOEXEC, !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    struct sockaddr_in name = {0};
    socklen_t length = sizeof(name);
    getsockname(fd, (struct sockaddr *)&name, &length);
    printf("name=%s/%u ", inet_ntoa(name.sin_addr), (unsigned)length);
    getpeername(fd, (struct sockaddr *)&name, &length);
    printf("peer=%s:%d native=%d\n", inet_ntoa(name.sin_addr), ntohs(name.sin_port), is_native(fd));
    return 0;
}

/// A UNIX socket has the credentials of the process that listens, and works as ever.
static int local(void) {
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0native-test"};
    say("bind", bind(listener, (struct sockaddr *)&address, 14));
    say("listen", listen(listener, 1));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    say("connect", connect(client, (struct sockaddr *)&address, 14));
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length);
    printf("mine=%d ", peer.pid == getpid());
    // TCP inside of the namespace.
    int server = new_socket(), inner = new_socket();
    struct sockaddr_in home = loopback(0);
    length = sizeof(home);
    say("bind-tcp", bind(server, (struct sockaddr *)&home, sizeof(home)));
    say("listen-tcp", listen(server, 1));
    getsockname(server, (struct sockaddr *)&home, &length);
    say("connect-tcp", link_to(inner, &home));
    say("accept-tcp", accept(server, NULL, NULL));
    printf("native=%d\n", is_native(inner));
    return 0;
}

/// Connections one after the other; how many there are in a second.
static int rate(void) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int made = 0;
    double seconds = 0;
    struct linger linger = {1, 0};
    while (seconds < 3) {
        int fd = new_socket();
        if (link_to(fd, &to) == 0) made++;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(fd);
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    }
    printf("%d connections a second\n", (int)(made / seconds));
    return 0;
}

/// Stays connected and says how its connection ends.
static int ending(void) {
    int fd = connected();
    printf("native=%d\n", is_native(fd));
    fflush(stdout);
    char byte;
    ssize_t length = recv(fd, &byte, 1, 0);
    printf("ended: %s\n", length < 0 ? strerrorname_np(errno) : length == 0 ? "end" : "data");
    return 0;
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        int (*run)(void);
    } programs[] = {
        {"confined", confined},     {"shut-down", shut_down},   {"race-memory", race_memory},
        {"race-descriptor", race_descriptor}, {"interrupted", interrupted}, {"registered", registered},
        {"carried", carried},       {"local", local},           {"rate", rate},
        {"ending", ending},
    };
    if (count < 4) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[3]))};
    to.sin_addr.s_addr = inet_addr(arguments[2]);
    host_port = count > 4 ? atoi(arguments[4]) : 9;
    for (size_t index = 0; index < sizeof(programs) / sizeof(programs[0]); index++)
        if (strcmp(arguments[1], programs[index].name) == 0) return programs[index].run();
    return 2;
}
