/* Opening tables: every slot is there, wrong names are errors, shared tables live as long as one.
 */
#include <string.h>

#include "tests/backends/kernels/open_table.h"
#include "tests/faults/fault.h"

START_TEST(slots)
{
    for (size_t i = 0; i < N_ISAS; i++) {
        if (!cpu_has(isas[i]))
            continue;
        struct kernels *k = open_table(isas[i], 1);
        ck_assert_str_eq(k->isa, isas[i]);
        ck_assert_str_eq(k->device, "cpu");
        ck_assert_int_eq(k->threads, 1);
        ck_assert(k->act_bytes && k->prepare && k->matmul && k->dequantize && k->gather &&
                  k->norm && k->rope && k->kv_store && k->attention && k->activate && k->add &&
                  k->scale && k->likelihoods && k->gemm && k->solve && k->combine && k->squares &&
                  k->largest && k->to_bytes && k->close);
        k->close(k);
    }
    struct kernels *k = open_table("auto", 0);
    ck_assert_int_eq(k->threads, cpu_threads());
    k->close(k);
}
END_TEST

START_TEST(refusals)
{
    struct kernels *k = NULL;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(cpu_kernels_open("sse9", COMPUTE_EXACT, 1, &k, &err), ST_INVALID_VALUE);
    ck_assert(strstr(err.text, "sse9") && !k);
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1 << 20, &k, &err), ST_INVALID_VALUE);
    error_clear(&err);
    ck_assert(!cpu_has("sse9") && cpu_has("portable"));
}
END_TEST

/* Either may be closed first; the other goes on. */
START_TEST(sharing)
{
    for (int first = 0; first < 2; first++) {
        struct kernels *k[2] = {open_table("auto", 2), NULL};
        ck_assert_int_eq(cpu_kernels_share(k[0], COMPUTE_FAST, &k[1], NULL), ST_OK);
        ck_assert_int_eq(k[1]->mode, COMPUTE_FAST);
        ck_assert_int_eq(k[1]->threads, 2);
        ck_assert_ptr_eq(k[1]->isa, k[0]->isa);
        k[first]->close(k[first]);
        float x[3] = {1, 2, 3};
        k[1 - first]->scale(k[1 - first], x, 3, 2);
        ck_assert(x[2] == 6);
        k[1 - first]->close(k[1 - first]);
    }
}
END_TEST

/* Memory and threads that are refused, one after another: a clear status, nothing left behind. */
START_TEST(faults)
{
    struct kernels *first = open_table("auto", 3); // libc keeps what two threads needed
    first->close(first);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct kernels *k = NULL, *fast = NULL;
        struct error err = ERROR_INIT;
        enum status st = cpu_kernels_open("auto", COMPUTE_EXACT, 3, &k, &err);
        if (st == ST_OK)
            st = cpu_kernels_share(k, COMPUTE_FAST, &fast, &err);
        bool fired = fault_disarm();
        ck_assert_int_eq(st, fired ? ST_OUT_OF_MEMORY : ST_OK);
        ck_assert(!fired || err.text[0]);
        if (fast)
            fast->close(fast);
        if (k)
            k->close(k);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *cpu_suite(void)
{
    Suite *s = suite_create("cpu");
    TCase *t = tcase_create("cpu");
    tcase_add_test(t, slots);
    tcase_add_test(t, refusals);
    tcase_add_test(t, sharing);
    tcase_add_test(t, faults);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(cpu_suite)
