/*
 * Adapters and merges on golden files: real checkpoints, adapters of PEFT, logits and merge errors
 * that another program computed.
 */
#include "core/merge/merge.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/kernels/cpu.h"
#include "core/json.h"
#include "tests/core/merge/weights.h"
#include "tests/core/model/fixture.h"
#include "tests/faults/fault.h"

#define CHAIN_MAX 4

static const char *const names[] = {
    "fixtures/plain-f16", "fixtures/plain-bf16", "fixtures/bnb4-nf4-dq",        "fixtures/bnb4-fp4",
    "fixtures/gptq3",     "fixtures/gptq4-g128", "fixtures/gptq4-g32-actorder", "families/llama",
    "families/mistral",   "families/qwen2",
};
#define N_NAMES (sizeof names / sizeof names[0])

static struct kernels *cpu;
static struct fixture f;
static float *logits; /* [rows, len, vocab] */

static bool open_fixture(int i)
{
    if (!fixture_exists(names[i]))
        return false;
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &cpu, NULL), ST_OK);
    fixture_kernels = cpu;
    fixture_open(&f, names[i]);
    logits = malloc((size_t)(f.rows * f.len * f.m->vocab) * sizeof *logits);
    return true;
}

static void close_fixture(void)
{
    free(logits);
    fixture_close(&f);
    cpu->close(cpu);
}

struct group {
    struct adapter *v[CHAIN_MAX];
    const struct adapted *adapted[CHAIN_MAX];
    size_t n;
};

/* The adapters of "a+b", in order. */
static void group_open(struct group *g, const char *name, const char *who)
{
    char text[128], path[600], *save = NULL;
    struct error err = ERROR_INIT;
    struct adapter_options options = {0};
    memset(g, 0, sizeof *g);
    snprintf(text, sizeof text, "%s", who);
    for (char *a = strtok_r(text, "+", &save); a; a = strtok_r(NULL, "+", &save)) {
        snprintf(path, sizeof path, "%s/adapters/%s", fixture_path(name, ""), a);
        ck_assert_msg(adapter_load(f.m, cpu, path, a, &options, &g->v[g->n], &err) == ST_OK, "%s",
                      err.text);
        g->adapted[g->n] = &g->v[g->n]->adapted;
        g->n++;
    }
}

static void group_close(struct group *g)
{
    for (size_t i = 0; i < g->n; i++)
        adapter_unref(g->v[i]);
}

/* All sequences through a view and (NULL: none) adapters. */
static void forward(const struct view *view, const struct group *g)
{
    struct rows b;
    for (int32_t s = 0; s < f.rows; s++) {
        rows_start(&b, &f);
        b.batch.view = view;
        rows_add(&b, &f, s, 0, f.len, g ? g->adapted : NULL, g ? (int32_t)g->n : 0,
                 logits + (int64_t)s * f.len * f.m->vocab);
        rows_run(&b, &f);
    }
}

static double distance(const float *x, const float *want)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < (int64_t)f.rows * f.len * f.m->vocab; i++) {
        worst = fmax(worst, fabs((double)x[i] - want[i]));
        scale = fmax(scale, fabs((double)want[i]));
    }
    return worst / scale;
}

static float *copy_logits(void)
{
    size_t n = (size_t)f.rows * (size_t)f.len * (size_t)f.m->vocab * sizeof *logits;
    return memcpy(malloc(n), logits, n);
}

START_TEST(unmerged)
{
    if (!open_fixture(_i))
        return;
    size_t n;
    int seen = 0;
    const struct tensor *t = safetensors_tensors(f.expected, &n);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(t[i].name, "logits.", 7) || !strcmp(t[i].name, "logits.base"))
            continue;
        struct group g;
        group_open(&g, names[_i], t[i].name + 7);
        forward(f.m->base, &g);
        float *want = malloc(t[i].bytes);
        tensor_to_f32(&t[i], 0, tensor_elements(&t[i]), want);
        double d = distance(logits, want);
        ck_assert_msg(d <= 1e-4, "%s %s: %.3g", names[_i], t[i].name, d);
        free(want);
        group_close(&g);
        seen++;
    }
    ck_assert_int_ge(seen, 3);
    close_fixture();
}
END_TEST

static enum status merge(const struct group *g, const struct merge_options *options,
                         struct view **view, struct merge_report *report, struct error *err)
{
    memset(report, 0, sizeof *report);
    *view = NULL;
    enum status s = merge_check(f.m, g->v, g->n, options, report, err);
    return s ? s
             : merge_build(f.m, &chain_default, cpu, g->v, g->n, options, NULL, NULL, view, report,
                           err);
}

static const struct merge_options usual = {.safe = true, .max_rel_fro = -1, .memory = UINT64_MAX};

