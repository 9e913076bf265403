#include "core/run/image.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/run/forward.h"

#define WORK_BYTES ((size_t)64 << 20) /* of a slice, where one image does not take more */

/* Plans and copies the images; how many go at once is known then. */
static enum status take(struct ticket *t, int32_t module, const char *param,
                        const struct images *from, struct error *err)
{
    struct request *r = t->request;
    const struct model *m = r->host->model;
    const struct engine_options *o = r->host->options;
    enum status s = image_plan(m, module, from->size, param, &r->images, err);
    if (s != ST_OK)
        return s;
    const int64_t v[] = {from->n, from->size.channels, from->size.height, from->size.width,
                         sizeof *from->pixels};
    int64_t bytes;
    if (!size_product(v, 5, &bytes) ||
        !(r->pixels = arena_copy(&t->arena, from->pixels, (size_t)bytes)))
        return error_memory(err, "images");
    r->module_rows = from->n;
    r->at_once = image_at_once(m, &r->images, o->max_rows, o->max_sequences, WORK_BYTES);
    return ST_OK;
}

enum status images_forward(struct ticket *t, const struct forward_request *q, struct error *err)
{
    enum status s = take(t, -1, "pixel_values", q->images, err);
    return s == ST_OK ? forward_check_size(t->request, err) : s;
}

enum status images_module(struct ticket *t, const struct module_request *q, struct error *err)
{
    struct request *r = t->request;
    enum status s = take(t, r->module, "input", &q->images, err);
    if (s != ST_OK)
        return s;
    r->module_out = image_numbers(&r->images);
    s = forward_check_reply(r->host, q->images.n, r->module_out, err);
    if (s != ST_OK)
        return s;
    r->module_result =
        malloc((size_t)q->images.n * (size_t)r->module_out * sizeof *r->module_result);
    return r->module_result ? ST_OK : error_memory(err, "a module's images");
}

/* ---- a slice (worker) ---- */

struct portion {
    struct image_batch b;
    struct row_group *groups;
    struct image_output *outputs;
    void *work;
};

/* The route of an image; a module has one for all. */
static const struct route *route_of(const struct request *r, int32_t image)
{
    return &r->routes[r->kind == REQUEST_IMAGES ? image : 0];
}

/* The first place of the row's logits, whatever they are for. */
static float *logits_of(const struct forward_row *row)
{
    return (float *)(row->logits        ? row->logits
                     : row->last_logits ? row->last_logits
                                        : row->logprobs);
}

static struct image_output output_of(const struct request *r, int32_t image)
{
    struct image_output out = {0};
    if (r->kind != REQUEST_IMAGES) {
        out.hidden = r->module_result + image * r->module_out;
        return out;
    }
    const struct forward_row *row = &r->rows[image];
    out.logits = logits_of(row);
    out.hidden = (float *)row->hidden;
    out.pooled = (float *)row->embedding;
    return out;
}

/* Images from `first` on that see one view, at most `most`; neighbours of one chain are a group. */
static void collect(const struct request *r, int32_t first, int32_t most, struct portion *s)
{
    const struct route *start = route_of(r, first);
    int64_t numbers_in =
        (int64_t)r->images.size.channels * r->images.size.height * r->images.size.width;
    s->b = (struct image_batch){.plan = &r->images,
                                .view = start->view,
                                .pixels = r->pixels + first * numbers_in,
                                .groups = s->groups,
                                .outputs = s->outputs};
    for (int32_t i = first; i < r->module_rows && s->b.n < most; i++) {
        const struct route *route = route_of(r, i);
        const struct route *before = i > first ? route_of(r, i - 1) : NULL;
        if (route->view != start->view)
            return;
        if (!before || memcmp(route->key, before->key, PREFIX_KEY) != 0)
            s->groups[s->b.n_groups++] = (struct row_group){
                .first = s->b.n, .n = route->n_adapted, .adapted = route->adapted};
        s->groups[s->b.n_groups - 1].count++;
        s->outputs[s->b.n++] = output_of(r, i);
    }
}

int32_t images_run(struct request *r, int32_t first, const struct kernels *kernels,
                   struct scratch *scratch, struct error *err)
{
    const struct model *m = r->host->model;
    int32_t left = r->module_rows - first, most = left < r->at_once ? left : r->at_once;
    size_t bytes = image_bytes(m, &r->images, most);
    struct portion s = {.groups = calloc((size_t)most, sizeof *s.groups),
                        .outputs = calloc((size_t)most, sizeof *s.outputs),
                        .work = bytes < SIZE_MAX ? memory_alloc(bytes) : NULL};
    int32_t done = 0;
    if (s.groups && s.outputs && s.work) {
        collect(r, first, most, &s);
        s.b.kernels = kernels;
        if (image_forward(m, &s.b, s.work, scratch, err) == ST_OK)
            done = s.b.n;
    } else {
        error_memory(err, "the maps of an image");
    }
    free(s.groups);
    free(s.outputs);
    memory_free(s.work);
    return done;
}

/* n numbers, or none. */
static bool all_finite(const float *v, int64_t n)
{
    return !v || sampler_finite(v, n);
}

enum status images_finish(struct request *r, const struct kernels *kernels, struct error *err)
{
    const struct model *m = r->host->model;
    for (int32_t i = 0; i < r->module_rows; i++) {
        const struct forward_row *row = &r->rows[i];
        const float *logits = logits_of(row);
        float *const more[] = {(float *)row->last_logits, (float *)row->logprobs};
        if (!all_finite(logits, row->width) ||
            !all_finite(row->hidden, image_numbers(&r->images)) ||
            !all_finite(row->embedding, m->hidden))
            return error_set(err, ST_NON_FINITE_OUTPUT, "row %d: a result is not finite", i);
        for (int k = 0; k < 2; k++)
            if (more[k] && more[k] != logits)
                memcpy(more[k], logits, (size_t)row->width * sizeof *logits);
        if (row->logprobs)
            sampler_log_softmax(kernels, (float *)row->logprobs, row->width);
    }
    return ST_OK;
}
