/* fakeup: a fake provider that is never the bottleneck.
 *
 *   fakeup [--port P] [--max-seconds S]
 *
 * One thread, epoll, HTTP/1.1 with keep-alive, on 127.0.0.1 alone. The port is its only line of
 * output. It lives until its standard input ends, or S seconds (600).
 *
 * The path's end chooses the wire form: /messages (Anthropic), /chat/completions or /responses
 * (OpenAI). A body with "stream":true is answered as SSE, any other as one JSON object.
 * A model named "bench-N-G-B" asks for N deltas, G microseconds between writes (0: as fast as the
 * reader takes them) and B events in a write; each event is an HTTP chunk of its own.
 * Every delta begins "#T" + 19 digits: CLOCK_MONOTONIC in ns when it was written, so that a reader
 * on this machine knows how long it was on its way, through any relay that keeps the text.
 */
#include "net.h"

/* In a template: @T a stamped piece of text, @A all text so far, @N the next sequence number,
 * @D how many deltas the stream has. */
typedef struct {
    const char *path;
    const char *opening[5];
    const char *delta;
    const char *closing[5];
    const char *json;
    bool repeats_text;
} Wire;

#define RESPONSE(status, output)                                                                  \
    "{\"id\":\"resp_bench\",\"object\":\"response\",\"created_at\":1700000000,\"status\":\"" status \
    "\",\"model\":\"bench\",\"output\":[" output "]"
#define ITEM(status, content)                                                                     \
    "{\"id\":\"msg_bench\",\"type\":\"message\",\"status\":\"" status                             \
    "\",\"role\":\"assistant\",\"content\":[" content "]}"
#define PART(text) "{\"type\":\"output_text\",\"annotations\":[],\"text\":\"" text "\"}"
#define TYPED(type, rest)                                                                         \
    "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define NUMBERED(type, rest) TYPED(type, ",\"sequence_number\":@N" rest)
#define WITHIN ",\"item_id\":\"msg_bench\",\"output_index\":0,\"content_index\":0"
#define CHUNK(delta, finish, rest)                                                                \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish \
    "}]" rest "}\n\n"
#define HELLO "Hello from the bench."

