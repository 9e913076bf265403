/* main() of a test program: one libcheck suite, run in this process when CK_FORK=no, exit 1 on any
 * failure. */
#ifndef OFTD_TESTS_CHECK_MAIN_H
#define OFTD_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stdlib.h>

#define CHECK_MAIN(make_suite)                                                                     \
    int main(void)                                                                                 \
    {                                                                                              \
        SRunner *runner = srunner_create(make_suite());                                            \
        srunner_run_all(runner, CK_ENV);                                                           \
        int failed = srunner_ntests_failed(runner);                                                \
        srunner_free(runner);                                                                      \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;                                               \
    }

/* The folder of golden files. */
static inline const char *test_vectors(void)
{
    const char *dir = getenv("OFTD_VECTORS");
    return dir ? dir : "tests/vectors";
}

#endif
