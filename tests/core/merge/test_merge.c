#include "core/merge/merge.h"

#include "core/merge/rules.h"
#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct toy toy;
static struct error err;
static struct merge_report report;
static struct view *view;
static const struct merge_options usual = {.safe = true, .max_rel_fro = -1, .memory = UINT64_MAX};

static void setup(void)
{
    toy_open(&toy, true);
    toy_dir();
}

static void clear(void)
{
    view_unref(view);
    view = NULL;
    merge_report_clear(&report);
    error_clear(&err);
}

static void teardown(void)
{
    clear();
    toy_close(&toy);
    toy_remove_dir();
}

/* An adapter of q_proj (both layers), up_proj of layer 0 and the embedding. */
static struct adapter *make(const char *name, int block, float scale)
{
    char config[256];
    int64_t rows = TOY_HIDDEN / block, n = block * (block - 1) / 2;
    struct toy_tensor v[] = {
        {"model.layers.0.self_attn.q_proj.oft_R.weight", DT_F32, rows, n, scale},
        {"model.layers.1.self_attn.q_proj.oft_R.weight", DT_F32, rows, n, scale},
        {"model.layers.0.mlp.up_proj.oft_R.weight", DT_F32, rows, n, scale},
        {"model.embed_tokens.oft_embedding_R.weight", DT_F32, rows, n, scale}};
    snprintf(config, sizeof config,
             "\"oft_block_size\":%d,\"use_cayley_neumann\":false,\"target_modules\":"
             "[\"q_proj\",\"layers.0.mlp.up_proj\",\"embed_tokens\"]",
             block);
    toy_adapter(toy_path(name), toy_config(config), v, 4);
    struct adapter *a;
    struct adapter_options options = {0};
    ck_assert_msg(adapter_load(&toy.m, &toy_kernels, toy_path(name), name, &options, &a, &err) ==
                      ST_OK,
                  "%s", err.text);
    return a;
}

static enum status merge(struct adapter *const *v, size_t n, const struct merge_options *options)
{
    clear();
    enum status s = merge_check(&toy.m, v, n, options, &report, &err);
    return s ? s
             : merge_build(&toy.m, &toy_chain, &toy_kernels, v, n, options, NULL, NULL, &view,
                           &report, &err);
}

/* Dense [k, k] matrix of an adapter's rotation, in double. */
static void whole_rotation(const struct adapter *a, int i, double *out)
{
    const struct rotation *r = a->adapted.rotation[i];
    int64_t k = r->dim, b = r->block;
    memset(out, 0, (size_t)(k * k) * sizeof *out);
    for (int64_t e = 0; e < r->blocks * b * b; e++) {
        int64_t block = e / (b * b), row = e / b % b, col = e % b;
        out[(block * b + row) * k + block * b + col] =
            ((const float *)r->data)[r->shared ? e % (b * b) : e];
    }
}

/* By definition: row x of W' is the row that gives y when x goes through R_a, R_b, then W. */
static void expect_merged(struct adapter *const *v, size_t n, int i)
{
    const struct weight *w = toy.m.base->weights[i], *got = view->weights[i];
    bool embedding = toy.modules[i].kind == MODULE_EMBEDDING;
    int64_t k = w->k;
    double p[TOY_HIDDEN * TOY_HIDDEN] = {0}, r[TOY_HIDDEN * TOY_HIDDEN], q[TOY_HIDDEN * TOY_HIDDEN];
    for (int64_t d = 0; d < k; d++)
        p[d * k + d] = 1;
    for (size_t a = 0; a < n; a++) { // P = R_a R_b ...
        whole_rotation(v[a], i, r);
        for (int64_t x = 0; x < k; x++)
            for (int64_t y = 0; y < k; y++) {
                q[x * k + y] = 0;
                for (int64_t z = 0; z < k; z++)
                    q[x * k + y] += p[x * k + z] * r[z * k + y];
            }
        memcpy(p, q, sizeof p);
    }
    for (int64_t row = 0; row < w->n; row++)
        for (int64_t c = 0; c < k; c++) {
            double sum = 0; // an embedding's row is e P, a linear module's column form W P^T
            for (int64_t z = 0; z < k; z++)
                sum += *toy_element(w, row, z) * (embedding ? p[z * k + c] : p[c * k + z]);
            ck_assert_double_eq_tol(*toy_element(got, row, c), sum, 2e-6);
        }
}

