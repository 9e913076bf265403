/*
 * The life of a request here:
 *
 *   begun      head received: routes_begin gives the body limit, or answers already (404, 401, 413)
 *   receiving  the body is collected; of a request that is answered already it is thrown away, so
 *              that the client, who may not read before it has sent all, gets to see the answer
 *   running    routes_run, or the step of a ticket: answers, or asks to wait. All steps of a
 *              request with a large body run on a reader (bodies.h), and its memory is freed there
 *   suspended  libmicrohttpd has forgotten the socket; a wake-up, the reader or the watcher brings
 *              it back
 *   replying   a whole body, or parts from reply.produce, which may suspend again
 *   done       routes_done, everything freed
 *
 * An exchange has one reference of the library and one of each armed wake-up, reader or watcher
 * call, so a late one finds memory, not a hole. Only the wake-up of its ticket or the reader
 * resumes a connection, and one of them comes once for each suspension: the library never sees a
 * connection resumed twice, or one resumed that it has freed. The watcher only cancels; a cancelled
 * ticket ends, and a reader does, hence every suspended connection comes back, also at the end.
 *
 * A request that is no HTTP, or whose head is too large, is refused by the library before anybody
 * here is asked, with a page of HTML, and it has no option for that. But it queues these replies
 * with its own public function, and the dynamic linker gives a program's definition of it
 * precedence: MHD_queue_response below is called by the library alone and puts our words in. (Were
 * libmicrohttpd linked so that it calls itself directly, its HTML would be back, nothing worse.)
 */
#include "server/http.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <microhttpd.h>

#include "server/bodies.h"
#include "server/listen.h"
#include "server/refusal.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/watch.h"

#define HEAD_MEMORY (32 * 1024)        /* head of a request, and the write buffer of a reply */
#define LARGE_BODY  (64 * 1024)        /* from here on a reader works on it */
#define DISCARD_MAX (64 * 1024 * 1024) /* of a body that nobody wants, beyond its limit */
#define LISTENERS   2

struct listener {
    struct http *http;
    struct MHD_Daemon *daemon;
    struct listen_socket socket;
    bool passed; /* somebody else holds the socket, too */
    struct listener_role role;
};

struct http {
    struct http_options options;
    struct server *server;
    struct watch *watch;
    struct bodies *bodies;
    struct listener listeners[LISTENERS];
    size_t n_listeners;
    char *cert, *key;
    struct MHD_Response *no_memory; /* the answer when there is no memory for one */
    atomic_llong connections, requests, suspended;
};

struct exchange {
    struct request q; /* first: a request is its exchange */
    struct listener *listener;
    struct MHD_Connection *connection;
    struct watched *watched;
    atomic_int refs;
    bool complete; /* the whole body is here */
    bool large;    /* readers do the steps */
    bool stepped;  /* a reader has done one */
    struct body_work work;
    size_t body_limit;
    uint64_t announced; /* bytes of the body, or UINT64_MAX: it comes in chunks */
    uint64_t received, discarded;
    struct body in;
    struct buffer out;
    size_t sent; /* of out */
    enum produce produced;
};

static struct exchange *exchange_of(struct request *q)
{
    return (struct exchange *)q;
}

static void exchange_free(void *arg)
{
    struct exchange *x = arg;
    struct request *q = &x->q;
    if (q->state_free)
        q->state_free(q->state);
    ticket_free(q->ticket);
    json_decref(q->json);
    free(q->reply.body);
    arena_free(&q->arena);
    buffer_free(&x->out);
    body_free(x->listener->http->bodies, &x->in);
    free(x);
}

static void exchange_unref(struct exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    if (!x->large) {
        exchange_free(x);
        return;
    }
    x->work = (struct body_work){.run = exchange_free, .arg = x};
    bodies_queue(x->listener->http->bodies, &x->work);
}

/* ---- suspending and waking ---- */

