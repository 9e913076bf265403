/*
 * Owns the way of an image into a network of tokens: each square of it is a window of a convolution
 * whose stride is its size, so the convolution's rows are the tokens; before them stands one
 * learned row for the whole image, and a learned row is added at each position. From there on the
 * image is a text of an encoder: whole, with keys and values of its own, because nobody will ever
 * continue it.
 *
 *     row 0 = class_token + table[0];   row 1 + i = patch i + table[1 + i]
 */
#include <string.h>

#include "core/model/build.h"
#include "core/model/image_pass.h"

/* ---- the two tables ---- */

static const struct tensor *find(const struct model *m, const struct checkpoint *cp,
                                 const char *pattern, char buf[FAMILY_NAME_MAX])
{
    return pattern ? checkpoint_find(cp, names_norm(m, pattern, -1, buf, FAMILY_NAME_MAX)) : NULL;
}

static void check_table(const struct model *m, const struct checkpoint *cp, const char *pattern,
                        int64_t rows, struct findings *findings)
{
    char name[FAMILY_NAME_MAX], expected[96], got[128];
    const struct tensor *t = find(m, cp, pattern, name);
    const int64_t shape[] = {1, rows, m->config->hidden};
    snprintf(expected, sizeof expected, "[1, %lld, %lld]", (long long)rows,
             (long long)m->config->hidden);
    if (!t)
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, NULL, name, expected, NULL,
                     "%s: tensor %s is missing", cp->dir, name);
    else if (!dtype_is_float(t->dtype))
        findings_add(findings, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, NULL, name, "F32, F16 or BF16",
                     dtype_name(t->dtype), "%s: tensor %s is %s; expected F32, F16 or BF16",
                     t->file, name, dtype_name(t->dtype));
    else if (!tensor_shape_is(t, 3, shape))
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, NULL, name, expected,
                     tensor_shape_text(t, got, sizeof got),
                     "%s: tensor %s has shape %s; expected %s (image_size and patch_size decide)",
                     t->file, name, got, expected);
}

void patches_check(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    const struct family *f = m->config->family;
    if (!f->class_token)
        return;
    check_table(m, cp, f->class_token, 1, findings);
    check_table(m, cp, f->table, m->config->position_rows, findings);
}

void patches_mark(const struct model *m, const struct checkpoint *cp, bool *seen)
{
    const struct family *f = m->config->family;
    const char *const patterns[] = {f->class_token, f->table};
    char name[FAMILY_NAME_MAX];
    for (int i = 0; i < 2; i++) {
        const struct tensor *t = find(m, cp, patterns[i], name);
        if (t)
            seen[t - cp->tensors] = true;
    }
}

static float *load(struct model *m, const struct checkpoint *cp, const char *pattern)
{
    char name[FAMILY_NAME_MAX];
    const struct tensor *t = find(m, cp, pattern, name);
    int64_t n = tensor_elements(t);
    float *v = arena_alloc(&m->config->arena, (size_t)n * sizeof *v);
    if (v)
        tensor_to_f32(t, 0, n, v);
    return v;
}

enum status patches_load(struct model *m, const struct checkpoint *cp, struct error *err)
{
    struct model_config *c = m->config;
    if (!c->family->class_token)
        return ST_OK;
    c->class_token = load(m, cp, c->family->class_token);
    c->table = c->class_token ? load(m, cp, c->family->table) : NULL;
    return c->table ? ST_OK : error_memory(err, "the base");
}

/* ---- plan ---- */

enum status patches_plan(const struct model *m, struct image_plan *p, const char *param,
                         struct error *err)
{
    const struct image_size *want = &m->image, *got = &p->size;
    if (want->channels != got->channels || want->height != got->height || want->width != got->width)
        return error_param(err, ST_INVALID_VALUE, param,
                           "%s: images of [%d, %d, %d] are expected (channels, height, width), got "
                           "[%d, %d, %d]",
                           param, (int)want->channels, (int)want->height, (int)want->width,
                           (int)got->channels, (int)got->height, (int)got->width);
    p->positions = m->config->max_positions;
    p->shape[0] = p->positions;
    p->shape[1] = m->hidden;
    p->rank = 2;
    p->folded = conv_folded(m, m->config->patches, got->height, got->width);
    return ST_OK;
}

/* What a pass over n images works in. */
struct tokens {
    float *patches, *rows; /* [n * squares, ld], [n * positions, ld] */
    struct folding folding;
    struct row_group *groups;
    int32_t *positions, *ends, *numbers; /* [n * positions]; numbers: of the pages */
    const int32_t **pages;
    struct row_output *outputs;
    float *k, *v;
};

static int64_t pages_of(const struct image_plan *p)
{
    return (p->positions + KV_PAGE - 1) / KV_PAGE;
}

