/* Keys and planes; Host and Origin. */
#include "server/auth.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/origin.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static char paths[2][64];
static char shown[AUTH_NAME_MAX + 1];

static void write_keys(int i, const char *text)
{
    snprintf(paths[i], sizeof paths[i], "/tmp/oftd-test-keys-%d-%d", (int)getpid(), i);
    FILE *f = fopen(paths[i], "w");
    fputs(text, f);
    fclose(f);
}

static enum status ask(const struct auth *a, enum plane plane, const char *header, bool exposed)
{
    struct error err = ERROR_INIT;
    return auth_check(a, plane, header, exposed, shown, &err);
}

START_TEST(test_keyless)
{
    struct auth *a;
    ck_assert_int_eq(auth_open(NULL, NULL, &a, NULL), ST_OK);
    ck_assert(auth_keyless(a));
    ck_assert_int_eq(ask(a, PLANE_INFER, NULL, true), ST_OK);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, NULL, false), ST_OK);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, "Bearer x", true), ST_ADMIN_DISABLED);
    auth_close(a);
}
END_TEST

START_TEST(test_planes)
{
    struct auth *a;
    write_keys(0, "# comment\nalice\n\n  bob  \n");
    write_keys(1, "root");
    ck_assert_int_eq(auth_open(paths[0], paths[1], &a, NULL), ST_OK);
    ck_assert(!auth_keyless(a));
    ck_assert_int_eq(ask(a, PLANE_PUBLIC, NULL, true), ST_OK);
    const char *good[] = {"Bearer alice", "bearer bob", "Bearer   root"};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ask(a, PLANE_INFER, good[i], true), ST_OK);
    const char *bad[] = {
        NULL,          "",        "Bearer", "Bearer ", "Bearer alic", "Bearer alicee", "alice",
        "Basic alice", "Bearer #"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(ask(a, PLANE_INFER, bad[i], true), ST_INVALID_API_KEY);
        ck_assert_int_eq(ask(a, PLANE_ADMIN, bad[i], true), ST_INVALID_API_KEY);
    }
    ck_assert_int_eq(ask(a, PLANE_ADMIN, "Bearer alice", false), ST_ADMIN_KEY_REQUIRED);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, "Bearer root", true), ST_OK);
    auth_close(a);
}
END_TEST

START_TEST(test_names)
{
    static const struct {
        const char *header, *name;
    } rows[] = {
        {"Bearer k1", "alice"}, {"Bearer k2", ""},    {"Bearer k3", ""}, {"Bearer k4", "b-4"},
        {"Bearer root", "ops"}, {"Bearer alice", ""}, {NULL, ""}};
    struct auth *a;
    struct error err = ERROR_INIT;
    char text[2 * AUTH_NAME_MAX];
    write_keys(0, "k1 alice\nk2\nk3 # alice\n\tk4\tb-4 more\nroot nobody\n");
    write_keys(1, "root ops");
    ck_assert_int_eq(auth_open(paths[0], paths[1], &a, NULL), ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ask(a, PLANE_INFER, rows[i].header, false);
        ck_assert_str_eq(shown, rows[i].name);
    }
    auth_close(a);
    snprintf(text, sizeof text, "k %0*d\n", AUTH_NAME_MAX, 1);
    write_keys(0, text);
    ck_assert_int_eq(auth_open(paths[0], NULL, &a, NULL), ST_OK);
    ask(a, PLANE_INFER, "Bearer k", false);
    ck_assert_uint_eq(strlen(shown), AUTH_NAME_MAX);
    auth_close(a);
    snprintf(text, sizeof text, "a\nk %0*d\n", AUTH_NAME_MAX + 1, 1);
    const char *bad[] = {text, "a\nk \xC3\xA9\n", "a\nk x\x01y\n"};
    for (int i = 0; i < 3; i++) {
        write_keys(0, bad[i]);
        ck_assert_int_eq(auth_open(paths[0], NULL, &a, &err), ST_FILE_UNREADABLE);
        ck_assert_ptr_nonnull(strstr(err.text, "key 2"));
    }
}
END_TEST