static const Wire WIRES[] = {
    {
        .path = "/messages",
        .opening =
            {TYPED("message_start",
                   ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\","
                   "\"model\":\"bench\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
                   "\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}"),
             TYPED("content_block_start",
                   ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")},
        .delta = TYPED("content_block_delta",
                       ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"@T\"}"),
        .closing = {TYPED("content_block_stop", ",\"index\":0"),
                    TYPED("message_delta",
                          ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                          "\"usage\":{\"output_tokens\":@D}"),
                    TYPED("message_stop", "")},
        .json = "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench\","
                "\"content\":[{\"type\":\"text\",\"text\":\"" HELLO "\"}],\"stop_reason\":\"end_turn\","
                "\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":6}}",
    },
    {
        .path = "/chat/completions",
        .opening = {CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null", "")},
        .delta = CHUNK("{\"content\":\"@T\"}", "null", ""),
        .closing = {CHUNK("{}", "\"stop\"",
                          ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":@D,\"total_tokens\":@D}"),
                    "data: [DONE]\n\n"},
        .json = "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
                "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                "\"content\":\"" HELLO "\"},\"finish_reason\":\"stop\"}],"
                "\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":6,\"total_tokens\":31}}",
    },
    {
        .path = "/responses",
        .opening = {NUMBERED("response.created", ",\"response\":" RESPONSE("in_progress", "") "}"),
                    NUMBERED("response.in_progress", ",\"response\":" RESPONSE("in_progress", "") "}"),
                    NUMBERED("response.output_item.added",
                             ",\"output_index\":0,\"item\":" ITEM("in_progress", "")),
                    NUMBERED("response.content_part.added", WITHIN ",\"part\":" PART(""))},
        .delta = NUMBERED("response.output_text.delta", WITHIN ",\"delta\":\"@T\""),
        .closing = {NUMBERED("response.output_text.done", WITHIN ",\"text\":\"@A\""),
                    NUMBERED("response.content_part.done", WITHIN ",\"part\":" PART("@A")),
                    NUMBERED("response.output_item.done",
                             ",\"output_index\":0,\"item\":" ITEM("completed", PART("@A"))),
                    NUMBERED("response.completed",
                             ",\"response\":" RESPONSE("completed", ITEM("completed", PART("@A")))
                             ",\"usage\":{\"input_tokens\":0,\"output_tokens\":@D,\"total_tokens\":@D}}")},
        .json = RESPONSE("completed", ITEM("completed", PART(HELLO)))
                ",\"usage\":{\"input_tokens\":25,\"output_tokens\":6,\"total_tokens\":31}}",
        .repeats_text = true,
    },
};

#define STREAM_HEAD                                                                               \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"                       \
    "Cache-Control: no-cache\r\nrequest-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
#define LAST_CHUNK "0\r\n\r\n"
#define MOST_DELTAS 1000000
#define MOST_PER_WRITE 1000
/* A paced stream that has fallen this far behind starts a new schedule. */
#define GIVE_UP_NS (50 * NS_PER_MS)

typedef struct Client Client;
struct Client {
    int fd;
    bool wants_write, streaming, last_request;
    Buffer in, out, text;
    size_t sent;
    const Wire *wire;
    bool opened;
    long deltas, left, batch, sequence;
    uint64_t gap_ns, due;
    Client *sooner, *later;
    bool waiting;
};

static int poller;
static Client *first_due, *last_due;

/* Streams that wait for their next write, soonest first. With like gaps a new one goes last,
 * so the walk from the end is short. */
static void wait_until_due(Client *c) {
    if (c->waiting) return;
    Client *before = last_due;
    while (before && before->due > c->due) before = before->sooner;
    c->sooner = before;
    c->later = before ? before->later : first_due;
    *(before ? &before->later : &first_due) = c;
    *(c->later ? &c->later->sooner : &last_due) = c;
    c->waiting = true;
}

static void stop_waiting(Client *c) {
    if (!c->waiting) return;
    *(c->sooner ? &c->sooner->later : &first_due) = c->later;
    *(c->later ? &c->later->sooner : &last_due) = c->sooner;
    c->waiting = false;
}

static void hang_up(Client *c) {
    stop_waiting(c);
    close(c->fd);
    c->fd = -1;
}

static void watch(Client *c, bool writable) {
    if (c->wants_write == writable) return;
    c->wants_write = writable;
    struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* False when the client takes no more now, or has gone. */
static bool flush(Client *c) {
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return watch(c, true), false;
        if (n < 0) return hang_up(c), false;
        c->sent += (size_t)n;
    }
    c->sent = c->out.len = 0;
    watch(c, false);
    return true;
}

static void put_number(Buffer *b, long number) {
    char digits[24];
    append(b, digits, (size_t)snprintf(digits, sizeof digits, "%ld", number));
}

static void put_stamped_text(Client *c, uint64_t now) {
    char text[] = "#T0000000000000000000 lorem ipsum";
    for (int i = STAMP_DIGITS; i > 0; i--, now /= 10) text[1 + i] = (char)('0' + now % 10);
    append(&c->out, text, sizeof text - 1);
    if (c->wire->repeats_text) append(&c->text, text, sizeof text - 1);
}

static void put_event(Client *c, const char *template, uint64_t now) {
    size_t start = c->out.len;
    append(&c->out, "00000000\r\n", 10);
    for (const char *mark; (mark = strchr(template, '@')); template = mark + 2) {
        append(&c->out, template, (size_t)(mark - template));
        switch (mark[1]) {
        case 'T': put_stamped_text(c, now); break;
        case 'A': append(&c->out, c->text.data ? c->text.data : "", c->text.len); break;
        case 'N': put_number(&c->out, c->sequence++); break;
        case 'D': put_number(&c->out, c->deltas); break;
        }
    }
    append(&c->out, template, strlen(template));
    size_t size = c->out.len - start - 10;
    for (int i = 7; i >= 0; i--, size >>= 4) c->out.data[start + (size_t)i] = "0123456789abcdef"[size & 15];
    append(&c->out, "\r\n", 2);
}

/* Put the next write of a stream into the buffer; false when it is not due yet. */
static bool produce(Client *c) {
    uint64_t now = now_ns();
    if (!c->opened) {
        for (const char *const *e = c->wire->opening; *e; e++) put_event(c, *e, now);
        c->opened = true;
        c->due = c->gap_ns ? now + c->gap_ns : 0;
        return true;
    }
    if (c->left && c->due > now) return wait_until_due(c), false;
    for (long i = 0; i < c->batch && c->left; i++, c->left--) put_event(c, c->wire->delta, now);
    if (c->gap_ns) c->due = c->due + GIVE_UP_NS < now ? now + c->gap_ns : c->due + c->gap_ns;
    if (c->left) return true;
    for (const char *const *e = c->wire->closing; *e; e++) put_event(c, *e, now);
    append(&c->out, LAST_CHUNK, sizeof LAST_CHUNK - 1);
    c->streaming = false;
    return true;
}

static void answer(Client *c, const char *status, const char *type, const char *body) {
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nrequest-id: req_bench\r\n\r\n",
                     status, type, strlen(body));
    append(&c->out, head, (size_t)n);
    append(&c->out, body, strlen(body));
}

static const Wire *wire_of(const char *line, size_t n) {
    for (size_t i = 0; i < sizeof WIRES / sizeof *WIRES; i++)
        if (memmem(line, n, WIRES[i].path, strlen(WIRES[i].path))) return &WIRES[i];
    return NULL;
}