/* ticket_wake, and the end of a reader's step: on any thread. A suspended connection cannot
 * complete, so the library's reference is still there when this one goes: no engine thread ever
 * frees an exchange. */
static void wake(void *arg)
{
    struct exchange *x = arg;
    struct http *h = x->listener->http;
    struct MHD_Connection *connection = x->connection;
    exchange_unref(x);
    MHD_resume_connection(connection);
    atomic_fetch_sub(&h->suspended, 1);
}

static void suspend(struct exchange *x, enum ticket_until until)
{
    struct http *h = x->listener->http;
    atomic_fetch_add(&x->refs, 1);
    atomic_fetch_add(&h->suspended, 1);
    MHD_suspend_connection(x->connection);
    watch_arm(h->watch, x->watched, x);
    if (!ticket_wait(x->q.ticket, until, wake, x))
        wake(x);
}

static void hold(void *arg)
{
    atomic_fetch_add(&((struct exchange *)arg)->refs, 1);
}

static void hangup(void *arg)
{
    struct exchange *x = arg;
    ticket_cancel(x->q.ticket);
    exchange_unref(x);
}

void request_wait(struct request *q, struct ticket *ticket, enum ticket_until until,
                  request_step *then)
{
    if (ticket)
        q->ticket = ticket;
    q->until = until;
    q->then = then;
}

/* ---- what handlers may ask ---- */

const char *request_header(struct request *q, const char *name)
{
    return MHD_lookup_connection_value(exchange_of(q)->connection, MHD_HEADER_KIND, name);
}

struct query_search {
    const char *name, *value;
};

static enum MHD_Result find_query(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    struct query_search *s = cls;
    (void)kind;
    if (strcmp(key, s->name))
        return MHD_YES;
    s->value = value ? value : "";
    return MHD_NO;
}

const char *request_query(struct request *q, const char *name)
{
    struct query_search s = {.name = name};
    MHD_get_connection_values(exchange_of(q)->connection, MHD_GET_ARGUMENT_KIND, find_query, &s);
    return s.value;
}

/* ---- replies ---- */

static ssize_t read_reply(void *cls, uint64_t pos, char *to, size_t max)
{
    struct exchange *x = cls;
    (void)pos;
    while (x->sent == x->out.len) {
        buffer_clear(&x->out);
        x->sent = 0;
        if (x->produced == PRODUCE_END)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (x->produced == PRODUCE_ABORT)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        x->produced = x->q.reply.produce(&x->q, &x->out);
        if (x->out.failed)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (x->produced == PRODUCE_WAIT && !x->out.len) {
            suspend(x, TICKET_EVENT);
            return 0;
        }
    }
    size_t n = x->out.len - x->sent < max ? x->out.len - x->sent : max;
    memcpy(to, x->out.v + x->sent, n);
    x->sent += n;
    x->q.reply_bytes += n;
    return (ssize_t)n;
}

typedef enum MHD_Result queue_function(struct MHD_Connection *connection, unsigned status,
                                       struct MHD_Response *response);
static queue_function *library_queue_response; /* set once, before any listener starts */

static struct MHD_Response *make_refusal(unsigned status)
{
    struct buffer b = {0};
    refusal_body(status, &b);
    struct MHD_Response *response =
        b.failed ? NULL : MHD_create_response_from_buffer(b.len, b.v, MHD_RESPMEM_MUST_COPY);
    buffer_free(&b);
    if (!response || MHD_add_response_header(response, "Content-Type", TYPE_JSON) == MHD_YES)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

/* Called by the library alone, for what it refuses by itself. Where a whole head has been read,
 * 0.9.75 sends the head of this response twice, and it must not be told to close there: so our
 * answer goes out first, and its own finds the way out shut. TLS only the library can speak. While
 * it stops, it takes no response and says yes: it would then write the head of none. */
enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned status,
                                   struct MHD_Response *response)
{
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    bool tls = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) != NULL;
    struct MHD_Response *ours = tls ? make_refusal(status) : NULL;
    if (!tls && fd)
        refusal_send(fd->connect_fd, status, MHD_get_reason_phrase_for(status));
    enum MHD_Result ok = library_queue_response(connection, status, ours ? ours : response);
    if (ours)
        MHD_destroy_response(ours);
    bool taken = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS) != NULL;
    return taken ? ok : MHD_NO;
}

