/*
 * Owns the convolution: y = unfold(x) R W^T + bias. Each window of the image is a row in the order
 * (channel, row, column), zeros beyond the edge; the row is rotated like any input of a linear
 * module and all rows, of all images and adapters, meet the shared W in one product. This is what a
 * merge computes (W' = W R^T), for every stride, padding and dilation. A 1x1 convolution's rows are
 * the pixels themselves.
 *
 * PEFT's unmerged forward is another function, and --conv2d peft serves it: windows of the image
 * without its padding, one for each place, are rotated and then summed back into an image of the
 * same size, on which the base's convolution runs. The sum never divides by the number of windows,
 * and the layout that it hands to the sum is (channel, place, window) where the sum reads (channel,
 * window, place), so that values go elsewhere than they came from. Both are reproduced exactly:
 * adapters were trained under it. 1x1 windows do not overlap: there both are the same function, and
 * nothing is folded.
 *
 *     flat index within a channel: place * window + w  =  w' * places + place'
 *     out[place'.y + w'.y][place'.x + w'.x] += rotated[place][channel][w]
 */
#include <string.h>

#include "core/model/image_pass.h"

int32_t conv_size(const struct conv2d *c, int axis, int32_t in)
{
    int64_t window = (int64_t)c->dilation[axis] * (c->kernel[axis] - 1) + 1;
    int64_t room = (int64_t)in + 2 * (int64_t)c->padding[axis] - window;
    return room < 0 ? 0 : (int32_t)(room / c->stride[axis] + 1);
}

struct map map_of_rows(const float *v, int64_t ld, int32_t n, int32_t channels, int32_t height,
                       int32_t width)
{
    return (struct map){v, n, channels, height, width, ld * height * width, ld, 1};
}

struct map map_of_pixels(const float *v, int32_t n, struct image_size size)
{
    int64_t plane = (int64_t)size.height * size.width;
    return (struct map){v, n,    size.channels, size.height, size.width, plane * size.channels,
                        1, plane};
}

/* ---- windows ---- */

/* One window at (y, x) of an image, in the order (channel, row, column). */
static void gather(const struct map *in, const struct conv2d *c, const float *image, int64_t y,
                   int64_t x, float *to)
{
    for (int32_t channel = 0; channel < in->channels; channel++) {
        const float *plane = image + channel * in->channel;
        for (int32_t i = 0; i < c->kernel[0]; i++) {
            int64_t row = y + (int64_t)i * c->dilation[0];
            bool inside = row >= 0 && row < in->height;
            for (int32_t j = 0; j < c->kernel[1]; j++) {
                int64_t column = x + (int64_t)j * c->dilation[1];
                bool hit = inside && column >= 0 && column < in->width;
                *to++ = hit ? plane[(row * in->width + column) * in->pixel] : 0;
            }
        }
    }
}

/* The windows of output pixels [first, first + n) of all images, to rows [n, ld]. */
static void unfold(const struct map *in, const struct conv2d *c, int64_t first, int32_t n,
                   float *to, int64_t ld)
{
    int64_t height = conv_size(c, 0, in->height), width = conv_size(c, 1, in->width);
    for (int32_t r = 0; r < n; r++, to += ld) {
        int64_t at = first + r, image = at / (height * width), y = at / width % height;
        gather(in, c, in->v + image * in->image, y * c->stride[0] - c->padding[0],
               at % width * c->stride[1] - c->padding[1], to);
    }
}

/* ---- PEFT's forward ---- */

size_t conv_folded(const struct model *m, int32_t module, int32_t height, int32_t width)
{
    const struct module *u = &m->modules[module];
    if (!m->conv2d_peft || !module_has_windows(u))
        return 0;
    return (size_t)height * (size_t)width * (size_t)u->conv.channels;
}

/* Adds the rotated windows of places [first, first + n), rows [n, ld], to an image (rows of its
 * channels). */
static void scatter(const struct map *one, const struct conv2d *c, int64_t first, int32_t n,
                    const float *rows, int64_t ld, float *to)
{
    int64_t height = conv_size(c, 0, one->height), width = conv_size(c, 1, one->width);
    int64_t places = height * width, window = (int64_t)c->kernel[0] * c->kernel[1];
    for (int32_t r = 0; r < n; r++)
        for (int64_t channel = 0; channel < one->channels; channel++)
            for (int64_t w = 0; w < window; w++) {
                int64_t flat = (first + r) * window + w, seen = flat / places;
                int64_t place = flat % places;
                int64_t y = place / width + seen / c->kernel[1];
                int64_t x = place % width + seen % c->kernel[1];
                to[(y * one->width + x) * one->pixel + channel] +=
                    rows[r * ld + channel * window + w];
            }
}

