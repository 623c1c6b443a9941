/* A whole client in C: streams rounds from a file to qdec and prints the commits.
 *
 *   cc -O2 -o client client.c -lzmq
 *   ./client tcp://127.0.0.1:7600 patch0 rounds.bin [rounds per message [pause in us]]
 *
 * rounds.bin holds record_bytes per round (`qdec layout` prints what is where). Each line of output
 * is one window: window first_round count flags frame seam. It survives lost connections and killed
 * lanes; every window is printed once. It follows docs/protocol.md, to which the §s refer, and a
 * test compares it with the Python client. What a real client does otherwise: it forgets rounds
 * below retain_from, where this one keeps the whole file.
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { OPEN = 1, RESUME, ROUNDS, CLOSE, PING,
       OPENED = 64, REDIRECT, COMMIT, CREDIT, PAUSE, PROCEED, CLOSED, STATUS_REPLY, ERROR };
enum { STREAM_BUSY = 6, UNKNOWN_STREAM = 5, NOT_OPEN = 7, STALE_EPOCH = 8, GAP = 9, DUPLICATE = 10,
       NO_CREDIT = 11, DRAINING = 17 };
enum { LAST = 1 };

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_us(long us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

/* -- msgpack: as much of it as the protocol needs (§2) --------------------------------------- */

struct writer { uint8_t bytes[8192]; size_t n; };

static void put(struct writer *w, const void *data, size_t n) {
    if (n > sizeof w->bytes - w->n) die("a header of more than 8192 bytes");
    memcpy(w->bytes + w->n, data, n);
    w->n += n;
}

static void put_tag(struct writer *w, uint8_t tag, uint64_t value, int bytes) {
    put(w, &tag, 1);
    while (bytes--) put(w, &(uint8_t){(uint8_t)(value >> 8 * bytes)}, 1);
}

static void put_list(struct writer *w, int n) { put_tag(w, (uint8_t)(0x90 | n), 0, 0); }
static void put_map(struct writer *w, int n) { put_tag(w, (uint8_t)(0x80 | n), 0, 0); }
static void put_int(struct writer *w, uint64_t v) { put_tag(w, 0xcf, v, 8); }

static void put_str(struct writer *w, const char *s) {
    put_tag(w, 0xd9, strlen(s), 1);
    put(w, s, strlen(s));
}

static void put_bin(struct writer *w, const uint8_t *data, size_t n) {
    put_tag(w, 0xc5, n, 2);
    put(w, data, n);
}

struct reader { const uint8_t *p, *end; };
struct item { char kind; uint64_t n; const uint8_t *data; };  /* i, s, b, list l, map m, other o */

static uint64_t take(struct reader *r, int bytes) {
    uint64_t value = 0;
    if (r->end - r->p < bytes) die("a header ends early");
    while (bytes--) value = value << 8 | *r->p++;
    return value;
}

static struct item get(struct reader *r) {
    uint8_t tag = (uint8_t)take(r, 1);
    struct item x = {'o', 0, NULL};
    if (tag < 0x80) return (struct item){'i', tag, NULL};
    if (tag < 0x90) return (struct item){'m', tag & 15, NULL};
    if (tag < 0xa0) return (struct item){'l', tag & 15, NULL};
    if (tag < 0xc0) x = (struct item){'s', tag & 31, NULL};
    else if (tag >= 0xc4 && tag <= 0xc6) x = (struct item){'b', take(r, 1 << (tag - 0xc4)), NULL};
    else if (tag >= 0xd9 && tag <= 0xdb) x = (struct item){'s', take(r, 1 << (tag - 0xd9)), NULL};
    else if (tag >= 0xcc && tag <= 0xcf) return (struct item){'i', take(r, 1 << (tag - 0xcc)), NULL};
    else if (tag == 0xdc || tag == 0xdd) return (struct item){'l', take(r, 2 << (tag - 0xdc)), NULL};
    else if (tag == 0xde || tag == 0xdf) return (struct item){'m', take(r, 2 << (tag - 0xde)), NULL};
    else if (tag >= 0xd0 && tag <= 0xd3) take(r, 1 << (tag - 0xd0));
    else if (tag == 0xca || tag == 0xcb) take(r, 4 << (tag - 0xca));
    if (x.n > (uint64_t)(r->end - r->p)) die("a header ends early");
    x.data = r->p;
    r->p += x.n;
    return x;
}

