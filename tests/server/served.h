/*
 * A server over a fake engine, in this process, and calls to it. For test programs that each
 * include it once: start() and stop() are a checked fixture.
 */
#ifndef OFTD_TESTS_SERVER_SERVED_H
#define OFTD_TESTS_SERVER_SERVED_H

#include <check.h>
#include <signal.h>
#include <time.h>

#include "server/http.h"
#include "server/server.h"
#include "tests/faults/fault.h"
#include "tests/server/client.h"
#include "tests/server/fake_engine.c"

static struct server server;
static struct http *http;
static int port;

static void start_with(int step_us, const struct http_options *options)
{
    struct error err = ERROR_INIT;
    signal(SIGPIPE, SIG_IGN);
    server = (struct server){.options = {.max_body_bytes = 1 << 20,
                                         .json_depth = 32,
                                         .retry_after_s = 1,
                                         .metrics_vllm = true},
                             .isa = "fake",
                             .device = "cpu"};
    server.engine = fake_engine_new(step_us);
    ck_assert_int_eq(auth_open(NULL, NULL, &server.auth, &err), ST_OK);
    ck_assert_msg(!http_start(options, &server, &http, &err), "%s", err.text);
    atomic_store(&server.http, http);
    port = atoi(strrchr(http_url(http), ':') + 1);
}

static const struct http_options usual = {.listen = "127.0.0.1:0",
                                          .threads = 2,
                                          .max_connections = 4096,
                                          .body_memory = 1 << 30,
                                          .header_timeout_s = 5,
                                          .idle_timeout_s = 5,
                                          .write_timeout_s = 2};

static void start(void)
{
    start_with(1000, &usual);
}

static void stop(void)
{
    engine_drain(server.engine, 0);
    http_stop(http, 2000);
    engine_free(server.engine);
    auth_close(server.auth);
    http = NULL;
}

static int live_tickets(void)
{
    struct fake_counts c;
    fake_engine_counts(server.engine, &c);
    return c.live;
}

/* Waits for a figure to become `want`. */
static void wait_for(int (*figure)(void), int want)
{
    for (int i = 0; i < 1000 && figure() != want; i++)
        usleep(10000);
    ck_assert_int_eq(figure(), want);
}

/* The number of the answer, which must hold this text. */
static int post(const char *path, const char *body, const char *holds)
{
    int status;
    char *reply = client_call(port, "POST", path, NULL, body, &status);
    ck_assert_msg(strstr(reply, holds) != NULL, "%s %s: %s", path, body, reply);
    free(reply);
    return status;
}

/* One request (bytes as they are, or method, path and body) while the n-th allocation fails, for
 * every n: it is answered or its connection cut, and the next one is served. */
static inline void fail_each(const char *bytes, const char *method, const char *path,
                             const char *body, long most)
{
    bool fired = true;
    for (long n = 1; n < most && fired; n++) {
        int status, fd = client_connect(port);
        fault_arm(n);
        if (bytes)
            send(fd, bytes, strlen(bytes), MSG_NOSIGNAL);
        else
            client_send(fd, method, path, NULL, body);
        char head[64] = "";
        ssize_t got = recv(fd, head, sizeof head - 1, 0);
        fired = fault_disarm();
        close(fd);
        ck_assert_msg(got <= 0 || !strncmp(head, "HTTP/1.1 ", 9), "%s", head);
        free(client_call(port, "GET", "/health", NULL, NULL, &status));
        ck_assert_int_eq(status, 200);
    }
}

#endif
