/*
 * What comes in: limits of bodies, bodies that are large, bodies that are too many, and what is no
 * request at all.
 */
#include "server/http.h"

#include "tests/check_main.h"
#include "tests/server/served.h"

START_TEST(test_body_limits)
{
    int status;
    size_t n = (1 << 20) + 10;
    char *body = malloc(n + 1);
    memset(body, ' ', n);
    body[n] = 0;
    char *reply = client_call(port, "POST", "/v1/completions", NULL, body, &status);
    ck_assert_int_eq(status, 413);
    ck_assert_ptr_nonnull(strstr(reply, "body_too_large"));
    free(reply);
    reply = client_call(port, "POST", "/nothing", NULL, body, &status);
    ck_assert_int_eq(status, 404);
    free(reply);
    reply = client_call(port, "GET", "/health", NULL, body, &status);
    ck_assert_int_eq(status, 413);
    free(reply);
    free(body);
    reply = client_call(port, "GET", "/health", "X-Request-Id: a b\r\n", NULL, &status);
    ck_assert_ptr_nonnull(strstr(reply, "X-Request-Id: req-"));
    free(reply);
}
END_TEST

/* What is no request has an error body, too, and only one. */
START_TEST(test_refused_by_the_library)
{
    char many[40000] = "", arguments[40000] = "", cookies[40000] = "", large[40000] = "";
    for (size_t i = 0; i < 1500; i++) {
        strcat(many, "X: a\r\n");
        strcat(arguments, "a=1&");
        strcat(cookies, "a=1;");
    }
    memset(large, 'a', sizeof large - 1);
    const struct {
        const char *line, *headers, *body;
        const char *status, *code;
    } cases[] = {
        {"GET / HTTP/9.9", "", "", "505", "not_supported"},
        {"GET / FOO", "", "", "400", "malformed_request"},
        {"GET / HTTP/1.1", "no colon\r\n", "", "400", "malformed_request"},
        {"GET / HTTP/1.1", "A: b\r\nno colon\r\n", "", "400", "malformed_request"},
        {"GET / HTTP/1.1", many, "", "431", "headers_too_large"},
        {"GET / HTTP/1.1", large, "", "431", "headers_too_large"},
        {"GET /?", arguments, "", "431", "headers_too_large"},
        {"GET / HTTP/1.1\r\nCookie: ", cookies, "", "431", "headers_too_large"},
        {large, "", "", "414", "headers_too_large"},
        {"POST /tokenize HTTP/1.1", "Content-Length: -1\r\n", "", "400", "malformed_request"},
        {"POST /tokenize HTTP/1.1", "Content-Length: 99999999999999999999\r\n", "", "413",
         "body_too_large"},
        {"POST /tokenize HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}", "400",
         "malformed_request"},
        {"POST /tokenize HTTP/1.1", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "{}",
         "400", "malformed_request"},
        {"POST /tokenize HTTP/1.1", "Transfer-Encoding: gzip\r\n", "", "501", "not_supported"},
        {"POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked\r\n", "zz\r\n", "400",
         "malformed_request"},
        {"POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked\r\n", "2\r\n{}x\r\n", "400",
         "malformed_request"},
        {"POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n",
         "413", "body_too_large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char code[64], *text = NULL;
        int fd = client_connect(port);
        const char *host = i == 6 ? " HTTP/1.1\r\nHost: localhost" : "Host: localhost";
        const char *after = i == 6 ? "" : "\r\n";
        ck_assert_int_gt(asprintf(&text, "%s%s%s%s%s\r\n\r\n%s", cases[i].line, i == 7 ? "" : after,
                                  cases[i].headers, i == 7 ? "\r\n" : "", host, cases[i].body),
                         0);
        send(fd, text, strlen(text), MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
        char *reply = client_read(fd), *body = strstr(reply, "\r\n\r\n");
        snprintf(code, sizeof code, "\"code\":\"%s\"}}", cases[i].code);
        ck_assert_msg(!strncmp(reply, "HTTP/1.1 ", 9) && !strncmp(reply + 9, cases[i].status, 3),
                      "%zu: %s", i, reply);
        ck_assert_ptr_nonnull(strstr(reply, "\r\nContent-Type: application/json\r\n"));
        ck_assert_msg(body && !strncmp(body + 4, "{\"error\":{", 10), "%zu: %s", i, reply);
        ck_assert_msg(!strcmp(reply + strlen(reply) - strlen(code), code), "%zu: %s", i, reply);
        free(reply);
        free(text);
        close(fd);
    }
    int status;
    free(client_call(port, "GET", "/health", NULL, NULL, &status));
    ck_assert_int_eq(status, 200);
}
END_TEST

/* A raw pass over one text of n bytes. */
static char *text_body(size_t n)
{
    char *body = malloc(n + 64), *at = body + sprintf(body, "{\"text\":[\"");
    memset(at, 'a', n);
    strcpy(at + n, "\"],\"outputs\":[\"embedding\"]}");
    return body;
}

/* {"input_ids":[[1,1,...]]} of about n bytes */
static char *ids_body(size_t n)
{
    char *body = malloc(n + 64), *at = body + sprintf(body, "{\"input_ids\":[[1");
    while (at < body + n)
        at += sprintf(at, ",1");
    strcpy(at, "]],\"outputs\":[\"embedding\"]}");
    return body;
}

static pthread_t submitter_of(const char *body)
{
    int status;
    char *reply = client_call(port, "POST", "/v1/forward", NULL, body, &status);
    ck_assert_msg(status == 200, "%s", reply);
    free(reply);
    return fake_engine_submitter(server.engine);
}

static int body_bytes(void)
{
    struct http_stats stats;
    http_stats(http, &stats);
    return (int)stats.body_bytes;
}

/* One HTTP thread takes the small ones, a reader the large ones; all memory comes back. */
START_TEST(test_large_bodies_have_readers)
{
    struct http_options one = usual;
    one.threads = 1;
    start_with(1000, &one);
    char *small = text_body(1000), *large = text_body(100000);
    pthread_t a = submitter_of(small), b = submitter_of(large), c = submitter_of(small);
    ck_assert(pthread_equal(a, c));
    ck_assert(!pthread_equal(a, b));
    ck_assert_int_eq(post("/v1/forward", large + 1, "invalid_json"), 400);
    free(small);
    free(large);
    wait_for(body_bytes, 0);
    stop();
}
END_TEST

START_TEST(test_bodies_have_a_budget)
{
    struct http_options tight = usual;
    tight.body_memory = 5 << 19;
    start_with(1000, &tight);
    char *large = ids_body(100000), *half = text_body(900000);
    int waiting = client_connect(port), status;
    /* 0.1 MB of ids take up to 4 MB when they are read */
    ck_assert_int_eq(post("/v1/forward", large, "body_too_large"), 413);
    char head[200];
    snprintf(head, sizeof head,
             "POST /v1/forward HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048000\r\n\r\n");
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = i ? client_connect(port) : waiting;
        send(fds[i], head, strlen(head), MSG_NOSIGNAL);
        if (i < 2)
            send(fds[i], half, strlen(half), MSG_NOSIGNAL);
    }
    wait_for(body_bytes, 2 << 20);
    char *reply = client_call(port, "POST", "/v1/forward", NULL, half, &status);
    ck_assert_int_eq(status, 429);
    ck_assert_ptr_nonnull(strstr(reply, "\"code\":\"overloaded\""));
    ck_assert_ptr_nonnull(strstr(reply, "Retry-After: 1"));
    free(reply);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    wait_for(body_bytes, 0);
    char *small = text_body(10000);
    ck_assert_int_eq(post("/v1/forward", small, "\"rows\""), 200);
    free(small);
    free(large);
    free(half);
    stop();
}
END_TEST

/* ---- failure ---- */

/* The same for a large body and for what is no request. */
START_TEST(test_memory_of_bodies)
{
    static const char *const raw[] = {"GET / FOO\r\n\r\n", NULL};
    char *large = text_body(100000);
    for (size_t k = 0; k < 2; k++)
        fail_each(raw[k], "POST", "/v1/forward", large, 400);
    free(large);
    wait_for(live_tickets, 0);
    wait_for(body_bytes, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/http_bodies");
    TCase *t = tcase_create("served");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, test_body_limits);
    tcase_add_test(t, test_refused_by_the_library);
    tcase_add_test(t, test_memory_of_bodies);
    suite_add_tcase(s, t);
    t = tcase_create("alone");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_large_bodies_have_readers);
    tcase_add_test(t, test_bodies_have_a_budget);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