START_TEST(by_definition)
{
    struct adapter *v[2] = {make("a", 4, 0.3f), make("b", 6, 0.3f)};
    for (size_t n = 1; n <= 2; n++) {
        ck_assert_int_eq(merge(v, n, &usual), ST_OK);
        ck_assert_int_eq(report.n, 4);
        static const int targeted[] = {TOY_EMBED, TOY_Q0, TOY_UP0, TOY_Q1};
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(report.modules[i].module, targeted[i]);
            ck_assert_str_eq(report.modules[i].backend, "default");
            ck_assert_double_le(report.modules[i].rel_fro, 1e-7);
            expect_merged(v, n, targeted[i]);
        }
        ck_assert_ptr_eq(view->weights[TOY_V0], toy.m.base->weights[TOY_V0]);
        ck_assert_int_eq(report.bytes, view->bytes);
        ck_assert_double_le(report.orthogonality_defect, 1e-5);
        // the head is tied: it keeps the base's matrix, and the reply says so
        ck_assert_ptr_eq(view->weights[TOY_HEAD], toy.m.base->weights[TOY_EMBED]);
        ck_assert_int_eq(report.n_warnings, 1);
        ck_assert(strstr(report.warnings[0], "model.embed_tokens"));
    }
    adapter_unref(v[0]);
    adapter_unref(v[1]);
}
END_TEST

START_TEST(refusals)
{
    struct adapter *a = make("a", 4, 0.3f);
    struct merge_options dense = usual;
    dense.dense = true;
    dense.dtype = DT_F32;
    toy.m.quant_method = "gptq";
    ck_assert_int_eq(merge(&a, 1, &dense), ST_MERGE_FORBIDDEN_GPTQ);
    ck_assert_int_eq(merge_check_base(&toy.m, &err), ST_MERGE_FORBIDDEN_GPTQ);
    toy.m.quant_method = "";
    toy.m.replicated = true;
    ck_assert_int_eq(merge(&a, 1, &dense), ST_MERGE_FORBIDDEN_LAYER_REPLICATION);
    ck_assert_int_eq(merge_check_base(&toy.m, &err), ST_MERGE_FORBIDDEN_LAYER_REPLICATION);
    toy.m.replicated = false;
    ck_assert_int_eq(merge_check_base(&toy.m, &err), ST_OK);
    toy.modules[TOY_V0].backend = &toy_gptq; // not targeted
    ck_assert_int_eq(merge(&a, 1, &usual), ST_OK);
    toy.modules[TOY_Q0].backend = &toy_gptq;
    ck_assert_int_eq(merge(&a, 1, &dense), ST_MERGE_FORBIDDEN_GPTQ);
    toy.modules[TOY_Q0].backend = &toy_eetq;
    toy.modules[TOY_Q1].backend = &toy_eetq;
    ck_assert_int_eq(merge(&a, 1, &usual), ST_MERGE_UNSUPPORTED_BACKEND);
    ck_assert(strstr(err.text, "model.layers.0.self_attn.q_proj (eetq) and 1 more"));
    ck_assert_int_eq(merge(&a, 1, &dense), ST_OK);
    ck_assert_str_eq(report.modules[1].backend, "eetq");
    toy.modules[TOY_UP0].kind = MODULE_CONV2D;
    toy.modules[TOY_UP0].conv = (struct conv2d){.kernel = {1, 1}};
    ck_assert_int_eq(merge(&a, 1, &dense), ST_OK);
    toy.m.conv2d_peft = true;
    ck_assert_int_eq(merge(&a, 1, &dense), ST_OK); // both readings agree
    toy.modules[TOY_UP0].conv.kernel[1] = 3;
    ck_assert_int_eq(merge(&a, 1, &dense), ST_MERGE_UNSUPPORTED_BACKEND);
    adapter_unref(a);
}
END_TEST

/* PEFT takes one adapter with biases at most; which of two would count is nobody's guess. */
START_TEST(two_biases)
{
    struct adapter *v[3] = {make("a", 4, 0.3f), make("b", 4, 0.2f), make("c", 6, 0.2f)};
    v[0]->has_bias = true;
    ck_assert_int_eq(merge(v, 3, &usual), ST_OK);
    v[2]->has_bias = true;
    ck_assert_int_eq(merge(v, 2, &usual), ST_OK);
    ck_assert_int_eq(merge(v, 3, &usual), ST_BIAS_CONFLICT);
    ck_assert(strstr(err.text, "a and c both replace biases"));
    ck_assert_ptr_null(view);
    for (int i = 0; i < 3; i++)
        adapter_unref(v[i]);
}
END_TEST