static struct MHD_Response *make_response(struct exchange *x)
{
    struct reply *r = &x->q.reply;
    if (r->produce)
        return MHD_create_response_from_callback(r->produced ? r->produced : MHD_SIZE_UNKNOWN,
                                                 HEAD_MEMORY, read_reply, x, NULL);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(r->len, r->body, MHD_RESPMEM_MUST_FREE);
    if (response)
        r->body = NULL;
    x->q.reply_bytes = r->len;
    return response;
}

static enum MHD_Result send_no_memory(const struct http *h, struct MHD_Connection *connection)
{
    return library_queue_response(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, h->no_memory);
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct http *h = x->listener->http;
    struct reply *r = &x->q.reply;
    struct MHD_Response *response = make_response(x);
    if (!response)
        return send_no_memory(h, x->connection);
    bool whole = true;
    if (r->type)
        whole = MHD_add_response_header(response, "Content-Type", r->type) == MHD_YES;
    for (const struct reply_header *f = r->headers; f && whole; f = f->next) {
        const char *value = f->value[0] ? f->value : " "; /* an empty one is refused */
        whole = MHD_add_response_header(response, f->name, value) == MHD_YES;
    }
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                              (unsigned)h->options.write_timeout_s);
    enum MHD_Result ok = whole
                             ? library_queue_response(x->connection, (unsigned)r->status, response)
                             : send_no_memory(h, x->connection);
    MHD_destroy_response(response);
    return ok;
}

/* After a step: it has answered, or asked to wait. */
static enum MHD_Result go_on(struct exchange *x)
{
    if (x->q.reply.status)
        return send_reply(x);
    if (!x->q.then || !x->q.ticket)
        return send_no_memory(x->listener->http, x->connection);
    suspend(x, x->q.until);
    return MHD_YES;
}

/* ---- receiving ---- */

static bool expects_continue(struct exchange *x)
{
    const char *expect = request_header(&x->q, "Expect");
    return expect && !strcasecmp(expect, "100-continue");
}

/* false: the body cannot be taken any more, cut the connection. */
static bool take_body(struct exchange *x, const char *data, size_t n)
{
    struct bodies *bodies = x->listener->http->bodies;
    struct error err = ERROR_INIT;
    if (!x->q.reply.status && n > x->body_limit - x->in.text.len)
        routes_too_large(&x->q, x->body_limit);
    if (!x->q.reply.status) {
        if (!body_add(bodies, &x->in, data, n, &err))
            return true;
        reply_error(&x->q, &err);
    }
    body_free(bodies, &x->in);
    x->discarded += n;
    return x->discarded <= x->body_limit + DISCARD_MAX;
}

/* 0.9.75 takes a short read for all that will come: the end of the stream, when it came with the
 * last bytes, it would only notice at the time-out. Shutting down what has ended changes nothing
 * but that epoll reports the socket once more. */