static void cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c,
                struct tokens *to)
{
    int64_t rows = (int64_t)n * p->positions, ld = row_stride(m->config->hidden);
    int64_t page = (int64_t)m->kv_heads * m->head_dim * KV_PAGE;
    to->patches = cut_take(c, rows, ld, sizeof(float));
    to->rows = cut_take(c, rows, ld, sizeof(float));
    to->folding.all = cut_take(c, n, (int64_t)p->folded, sizeof(float));
    to->folding.one = cut_take(c, 1, (int64_t)p->folded, sizeof(float));
    to->groups = cut_take(c, n, 1, sizeof *to->groups);
    to->positions = cut_take(c, rows, 1, sizeof *to->positions);
    to->ends = cut_take(c, rows, 1, sizeof *to->ends);
    to->numbers = cut_take(c, n, pages_of(p), sizeof *to->numbers);
    to->pages = cut_take(c, rows, 1, sizeof *to->pages);
    to->outputs = cut_take(c, rows, 1, sizeof *to->outputs);
    to->k = cut_take(c, n * pages_of(p) * m->layers, page, sizeof(float));
    to->v = cut_take(c, n * pages_of(p) * m->layers, page, sizeof(float));
}

void patches_cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c)
{
    struct tokens tokens;
    cut(m, p, n, c, &tokens);
}

/* ---- pass ---- */

static void embed(const struct model_config *c, const struct tokens *t, int32_t images)
{
    int64_t ld = row_stride(c->hidden);
    float *to = t->rows;
    const float *patch = t->patches;
    for (int32_t image = 0; image < images; image++)
        for (int64_t at = 0; at < c->max_positions; at++, to += ld) {
            const float *from = at == 0 ? c->class_token : patch,
                        *learned = c->table + at * c->hidden;
            for (int64_t i = 0; i < c->hidden; i++)
                to[i] = from[i] + learned[i];
            patch += at > 0 ? ld : 0;
        }
}

/* An image is a sequence on pages of its own. */
static void place(const struct image_plan *p, const struct tokens *t, int32_t images)
{
    int64_t pages = pages_of(p), row = 0;
    for (int32_t i = 0; i < images; i++) {
        int32_t *own = t->numbers + i * pages;
        for (int64_t page = 0; page < pages; page++)
            own[page] = (int32_t)(i * pages + page);
        for (int32_t at = 0; at < p->positions; at++, row++) {
            t->positions[row] = at;
            t->ends[row] = p->positions;
            t->pages[row] = own;
        }
    }
}

/* Logits are the first row's. */
static int32_t want(const struct model *m, const struct image_batch *b, const struct tokens *t)
{
    int32_t n = 0, positions = b->plan->positions;
    for (int32_t row = 0; row < b->n * positions; row++) {
        const struct image_output *o = &b->outputs[row / positions];
        int64_t at = row % positions;
        struct row_output to = {.row = row};
        to.hidden = o->hidden ? o->hidden + at * m->hidden : NULL;
        to.logits = at == 0 ? o->logits : NULL;
        to.pooled = at == 0 ? o->pooled : NULL;
        if (to.hidden || to.logits || to.pooled)
            t->outputs[n++] = to;
    }
    return n;
}

enum status patches_forward(const struct pass *p, const struct image_batch *b, void *work,
                            struct error *err)
{
    const struct model *m = p->model;
    const struct map pixels = map_of_pixels(b->pixels, b->n, b->plan->size);
    int64_t ld = row_stride(m->config->hidden), positions = b->plan->positions;
    struct cut c = {.memory = work};
    struct tokens t;
    cut(m, b->plan, b->n, &c, &t);
    enum status s = conv_forward(p, m->config->patches, &pixels, t.patches, ld, &t.folding, err);
    if (s != ST_OK)
        return s;
    embed(m->config, &t, b->n);
    place(b->plan, &t, b->n);
    int32_t rows = (int32_t)(b->n * positions);
    const struct pass part = pass_of_span(p, positions, 0, rows, t.groups);
    const struct kv kv = {.dtype = DT_F32,
                          .layers = m->layers,
                          .kv_heads = m->kv_heads,
                          .head_dim = m->head_dim,
                          .n_pages = b->n * pages_of(b->plan),
                          .page_bytes = (size_t)m->kv_heads * kv_head_bytes(DT_F32, m->head_dim),
                          .k = t.k,
                          .v = t.v};
    const struct batch batch = {.view = b->view,
                                .kernels = b->kernels,
                                .rows = rows,
                                .embedded = t.rows,
                                .ld_embedded = ld,
                                .at = {rows, t.positions, t.pages, t.ends},
                                .kv = &kv,
                                .groups = t.groups,
                                .n_groups = part.n_groups,
                                .outputs = t.outputs,
                                .n_outputs = want(m, b, &t)};
    model_forward(m, &batch, p->scratch);
    return ST_OK;
}
