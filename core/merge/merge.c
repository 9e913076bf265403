/*
 * Owns the folding of rotations into weights, one module at a time:
 *
 *     W  --dequantize-->  f32  --rotate-->  E  --round to D-->  --requantize-->  W'
 *
 * A row x of a linear module goes through x R_a R_b W^T, so W' = W (R_a R_b)^T = W R_b^T R_a^T: the
 * adapters are applied last to first, transposed. A row of an embedding is e R_a R_b, so W' = W R_a
 * R_b: first to last. Blocks of one adapter are independent columns, adapters may cut differently.
 * The report compares what W' decodes to with E, the exact product.
 *
 * The base is read only. Weights of the new view are collected aside and become a view when all of
 * them are there; every failure frees them and nothing has changed.
 */
#include "core/merge/merge.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/merge/rules.h"
#include "core/model/view.h"
#include "core/turns.h"

#define PANEL_ROWS 256
/* The error of a weight that holds NaN or Inf (safe_merge off): JSON has no infinity. */
#define ERROR_UNKNOWN 1e300

void merge_report_clear(struct merge_report *r)
{
    for (size_t i = 0; i < r->n_warnings; i++)
        free(r->warnings[i]);
    free(r->warnings);
    free(r->modules);
    memset(r, 0, sizeof *r);
}

/* ---- checking ---- */

enum status merge_check_base(const struct model *m, struct error *err)
{
    struct rule_case c = {.m = m};
    return rules_check(RULES_BASE, &c, err);
}

static bool warn(struct merge_report *report, const char *module)
{
    char **v = realloc(report->warnings, (report->n_warnings + 1) * sizeof *v);
    if (!v)
        return false;
    report->warnings = v;
    char *text = NULL;
    if (asprintf(&text,
                 "%s is tied to the output layer: its merged weight is a matrix of its own, the "
                 "output layer keeps the base's",
                 module) < 0)
        return false;
    v[report->n_warnings++] = text;
    return true;
}

static bool warn_tied(const struct model *m, struct adapter *const *adapters, size_t n,
                      struct merge_report *report)
{
    for (size_t i = 0; i < m->n_modules; i++)
        if (m->tied && m->modules[i].input_embedding && rules_targeted(adapters, n, i) &&
            !warn(report, m->modules[i].name))
            return false;
    return true;
}

enum status merge_check(const struct model *m, struct adapter *const *adapters, size_t n,
                        const struct merge_options *options, struct merge_report *report,
                        struct error *err)
{
    struct rule_case c = {.m = m, .adapters = adapters, .n = n, .options = options};
    enum status s = rules_check(RULES_BASE, &c, err);
    if (!s)
        s = rules_check(RULES_ADAPTERS, &c, err);
    if (!s && options->dense && !dtype_is_float(options->dtype))
        s = error_param(err, ST_INVALID_VALUE, "into", "into must be float16, bfloat16 or float32");
    if (!s && !warn_tied(m, adapters, n, report))
        s = error_memory(err, "checking a merge");
    return s;
}

/* ---- one module ---- */

struct build {
    const struct model *m;
    const struct kernels *k;
    const struct backend *dense; /* of the chain: keeps floats */
    struct adapter *const *adapters;
    size_t n;
    const struct merge_options *options;
    struct merge_report *report;
    struct weight **owned; /* [n_modules] */
    uint64_t bytes;
};

/* x [rows, r->dim] = x R, or x R^T; tmp as large. */
static void rotate(const struct kernels *k, const struct rotation *r, bool transposed, int64_t rows,
                   float *x, float *tmp)
{
    int64_t b = r->block;
    for (int64_t i = 0; i < r->blocks; i++) {
        const float *block = (const float *)r->data + (r->shared ? 0 : i * b * b);
        turns_pause();
        k->gemm(k, false, transposed, rows, b, b, x + i * b, r->dim, block, b, tmp + i * b, r->dim);
    }
    memcpy(x, tmp, (size_t)(rows * r->dim) * sizeof *x);
}

/* Every adapter's rotation of module i, in the order that x R_a R_b demands. */
static void rotate_all(const struct build *b, int32_t i, int64_t rows, float *x, float *tmp)
{
    bool embedding = b->m->modules[i].kind == MODULE_EMBEDDING;
    for (size_t step = 0; step < b->n; step++) {
        size_t a = embedding ? step : b->n - 1 - step;
        const struct rotation *r = b->adapters[a]->host.rotation[i];
        if (r)
            rotate(b->k, r, !embedding, rows, x, tmp);
    }
}