static void notice_end(const struct exchange *x)
{
    char c;
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (x->received < x->announced && fd &&
        recv(fd->connect_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        shutdown(fd->connect_fd, SHUT_RD);
}

static enum MHD_Result count_length(void *cls, enum MHD_ValueKind kind, const char *key,
                                    const char *value)
{
    int *n = cls;
    (void)kind;
    (void)value;
    *n += !strcasecmp(key, "Content-Length");
    return MHD_YES;
}

/* Where does the body end? When there are two answers, someone before us may have taken the other
 * one, and the rest of the body would be a request of its own. */
static bool framed(struct exchange *x)
{
    const char *encoding = request_header(&x->q, "Transfer-Encoding");
    int lengths = 0;
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, count_length, &lengths);
    if (encoding && strcasecmp(encoding, "chunked"))
        reply_failure(&x->q, ST_NOT_SUPPORTED, NULL, "Transfer-Encoding: only chunked is read");
    else if (lengths + (encoding != NULL) > 1)
        reply_failure(&x->q, ST_MALFORMED_REQUEST, NULL, "the length of the body is given twice");
    else
        return true;
    return false;
}

static enum MHD_Result begin(struct listener *l, struct MHD_Connection *connection, const char *url,
                             const char *method, void **own)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return send_no_memory(l->http, connection);
    *own = x;
    atomic_init(&x->refs, 1);
    x->listener = l;
    x->connection = connection;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    x->watched = info ? info->socket_context : NULL;
    watch_deadline(l->http->watch, x->watched, 0);
    atomic_fetch_add(&l->http->requests, 1);
    struct request *q = &x->q;
    q->server = l->http->server;
    q->role = l->role;
    q->method = method;
    q->path = url;
    x->body_limit = routes_begin(q);
    const char *announced = request_header(q, "Content-Length");
    uint64_t length = announced ? strtoull(announced, NULL, 10) : 0;
    x->announced = announced ? length : UINT64_MAX;
    if (!framed(x))
        return send_reply(x);
    if (!q->reply.status && length > x->body_limit)
        routes_too_large(q, x->body_limit);
    /* A client that waits for "100 Continue" reads the answer before it sends a body. */
    if (q->reply.status && (expects_continue(x) || length > x->body_limit + DISCARD_MAX))
        return send_reply(x);
    return MHD_YES;
}

/* The first step. The text is not needed any more when it has been parsed. */
static void run(struct exchange *x)
{
    struct bodies *bodies = x->listener->http->bodies;
    struct error err = ERROR_INIT;
    x->complete = true;
    if (body_take_parsed(bodies, &x->in, x->q.json_len, &err)) {
        reply_error(&x->q, &err);
    } else {
        x->q.body = x->in.text.v;
        x->q.body_len = x->in.text.len;
        routes_run(&x->q);
        x->q.body = NULL;
    }
    body_drop_text(bodies, &x->in);
}

static void step(struct exchange *x)
{
    request_step *then = x->q.then;
    x->q.then = NULL;
    if (x->complete)
        then(&x->q);
    else
        run(x);
}

/* body_work: a step on a reader. */
static void read_step(void *arg)
{
    struct exchange *x = arg;
    step(x);
    wake(x);
}

static void hand_to_reader(struct exchange *x)
{
    struct http *h = x->listener->http;
    x->stepped = true;
    x->work = (struct body_work){.run = read_step, .arg = x};
    atomic_fetch_add(&x->refs, 1);
    atomic_fetch_add(&h->suspended, 1);
    MHD_suspend_connection(x->connection);
    bodies_queue(h->bodies, &x->work);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **own)
{
    struct exchange *x = *own;
    (void)version;
    if (!x)
        return begin(cls, connection, url, method, own);
    if (*data_size) {
        bool taken = take_body(x, data, *data_size);
        x->received += *data_size;
        *data_size = 0;
        notice_end(x);
        return taken ? MHD_YES : MHD_NO;
    }
    if (x->q.reply.status)
        return send_reply(x);
    if (!x->complete)
        x->large = x->in.text.len >= LARGE_BODY;
    if (x->large && !x->stepped) {
        hand_to_reader(x);
        return MHD_YES;
    }
    if (!x->stepped)
        step(x);
    x->stepped = false;
    return go_on(x);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **own,
                         enum MHD_RequestTerminationCode why)
{
    struct listener *l = cls;
    struct http *h = l->http;
    struct exchange *x = *own;
    if (!x)
        return;
    *own = NULL;
    watch_disarm(h->watch, x->watched);
    x->q.hung_up = why != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (x->q.hung_up && x->q.ticket)
        ticket_cancel(x->q.ticket);
    routes_done(&x->q);
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK) { /* the next request may follow */
        MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                  (unsigned)h->options.idle_timeout_s);
        watch_deadline(h->watch, x->watched,
                       h->options.idle_timeout_s + h->options.header_timeout_s);
    }
    exchange_unref(x);
    atomic_fetch_sub(&h->requests, 1);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct listener *l = cls;
    struct http *h = l->http;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = info ? watch_add(h->watch, info->connect_fd) : NULL;
        watch_deadline(h->watch, *context, h->options.header_timeout_s);
        atomic_fetch_add(&h->connections, 1);
    } else {
        watch_remove(h->watch, *context);
        *context = NULL;
        atomic_fetch_sub(&h->connections, 1);
    }
}