/* The merge error of every module within 2 % of the reference's, which leaves embeddings out. */
static void compare_report(const struct merge_report *r, const json_t *want, const char *what)
{
    size_t seen = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct module *mod = &f.m->modules[r->modules[i].module];
        if (mod->kind == MODULE_EMBEDDING)
            continue;
        const json_t *v = json_object_get(want, mod->name);
        double x = json_number_value(v);
        ck_assert_msg(v && fabs(r->modules[i].rel_fro - x) <= 0.02 * x + 1e-7,
                      "%s %s: rel_fro %.6g, expected %.6g", what, mod->name, r->modules[i].rel_fro,
                      x);
        seen++;
    }
    ck_assert_int_eq(seen, json_object_size(want));
}

START_TEST(merged)
{
    if (!open_fixture(_i))
        return;
    json_t *expected;
    ck_assert_int_eq(json_read(fixture_path(names[_i], "expected.json"), 1 << 24, &expected, NULL),
                     ST_OK);
    uint8_t before[DIGEST_SIZE], after[DIGEST_SIZE];
    weights_digest(f.m->base, before);
    const char *who;
    json_t *line;
    json_object_foreach(json_object_get(expected, "merge"), who, line)
    {
        struct group g;
        struct view *view;
        struct merge_report report;
        struct error err = ERROR_INIT;
        group_open(&g, names[_i], who);
        enum status s = merge(&g, &usual, &view, &report, &err);
        ck_assert_msg(s == ST_OK, "%s %s: %s", names[_i], who, err.text);
        compare_report(&report, json_object_get(line, "rel_fro"), who);
        // the merged view computes what the rotations compute, up to the reported error
        forward(f.m->base, &g);
        float *want = copy_logits();
        forward(view, NULL);
        double d = distance(logits, want);
        ck_assert_msg(d <= 10 * report.rel_fro_max + 1e-5, "%s %s: %.3g at rel_fro %.3g", names[_i],
                      who, d, report.rel_fro_max);
        ck_assert_int_eq(report.bytes, view->bytes);
        free(want);
        view_unref(view);
        merge_report_clear(&report);
        group_close(&g);
    }
    weights_digest(f.m->base, after);
    ck_assert_mem_eq(before, after, DIGEST_SIZE);
    json_decref(expected);
    close_fixture();
}
END_TEST

/* Into float32 nothing is lost, whatever the back end, one adapter or two. */
START_TEST(dense)
{
    if (!open_fixture(_i))
        return;
    struct merge_options options = usual;
    options.dense = true;
    options.dtype = DT_F32;
    struct group g;
    struct view *view;
    struct merge_report report;
    struct error err = ERROR_INIT;
    group_open(&g, names[_i], strstr(names[_i], "fixtures/") ? "qv+all" : "a+all");
    enum status s = merge(&g, &options, &view, &report, &err);
    if (!strcmp(f.m->quant_method, "gptq")) {
        ck_assert_int_eq(s, ST_MERGE_FORBIDDEN_GPTQ);
        ck_assert_int_eq(merge_check_base(f.m, NULL), ST_MERGE_FORBIDDEN_GPTQ);
    } else {
        ck_assert_msg(s == ST_OK, "%s: %s", names[_i], err.text);
        ck_assert_double_le(report.rel_fro_max, 1e-7);
        forward(f.m->base, &g);
        float *want = copy_logits();
        forward(view, NULL);
        double d = distance(logits, want);
        ck_assert_msg(d <= 1e-5, "%s: %.3g", names[_i], d);
        free(want);
    }
    error_clear(&err);
    view_unref(view);
    merge_report_clear(&report);
    group_close(&g);
    close_fixture();
}
END_TEST

/* ---- exports ---- */

static char export_dir[64];

/* Where an export goes; the folder above it lives as long as the test. */
static const char *export_path(void)
{
    static char path[128];
    if (!*export_dir) {
        bool memory = !access("/dev/shm", W_OK); /* every file is synced: not on a slow disk */
        snprintf(export_dir, sizeof export_dir, "%s/oftd-export-XXXXXX",
                 memory ? "/dev/shm" : "/tmp");
        ck_assert(mkdtemp(export_dir) != NULL);
    }
    snprintf(path, sizeof path, "%s/out", export_dir);
    return path;
}

static void remove_all(const char *path)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", path);
    ck_assert_int_eq(system(command), 0);
}

static void cleanup(void)
{
    if (*export_dir)
        remove_all(export_dir);
    *export_dir = 0;
}

