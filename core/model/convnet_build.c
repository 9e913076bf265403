/*
 * Owns the shape of a convnet: what config.json says of its stages, the window of each convolution,
 * and the batch norms behind them. A network is
 *
 *     stem 7x7, stride 2 -> max pool 3x3, stride 2 -> stages of blocks -> mean -> head
 *
 * and a block is two convolutions (3x3, 3x3) or three (1x1, 3x3, 1x1 with a quarter of the width
 * between them). The first block of a stage changes width and stride; then its input is brought to
 * the new shape by a 1x1 convolution, the shortcut.
 *
 * A batch norm in inference is x * scale + shift by channel. It is never folded into the weight
 * before it: the weight must stay the one that adapters rotate and merges give back.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/build.h"
#include "core/model/keys.h"

#define STAGES_MAX 64
#define BLOCKS_MAX 4096 /* of a stage */
#define WIDTH_MAX  (1 << 20)

/* ---- config.json ---- */

/* One number for each stage into the arena; the first list that is read says how many there are. */
static int32_t *read_list(const struct keys *k, struct model_config *c, const char *key,
                          int32_t most, enum status *s)
{
    const json_t *v = keys_get(k, key);
    char expected[96];
    size_t n = json_array_size(v);
    bool good = n > 0 && n <= STAGES_MAX && (!c->base_layers || n == (size_t)c->base_layers);
    int32_t *out = good ? arena_alloc(&c->arena, n * sizeof *out) : NULL;
    if (good && !out)
        *s = ST_OUT_OF_MEMORY;
    for (size_t i = 0; i < n && out && good; i++) {
        json_int_t x = json_integer_value(json_array_get(v, i));
        good = x >= 1 && x <= most;
        out[i] = good ? (int32_t)x : 0;
    }
    if (!good) {
        snprintf(expected, sizeof expected, "one integer from 1 to %d for each of 1 to %d stages",
                 (int)most, STAGES_MAX);
        keys_refuse(k, v ? ST_CONFIG_INVALID_VALUE : ST_CONFIG_MISSING_FIELD, key, expected);
        return NULL;
    }
    c->base_layers = (int32_t)n;
    return out;
}

/* What every network has an entry for in each layer. */
static bool alloc_layers(struct model_config *c)
{
    size_t n = (size_t)c->base_layers;
    c->windows = arena_alloc(&c->arena, n * sizeof *c->windows);
    c->local = arena_alloc(&c->arena, n * sizeof *c->local);
    c->sparse = arena_alloc(&c->arena, n * sizeof *c->sparse);
    return c->windows && c->local && c->sparse;
}

enum status shape_resnet(const struct keys *k, struct model_config *c)
{
    const char *type = keys_text(k, "layer_type", "bottleneck");
    enum status s = ST_OK;
    bool bottleneck = type && !strcmp(type, "bottleneck");
    if (type && !bottleneck && strcmp(type, "basic") != 0)
        keys_refuse(k, ST_CONFIG_UNSUPPORTED, "layer_type", "bottleneck or basic");
    c->convs = bottleneck ? 3 : 2;
    if (bottleneck)
        c->conditions |= 1u << WHEN_BOTTLENECK;
    keys_bool(k, "downsample_in_first_stage", false, &c->stride_first_stage);
    keys_bool(k, "downsample_in_bottleneck", false, &c->stride_first_conv);
    keys_int(k, "num_channels", 1, 1 << 10, 3, &c->image.channels);
    keys_int(k, "embedding_size", 1, WIDTH_MAX, 64, &c->stem);
    c->widths = read_list(k, c, "hidden_sizes", WIDTH_MAX, &s);
    c->depths = read_list(k, c, "depths", BLOCKS_MAX, &s);
    if (s != ST_OK || !c->widths || !c->depths)
        return s;
    for (int32_t i = 0; i < c->base_layers && bottleneck; i++)
        if (c->widths[i] < 4) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "hidden_sizes",
                        "at least 4 where layer_type is bottleneck");
            break;
        }
    c->hidden = c->embedding_dim = c->widths[c->base_layers - 1];
    c->positions = POSITIONS_LEARNED;
    c->max_positions = 1;
    return alloc_layers(c) ? ST_OK : ST_OUT_OF_MEMORY;
}

/* ---- shapes ---- */

static int32_t width_before(const struct model_config *c, int32_t stage)
{
    return stage > 0 ? c->widths[stage - 1] : c->stem;
}

static int32_t stage_stride(const struct model_config *c, int32_t stage)
{
    return stage > 0 || c->stride_first_stage ? 2 : 1;
}

