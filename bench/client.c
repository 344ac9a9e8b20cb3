/*
 * The benchmark's load client: opens TCP connections one after the other, C at a time, for S seconds. On each it sends
 * a few bytes, reads as many, and waits for the server to close first (so that TIME_WAIT and the port stay with the
 * server), or resets it (--reset: neither side keeps it).
 *
 *   client --connect ADDR:PORT [--connect ...] [--sources FILE|CIDR] [--concurrency C] [--seconds S] [--bytes N]
 *          [--timeout-ms T] [--reset]
 *
 * Several destinations and sources are used in turn. Sources must be local: `ip route add local CIDR dev lo` makes a
 * whole range so. Prints one line of JSON: connections and failures in all and for each second, and the time from
 * connect() to the last byte of the answer in microseconds. Connections open at the end count as neither.
 */
#include "address.h"

#include <getopt.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_SOURCES = 65536, MAX_BYTES = 65536, MAX_LATENCY_US = 5000000, EVENTS = 256, TICK_MS = 20 };

struct connection {
    int fd; /* -1: not in use */
    int sent, received;
    int64_t started;
};

static struct addresses destinations, sources;
static struct connection *connections;
static long concurrency = 64, seconds = 5, bytes = 1, timeout_ms = 3000;
static int reset, poller;
static char payload[MAX_BYTES], answer[MAX_BYTES];

static int64_t begun;
static uint64_t completed, failed, started;
static uint64_t *completed_in, *failed_in;
static uint32_t *latencies; /* count of connections for each microsecond; the last one holds all slower ones */
static int first_error;     /* errno of the first failure */

static void add_sources(const char *text)
{
    char line[256];
    union address address;
    char *slash;
    snprintf(line, sizeof line, "%s", text);
    if ((slash = strchr(line, '/')))
        *slash = 0;
    if (slash && address_parse(line, 0, &address)) {
        int v4 = address.any.sa_family == AF_INET, width = v4 ? 32 : 128;
        long host_bits = width - number("--sources", slash + 1, 0, width);
        if (host_bits > 16)
            fail("--sources: %s: at most %d addresses; give a longer prefix", text, MAX_SOURCES);
        unsigned char *raw = v4 ? (unsigned char *)&address.v4.sin_addr : address.v6.sin6_addr.s6_addr;
        unsigned char *low = raw + width / 8 - 2;
        unsigned first = ((unsigned)low[0] << 8 | low[1]) & ~((1u << host_bits) - 1), count = 1u << host_bits;
        /* the network's and the broadcast address are no sources */
        for (unsigned host = host_bits > 1; host < count - (v4 && host_bits > 1); host++) {
            low[0] = (unsigned char)((first + host) >> 8);
            low[1] = (unsigned char)(first + host);
            addresses_add(&sources, &address);
        }
        return;
    }
    FILE *file = fopen(text, "r");
    if (!file)
        fail("--sources: %s: neither a CIDR nor a readable file: %s", text, strerror(errno));
    for (int at = 1; fgets(line, sizeof line, file); at++) {
        line[strcspn(line, "# \t\r\n")] = 0;
        if (!*line)
            continue;
        if (!address_parse(line, 0, &address))
            fail("%s:%d: %s is not an IPv4 or IPv6 address", text, at, line);
        if (sources.count == MAX_SOURCES)
            fail("%s: more than %d addresses", text, MAX_SOURCES);
        addresses_add(&sources, &address);
    }
    fclose(file);
    if (!sources.count)
        fail("%s: no addresses in it", text);
}

static void count(uint64_t *total, uint64_t *each)
{
    int64_t second = (now_us() - begun) / 1000000;
    if (second < seconds) {
        ++*total;
        ++each[second];
    }
}

static void drop(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
}

static void lose(struct connection *c, int error)
{
    if (!first_error)
        first_error = error;
    count(&failed, failed_in);
    drop(c);
}

/* Starts a connection in this place; 0 if that failed at once. */
static int start(struct connection *c)
{
    static const int on = 1;
    /* each round of the sources begins one destination later, so that every source meets every destination */
    uint64_t round = sources.count ? started / sources.count : 0;
    union address *to = &destinations.items[(started + round) % destinations.count];
    union address *from = sources.count ? &sources.items[started % sources.count] : NULL;
    started++;
    *c = (struct connection){.started = now_us()};
    c->fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    if (from) {
        /* so that bind takes the address only, and connect picks a port that is free for this destination */
        setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        allow_routed_address(c->fd, from);
        if (bind(c->fd, &from->any, address_length(from)) < 0) {
            char text[INET6_ADDRSTRLEN];
            int v4 = from->any.sa_family == AF_INET;
            inet_ntop(from->any.sa_family, v4 ? (void *)&from->v4.sin_addr : (void *)&from->v6.sin6_addr, text,
                      sizeof text);
            fail("bind to source %s: %s; sources must be local and of the destination's family", text,
                 strerror(errno));
        }
    }
    if (connect(c->fd, &to->any, address_length(to)) < 0 && errno != EINPROGRESS) {
        lose(c, errno);
        return 0;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    return 1;
}

static void finish(struct connection *c)
{
    static const struct linger at_once = {.l_onoff = 1};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    count(&completed, completed_in);
    drop(c);
}

/* Goes as far as the socket allows; events are edge-triggered. */
static void advance(struct connection *c)
{
    while (c->sent < bytes) {
        ssize_t done = send(c->fd, payload, (size_t)(bytes - c->sent), MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0) {
            lose(c, errno);
            return;
        }
        c->sent += (int)done;
    }
    for (;;) {
        ssize_t done = recv(c->fd, answer, sizeof answer, 0);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0 || (done == 0 && c->received < bytes) || c->received + done > bytes) {
            lose(c, done < 0 ? errno : EPROTO);
            return;
        }
        c->received += (int)done;
        if (done && c->received == bytes) {
            int64_t took = now_us() - c->started;
            latencies[took < MAX_LATENCY_US ? took : MAX_LATENCY_US]++;
        }
        if (done == 0 || (reset && c->received == bytes)) {
            finish(c);
            return;
        }
    }
}

