/* loadgen: closed-loop load from one thread, for JSON and SSE replies over HTTP/1.1.
 *
 *   loadgen --port P [--path /v1/messages] [--body JSON] [--header "Name: value"]...
 *           [--connections C] [--seconds S] [--warmup S] [--ramp-ms M] [--timeout S]
 *           [--expect N] [--requests N]
 *
 * Loopback only. Each connection sends its next request when its reply is complete. --expect N
 * counts a reply with another number of events as an error; --requests N ends after N replies;
 * --ramp-ms M spreads the first requests over M ms.
 * Prints one line of JSON. Within the seconds after the warm-up:
 *   req_s events_s bytes_s requests events     (a data: line is an event)
 *   ttfb_us_p50 _p99      from the request to the first byte of the body
 *   total_us_p50 _p99     from the request to the end of the body
 *   event_us_p50 _p99     how long a stamped event was on its way (see fakeup.c)
 * and over the whole run, warm-up included, to set against CPU time used:
 *   all_requests all_events errors error       (error: what the first one was)
 */
#include "net.h"

/* Durations in a histogram of 128 steps to each doubling: 0.8 % exact, no sample kept. */
#define STEP_BITS 7
typedef struct {
    uint64_t count, of[(64 - STEP_BITS) << STEP_BITS];
} Histogram;

static size_t slot_of(uint64_t ns) {
    if (ns < 1ull << STEP_BITS) return ns;
    int shift = 63 - __builtin_clzll(ns) - STEP_BITS;
    return ((size_t)shift << STEP_BITS) + (size_t)(ns >> shift);
}

static double us_of(size_t slot) {
    if (slot < 2ull << STEP_BITS) return (double)slot / 1e3;
    int shift = (int)(slot >> STEP_BITS) - 1;
    uint64_t low = ((slot & ((1 << STEP_BITS) - 1)) + (1ull << STEP_BITS)) << shift;
    return ((double)low + (double)(1ull << shift) / 2) / 1e3;
}

static double quantile(const Histogram *h, double q) {
    uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0;
    for (size_t i = 0; i < sizeof h->of / sizeof *h->of; i++)
        if ((seen += h->of[i]) > wanted) return us_of(i);
    return -1;
}

typedef enum { IDLE, CONNECTING, SENDING, HEAD, SIZE, DATA, DATA_END, TRAILER } Phase;

typedef struct {
    int fd;
    Phase phase;
    size_t sent;
    Buffer in, line;
    bool chunked, to_the_end, closes;
    int status;
    size_t left;
    long events;
    uint64_t start_at, asked, answered;
} Conn;

static struct {
    int port;
    const char *path, *body;
    int connections;
    double seconds, warmup, timeout;
    long ramp_ms, expect, requests;
    Buffer headers;
} opt = {0, "/v1/messages", NULL, 32, 2, 0.5, 30, 0, -1, -1, {0}};

static struct {
    uint64_t requests, events, bytes;
} window, whole;

static Histogram ttfb, total, transit;
static uint64_t errors;
static char first_error[128];
static bool counting;
static long issued;
static int poller;
static Buffer request;

static void fail(Conn *c, const char *why) {
    if (!errors++) snprintf(first_error, sizeof first_error, "%s (status %d, %ld events)", why, c->status, c->events);
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->phase = IDLE;
    c->start_at = now_ns() + 5 * NS_PER_MS;
}