/* In place; %00 stays as it is: a name never holds a NUL, so it leads to a 404, not to a shorter
 * name. */
static size_t unescape(void *cls, struct MHD_Connection *connection, char *s)
{
    static const char hex[] = "0123456789abcdef0123456789ABCDEF";
    (void)cls;
    (void)connection;
    char *to = s;
    for (const char *from = s; *from; from++) {
        const char *a = *from == '%' && from[1] ? strchr(hex, from[1]) : NULL;
        const char *b = a && from[2] ? strchr(hex, from[2]) : NULL;
        int c = b ? (int)((a - hex) % 16 * 16 + (b - hex) % 16) : 0;
        *to++ = c ? (char)c : *from;
        from += c ? 2 : 0;
    }
    *to = 0;
    return (size_t)(to - s);
}

/* ---- starting and stopping ---- */

/* fd: a socket that listens, or 0: on the address. */
static enum status start_listener(struct http *h, struct listener *l, const char *address, int fd,
                                  struct error *err)
{
    const struct http_options *o = &h->options;
    l->http = h;
    enum status s = fd ? listen_passed(fd, h->cert != NULL, &l->socket, err)
                       : listen_open(address, h->cert != NULL, &l->socket, err);
    if (s)
        return s;
    bool tls = h->cert && !l->socket.local;
    l->passed = fd != 0;
    l->role.loopback = l->socket.loopback;
    l->role.local_socket = l->socket.local;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_LISTEN_SOCKET, l->socket.fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, o->max_connections, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, o->idle_timeout_s, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_MEMORY, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, l},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, l},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)unescape, NULL},
        {o->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, o->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
        {MHD_OPTION_END, 0, NULL},
        {MHD_OPTION_END, 0, NULL}};
    if (tls) {
        size_t at = o->threads > 1 ? 8 : 7;
        items[at] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert};
        items[at + 1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, h->key};
        flags |= MHD_USE_TLS;
    }
    l->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, l, MHD_OPTION_ARRAY, items,
                                 MHD_OPTION_END);
    if (!l->daemon) {
        s = error_set(err, ST_IO_ERROR, "cannot serve on %s%s", l->socket.url,
                      tls ? ": are certificate and key a pair of PEM files?" : "");
        listen_close(&l->socket);
        return s;
    }
    l->socket.fd = -1; /* the library closes it */
    return ST_OK;
}

