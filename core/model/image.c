/*
 * Owns what all image passes have in common: whether a size fits, how many images go at once and
 * how much memory they take, and one convolution by itself.
 */
#include "core/model/image.h"

#include <string.h>

#include "core/model/image_pass.h"

#define SIDE_MAX   (1 << 16)
#define PIXELS_MAX (1 << 26) /* of an image: rows of its maps fit int32 */

/* ---- one convolution ---- */

static enum status conv_plan(const struct model *m, struct image_plan *p, const char *param,
                             struct error *err)
{
    const struct module *u = &m->modules[p->module];
    int32_t height = conv_size(&u->conv, 0, p->size.height);
    int32_t width = conv_size(&u->conv, 1, p->size.width);
    if (p->size.channels != u->conv.channels || height < 1 || width < 1)
        return error_param(err, ST_INVALID_VALUE, param,
                           "%s: module %s takes images of %d channels that hold its windows of "
                           "%dx%d, got [%d, %d, %d]",
                           param, u->name, (int)u->conv.channels, (int)u->conv.kernel[0],
                           (int)u->conv.kernel[1], (int)p->size.channels, (int)p->size.height,
                           (int)p->size.width);
    p->shape[0] = u->n;
    p->shape[1] = height;
    p->shape[2] = width;
    p->rank = 3;
    p->positions = 1;
    p->map = (size_t)height * (size_t)width * (size_t)row_stride(u->n);
    p->folded = conv_folded(m, p->module, p->size.height, p->size.width);
    return ST_OK;
}

struct alone {
    float *out; /* [n, map] */
    struct folding folding;
};

static void conv_cut(const struct image_plan *p, int32_t n, struct cut *c, struct alone *to)
{
    to->out = cut_take(c, n, (int64_t)p->map, sizeof(float));
    to->folding.all = cut_take(c, n, (int64_t)p->folded, sizeof(float));
    to->folding.one = cut_take(c, 1, (int64_t)p->folded, sizeof(float));
}

static enum status conv_alone(const struct pass *p, const struct image_batch *b, void *work,
                              struct error *err)
{
    const struct image_plan *plan = b->plan;
    const struct map pixels = map_of_pixels(b->pixels, b->n, plan->size);
    int64_t n = plan->shape[0], size = plan->shape[1] * plan->shape[2], ld = row_stride(n);
    struct cut c = {.memory = work};
    struct alone t;
    conv_cut(plan, b->n, &c, &t);
    enum status s = conv_forward(p, plan->module, &pixels, t.out, ld, &t.folding, err);
    for (int64_t image = 0; image < b->n && s == ST_OK; image++)
        for (int64_t at = 0; at < size; at++)
            for (int64_t i = 0; i < n; i++)
                b->outputs[image].hidden[i * size + at] = t.out[(image * size + at) * ld + i];
    return s;
}

/* ---- all of them ---- */

enum status image_plan(const struct model *m, int32_t module, struct image_size size,
                       const char *param, struct image_plan *out, struct error *err)
{
    *out = (struct image_plan){.module = module, .size = size};
    if (size.channels < 1 || size.height < 1 || size.width < 1 || size.height > SIDE_MAX ||
        size.width > SIDE_MAX || (int64_t)size.height * size.width > PIXELS_MAX)
        return error_param(err, ST_INVALID_VALUE, param,
                           "%s: sides of 1 to %d and at most %d pixels are expected, got [%d, %d, "
                           "%d]",
                           param, SIDE_MAX, PIXELS_MAX, (int)size.channels, (int)size.height,
                           (int)size.width);
    if (module >= 0)
        return conv_plan(m, out, param, err);
    if (m->image.channels == 0)
        return error_param(err, ST_NOT_SUPPORTED, param,
                           "a '%s' model reads tokens: send input_ids or text", m->model_type);
    return m->kind == MODEL_CONVNET ? convnet_plan(m, out, param, err)
                                    : patches_plan(m, out, param, err);
}

size_t image_bytes(const struct model *m, const struct image_plan *p, int32_t n)
{
    struct cut c = {0};
    struct alone alone;
    if (p->module >= 0)
        conv_cut(p, n, &c, &alone);
    else if (m->kind == MODEL_CONVNET)
        convnet_cut(m, p, n, &c);
    else
        patches_cut(m, p, n, &c);
    return c.overflow ? SIZE_MAX : c.used;
}

int32_t image_at_once(const struct model *m, const struct image_plan *p, int32_t max_rows,
                      int32_t max_groups, size_t bytes)
{
    int32_t most = max_rows / p->positions, n = 1;
    most = most < max_groups ? most : max_groups;
    while (n < most && image_bytes(m, p, n + 1) <= bytes)
        n++;
    return n;
}

enum status image_forward(const struct model *m, const struct image_batch *b, void *work,
                          struct scratch *s, struct error *err)
{
    const struct pass p = {m, b->view, b->kernels, b->groups, b->n_groups, b->n, s, false};
    if (b->plan->module >= 0)
        return conv_alone(&p, b, work, err);
    return m->kind == MODEL_CONVNET ? convnet_forward(&p, b, work, err)
                                    : patches_forward(&p, b, work, err);
}