/* Writes the view, opens what was written, and gives its logits to x. */
static void export_and_run(const struct view *view, bool plain, enum dtype dtype, float *x)
{
    struct error err = ERROR_INIT;
    enum status s = merge_export(f.m, f.cp, &chain_default, cpu, view, plain, dtype, export_path(),
                                 NULL, NULL, &err);
    ck_assert_msg(s == ST_OK, "%s", err.text);
    const struct model_options options = {0};
    struct checkpoint *cp;
    struct model *m;
    ck_assert_msg(checkpoint_open(export_path(), &cp, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(model_open(cp, &options, &chain_default, cpu, NULL, NULL, &m, &err) == ST_OK,
                  "%s", err.text);
    struct fixture copy = f;
    copy.m = m;
    struct rows b;
    for (int32_t r = 0; r < f.rows; r++) {
        rows_start(&b, &copy);
        rows_add(&b, &copy, r, 0, f.len, NULL, 0, x + (int64_t)r * f.len * m->vocab);
        model_forward(m, &b.batch, f.scratch);
    }
    bool untied = view && f.m->tied && view->weights[0] != f.m->base->weights[0];
    const json_t *tie = json_object_get(cp->config, "tie_word_embeddings");
    ck_assert(f.m->modules[0].input_embedding && m->tied == (f.m->tied && !untied));
    ck_assert(!untied || json_is_false(tie));
    ck_assert_int_eq(json_object_get(cp->config, "quantization_config") != NULL,
                     !plain && json_object_get(f.cp->config, "quantization_config") != NULL);
    model_close(m);
    checkpoint_close(cp);
    remove_all(export_path());
}

START_TEST(exported)
{
    if (!open_fixture(_i))
        return;
    size_t n = (size_t)f.rows * (size_t)f.len * (size_t)f.m->vocab;
    float *x = malloc(n * sizeof *x);
    // the base alone, in its own bytes and in floats
    forward(f.m->base, NULL);
    export_and_run(NULL, false, DT_F32, x);
    ck_assert_mem_eq(x, logits, n * sizeof *x);
    export_and_run(NULL, true, DT_F32, x); // act-order: columns are added in another order
    ck_assert_double_le(distance(x, logits), 1e-5);
    struct group g;
    struct view *view;
    struct merge_report report;
    static const char *const whom[] = {"qv", "a", "emb"};
    for (size_t w = 0; w < 3; w++) {
        char path[600];
        snprintf(path, sizeof path, "%s/adapters/%s", fixture_path(names[_i], ""), whom[w]);
        if (access(path, R_OK) || !strcmp(f.m->quant_method, "gptq"))
            continue;
        group_open(&g, names[_i], whom[w]);
        ck_assert_int_eq(merge(&g, &usual, &view, &report, NULL), ST_OK);
        forward(view, NULL);
        export_and_run(view, false, DT_F32, x);
        ck_assert_msg(!memcmp(x, logits, n * sizeof *x), "%s %s: %.3g", names[_i], whom[w],
                      distance(x, logits));
        export_and_run(view, true, DT_F32, x);
        ck_assert_double_le(distance(x, logits), 1e-6);
        view_unref(view);
        merge_report_clear(&report);
        group_close(&g);
    }
    free(x);
    close_fixture();
}
END_TEST

static bool up_to_the_fifth(void *ctx, double done)
{
    ck_assert(done >= 0 && done <= 1);
    return ++*(int *)ctx < 5;
}

/* Nothing is left behind by an export that fails or is cancelled. */
START_TEST(failed_exports)
{
    if (!open_fixture(N_NAMES - 1)) // tied, with an adapter of the embedding
        return;
    struct group g;
    struct view *view;
    struct merge_report report;
    group_open(&g, names[N_NAMES - 1], "emb");
    ck_assert_int_eq(merge(&g, &usual, &view, &report, NULL), ST_OK);
    for (int plain = 0; plain < 2; plain++)
        FAULT_EACH(n)
        {
            long before = fault_live();
            struct error err = ERROR_INIT;
            enum status s = merge_export(f.m, f.cp, &chain_default, cpu, view, plain, DT_BF16,
                                         export_path(), NULL, NULL, &err);
            bool fired = fault_disarm();
            ck_assert_msg(s == ST_OK || fired, "%s", err.text);
            ck_assert_int_eq(access(export_path(), F_OK) == 0, s == ST_OK);
            error_clear(&err);
            ck_assert_msg(fault_live() == before, "allocation %ld", n);
            remove_all(export_path());
        }
    int calls = 0;
    ck_assert_int_eq(merge_export(f.m, f.cp, &chain_default, cpu, view, false, DT_F32,
                                  export_path(), up_to_the_fifth, &calls, NULL),
                     ST_CANCELLED);
    ck_assert_int_ne(access(export_path(), F_OK), 0);
    view_unref(view);
    merge_report_clear(&report);
    group_close(&g);
    close_fixture();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/merge/fixtures");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, NULL, cleanup);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, unmerged, 0, (int)N_NAMES);
    tcase_add_loop_test(t, merged, 0, (int)N_NAMES);
    tcase_add_loop_test(t, dense, 0, (int)N_NAMES);
    tcase_add_loop_test(t, exported, 0, (int)N_NAMES);
    tcase_add_test(t, failed_exports);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