static void watch(Conn *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void send_request(Conn *c) {
    while (c->sent < request.len) {
        ssize_t n = send(c->fd, request.data + c->sent, request.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) return fail(c, "the request could not be sent");
        c->sent += (size_t)n;
    }
    watch(c, EPOLLIN);
    c->phase = HEAD;
}

static void start(Conn *c) {
    if (opt.requests >= 0 && issued >= opt.requests) {
        c->phase = IDLE;
        c->start_at = UINT64_MAX;
        return;
    }
    issued++;
    c->in.len = c->line.len = c->sent = 0;
    c->events = c->status = 0;
    c->answered = 0;
    c->asked = now_ns();
    if (c->fd >= 0) {
        c->phase = SENDING;
        return send_request(c);
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    no_delay(c->fd);
    struct sockaddr_in address = loopback(opt.port);
    c->phase = CONNECTING;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail(c, "cannot connect");
}

static void record(Histogram *h, uint64_t from, uint64_t to) {
    if (!counting) return;
    h->count++;
    h->of[slot_of(to > from ? to - from : 0)]++;
}

/* One line of the body: a data line is an event, its stamp says when it was sent. */
static void take_line(Conn *c, const char *line, size_t n, uint64_t now) {
    if (n < 5 || memcmp(line, "data:", 5)) return;
    c->events++;
    whole.events++;
    window.events += counting;
    const char *stamp = memmem(line, n, "#T", 2);
    if (!stamp || line + n < stamp + 2 + STAMP_DIGITS) return;
    uint64_t sent = 0;
    for (int i = 2; i < 2 + STAMP_DIGITS; i++) sent = sent * 10 + (uint64_t)(stamp[i] - '0');
    record(&transit, sent, now);
}

static void take_body(Conn *c, const char *bytes, size_t n, uint64_t now) {
    if (!n) return;
    if (!c->answered) record(&ttfb, c->asked, c->answered = now);
    if (counting) window.bytes += n;
    for (const char *end; (end = memchr(bytes, '\n', n)); n -= (size_t)(end + 1 - bytes), bytes = end + 1) {
        if (!c->line.len) {
            take_line(c, bytes, (size_t)(end - bytes), now);
            continue;
        }
        append(&c->line, bytes, (size_t)(end - bytes));
        take_line(c, c->line.data, c->line.len, now);
        c->line.len = 0;
    }
    append(&c->line, bytes, n);
}

static void finish(Conn *c, uint64_t now) {
    if (c->line.len) take_line(c, c->line.data, c->line.len, now);
    if (c->status < 200 || c->status > 299) return fail(c, "not a success");
    if (opt.expect >= 0 && c->events != opt.expect) return fail(c, "not the expected number of events");
    record(&total, c->asked, now);
    whole.requests++;
    window.requests += counting;
    if (c->closes) {
        close(c->fd);
        c->fd = -1;
    }
    start(c);
}

static bool take_head(Conn *c, const char *bytes, size_t n, size_t *used) {
    const char *blank = memmem(bytes, n, "\r\n\r\n", 4);
    if (!blank) return false;
    *used = (size_t)(blank - bytes) + 4;
    c->status = atoi(bytes + 9);
    const char *length = header(bytes, *used, "\r\ncontent-length:");
    const char *coding = header(bytes, *used, "\r\ntransfer-encoding:");
    const char *connection = header(bytes, *used, "\r\nconnection:");
    c->chunked = coding && !strncasecmp(coding, "chunked", 7);
    c->to_the_end = !c->chunked && !length;
    c->closes = c->to_the_end || (connection && !strncasecmp(connection, "close", 5));
    c->left = length ? strtoul(length, NULL, 10) : 0;
    c->phase = c->chunked ? SIZE : DATA;
    return true;
}

static bool take_size_line(Conn *c, const char *bytes, size_t n, size_t *used) {
    const char *end = memchr(bytes, '\n', n);
    if (!end) return false;
    *used = (size_t)(end - bytes) + 1;
    c->left = strtoul(bytes, NULL, 16);
    c->phase = c->left ? DATA : TRAILER;
    return true;
}

/* What one look at a reply came to. */
typedef enum { MORE, NEEDS_BYTES, COMPLETE } Progress;

static Progress step(Conn *c, const char *bytes, size_t n, size_t *used, uint64_t now) {
    *used = 0;
    switch (c->phase) {
    case HEAD:
        return take_head(c, bytes, n, used) ? MORE : NEEDS_BYTES;
    case SIZE:
        return take_size_line(c, bytes, n, used) ? MORE : NEEDS_BYTES;
    case DATA:
        *used = !c->to_the_end && c->left < n ? c->left : n;
        take_body(c, bytes, *used, now);
        if (c->to_the_end) return NEEDS_BYTES;
        c->left -= *used;
        if (c->left) return NEEDS_BYTES;
        if (!c->chunked) return COMPLETE;
        c->phase = DATA_END;
        return MORE;
    case DATA_END:
        if (n < 2) return NEEDS_BYTES;
        *used = 2;
        c->phase = SIZE;
        return MORE;
    case TRAILER: {
        const char *end = memchr(bytes, '\n', n);
        if (!end) return NEEDS_BYTES;
        *used = (size_t)(end - bytes) + 1;
        return *used <= 2 ? COMPLETE : MORE;
    }
    default:
        return NEEDS_BYTES;
    }
}

static void receive(Conn *c) {
    ssize_t n = recv(c->fd, reserve(&c->in, 262144), 262144, 0);
    uint64_t now = now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n == 0 && c->phase == DATA && c->to_the_end) return finish(c, now);
    if (n <= 0) return fail(c, n ? "the connection broke" : "the connection closed inside a reply");
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = 0;
    size_t at = 0, used;
    Progress progress;
    do {
        progress = step(c, c->in.data + at, c->in.len - at, &used, now);
        at += used;
    } while (progress == MORE);
    discard(&c->in, at);
    if (progress == COMPLETE) finish(c, now);
}

static void react(Conn *c, uint32_t events) {
    if (c->phase == CONNECTING) {
        int problem = 0;
        socklen_t size = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem) return fail(c, "cannot connect");
        c->phase = SENDING;
    }
    if (c->phase == SENDING && events & EPOLLOUT) return send_request(c);
    if (events & ~(uint32_t)EPOLLOUT) receive(c);
}