START_TEST(test_api_keys_alone)
{
    struct auth *a;
    write_keys(0, "alice\n");
    ck_assert_int_eq(auth_open(paths[0], NULL, &a, NULL), ST_OK);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, NULL, false), ST_INVALID_API_KEY);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, "Bearer alice", false), ST_ADMIN_KEY_REQUIRED);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, "Bearer alice", true), ST_ADMIN_DISABLED);
    auth_close(a);
    ck_assert_int_eq(auth_open(NULL, paths[0], &a, NULL), ST_OK); /* an admin key alone */
    ck_assert_int_eq(ask(a, PLANE_INFER, NULL, false), ST_OK);
    ck_assert_int_eq(ask(a, PLANE_ADMIN, NULL, false), ST_INVALID_API_KEY);
    auth_close(a);
}
END_TEST

START_TEST(test_reload)
{
    struct auth *a;
    struct error err = ERROR_INIT;
    write_keys(0, "old\n");
    ck_assert_int_eq(auth_open(paths[0], NULL, &a, NULL), ST_OK);
    write_keys(0, "new\n");
    ck_assert_int_eq(auth_reload(a, &err), ST_OK);
    ck_assert_int_eq(ask(a, PLANE_INFER, "Bearer old", false), ST_INVALID_API_KEY);
    ck_assert_int_eq(ask(a, PLANE_INFER, "Bearer new", false), ST_OK);
    write_keys(0, "# none\n");
    ck_assert_int_eq(auth_reload(a, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_nonnull(strstr(err.text, paths[0]));
    ck_assert_int_eq(ask(a, PLANE_INFER, "Bearer new", false), ST_OK);
    auth_close(a);
    unlink(paths[0]);
    ck_assert_int_eq(auth_open(paths[0], NULL, &a, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_null(a);
}
END_TEST

START_TEST(test_memory)
{
    write_keys(0, "a\nb\nc\n");
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct auth *a;
        struct error err = ERROR_INIT;
        enum status s = auth_open(paths[0], NULL, &a, &err);
        bool fired = fault_disarm();
        ck_assert(fired || s == ST_OK);
        if (!s) /* stdio does without its buffer: then nothing is missing */
            ck_assert_int_eq(ask(a, PLANE_INFER, "Bearer c", false), ST_OK);
        auth_close(a);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

START_TEST(test_origins)
{
    const char *allowed[] = {"https://good.example"};
    struct origin_policy p = {.allowed = allowed, .n_allowed = 1};
    static const struct {
        const char *origin, *host;
        bool ok, cors;
    } rows[] = {{NULL, "x", true, false},
                {"https://good.example", "x", true, true},
                {"HTTPS://GOOD.example", "x", true, true},
                {"https://good.example.evil", "x", false, false},
                {"https://good.example:444", "x", false, false},
                {"http://x", "x", true, false},
                {"http://x:80", "x", false, false},
                {"http://x", NULL, false, false},
                {"null", "x", false, false},
                {"", "x", false, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool cors;
        enum status s = origin_check(&p, rows[i].origin, rows[i].host, &cors, NULL);
        ck_assert_msg(s == (rows[i].ok ? ST_OK : ST_ORIGIN_NOT_ALLOWED) && cors == rows[i].cors,
                      "%s", rows[i].origin ? rows[i].origin : "none");
    }
}
END_TEST

START_TEST(test_hosts)
{
    struct origin_policy p = {.loopback_hosts_only = true};
    const char *good[] = {"localhost",   "LocalHost:80", "127.0.0.1",
                          "127.1.2.3:9", "[::1]",        "[::1]:80"};
    const char *bad[] = {"",        "localhost.evil", "evil", "127.0.0.1.evil", "[::2]", "[::1",
                         "0.0.0.0", "xlocalhost",     "127.", "127.0.0.1@evil"};
    bool cors;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(!origin_check(&p, NULL, good[i], &cors, NULL), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(origin_check(&p, NULL, bad[i], &cors, NULL) != ST_OK, "%s", bad[i]);
    ck_assert_int_eq(origin_check(&p, NULL, NULL, &cors, NULL), ST_ORIGIN_NOT_ALLOWED);
}
END_TEST

static void remove_files(void)
{
    unlink(paths[0]);
    unlink(paths[1]);
}

static Suite *suite(void)
{
    Suite *s = suite_create("server/auth");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, NULL, remove_files);
    tcase_add_test(t, test_keyless);
    tcase_add_test(t, test_planes);
    tcase_add_test(t, test_names);
    tcase_add_test(t, test_api_keys_alone);
    tcase_add_test(t, test_reload);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_origins);
    tcase_add_test(t, test_hosts);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