/* One image (rows of its channels) through one rotation: from -> to. */
static void fold_image(const struct pass *p, const struct module *u, const struct map *one,
                       const struct rotation *r, float *to)
{
    struct scratch *s = p->scratch;
    struct input *in = &s->input[0];
    struct conv2d every = u->conv;
    for (int axis = 0; axis < 2; axis++) {
        every.stride[axis] = every.dilation[axis] = 1;
        every.padding[axis] = 0;
    }
    int64_t places = (int64_t)conv_size(&every, 0, one->height) * conv_size(&every, 1, one->width);
    memset(to, 0, (size_t)one->image * sizeof *to);
    for (int64_t first = 0; first < places; first += s->max_rows) {
        int32_t n = places - first < s->max_rows ? (int32_t)(places - first) : s->max_rows;
        const struct rotate_group all = {0, n, 1, &r};
        unfold(one, &every, first, n, s->wide, s->ld_input);
        const struct prepare_job prepare = {.x = s->wide,
                                            .ldx = s->ld_input,
                                            .k = u->k,
                                            .rows = n,
                                            .n_groups = 1,
                                            .groups = &all,
                                            .buffer = in->buffer,
                                            .a = &in->act};
        p->kernels->prepare(p->kernels, &prepare, 1);
        scatter(one, &every, first, n, in->act.x, in->act.ldx, to);
    }
}

/* An image as rows of its channels. */
static void copy_image(const struct map *in, int64_t image, float *to)
{
    const float *from = in->v + image * in->image;
    int64_t pixels = (int64_t)in->height * in->width;
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t channel = 0; channel < in->channels; channel++)
            *to++ = from[i * in->pixel + channel * in->channel];
}

static bool rotates(const struct pass *p, int32_t module)
{
    for (int32_t g = 0; g < p->n_groups; g++)
        for (int32_t a = 0; a < p->groups[g].n; a++)
            if (p->groups[g].adapted[a]->rotation[module])
                return true;
    return false;
}

/* All images, each through the rotations of its adapters in order, to f->all. */
static enum status fold(const struct pass *p, int32_t module, const struct map *in,
                        const struct folding *f, struct error *err)
{
    const struct module *u = &p->model->modules[module];
    int64_t size = (int64_t)in->height * in->width * in->channels;
    if (in->height < u->conv.kernel[0] || in->width < u->conv.kernel[1])
        return error_set(err, ST_INVALID_VALUE,
                         "module %s: its windows of %dx%d do not fit the image of %dx%d there, on "
                         "which PEFT's own forward fails (--conv2d peft)",
                         u->name, (int)u->conv.kernel[0], (int)u->conv.kernel[1], (int)in->height,
                         (int)in->width);
    for (int32_t g = 0; g < p->n_groups; g++) {
        const struct row_group *group = &p->groups[g];
        for (int32_t image = group->first; image < group->first + group->count; image++) {
            float *at = f->all + image * size;
            const struct map one =
                map_of_rows(at, in->channels, 1, in->channels, in->height, in->width);
            copy_image(in, image, at);
            for (int32_t a = 0; a < group->n; a++) {
                const struct rotation *r = group->adapted[a]->rotation[module];
                if (!r)
                    continue;
                fold_image(p, u, &one, r, f->one);
                memcpy(at, f->one, (size_t)size * sizeof *at);
            }
        }
    }
    return ST_OK;
}

/* ---- the product ---- */

/* Are the rows of the product the map's own? */
static bool is_product(const struct map *in, const struct conv2d *c)
{
    return c->kernel[0] == 1 && c->kernel[1] == 1 && c->stride[0] == 1 && c->stride[1] == 1 &&
           c->padding[0] == 0 && c->padding[1] == 0 && in->channel == 1 && in->pixel % TILE_K == 0;
}

enum status conv_forward(const struct pass *p, int32_t module, const struct map *in, float *out,
                         int64_t ld, const struct folding *f, struct error *err)
{
    const struct conv2d *c = &p->model->modules[module].conv;
    struct scratch *s = p->scratch;
    const struct map folded =
        map_of_rows(f->all, in->channels, in->n, in->channels, in->height, in->width);
    bool folds = conv_folded(p->model, module, 1, 1) > 0 && rotates(p, module);
    if (folds) {
        enum status st = fold(p, module, in, f, err);
        if (st != ST_OK)
            return st;
        in = &folded;
    }
    int64_t per = (int64_t)conv_size(c, 0, in->height) * conv_size(c, 1, in->width);
    int64_t rows = per * in->n;
    bool direct = is_product(in, c);
    for (int64_t first = 0; first < rows; first += s->max_rows) {
        int32_t n = rows - first < s->max_rows ? (int32_t)(rows - first) : s->max_rows;
        struct pass part = pass_of_span(p, per, first, n, s->tail_groups);
        part.rotated = folds;
        if (!direct)
            unfold(in, c, first, n, s->wide, s->ld_input);
        module_forward(&part, direct ? in->v + first * in->pixel : s->wide,
                       direct ? in->pixel : s->ld_input,
                       &(struct product){module, out + first * ld, ld, false}, 1);
    }
    return ST_OK;
}

void affine_rows(const struct affine *a, float *x, int64_t ld, int64_t rows, int64_t dim)
{
    for (int64_t r = 0; r < rows; r++, x += ld)
        for (int64_t i = 0; i < dim; i++)
            x[i] = x[i] * a->scale[i] + a->shift[i];
}