/* E of module i to exact [n, k], E rounded to d to rounded. *finite: of the rounded. */
static void fold(const struct build *b, int32_t i, const struct weight *w, enum dtype d,
                 float *exact, float *rounded, float *tmp, bool *finite)
{
    *finite = true;
    for (int64_t row = 0; row < w->n; row += PANEL_ROWS) {
        int64_t rows = w->n - row < PANEL_ROWS ? w->n - row : PANEL_ROWS;
        float *x = exact + row * w->k, *y = rounded + row * w->k;
        turns_pause();
        b->k->dequantize(b->k, w, row, rows, x);
        rotate_all(b, i, rows, x, tmp);
        for (int64_t r = 0; r < rows; r++, x += w->k, y += w->k) {
            turns_pause();
            for (int64_t e = 0; e < w->k; e++) {
                y[e] = round_to_dtype(x[e], d);
                *finite &= isfinite(y[e]) != 0;
            }
        }
    }
}

/* |what w decodes to - exact| / |exact| */
static double compare(const struct build *b, const struct weight *w, const float *exact, float *tmp)
{
    double difference = 0, whole = 0;
    for (int64_t row = 0; row < w->n; row += PANEL_ROWS) {
        int64_t rows = w->n - row < PANEL_ROWS ? w->n - row : PANEL_ROWS;
        turns_pause();
        b->k->dequantize(b->k, w, row, rows, tmp);
        const float *x = exact + row * w->k, *got = tmp;
        for (int64_t r = 0; r < rows; r++, x += w->k, got += w->k) {
            turns_pause();
            for (int64_t e = 0; e < w->k; e++) {
                double d = (double)got[e] - x[e];
                difference += d * d;
                whole += (double)x[e] * x[e];
            }
        }
    }
    double ratio = whole > 0 ? sqrt(difference / whole) : sqrt(difference);
    return isfinite(ratio) ? ratio : ERROR_UNKNOWN;
}

/* The weight to imitate: the module's own or, for a dense copy, one of floats. */
static struct weight pattern_of(const struct build *b, const struct weight *w)
{
    if (!b->options->dense)
        return *w;
    struct weight like = {.encoding = ENC_DENSE,
                          .dtype = b->options->dtype,
                          .rule = RULE_NONE,
                          .n = w->n,
                          .k = w->k,
                          .n_tiles = w->n_tiles,
                          .k_padded = w->k_padded};
    if (w->encoding == ENC_DENSE) { // keeps how its file was laid out
        like.format = w->format;
        like.format_bytes = w->format_bytes;
    }
    return like;
}

static enum status refuse_non_finite(const struct build *b, int32_t i, bool finite,
                                     struct error *err)
{
    struct rule_case c = {.m = b->m, .options = b->options, .module = i, .non_finite = !finite};
    return rules_check(RULES_MODULE, &c, err);
}

/* Makes the merged weight of module i and its line of the report. */
static enum status build_module(struct build *b, int32_t i, struct error *err)
{
    const struct module *mod = &b->m->modules[i];
    const struct weight *w = b->m->base->weights[i];
    const struct backend *back = b->options->dense ? b->dense : mod->backend;
    struct weight like = pattern_of(b, w), *out = calloc(1, sizeof *out);
    size_t n = (size_t)w->n * (size_t)w->k, panel = PANEL_ROWS * (size_t)w->k;
    float *exact = memory_alloc((2 * n + panel) * sizeof *exact);
    enum status s = ST_OK;
    bool finite;
    if (!exact || !out) {
        s = error_memory(err, "merging a module");
        goto done;
    }
    float *rounded = exact + n, *tmp = rounded + n;
    fold(b, i, w, like.dtype, exact, rounded, tmp, &finite);
    s = refuse_non_finite(b, i, finite, err);
    if (!s)
        s = back->requantize(&like, rounded, out, err);
    if (s)
        goto done;
    b->report->modules[b->report->n++] = (struct merge_module_report){
        .module = i, .backend = mod->backend->name, .rel_fro = compare(b, out, exact, tmp)};
    b->report->bytes += weight_bytes(out);
    if (b->options->dry_run)
        weight_clear(out);
    else {
        b->owned[i] = out;
        out = NULL;
    }
done:
    free(out);
    memory_free(exact);
    return s;
}

/* ---- the whole ---- */

static uint64_t estimate(const struct build *b, const struct weight *w)
{
    if (!b->options->dense)
        return weight_bytes(w);
    return (uint64_t)w->n_tiles * TILE_ROWS * (uint64_t)w->k_padded * dtype_size(b->options->dtype);
}