static long percentile(double share)
{
    uint64_t all = 0, seen = 0;
    for (long us = 0; us <= MAX_LATENCY_US; us++)
        all += latencies[us];
    for (long us = 0; us <= MAX_LATENCY_US; us++)
        if ((seen += latencies[us]) && (double)seen >= share * (double)all)
            return us;
    return 0;
}

static void print_list(const char *name, const uint64_t *list)
{
    printf(", \"%s\": [", name);
    for (long second = 0; second < seconds; second++)
        printf(second ? ", %llu" : "%llu", (unsigned long long)list[second]);
    putchar(']');
}

static void options(int argc, char **argv)
{
    static const struct option known[] = {
        {"connect", required_argument, NULL, 'c'},     {"sources", required_argument, NULL, 's'},
        {"concurrency", required_argument, NULL, 'n'}, {"seconds", required_argument, NULL, 't'},
        {"bytes", required_argument, NULL, 'b'},       {"timeout-ms", required_argument, NULL, 'w'},
        {"reset", no_argument, NULL, 'r'},             {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (option) {
        case 'c': addresses_add_endpoint(&destinations, "--connect", optarg); break;
        case 's': add_sources(optarg); break;
        case 'n': concurrency = number("--concurrency", optarg, 1, 60000); break;
        case 't': seconds = number("--seconds", optarg, 1, 3600); break;
        case 'b': bytes = number("--bytes", optarg, 1, MAX_BYTES); break;
        case 'w': timeout_ms = number("--timeout-ms", optarg, 1, 600000); break;
        case 'r': reset = 1; break;
        default: exit(2);
        }
    if (optind < argc || !destinations.count) {
        fprintf(stderr, "usage: client --connect ADDR:PORT [--connect ...] [--sources FILE|CIDR] [--concurrency C]\n"
                        "              [--seconds S] [--bytes N] [--timeout-ms T] [--reset]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    options(argc, argv);
    raise_file_limit();
    connections = calloc((size_t)concurrency, sizeof *connections);
    completed_in = calloc((size_t)seconds, sizeof *completed_in);
    failed_in = calloc((size_t)seconds, sizeof *failed_in);
    latencies = calloc(MAX_LATENCY_US + 1, sizeof *latencies);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || !completed_in || !failed_in || !latencies || poller < 0)
        fail("cannot start: %s", strerror(errno));
    for (long at = 0; at < concurrency; at++)
        connections[at].fd = -1;

    begun = now_us();
    int64_t end = begun + seconds * INT64_C(1000000), next_tick = begun;
    struct epoll_event events[EVENTS];
    for (int64_t now = begun; now < end; now = now_us()) {
        if (now >= next_tick) {
            /* time-outs, and another try where a connection failed at once: not sooner, or that would be a busy loop */
            for (struct connection *c = connections; c < connections + concurrency; c++) {
                if (c->fd >= 0 && now - c->started > timeout_ms * INT64_C(1000))
                    lose(c, ETIMEDOUT);
                if (c->fd < 0)
                    start(c);
            }
            next_tick = now_us() + TICK_MS * 1000;
        }
        int ready = epoll_wait(poller, events, EVENTS, TICK_MS);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait: %s", strerror(errno));
        for (int at = 0; at < ready; at++) {
            struct connection *c = events[at].data.ptr;
            uint64_t before = failed;
            if (c->fd < 0)
                continue;
            advance(c);
            if (c->fd < 0 && failed == before)
                start(c);
        }
    }
    printf("{\"connections\": %llu, \"failed\": %llu, \"seconds\": %ld, \"p50_us\": %ld, \"p99_us\": %ld",
           (unsigned long long)completed, (unsigned long long)failed, seconds, percentile(0.50), percentile(0.99));
    print_list("connections_each_second", completed_in);
    print_list("failed_each_second", failed_in);
    if (first_error)
        printf(", \"first_error\": \"%s\"", strerror(first_error));
    puts("}");
    return 0;
}