enum status http_start(const struct http_options *options, struct server *server, struct http **out,
                       struct error *err)
{
    const struct watch_calls calls = {.hold = hold, .hangup = hangup};
    enum status s = ST_OK;
    *out = NULL;
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return error_memory(err, "starting the HTTP server");
    h->options = *options;
    h->server = server;
    for (size_t i = 0; i < LISTENERS; i++)
        h->listeners[i].socket.fd = -1;
    if (!options->tls_cert != !options->tls_key)
        s = error_set(err, ST_INVALID_VALUE, "--tls-cert and --tls-key belong together");
    if (!s && options->tls_cert)
        s = listen_pem(options->tls_cert, &h->cert, err);
    if (!s && options->tls_key)
        s = listen_pem(options->tls_key, &h->key, err);
    /* before any listener: its requests are answered through it */
    *(void **)&library_queue_response = dlsym(RTLD_NEXT, "MHD_queue_response");
    if (!s && !library_queue_response)
        s = error_set(err, ST_INTERNAL, "libmicrohttpd is not a shared library");
    if (!s) {
        h->no_memory = make_refusal(MHD_HTTP_INTERNAL_SERVER_ERROR);
        if (!h->no_memory)
            s = error_memory(err, "starting the HTTP server");
    }
    if (!s)
        s = bodies_open(options->body_memory, options->threads, &h->bodies, err);
    if (!s)
        s = watch_open(&calls, &h->watch, err);
    const char *addresses[LISTENERS] = {options->listen, options->admin_listen};
    const int fds[LISTENERS] = {options->listen_fd, options->admin_fd};
    bool admin = options->admin_listen || options->admin_fd;
    for (size_t i = 0; i < 1 + (size_t)admin && !s; i++) {
        struct listener *l = &h->listeners[h->n_listeners++];
        l->role.admin = i == 1;
        l->role.has_admin = i == 0 && admin;
        s = start_listener(h, l, addresses[i], fds[i], err);
    }
    if (s) {
        http_stop(h, 0);
        return s;
    }
    *out = h;
    return ST_OK;
}

const char *http_url(const struct http *h)
{
    return h->listeners[0].socket.url;
}

const char *http_admin_url(const struct http *h)
{
    return h->n_listeners > 1 ? h->listeners[1].socket.url : NULL;
}

bool http_loopback(const struct http *h)
{
    return h->listeners[0].role.loopback;
}

static void nap_ms(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* When it stops, the library shuts down the socket that it listens on, for whoever else holds it,
 * too; this takes the socket away from it, once. */
static void quiesce(struct listener *l)
{
    if (l->daemon && l->socket.fd < 0)
        l->socket.fd = MHD_quiesce_daemon(l->daemon);
}

void http_quiesce(struct http *h)
{
    for (size_t i = 0; i < h->n_listeners; i++)
        if (h->listeners[i].passed)
            quiesce(&h->listeners[i]);
}

void http_hand_over(struct http *h, int *listen_fd, int *admin_fd)
{
    int *out[LISTENERS] = {listen_fd, admin_fd};
    *listen_fd = *admin_fd = 0;
    for (size_t i = 0; i < LISTENERS && i < h->n_listeners; i++) {
        struct listener *l = &h->listeners[i];
        quiesce(l);
        if (l->socket.fd >= 0)
            *out[i] = l->socket.fd;
        l->passed = false; // it is not ours to close any more
        l->socket.fd = -1;
        l->socket.path[0] = 0;
    }
}

static void stop_listener(struct listener *l)
{
    if (l->passed)
        quiesce(l);
    if (l->daemon)
        MHD_stop_daemon(l->daemon);
    listen_close(&l->socket);
}

void http_stop(struct http *h, int grace_ms)
{
    if (!h)
        return;
    for (; grace_ms > 0 && atomic_load(&h->requests) > 0; grace_ms -= 10)
        nap_ms(10);
    /* libmicrohttpd must not stop over a suspended connection. Each has a reader or a ticket, and
     * these end: this loop does, too. */
    while (atomic_load(&h->suspended) > 0)
        nap_ms(5);
    for (size_t i = 0; i < h->n_listeners; i++)
        stop_listener(&h->listeners[i]);
    watch_close(h->watch);
    bodies_close(h->bodies);
    if (h->no_memory)
        MHD_destroy_response(h->no_memory);
    free(h->cert);
    free(h->key);
    free(h);
}

void http_stats(const struct http *h, struct http_stats *out)
{
    out->connections = atomic_load(&h->connections);
    out->requests = atomic_load(&h->requests);
    out->suspended = atomic_load(&h->suspended);
    out->body_bytes = bodies_taken(h->bodies);
}
