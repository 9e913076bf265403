/* traceparent: the recommendation's own examples, and what it forbids. */
#include "server/trace.h"

#include <string.h>

#include "tests/check_main.h"

#define ID   "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static const struct {
    const char *header;
    bool good;
} rows[] = {
    {"00-" ID "-" SPAN "-01", true},
    {"00-" ID "-" SPAN "-00", true},
    {"00-" ID "-" SPAN "-ff", true},
    {"cc-" ID "-" SPAN "-01", true},
    {"cc-" ID "-" SPAN "-01-what-the-future-brings", true},
    {"cc-" ID "-" SPAN "-01.what-the-future-brings", false},
    {"cc-" ID "-" SPAN "-010", false},
    {"00-" ID "-" SPAN "-01-more", false},
    {"00-" ID "-" SPAN "-01-", false},
    {"ff-" ID "-" SPAN "-01", false},
    {"00-00000000000000000000000000000000-" SPAN "-01", false},
    {"00-" ID "-0000000000000000-01", false},
    {"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false},
    {"00-" ID "-" SPAN "-0g", false},
    {"00-" ID "-" SPAN "-1", false},
    {"00-" ID SPAN "--01", false},
    {"00 " ID "-" SPAN "-01", false},
    {"0-" ID "-" SPAN "-001", false},
    {"00-" ID "-" SPAN, false},
    {"00-" ID "-" SPAN "-01 ", false},
    {"", false},
    {NULL, false},
};

START_TEST(test_rows)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char id[TRACE_ID_DIGITS + 1] = "";
        ck_assert_msg(trace_parent(rows[i].header, id) == rows[i].good, "%s", rows[i].header);
        ck_assert_str_eq(id, rows[i].good ? ID : "");
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/trace");
    TCase *t = tcase_create("trace");
    tcase_add_test(t, test_rows);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
