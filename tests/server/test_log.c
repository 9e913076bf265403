/* The log: lines whole and in order, dropped when nobody reads, never waiting. */
#include "server/log.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/check_main.h"
#include "tests/faults/fault.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct log *open_log(int fd, bool json)
{
    const struct log_options o = {.json = json, .level = LOG_INFO, .fd = fd};
    struct log *log;
    ck_assert_int_eq(log_open(&o, &log, NULL), ST_OK);
    return log;
}

START_TEST(test_lines)
{
    int p[2];
    char text[4096];
    ck_assert_int_eq(pipe(p), 0);
    struct log *log = open_log(p[1], false);
    log_event(log, LOG_DEBUG, "unseen", LOG_INT("a", 1));
    log_event(log, LOG_INFO, "first", LOG_TEXT("name", "x"), LOG_TEXT("none", NULL),
              LOG_INT("n", 5), LOG_INT("absent", -1), LOG_REAL("ms", 1.5));
    log_event(log, LOG_ERROR, "second", LOG_TEXT("t", "two words\nand \"more\""));
    log_close(log);
    close(p[1]);
    ssize_t n = read(p[0], text, sizeof text - 1);
    text[n] = 0;
    ck_assert_ptr_nonnull(strstr(text, " info    first name=x n=5 ms=1.5\n"));
    ck_assert_ptr_nonnull(strstr(text, " error   second t=\"two words\\nand \\\"more\\\"\"\n"));
    ck_assert_ptr_null(strstr(text, "unseen"));
    close(p[0]);
}
END_TEST

START_TEST(test_json)
{
    int p[2];
    char text[4096];
    ck_assert_int_eq(pipe(p), 0);
    struct log *log = open_log(p[1], true);
    log_event(log, LOG_INFO, "e", LOG_TEXT("bad", "\xff\x01"), LOG_INT("n", 1));
    log_close(log);
    ssize_t n = read(p[0], text, sizeof text);
    json_t *v = json_loadb(text, (size_t)n, 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(v, "event")), "e");
    ck_assert_str_eq(json_string_value(json_object_get(v, "level")), "info");
    ck_assert_int_eq(json_integer_value(json_object_get(v, "n")), 1);
    json_decref(v);
    close(p[0]);
    close(p[1]);
}
END_TEST

START_TEST(test_nobody_reads)
{
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    struct log *log = open_log(p[1], false);
    double start = now();
    for (int i = 0; i < 20000; i++)
        log_event(log, LOG_INFO, "line", LOG_INT("i", i));
    ck_assert(now() - start < 5);
    ck_assert_uint_gt(log_dropped(log), 1000);
    start = now();
    log_close(log);
    ck_assert(now() - start < 5);
    close(p[0]);
    close(p[1]);
}
END_TEST

START_TEST(test_reader_gone)
{
    int p[2];
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    ck_assert_int_eq(pipe(p), 0);
    struct log *log = open_log(p[1], false);
    close(p[0]);
    for (int i = 0; i < 100; i++)
        log_event(log, LOG_INFO, "line", LOG_INT("i", i));
    log_close(log);
    close(p[1]);
}
END_TEST

START_TEST(test_memory)
{
    int null = open("/dev/null", O_WRONLY);
    FAULT_EACH(n)
    {
        const struct log_options o = {.level = LOG_INFO, .fd = null};
        struct log *log;
        enum status s = log_open(&o, &log, NULL);
        log_event(log, LOG_INFO, "line", LOG_TEXT("a", "b"));
        bool fired = fault_disarm();
        ck_assert(fired || s == ST_OK);
        log_close(log);
    }
    close(null);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/log");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_lines);
    tcase_add_test(t, test_json);
    tcase_add_test(t, test_nobody_reads);
    tcase_add_test(t, test_reader_gone);
    tcase_add_test(t, test_memory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
