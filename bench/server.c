/*
 * The benchmark's server: on every address and port given, accepts, reads a few bytes, answers as many, closes.
 *
 *   server --listen ADDR:PORT|ADDR:FIRST-LAST [--listen ...] [--bytes N] [--seconds S]
 *
 * Prints {"listening": N} once it listens, and on SIGTERM, SIGINT or after S seconds {"answered": N, "failed": N,
 * "answered_each": [...]}, in the order of the listeners. Several servers may share an address (SO_REUSEPORT).
 */
#include "address.h"

#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { MAX_BYTES = 65536, EVENTS = 256, BACKLOG = 65535, ACCEPT_AT_ONCE = 64 };

struct listener {
    int fd;
    uint64_t answered;
};

struct connection { /* indexed by file descriptor */
    struct listener *listener;
    int received, sent;
};

static struct addresses addresses;
static struct listener *listeners;
static struct connection *connections;
static size_t max_files;
static long bytes = 1, seconds;
static int poller;
static uint64_t failed;
static char buffer[MAX_BYTES];

/* What an event is about is told by its pointer: a listener, or else a connection. */
static void watch(int fd, uint32_t events, void *about)
{
    struct epoll_event event = {.events = events, .data.ptr = about};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void listen_on(struct listener *listener, const union address *address)
{
    static const int on = 1;
    listener->fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (address->any.sa_family == AF_INET6)
        setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    allow_routed_address(listener->fd, address);
    if (bind(listener->fd, &address->any, address_length(address)) < 0 || listen(listener->fd, BACKLOG) < 0) {
        char text[INET6_ADDRSTRLEN];
        int v4 = address->any.sa_family == AF_INET;
        inet_ntop(address->any.sa_family, v4 ? (void *)&address->v4.sin_addr : (void *)&address->v6.sin6_addr, text,
                  sizeof text);
        fail("listen on %s port %d: %s", text, ntohs(v4 ? address->v4.sin_port : address->v6.sin6_port),
             strerror(errno));
    }
    watch(listener->fd, EPOLLIN, listener);
}

/* Goes as far as the socket allows; 1 if the connection is done with, well or not. */
static int advance(int fd)
{
    struct connection *c = &connections[fd];
    while (c->received < bytes) {
        ssize_t done = recv(fd, buffer, (size_t)(bytes - c->received), 0);
        if (done < 0 && errno == EAGAIN)
            return 0;
        if (done <= 0) {
            failed++;
            return 1;
        }
        c->received += (int)done;
    }
    while (c->sent < bytes) {
        ssize_t done = send(fd, buffer, (size_t)(bytes - c->sent), MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return 0;
        if (done < 0) {
            failed++;
            return 1;
        }
        c->sent += (int)done;
    }
    c->listener->answered++;
    return 1;
}

static void accept_on(struct listener *listener)
{
    for (int times = 0; times < ACCEPT_AT_ONCE; times++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                fail("accept: %s", strerror(errno));
            if (errno == EAGAIN)
                return;
            continue; /* the connection was given up before it was accepted */
        }
        if ((size_t)fd >= max_files)
            fail("accept: more than %zu files", max_files);
        connections[fd] = (struct connection){.listener = listener};
        if (advance(fd))
            close(fd);
        else
            watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, &connections[fd]);
    }
}

static void options(int argc, char **argv)
{
    static const struct option known[] = {
        {"listen", required_argument, NULL, 'l'},
        {"bytes", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (option) {
        case 'l': addresses_add_endpoint(&addresses, "--listen", optarg); break;
        case 'b': bytes = number("--bytes", optarg, 1, MAX_BYTES); break;
        case 't': seconds = number("--seconds", optarg, 1, 86400); break;
        default: exit(2);
        }
    if (optind < argc || !addresses.count) {
        fprintf(stderr, "usage: server --listen ADDR:PORT|ADDR:FIRST-LAST [--listen ...] [--bytes N] [--seconds S]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    options(argc, argv);
    raise_file_limit();
    max_files = (size_t)sysconf(_SC_OPEN_MAX);
    if (max_files > 1 << 20)
        max_files = 1 << 20;
    listeners = calloc(addresses.count, sizeof *listeners);
    connections = calloc(max_files, sizeof *connections);
    poller = epoll_create1(EPOLL_CLOEXEC);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    if (!listeners || !connections || poller < 0 || signals < 0)
        fail("cannot start: %s", strerror(errno));
    watch(signals, EPOLLIN, NULL);
    for (size_t at = 0; at < addresses.count; at++)
        listen_on(&listeners[at], &addresses.items[at]);
    printf("{\"listening\": %zu}\n", addresses.count);
    fflush(stdout);

    int64_t end = seconds ? now_us() + seconds * INT64_C(1000000) : INT64_MAX;
    struct epoll_event events[EVENTS];
    for (int stop = 0; !stop && now_us() < end;) {
        int ready = epoll_wait(poller, events, EVENTS, 100);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait: %s", strerror(errno));
        for (int at = 0; at < ready; at++) {
            void *about = events[at].data.ptr;
            if (!about) {
                stop = 1;
            } else if ((struct listener *)about >= listeners && (struct listener *)about < listeners + addresses.count) {
                accept_on(about);
            } else {
                int fd = (int)((struct connection *)about - connections);
                if (advance(fd))
                    close(fd);
            }
        }
    }
    uint64_t answered = 0;
    for (size_t at = 0; at < addresses.count; at++)
        answered += listeners[at].answered;
    printf("{\"answered\": %llu, \"failed\": %llu, \"answered_each\": [", (unsigned long long)answered,
           (unsigned long long)failed);
    for (size_t at = 0; at < addresses.count; at++)
        printf(at ? ", %llu" : "%llu", (unsigned long long)listeners[at].answered);
    puts("]}");
    return 0;
}