START_TEST(results)
{
    struct adapter *a = make("a", 4, 0.3f);
    struct merge_options o = usual;
    o.dense = true;
    o.dtype = DT_BF16; // the toy's floats stay what the rounding left
    ck_assert_int_eq(merge(&a, 1, &o), ST_OK);
    ck_assert(report.rel_fro_max > 1e-4 && report.rel_fro_max < 4e-3);
    ck_assert(report.rel_fro_mean > 0 && report.rel_fro_mean <= report.rel_fro_max);
    o.max_rel_fro = 1e-5;
    ck_assert_int_eq(merge(&a, 1, &o), ST_MERGE_ERROR_ABOVE_BOUND);
    ck_assert_ptr_null(view);
    const json_t *r = json_object_get(err.details, "report");
    ck_assert_int_eq(json_array_size(json_object_get(r, "modules")), 4);
    ck_assert(json_number_value(json_object_get(json_object_get(r, "rel_fro"), "max")) > 1e-5);
    o.max_rel_fro = 1;
    o.dry_run = true;
    o.memory = 0;
    ck_assert_int_eq(merge(&a, 1, &o), ST_OK);
    ck_assert(!view && report.n == 4 && report.bytes > 0);
    o.dry_run = false;
    o.memory = report.bytes - 1;
    ck_assert_int_eq(merge(&a, 1, &o), ST_CAPACITY_EXCEEDED);
    o = usual;
    *toy_element(toy.m.base->weights[TOY_Q1], 3, 3) = INFINITY;
    ck_assert_int_eq(merge(&a, 1, &o), ST_MERGE_NON_FINITE);
    ck_assert(strstr(err.text, "model.layers.1.self_attn.q_proj"));
    o.safe = false;
    ck_assert_int_eq(merge(&a, 1, &o), ST_OK);
    ck_assert(isfinite(report.rel_fro_max) && report.rel_fro_max > 1e200);
    o = usual;
    o.dense = true;
    o.dtype = DT_F16; // 65504 is the largest
    *toy_element(toy.m.base->weights[TOY_Q1], 3, 3) = 1e6f;
    ck_assert_int_eq(merge(&a, 1, &o), ST_MERGE_NON_FINITE);
    adapter_unref(a);
}
END_TEST

static bool up_to_the_third(void *ctx, double done)
{
    ck_assert(done >= 0 && done <= 1);
    return ++*(int *)ctx < 3;
}

START_TEST(cancelled)
{
    struct adapter *a = make("a", 4, 0.3f);
    int calls = 0;
    ck_assert_int_eq(merge_build(&toy.m, &toy_chain, &toy_kernels, &a, 1, &usual, up_to_the_third,
                                 &calls, &view, &report, &err),
                     ST_CANCELLED);
    ck_assert_ptr_null(view);
    adapter_unref(a);
}
END_TEST

START_TEST(memory_runs_out)
{
    struct adapter *a = make("a", 4, 0.3f);
    struct merge_options o = usual;
    for (int bound = 0; bound < 2; bound++) {
        o.max_rel_fro = bound ? 0 : -1;
        FAULT_EACH(n)
        {
            long before = fault_live();
            struct view *out;
            struct merge_report r = {0};
            struct error e = ERROR_INIT;
            enum status s = merge_check(&toy.m, &a, 1, &o, &r, &e);
            if (!s)
                s = merge_build(&toy.m, &toy_chain, &toy_kernels, &a, 1, &o, NULL, NULL, &out, &r,
                                &e);
            else
                out = NULL;
            bool fired = fault_disarm();
            ck_assert(s == ST_OK || s == ST_MERGE_ERROR_ABOVE_BOUND ||
                      (fired && s == ST_OUT_OF_MEMORY));
            if (s == ST_MERGE_ERROR_ABOVE_BOUND) // with the whole report, or not this code
                ck_assert_int_eq(json_array_size(json_object_get(
                                     json_object_get(e.details, "report"), "modules")),
                                 4);
            view_unref(out);
            merge_report_clear(&r);
            error_clear(&e);
            ck_assert_msg(fault_live() == before, "allocation %ld", n);
        }
    }
    adapter_unref(a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/merge/merge");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, by_definition);
    tcase_add_test(t, refusals);
    tcase_add_test(t, two_biases);
    tcase_add_test(t, results);
    tcase_add_test(t, cancelled);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