static void skip(struct reader *r) {
    struct item x = get(r);
    uint64_t inside = x.kind == 'l' ? x.n : x.kind == 'm' ? 2 * x.n : 0;
    while (inside--) skip(r);
}

static uint64_t get_int(struct reader *r) {
    struct item x = get(r);
    if (x.kind != 'i') die("a field is not an integer");
    return x.n;
}

/* -- the stream ------------------------------------------------------------------------------- */

static void *context, *sock;
static const char *home, *name;
static char endpoint[256];
static const uint8_t *records;
static uint64_t total, per_message = 64;            /* rounds */
static uint64_t handle, epoch, seq, replay_from_seq, next_send, credit_until, next_window, committed;
static uint64_t record_bytes, shot_rounds, frame_bytes, seam_bytes, tail;
static uint8_t cursor[6144];
static size_t cursor_bytes;
static int64_t heard, patience_ns = 500000000;
static int pinged, opened_before;

static void hello(struct writer *w, int type, int fields) {
    w->n = 0;
    put_list(w, 2 + fields);
    put_int(w, 1);
    put_int(w, (uint64_t)type);
}

static void say(int type) {                         /* PING or CLOSE */
    struct writer w;
    hello(&w, type, 2);
    put_int(&w, handle);
    put_int(&w, epoch);
    zmq_send(sock, w.bytes, w.n, ZMQ_DONTWAIT);
}

static void new_socket(void) {                      /* §1: a fresh one for every attempt */
    static const int options[][2] = {{ZMQ_LINGER, 0}, {ZMQ_RCVHWM, 0}, {ZMQ_SNDHWM, 20000},
        {ZMQ_HEARTBEAT_IVL, 1000}, {ZMQ_HEARTBEAT_TIMEOUT, 5000}, {ZMQ_RECONNECT_IVL, 10},
        {ZMQ_RECONNECT_IVL_MAX, 100}};
    if (sock) zmq_close(sock);
    sock = zmq_socket(context, ZMQ_DEALER);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        zmq_setsockopt(sock, options[i][0], &options[i][1], sizeof(int));
    if (zmq_connect(sock, endpoint)) die("%s: %s", endpoint, zmq_strerror(zmq_errno()));
}

static void keep_cursor(struct item x) {
    if (x.kind != 'b' || x.n > sizeof cursor) die("no cursor");
    memcpy(cursor, x.data, x.n);
    cursor_bytes = x.n;
}

static void on_opened(struct reader *r) {           /* behind request (§4) */
    uint64_t window = 0;
    struct { const char *key; uint64_t *to; } wanted[] = {{"next_round", &next_send},
        {"next_window", &window}, {"credit_until", &credit_until}, {"record_bytes", &record_bytes},
        {"shot_rounds", &shot_rounds}, {"frame_bytes", &frame_bytes}, {"seam_bytes", &seam_bytes},
        {"tail_in_one_frame", &tail}};
    handle = get_int(r);
    epoch = get_int(r);
    for (uint64_t keys = get(r).n; keys--;) {
        struct item key = get(r);
        struct reader value = *r;
        skip(r);
        if (key.n == 6 && !memcmp(key.data, "cursor", 6)) keep_cursor(get(&value));
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (key.n == strlen(wanted[i].key) && !memcmp(key.data, wanted[i].key, key.n))
                *wanted[i].to = get_int(&value);
    }
    if (!opened_before) next_window = window, committed = next_send;
    opened_before = 1;
    replay_from_seq = seq;
    heard = now_ns();
    pinged = 0;
}

