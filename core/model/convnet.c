/*
 * Owns the pass of a convnet: stem, stages of blocks, the mean over the image, the head. Four maps
 * are enough for any depth: a block reads one, works in two, keeps its shortcut in the last; then
 * the first and the result change places.
 *
 *     r = shortcut? norm(conv(x)) : x
 *     y = relu(norm(conv_1(x)));  [y = relu(norm(conv_2(y)));]  y = norm(conv_last(y))
 *     x = act(y + r)
 *
 * act is the config's; within a block the reference has relu whatever the config says.
 */
#include <string.h>

#include "core/model/image_pass.h"

struct maps {
    float *x, *y, *z, *r; /* [n, map] */
    struct folding folding;
    float *pooled;   /* [n, row_stride(hidden)]; of those whose labels are wanted: */
    int32_t *images; /* [n] */
    float **logits;  /* [n] */
};

struct convnet {
    const struct pass *p; /* its rows are images */
    struct maps *maps;
    int32_t height, width; /* of x at the moment */
    struct error *err;
};

/* Pixels of a 3x3 pool of stride 2 and padding 1. */
static int32_t pool_size(int32_t in)
{
    return (in - 1) / 2 + 1;
}

/* The module of a block's convolution, counted from 0. */
static int32_t conv_module(const struct model_config *c, int32_t stage, int32_t block, int32_t i)
{
    return c->layers[stage].module[ROLE_CONV_1] + block * c->convs + i;
}

/* ---- plan ---- */

struct sizes {
    const struct model *m;
    struct image_plan *p;
    int32_t height, width; /* of the map at hand */
};

/* Notes the map behind a convolution of one that is height x width. */
static void note(struct sizes *s, int32_t module, int32_t *height, int32_t *width)
{
    const struct module *u = &s->m->modules[module];
    size_t folded = conv_folded(s->m, module, *height, *width);
    *height = conv_size(&u->conv, 0, *height);
    *width = conv_size(&u->conv, 1, *width);
    size_t map = (size_t)*height * (size_t)*width * (size_t)row_stride(u->n);
    s->p->map = map > s->p->map ? map : s->p->map;
    s->p->folded = folded > s->p->folded ? folded : s->p->folded;
}

static void note_block(struct sizes *s, int32_t stage, int32_t block)
{
    const struct model_config *c = s->m->config;
    int32_t height = s->height, width = s->width, shortcut = c->layers[stage].module[ROLE_SHORTCUT];
    if (block == 0 && shortcut >= 0)
        note(s, shortcut, &height, &width);
    for (int32_t i = 0; i < c->convs; i++)
        note(s, conv_module(c, stage, block, i), &s->height, &s->width);
}

enum status convnet_plan(const struct model *m, struct image_plan *p, const char *param,
                         struct error *err)
{
    const struct model_config *c = m->config;
    struct sizes s = {m, p, p->size.height, p->size.width};
    if (p->size.channels != m->image.channels)
        return error_param(err, ST_INVALID_VALUE, param,
                           "%s: images of %d channels are expected, got %d", param,
                           (int)m->image.channels, (int)p->size.channels);
    note(&s, c->stem_module, &s.height, &s.width);
    s.height = pool_size(s.height);
    s.width = pool_size(s.width);
    for (int32_t stage = 0; stage < m->layers; stage++)
        for (int32_t block = 0; block < c->depths[stage]; block++)
            note_block(&s, stage, block);
    p->shape[0] = c->hidden;
    p->shape[1] = s.height;
    p->shape[2] = s.width;
    p->rank = 3;
    p->positions = 1;
    return ST_OK;
}

static void cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c,
                struct maps *to)
{
    to->x = cut_take(c, n, (int64_t)p->map, sizeof(float));
    to->y = cut_take(c, n, (int64_t)p->map, sizeof(float));
    to->z = cut_take(c, n, (int64_t)p->map, sizeof(float));
    to->r = cut_take(c, n, (int64_t)p->map, sizeof(float));
    to->folding.all = cut_take(c, n, (int64_t)p->folded, sizeof(float));
    to->folding.one = cut_take(c, 1, (int64_t)p->folded, sizeof(float));
    to->pooled = cut_take(c, n, row_stride(m->hidden), sizeof(float));
    to->images = cut_take(c, n, 1, sizeof *to->images);
    to->logits = cut_take(c, n, 1, sizeof *to->logits);
}

void convnet_cut(const struct model *m, const struct image_plan *p, int32_t n, struct cut *c)
{
    struct maps maps;
    cut(m, p, n, c, &maps);
}

/* ---- pass ---- */

/* A convolution with what follows it, from in to out; sizes become those of out. */
static enum status layer(const struct convnet *t, int32_t module, const struct map *in,
                         enum activation act, float *out, int32_t *height, int32_t *width)
{
    const struct pass *p = t->p;
    const struct module *u = &p->model->modules[module];
    const struct model_config *c = p->model->config;
    int64_t ld = row_stride(u->n);
    enum status s = conv_forward(p, module, in, out, ld, &t->maps->folding, t->err);
    if (s != ST_OK)
        return s;
    *height = conv_size(&u->conv, 0, in->height);
    *width = conv_size(&u->conv, 1, in->width);
    int32_t rows = in->n * *height * *width;
    affine_rows(&c->affine[module], out, ld, rows, u->n);
    if (act != ACT_NONE)
        p->kernels->activate(p->kernels, act, out, ld, NULL, 0, rows, u->n, out, ld);
    return ST_OK;
}