static enum status check_memory(const struct build *b, uint64_t bytes, struct error *err)
{
    if (b->options->dry_run || bytes <= b->options->memory)
        return ST_OK;
    return error_set(err, ST_CAPACITY_EXCEEDED,
                     "the merged weights take %" PRIu64 " bytes, the merge memory has room for "
                     "%" PRIu64,
                     bytes, b->options->memory);
}

static void summarize(struct build *b)
{
    struct merge_report *r = b->report;
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += r->modules[i].rel_fro;
        r->rel_fro_max = fmax(r->rel_fro_max, r->modules[i].rel_fro);
    }
    r->rel_fro_mean = r->n ? sum / (double)r->n : 0;
    for (size_t a = 0; a < b->n; a++)
        r->orthogonality_defect =
            fmax(r->orthogonality_defect, b->adapters[a]->orthogonality_defect);
}

/* The report as error.details shows it; NULL when memory runs out. */
static json_t *report_json(const struct model *m, const struct merge_report *r)
{
    json_t *modules = json_array();
    bool whole = modules != NULL;
    for (size_t i = 0; whole && i < r->n; i++) {
        const struct merge_module_report *v = &r->modules[i];
        whole = !json_array_append_new(modules, json_pack("{s:s, s:s, s:f}", "name",
                                                          m->modules[v->module].name, "backend",
                                                          v->backend, "rel_fro", v->rel_fro));
    }
    if (!whole) {
        json_decref(modules);
        return NULL;
    }
    return json_pack("{s:{s:{s:f, s:f}, s:f, s:o}}", "report", "rel_fro", "max", r->rel_fro_max,
                     "mean", r->rel_fro_mean, "orthogonality_defect", r->orthogonality_defect,
                     "modules", modules);
}

static enum status check_report(const struct build *b, struct error *err)
{
    struct rule_case c = {.m = b->m, .options = b->options, .report = b->report};
    enum status s = rules_check(RULES_REPORT, &c, err);
    if (!s || !err)
        return s;
    json_decref(err->details);
    err->details = report_json(b->m, b->report);
    return err->details ? s : error_memory(err, "the report of a refused merge");
}

static void free_owned(struct weight **owned, size_t n)
{
    for (size_t i = 0; owned && i < n; i++) {
        weight_clear(owned[i]);
        free(owned[i]);
    }
    free(owned);
}

static enum status build_all(struct build *b, progress_report *progress, void *ctx,
                             struct error *err)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < b->m->n_modules; i++)
        if (rules_targeted(b->adapters, b->n, i))
            bytes += estimate(b, b->m->base->weights[i]);
    enum status s = check_memory(b, bytes, err);
    for (size_t i = 0; i < b->m->n_modules && !s; i++) {
        if (!rules_targeted(b->adapters, b->n, i))
            continue;
        if (progress && !progress(ctx, (double)i / (double)b->m->n_modules))
            s = error_set(err, ST_CANCELLED, "the merge was cancelled");
        else
            s = build_module(b, (int32_t)i, err);
    }
    if (!s)
        s = check_memory(b, b->report->bytes, err);
    if (s)
        return s;
    summarize(b);
    return check_report(b, err);
}

enum status merge_build(const struct model *m, const struct chain *chain,
                        const struct kernels *kernels, struct adapter *const *adapters, size_t n,
                        const struct merge_options *options, progress_report *progress,
                        void *progress_ctx, struct view **out, struct merge_report *report,
                        struct error *err)
{
    struct build b = {
        .m = m, .k = kernels, .adapters = adapters, .n = n, .options = options, .report = report};
    *out = NULL;
    for (size_t i = 0; chain->backends[i]; i++)
        b.dense = chain->backends[i]; // the last row
    assert(b.dense);
    report->n = 0;
    report->bytes = 0;
    free(report->modules);
    report->modules = calloc(m->n_modules + 1, sizeof *report->modules);
    b.owned = calloc(m->n_modules + 1, sizeof(struct weight *));
    if (!report->modules || !b.owned) {
        free(b.owned);
        return error_memory(err, "merging");
    }
    struct rule_case c = {.m = m, .adapters = adapters, .n = n, .options = options};
    enum status s = rules_check(RULES_BASE, &c, err);
    if (!s)
        s = rules_check(RULES_ADAPTERS, &c, err);
    if (!s)
        s = build_all(&b, progress, progress_ctx, err);
    if (!s && !options->dry_run) {
        *out = view_new(m, b.owned);
        if (*out)
            b.owned = NULL;
        else
            s = error_memory(err, "merging");
    }
    free_owned(b.owned, m->n_modules);
    return s;
}