static void open_or_resume(void) {                  /* §8 */
    int64_t give_up = now_ns() + (opened_before ? 30000000000 : 5000000000);
    snprintf(endpoint, sizeof endpoint, "%s", home);
    for (uint64_t attempt = 1; now_ns() < give_up; attempt++) {
        struct writer w;
        zmq_msg_t message;
        zmq_pollitem_t item;
        new_socket();
        hello(&w, opened_before ? RESUME : OPEN, 2);
        put_int(&w, attempt);
        put_map(&w, opened_before ? 2 : 1);
        put_str(&w, "stream");
        put_str(&w, name);
        if (opened_before) put_str(&w, "cursor"), put_bin(&w, cursor, cursor_bytes);
        zmq_send(sock, w.bytes, w.n, 0);
        item = (zmq_pollitem_t){sock, 0, ZMQ_POLLIN, 0};
        if (zmq_poll(&item, 1, 2000 * (long)(attempt < 8 ? attempt : 8)) <= 0) continue;
        zmq_msg_init(&message);
        zmq_msg_recv(&message, sock, 0);
        struct reader r = {zmq_msg_data(&message), NULL};
        r.end = r.p + zmq_msg_size(&message);
        get(&r);
        if (get_int(&r) != 1) die("the lane speaks another version");
        uint64_t type = get_int(&r);
        if (type == OPENED && get_int(&r) == attempt) {
            on_opened(&r);
            zmq_msg_close(&message);
            return;
        }
        if (type == REDIRECT) {
            get(&r);
            struct item where = get(&r);
            snprintf(endpoint, sizeof endpoint, "%.*s", (int)where.n, (const char *)where.data);
        } else if (type == ERROR) {
            get(&r), get(&r), get(&r);
            uint64_t code = get_int(&r);
            struct item text = get(&r);
            if (!(opened_before && (code == DRAINING || code == STREAM_BUSY || code == UNKNOWN_STREAM)))
                die("refused with error %" PRIu64 ": %.*s", code, (int)text.n, (const char *)text.data);
            pause_us(20000);
        }
        zmq_msg_close(&message);
    }
    die("no lane at %s opened stream %s", home, name);
}

static void resume(const char *why) {
    fprintf(stderr, "client: resuming: %s\n", why);
    open_or_resume();
}

static int send_rounds(void) {                      /* one message, as credit allows (§7) */
    uint64_t end = next_send + per_message;
    int last = 0;
    if (end > credit_until) end = credit_until;
    if (end > total) end = total;
    if (!shot_rounds) {                             /* the file is one shot: its tail in one piece */
        uint64_t before_tail = total > tail ? total - tail : 0;
        last = end == total;
        if (end > before_tail && !last) end = before_tail;
        if (next_send > before_tail && next_send < total) die("asked for the inside of a tail");
        if (next_send == before_tail && credit_until >= total) end = total, last = 1;
    }
    if (end <= next_send) return 0;
    struct writer w;
    hello(&w, ROUNDS, 7);
    put_int(&w, handle);
    put_int(&w, epoch);
    put_int(&w, seq);
    put_int(&w, next_send);
    put_int(&w, end - next_send);
    put_int(&w, last ? LAST : 0);
    put_int(&w, (uint64_t)now_ns());
    if (zmq_send(sock, w.bytes, w.n, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) return 0;
    zmq_send(sock, records + next_send * record_bytes, (end - next_send) * record_bytes, 0);
    seq++;
    next_send = end;
    return 1;
}

static uint64_t little(const uint8_t *p, int bytes) {
    uint64_t value = 0;
    while (bytes--) value = value << 8 | p[bytes];
    return value;
}

static void print_hex(const uint8_t *p, uint64_t n) {
    putchar(' ');
    if (!n) putchar('-');
    while (n--) printf("%02x", *p++);
}

static int on_commit(struct reader *r, const uint8_t *body, size_t size) {
    uint64_t n = get_int(r), credit = get_int(r);
    size_t stride = (size_t)(48 + frame_bytes + seam_bytes + 7) / 8 * 8;
    get(r);                                         /* retain_from: we keep everything */
    if (!n || size != n * stride) die("a commit of %zu bytes", size);
    if (little(body, 8) > next_window) return 0;    /* some were lost on the way: resume */
    keep_cursor(get(r));
    if (credit > credit_until) credit_until = credit;
    patience_ns = 500000000;
    for (; n--; body += stride) {
        if (little(body, 8) != next_window) continue;   /* again, after a resume (§8) */
        next_window++;
        committed = little(body + 8, 8) + little(body + 28, 4);
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, little(body, 8), little(body + 8, 8),
               little(body + 28, 4), little(body + 36, 2));
        print_hex(body + 48, frame_bytes);
        print_hex(body + 48 + frame_bytes, seam_bytes);
        putchar('\n');
    }
    return 1;
}

