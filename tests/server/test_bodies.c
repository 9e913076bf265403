/* The account of bodies and their readers; what a text takes when it is parsed. */
#include "server/bodies.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static struct bodies *open_bodies(uint64_t limit, int threads)
{
    struct bodies *b = NULL;
    ck_assert_int_eq(bodies_open(limit, threads, &b, NULL), ST_OK);
    return b;
}

START_TEST(account)
{
    struct bodies *b = open_bodies(10000, 1);
    struct body one = {0}, two = {0};
    struct error err = ERROR_INIT;
    char text[8192];
    memset(text, '1', sizeof text);
    ck_assert_int_eq(body_add(b, &one, text, 5000, &err), ST_OK);
    ck_assert_uint_eq(bodies_taken(b), one.text.cap);
    ck_assert_uint_ge(one.text.cap, 5000);
    ck_assert_int_eq(body_add(b, &two, text, 3000, &err), ST_OVERLOADED);
    ck_assert_ptr_nonnull(strstr(err.text, "--body-memory"));
    body_free(b, &two);
    ck_assert_uint_eq(bodies_taken(b), one.taken);
    ck_assert_int_eq(body_add(b, &one, text, 3000, &err), ST_OK);
    ck_assert_int_eq(body_take_parsed(b, &one, SIZE_MAX, &err), ST_BODY_TOO_LARGE);
    body_free(b, &one);
    ck_assert_uint_eq(bodies_taken(b), 0);

    ck_assert_int_eq(body_add(b, &one, "[1,2]", 5, &err), ST_OK);
    ck_assert_int_eq(body_take_parsed(b, &one, SIZE_MAX, &err), ST_OK);
    body_drop_text(b, &one);
    ck_assert_uint_eq(bodies_taken(b), body_parsed_size("[1,2]", 5));
    body_free(b, &one);
    ck_assert_uint_eq(bodies_taken(b), 0);
    ck_assert_uint_eq(body_parsed_size("", 0), 0);
    bodies_close(b);
}
END_TEST

struct count {
    struct body_work work;
    atomic_int *done;
};

static void add_one(void *arg)
{
    struct count *c = arg;
    usleep(100);
    atomic_fetch_add(c->done, 1);
}

/* Everything that is queued is done, also when it closes at once. */
START_TEST(readers)
{
    enum { N = 200 };
    static struct count counts[N];
    atomic_int done = 0;
    struct bodies *b = open_bodies(1, 3);
    for (int i = 0; i < N; i++) {
        counts[i] = (struct count){.work = {.run = add_one, .arg = &counts[i]}, .done = &done};
        bodies_queue(b, &counts[i].work);
    }
    bodies_close(b);
    ck_assert_int_eq(atomic_load(&done), N);
    bodies_close(NULL);
}
END_TEST

/* piece, n times, between open and close */
static char *repeated(const char *open, const char *piece, size_t n, const char *close)
{
    size_t len = strlen(piece);
    char *text = malloc(strlen(open) + n * (len + 9) + strlen(close) + 1), *at = text;
    at += sprintf(at, "%s", open);
    for (size_t i = 0; i < n; i++) {
        const char *comma = i + 1 < n ? "," : "";
        at += strchr(piece, '%') ? sprintf(at, "\"%zx\":1%s", i, comma)
                                 : sprintf(at, "%s%s", piece, comma);
    }
    strcpy(at, close);
    return text;
}

/* The bound holds for what grows most, measured as the allocator sees it. */
START_TEST(parsed_size)
{
    static const struct {
        const char *open, *piece, *close;
    } shapes[] = {
        {"[", "1", "]"},       {"[", "1.5", "]"},   {"[", "[]", "]"},
        {"[", "{}", "]"},      {"[", "[1]", "]"},   {"[", "{\"a\":1}", "]"},
        {"[", "\"\"", "]"},    {"[", "\"a\"", "]"}, {"[", "true", "]"},
        {"{", "%", "}"},       {"[\"", "a", "\"]"}, {"[", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "]"},
        {"[", "[[[[]]]]", "]"}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t n = 1; n <= 100000; n *= 10) {
            char *text = repeated(shapes[i].open, shapes[i].piece, n, shapes[i].close);
            size_t len = strlen(text);
            json_t *value = NULL;
            struct mallinfo2 before = mallinfo2();
            ck_assert_int_eq(json_parse(text, len, 32, "it", &value, NULL), ST_OK);
            struct mallinfo2 after = mallinfo2();
            size_t used = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
            ck_assert_msg(used <= body_parsed_size(text, len), "%s x %zu: %zu bytes, bound %zu",
                          shapes[i].piece, n, used, (size_t)body_parsed_size(text, len));
            json_decref(value);
            free(text);
        }
}
END_TEST

START_TEST(memory)
{
    bodies_close(open_bodies(1, 2)); /* glibc keeps the stacks of two threads */
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct error err = ERROR_INIT;
        struct bodies *b = NULL;
        struct body body = {0};
        enum status s = bodies_open(1 << 20, 2, &b, &err);
        if (!s)
            s = body_add(b, &body, "[1]", 3, &err);
        if (!s)
            s = body_take_parsed(b, &body, SIZE_MAX, &err);
        bool fired = fault_disarm();
        ck_assert_int_eq(s, fired ? ST_OUT_OF_MEMORY : ST_OK);
        if (b) {
            body_free(b, &body);
            ck_assert_uint_eq(bodies_taken(b), 0);
        }
        bodies_close(b);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/bodies");
    TCase *t = tcase_create("bodies");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, account);
    tcase_add_test(t, readers);
    tcase_add_test(t, parsed_size);
    tcase_add_test(t, memory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