bool convnet_has_shortcut(const struct model_config *c, int32_t stage)
{
    return width_before(c, stage) != c->widths[stage] || stage_stride(c, stage) != 1;
}

/* A square window in the middle of which its output stands. */
static struct conv2d square(int32_t channels, int32_t side, int32_t stride)
{
    return (struct conv2d){.channels = channels,
                           .kernel = {side, side},
                           .stride = {stride, stride},
                           .padding = {side / 2, side / 2},
                           .dilation = {1, 1}};
}

void convnet_shape(const struct model_config *c, enum role role, int32_t stage, int32_t block,
                   struct conv2d *conv, int64_t *n)
{
    if (role == ROLE_STEM) {
        *conv = square(c->image.channels, 7, 2);
        *n = c->stem;
        return;
    }
    int32_t out = c->widths[stage], in = block > 0 ? out : width_before(c, stage);
    int32_t stride = block > 0 ? 1 : stage_stride(c, stage);
    bool three = c->convs == 3, first = !three || c->stride_first_conv;
    int32_t inner = three ? out / 4 : out;
    *n = inner;
    switch (role) {
    case ROLE_CONV_1:
        *conv = square(in, three ? 1 : 3, first ? stride : 1);
        return;
    case ROLE_CONV_2:
        *conv = square(inner, 3, first ? 1 : stride);
        return;
    case ROLE_CONV_3:
        *conv = square(inner, 1, 1);
        break;
    default:
        *conv = square(width_before(c, stage), 1, stage_stride(c, stage));
        break;
    }
    *n = out;
}

/* ---- batch norms ---- */

static const char *const vectors[] = {"weight", "bias", "running_mean", "running_var"};

/* The name of module i's batch norm in the file, in buf; NULL: it has none. */
static const char *norm_of(const struct model *m, size_t i, char buf[FAMILY_NAME_MAX])
{
    const char *last = m->config->rows[i]->norm;
    return last ? names_beside(m->modules[i].file, last, buf) : NULL;
}

void convnet_check(const struct model *m, const struct checkpoint *cp, struct findings *findings)
{
    char buf[FAMILY_NAME_MAX];
    for (size_t i = 0; i < m->n_modules; i++)
        for (size_t v = 0; norm_of(m, i, buf) && v < sizeof vectors / sizeof *vectors; v++)
            check_vector(cp, buf, vectors[v], m->modules[i].n, findings);
}

void convnet_mark(const struct model *m, const struct checkpoint *cp, bool *seen)
{
    char buf[FAMILY_NAME_MAX];
    for (size_t i = 0; i < m->n_modules; i++)
        for (size_t v = 0; norm_of(m, i, buf) && v < sizeof vectors / sizeof *vectors; v++) {
            const struct tensor *t = build_tensor(cp, buf, vectors[v]);
            if (t)
                seen[t - cp->tensors] = true;
        }
}

/* The norm's four vectors to two; in double, because scale and shift are used on every pixel. */
static enum status load_norm(struct model *m, const struct checkpoint *cp, const char *norm,
                             int64_t n, struct affine *to, struct error *err)
{
    struct arena *a = &m->config->arena;
    float *v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = arena_alloc(a, (size_t)n * sizeof **v);
        if (!v[i])
            return error_memory(err, "the base");
        tensor_to_f32(build_tensor(cp, norm, vectors[i]), 0, n, v[i]);
    }
    *to = (struct affine){v[0], v[1]};
    for (int64_t i = 0; i < n; i++) {
        double scale = v[0][i] / sqrt((double)v[3][i] + (double)m->config->norm_eps);
        to->shift[i] = (float)(v[1][i] - v[2][i] * scale);
        to->scale[i] = (float)scale;
        if (!isfinite(to->scale[i]) || !isfinite(to->shift[i]))
            return error_set(err, ST_NON_FINITE_WEIGHTS,
                             "%s: the batch norm %s is not finite in channel %lld", cp->dir, norm,
                             (long long)i);
    }
    return ST_OK;
}

enum status convnet_load(struct model *m, const struct checkpoint *cp, struct error *err)
{
    struct model_config *c = m->config;
    char buf[FAMILY_NAME_MAX];
    c->affine = arena_alloc(&c->arena, m->n_modules * sizeof *c->affine);
    if (!c->affine)
        return error_memory(err, "the base");
    for (size_t i = 0; i < m->n_modules; i++) {
        enum status s =
            norm_of(m, i, buf) ? load_norm(m, cp, buf, m->modules[i].n, &c->affine[i], err) : ST_OK;
        if (s != ST_OK)
            return s;
    }
    return ST_OK;
}
