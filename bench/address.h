/* What the load client and the server share: addresses, errors, limits, the clock. */
#ifndef MOORAGE_BENCH_ADDRESS_H
#define MOORAGE_BENCH_ADDRESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78 /* linux/in6.h */
#endif

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct addresses {
    union address *items;
    size_t count, room;
};

#define fail(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

static inline socklen_t address_length(const union address *address)
{
    return address->any.sa_family == AF_INET ? sizeof address->v4 : sizeof address->v6;
}

/* A numeric IPv4 or IPv6 address; 0 if it is neither. */
static inline int address_parse(const char *text, uint16_t port, union address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return 1;
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return 1;
    }
    return 0;
}

static inline void addresses_add(struct addresses *list, const union address *address)
{
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->items = realloc(list->items, list->room * sizeof *list->items);
        if (!list->items)
            fail("out of memory");
    }
    list->items[list->count++] = *address;
}

/* For IPv6, bind() asks for an address of an interface; a local route, as for IPv4, is not enough without this. */
static inline void allow_routed_address(int fd, const union address *address)
{
    static const int on = 1;
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on);
}

/* A whole number in [least, most], or the program ends with the option's name. */
static inline long number(const char *option, const char *text, long least, long most)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most)
        fail("%s: %s: give a whole number from %ld to %ld", option, text, least, most);
    return value;
}

/* ADDR:PORT or ADDR:FIRST-LAST; IPv6 addresses in brackets. */
static inline void addresses_add_endpoint(struct addresses *list, const char *option, const char *text)
{
    char host[INET6_ADDRSTRLEN + 2];
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (!length || length >= sizeof host)
        fail("%s: %s: give ADDR:PORT, IPv6 as [ADDR]:PORT", option, text);
    memcpy(host, text, length);
    host[length] = 0;
    char *bare = host;
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = 0;
        bare++;
    }
    char ports[16], *dash;
    snprintf(ports, sizeof ports, "%s", colon + 1);
    if ((dash = strchr(ports, '-')))
        *dash++ = 0;
    long first = number(option, ports, 1, 65535), last = dash ? number(option, dash, first, 65535) : first;
    for (long port = first; port <= last; port++) {
        union address address;
        if (!address_parse(bare, (uint16_t)port, &address))
            fail("%s: %s: %s is not an IPv4 or IPv6 address", option, text, bare);
        addresses_add(list, &address);
    }
}

/* Monotonic time in microseconds. */
static inline int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static inline void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

#endif