/* The largest of each 3x3 window, every other pixel; padding never wins. */
static void max_pool(const struct map *in, float *out)
{
    int32_t height = pool_size(in->height), width = pool_size(in->width);
    int64_t ld = in->pixel;
    for (int32_t image = 0; image < in->n; image++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t x = 0; x < width; x++, out += ld) {
                bool first = true;
                for (int32_t at = 0; at < 9; at++) {
                    int32_t row = 2 * y - 1 + at / 3, column = 2 * x - 1 + at % 3;
                    if (row < 0 || row >= in->height || column < 0 || column >= in->width)
                        continue;
                    const float *from =
                        in->v + image * in->image + ((int64_t)row * in->width + column) * in->pixel;
                    for (int32_t i = 0; i < in->channels; i++) // a NaN stays one
                        if (first || from[i] > out[i] || from[i] != from[i])
                            out[i] = from[i];
                    first = false;
                }
            }
}

static void swap(float **a, float **b)
{
    float *t = *a;
    *a = *b;
    *b = t;
}

static enum status stem(struct convnet *t, const struct map *pixels)
{
    const struct model_config *c = t->p->model->config;
    struct maps *maps = t->maps;
    enum status s = layer(t, c->stem_module, pixels, c->activation, maps->y, &t->height, &t->width);
    if (s != ST_OK)
        return s;
    const struct map y =
        map_of_rows(maps->y, row_stride(c->stem), pixels->n, c->stem, t->height, t->width);
    max_pool(&y, maps->x);
    t->height = pool_size(t->height);
    t->width = pool_size(t->width);
    return ST_OK;
}

static enum status block(struct convnet *t, int32_t stage, int32_t index)
{
    const struct pass *p = t->p;
    const struct model_config *c = p->model->config;
    const struct kernels *kernels = p->kernels;
    struct maps *maps = t->maps;
    int32_t first = conv_module(c, stage, index, 0), height, width;
    int32_t shortcut = index == 0 ? c->layers[stage].module[ROLE_SHORTCUT] : -1;
    int32_t channels = p->model->modules[first].conv.channels;
    const struct map x =
        map_of_rows(maps->x, row_stride(channels), p->rows, channels, t->height, t->width);
    struct map in = x;
    for (int32_t i = 0; i < c->convs; i++) {
        enum activation act = i < c->convs - 1 ? ACT_RELU : ACT_NONE;
        enum status s = layer(t, first + i, &in, act, maps->y, &t->height, &t->width);
        if (s != ST_OK)
            return s;
        swap(&maps->y, &maps->z);
        channels = (int32_t)p->model->modules[first + i].n;
        in = map_of_rows(maps->z, row_stride(channels), p->rows, channels, t->height, t->width);
    }
    if (shortcut >= 0) {
        enum status s = layer(t, shortcut, &x, ACT_NONE, maps->r, &height, &width);
        if (s != ST_OK)
            return s;
        swap(&maps->r, &maps->x);
    }
    int32_t rows = p->rows * t->height * t->width;
    kernels->add(kernels, maps->z, in.pixel, maps->x, in.pixel, rows, channels);
    kernels->activate(kernels, c->activation, maps->z, in.pixel, NULL, 0, rows, channels, maps->z,
                      in.pixel);
    swap(&maps->x, &maps->z);
    return ST_OK;
}

/* The mean over each image, and what is wanted of the last map. */
static void finish(const struct convnet *t, const struct image_output *outputs)
{
    const struct pass *p = t->p;
    const struct maps *maps = t->maps;
    int64_t hidden = p->model->hidden, ld = row_stride(hidden);
    int64_t pixels = (int64_t)t->height * t->width;
    int32_t n = 0;
    for (int32_t image = 0; image < p->rows; image++) {
        const struct image_output *out = &outputs[image];
        const float *from = maps->x + image * pixels * ld;
        float *mean = maps->pooled + n * ld;
        for (int64_t i = 0; i < hidden; i++) {
            float sum = 0;
            for (int64_t at = 0; at < pixels; at++) {
                sum += from[at * ld + i];
                if (out->hidden)
                    out->hidden[i * pixels + at] = from[at * ld + i];
            }
            mean[i] = sum / (float)pixels;
        }
        if (out->pooled)
            memcpy(out->pooled, mean, (size_t)hidden * sizeof *mean);
        if (out->logits) {
            maps->images[n] = image;
            maps->logits[n++] = out->logits;
        }
    }
    if (n > 0)
        classifier_forward(p, maps->images, maps->pooled, ld, maps->logits, n);
}

enum status convnet_forward(const struct pass *p, const struct image_batch *b, void *work,
                            struct error *err)
{
    const struct model *m = p->model;
    struct cut c = {.memory = work};
    struct maps maps;
    cut(m, b->plan, b->n, &c, &maps);
    struct convnet t = {.p = p, .maps = &maps, .err = err};
    const struct map pixels = map_of_pixels(b->pixels, b->n, b->plan->size);
    enum status s = stem(&t, &pixels);
    for (int32_t stage = 0; stage < m->layers; stage++)
        for (int32_t i = 0; i < m->config->depths[stage] && s == ST_OK; i++)
            s = block(&t, stage, i);
    if (s == ST_OK)
        finish(&t, b->outputs);
    return s;
}