static bool asks_for_stream(const char *body, size_t n) {
    const char *key = memmem(body, n, "\"stream\"", 8);
    if (!key) return false;
    key += 8;
    key += strspn(key, " :");
    return !strncmp(key, "true", 4);
}

static long between(long low, long value, long high) {
    return value < low ? low : value > high ? high : value;
}

static void begin_stream(Client *c, const char *body, size_t n) {
    long deltas = 200, gap_us = 0, batch = 16;
    const char *model = memmem(body, n, "bench-", 6);
    if (model) sscanf(model, "bench-%ld-%ld-%ld", &deltas, &gap_us, &batch);
    c->deltas = c->left = between(0, deltas, MOST_DELTAS);
    c->gap_ns = (uint64_t)between(0, gap_us, 60000000) * 1000;
    c->batch = between(1, batch, MOST_PER_WRITE);
    c->opened = false;
    c->streaming = true;
    c->sequence = 0;
    c->text.len = 0;
    append(&c->out, STREAM_HEAD, sizeof STREAM_HEAD - 1);
}

/* Answer the next request when all of it is here; false when it is not. */
static bool take_request(Client *c) {
    if (!c->in.len) return false;
    c->in.data[c->in.len] = 0;
    char *blank = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
    if (!blank) return false;
    size_t head = (size_t)(blank - c->in.data) + 4;
    const char *length = header(c->in.data, head, "\r\ncontent-length:");
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    if (c->in.len < head + body) return false;

    const char *connection = header(c->in.data, head, "\r\nconnection:");
    c->last_request = connection && !strncasecmp(connection, "close", 5);
    c->wire = wire_of(c->in.data, (size_t)((char *)memchr(c->in.data, '\r', head) - c->in.data));
    if (header(c->in.data, head, "\r\ntransfer-encoding:")) {
        c->last_request = true;
        answer(c, "411 Length Required", "text/plain", "fakeup wants a Content-Length");
    } else if (!c->wire) {
        answer(c, "404 Not Found", "text/plain", "fakeup knows /messages, /chat/completions, /responses");
    } else if (asks_for_stream(c->in.data + head, body)) {
        begin_stream(c, c->in.data + head, body);
    } else {
        answer(c, "200 OK", "application/json", c->wire->json);
    }
    discard(&c->in, head + body);
    return true;
}

/* Go on until the client takes no more, nothing is due, or no request is left. */
static void advance(Client *c) {
    while (c->fd >= 0 && flush(c)) {
        if (c->streaming ? produce(c) : c->last_request ? false : take_request(c)) continue;
        if (!c->streaming && c->last_request) hang_up(c);
        return;
    }
}

static void receive(Client *c) {
    ssize_t n = recv(c->fd, reserve(&c->in, 65536), 65536, 0);
    if (n > 0) c->in.len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) hang_up(c);
}

static void release(Client *c) {
    if (c->fd >= 0) return;
    free(c->in.data);
    free(c->out.data);
    free(c->text.data);
    free(c);
}

static void welcome(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        no_delay(fd);
        Client *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = loopback(port);
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) {
        perror("fakeup: cannot listen");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* How long to sleep: until a write is due, a second at most. */
static struct timespec patience(void) {
    uint64_t now = now_ns(), wait = NS_PER_S - 1;
    if (first_due && first_due->due < now + wait) wait = first_due->due > now ? first_due->due - now : 0;
    return (struct timespec){.tv_nsec = (long)wait};
}

int main(int argc, char **argv) {
    int port = 0;
    long max_seconds = 600;
    struct option options[] = {{"port", 1, 0, 'p'}, {"max-seconds", 1, 0, 's'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p') port = atoi(optarg);
        else if (o == 's') max_seconds = atol(optarg);
        else return fprintf(stderr, "usage: fakeup [--port P] [--max-seconds S]\n"), 2;
    }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    int listener = listen_on(port), owner = STDIN_FILENO;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    /* A file or /dev/null cannot be polled: then only the clock ends us. */
    e.data.ptr = &owner;
    epoll_ctl(poller, EPOLL_CTL_ADD, owner, &e);

    uint64_t end = now_ns() + (uint64_t)max_seconds * NS_PER_S;
    while (now_ns() < end) {
        struct epoll_event ready[512];
        struct timespec wait = patience();
        int n = epoll_pwait2(poller, ready, 512, &wait, NULL);
        for (int i = 0; i < n; i++) {
            char ignored[256];
            Client *c = ready[i].data.ptr;
            if (ready[i].data.ptr == &listener) {
                welcome(listener);
            } else if (ready[i].data.ptr == &owner) {
                if (read(owner, ignored, sizeof ignored) <= 0) return 0;
            } else {
                if (ready[i].events & ~(uint32_t)EPOLLOUT) receive(c);
                advance(c);
                release(c);
            }
        }
        for (uint64_t now = now_ns(); first_due && first_due->due <= now;) {
            Client *c = first_due;
            stop_waiting(c);
            advance(c);
            release(c);
        }
    }
    return 0;
}