static void on_message(const uint8_t *header, size_t size, const uint8_t *body, size_t body_size) {
    struct reader r = {header, header + size};
    get(&r);
    if (get_int(&r) != 1) die("the lane speaks another version");
    uint64_t type = get_int(&r);
    if (type < COMMIT || type == STATUS_REPLY) return;
    uint64_t its_handle = get_int(&r), its_epoch = get_int(&r);
    if (type == ERROR) {
        uint64_t reference = get_int(&r), code = get_int(&r);
        struct item text = get(&r);
        uint64_t detail = get_int(&r);
        if (its_epoch && its_epoch != epoch) return;
        if (code == NOT_OPEN || code == STALE_EPOCH) {
            resume("not open any more");
        } else if (code == GAP || code == DUPLICATE || code == NO_CREDIT) {
            if (reference < replay_from_seq) return;    /* was under way when we went back (§7) */
            replay_from_seq = seq;
            next_send = detail;
        } else {
            die("refused with error %" PRIu64 ": %.*s", code, (int)text.n, (const char *)text.data);
        }
        return;
    }
    if (its_handle != handle || its_epoch != epoch) return;
    if (type == COMMIT && !on_commit(&r, body, body_size)) resume("commits were lost");
    if (type == CREDIT) {
        uint64_t credit = get_int(&r);
        get(&r);
        if (credit > credit_until) credit_until = credit;
        if (get_int(&r) > next_window) resume("commits were lost");
    }
    if (type == PAUSE) {
        static const char *why[] = {"?", "the lane drains", "overload", "degraded"};
        uint64_t reason = get_int(&r);  /* a newer service may have more of them */
        fprintf(stderr, "client: asked to pause: %s (%" PRIu64 ")\n", why[reason < 4 ? reason : 0],
                reason);
    }
    if (type == PROCEED) fprintf(stderr, "client: may proceed\n");
    if (type == CLOSED) resume("the lane closed the stream");
}

static void receive(long wait_ms) {
    zmq_pollitem_t item = {sock, 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, wait_ms);
    for (void *on = sock; on == sock;) {            /* a resume leaves the rest of the old socket */
        zmq_msg_t parts[2];
        int n = 0, more = 1;
        zmq_msg_init(&parts[0]);
        zmq_msg_init(&parts[1]);
        for (; more && n < 2; n++) {
            if (zmq_msg_recv(&parts[n], sock, n ? 0 : ZMQ_DONTWAIT) < 0) break;
            more = zmq_msg_more(&parts[n]);
        }
        if (!n) return;
        heard = now_ns();
        pinged = 0;
        on_message(zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), zmq_msg_data(&parts[1]),
                   zmq_msg_size(&parts[1]));
        zmq_msg_close(&parts[0]);
        zmq_msg_close(&parts[1]);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) die("usage: client ENDPOINT STREAM FILE [rounds per message [pause in us]]");
    setvbuf(stdout, NULL, _IOLBF, 0);
    home = argv[1], name = argv[2];
    if (argc > 4) per_message = strtoull(argv[4], NULL, 10);
    long idle_us = argc > 5 ? atol(argv[5]) : 0;
    FILE *file = fopen(argv[3], "rb");
    if (!file || fseek(file, 0, SEEK_END)) die("cannot read %s", argv[3]);
    size_t size = (size_t)ftell(file);
    uint8_t *bytes = malloc(size ? size : 1);
    rewind(file);
    if (!bytes || fread(bytes, 1, size, file) != size) die("cannot read %s", argv[3]);
    fclose(file);
    records = bytes;

    context = zmq_ctx_new();
    open_or_resume();
    if (!per_message || size % record_bytes)
        die("%zu bytes are not rounds of %" PRIu64, size, record_bytes);
    total = size / record_bytes;
    if (shot_rounds && total % shot_rounds) die("the last shot is not whole");
    while (committed < total) {
        int sent = send_rounds();
        if (sent && idle_us) pause_us(idle_us);
        receive(sent ? 0 : 50);
        int64_t quiet = now_ns() - heard;
        if (quiet > 100000000 && !pinged) say(PING), pinged = 1;
        if (quiet > patience_ns) {
            if (patience_ns < 32000000000) patience_ns *= 2;
            resume("silence");
        }
    }
    say(CLOSE);
    zmq_pollitem_t item = {sock, 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, 1000);                       /* CLOSED */
    zmq_close(sock);
    zmq_ctx_term(context);
    free(bytes);
    return 0;
}