/* Start what is due, give up what took too long; false when every asked-for reply is here. */
static bool look_around(Conn *conns, uint64_t now) {
    bool busy = opt.requests < 0 || issued < opt.requests;
    for (int i = 0; i < opt.connections; i++) {
        Conn *c = conns + i;
        if (c->phase == IDLE && c->start_at <= now) start(c);
        else if (c->phase != IDLE && (double)(now - c->asked) > opt.timeout * 1e9 && now > c->asked) fail(c, "timed out");
        busy |= c->phase != IDLE;
    }
    return busy;
}

/* Run the load; the seconds that counted. */
static double run(Conn *conns) {
    uint64_t began = now_ns(), counts_from = began + (uint64_t)(opt.warmup * 1e9), looked = 0;
    uint64_t end = counts_from + (uint64_t)(opt.seconds * 1e9), now;
    for (int i = 0; i < opt.connections; i++) {
        conns[i].fd = -1;
        conns[i].start_at = began + NS_PER_MS * (uint64_t)(opt.ramp_ms * i / opt.connections);
    }
    while ((now = now_ns()) < end) {
        if (!counting && now >= counts_from) {
            counting = true;
            counts_from = now;
        }
        if (now - looked > NS_PER_MS) {
            looked = now;
            if (!look_around(conns, now)) break;
        }
        struct epoll_event ready[1024];
        int n = epoll_wait(poller, ready, 1024, 1);
        for (int i = 0; i < n; i++) {
            Conn *c = ready[i].data.ptr;
            if (c->fd >= 0) react(c, ready[i].events);
        }
    }
    return (double)(now - counts_from) / 1e9;
}

static void write_request(void) {
    const char *body = opt.body ? opt.body
                                : "{\"model\":\"bench-200-0-16\",\"max_tokens\":64,\"stream\":true,"
                                  "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n",
                     opt.path, opt.port, strlen(body));
    append(&request, head, (size_t)n);
    if (opt.headers.len) append(&request, opt.headers.data, opt.headers.len);
    append(&request, "\r\n", 2);
    append(&request, body, strlen(body));
}

static bool read_options(int argc, char **argv) {
    struct option options[] = {
        {"port", 1, 0, 'p'},    {"path", 1, 0, 'a'},   {"body", 1, 0, 'b'},    {"header", 1, 0, 'h'},
        {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'}, {"ramp-ms", 1, 0, 'r'},
        {"timeout", 1, 0, 't'}, {"expect", 1, 0, 'e'}, {"requests", 1, 0, 'n'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p': opt.port = atoi(optarg); break;
        case 'a': opt.path = optarg; break;
        case 'b': opt.body = optarg; break;
        case 'h':
            append(&opt.headers, optarg, strlen(optarg));
            append(&opt.headers, "\r\n", 2);
            break;
        case 'c': opt.connections = atoi(optarg); break;
        case 's': opt.seconds = atof(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 'r': opt.ramp_ms = atol(optarg); break;
        case 't': opt.timeout = atof(optarg); break;
        case 'e': opt.expect = atol(optarg); break;
        case 'n': opt.requests = atol(optarg); break;
        default: return false;
        }
    }
    bool bounded = opt.seconds > 0 && opt.seconds <= 600 && opt.warmup >= 0 && opt.warmup <= 60;
    return opt.port > 0 && opt.connections > 0 && opt.connections <= 10000 && bounded;
}

static void print_quantiles(const char *name, const Histogram *h) {
    if (h->count) printf(", \"%s_us_p50\": %.1f, \"%s_us_p99\": %.1f", name, quantile(h, .5), name, quantile(h, .99));
    else printf(", \"%s_us_p50\": null, \"%s_us_p99\": null", name, name);
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        fprintf(stderr, "usage: loadgen --port P [--path P] [--body JSON] [--header H]... [--connections C]\n"
                        "  [--seconds S] [--warmup S] [--ramp-ms M] [--timeout S] [--expect N] [--requests N]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    write_request();
    poller = epoll_create1(0);
    Conn *conns = calloc((size_t)opt.connections, sizeof *conns);
    if (!conns) abort();
    double s = run(conns);
    if (!counting || s <= 0) {
        counting = false;
        s = 1e-9;
    }
    printf("{\"seconds\": %.3f, \"req_s\": %.1f, \"events_s\": %.1f, \"bytes_s\": %.0f, \"requests\": %lu, \"events\": %lu",
           s, (double)window.requests / s, (double)window.events / s, (double)window.bytes / s, window.requests,
           window.events);
    print_quantiles("ttfb", &ttfb);
    print_quantiles("total", &total);
    print_quantiles("event", &transit);
    printf(", \"all_requests\": %lu, \"all_events\": %lu, \"errors\": %lu, \"error\": \"%s\"}\n", whole.requests,
           whole.events, errors, first_error);
    return 0;
}
