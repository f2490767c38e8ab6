/* What fakeup and loadgen share: a clock, a buffer that grows, header look-up. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define STAMP_DIGITS 19

typedef struct {
    char *data;
    size_t len, cap;
} Buffer;

/* Room for n more bytes; one further byte is always there, for a closing NUL. */
static char *reserve(Buffer *b, size_t n) {
    if (b->cap < b->len + n + 1) {
        b->cap = 2 * (b->len + n + 1);
        b->data = realloc(b->data, b->cap);
        if (!b->data) abort();
    }
    return b->data + b->len;
}

static void append(Buffer *b, const char *bytes, size_t n) {
    memcpy(reserve(b, n), bytes, n);
    b->len += n;
}

static void discard(Buffer *b, size_t n) {
    b->len -= n;
    memmove(b->data, b->data + n, b->len);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The value of a header, up to the end of its line; name is "\r\nlower-case:". */
static const char *header(const char *head, size_t len, const char *name) {
    size_t n = strlen(name);
    for (const char *at = head; (at = memchr(at, '\r', len - (size_t)(at - head))); at++) {
        if (len - (size_t)(at - head) < n) return NULL;
        if (!strncasecmp(at, name, n)) return at + n + strspn(at + n, " \t");
    }
    return NULL;
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

#endif
