/*
 * Owns the way back to a Hugging Face folder. Every tensor of the checkpoint has one of four fates:
 *
 *     kept      its very bytes                       what no merge has touched, names and all
 *     stored    made by the module's back end        merged modules, in the file's own
 * quantization, and those that were quantized while loading plain     decoded and rounded to one
 * dtype     every module, when a dtype is asked for cast      floats rounded to that dtype norms
 * and biases beside plain modules
 *
 * and the tensors of a merged or plain module's former quantization are left out. A head that an
 * adapter brings along takes the place of the base's, and makes the checkpoint one of its class. An
 * embedding that was merged away from the output layer that shared its matrix makes two matrices:
 * the output layer's is written too and config.json says tie_word_embeddings false.
 *
 * Tensors are laid out by falling element size, so that each is aligned to its own; a back end's
 * tensors of one module are made when they are written, and are the only ones in memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/files/writer.h"
#include "core/grow.h"
#include "core/json.h"
#include "core/merge/merge.h"
#include "core/model/view.h"

#define CHUNK (64 * 1024) /* elements that are converted at a time */

/* Everything beside config.json and the weights that belongs to a model. */
static const char *const companions[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "spiece.model",
};
#define N_COMPANIONS (sizeof companions / sizeof companions[0])

enum fate { KEPT, STORED, PLAIN, CAST };

struct entry {
    struct tensor t; /* as it is written; data only of KEPT and CAST: the source's */
    enum fate fate;
    enum dtype from;             /* CAST */
    int32_t module;              /* or -1 */
    const char *suffix;          /* STORED: the back end's name of it */
    const float *replace;        /* CAST: these floats instead of data */
    const struct weight *weight; /* PLAIN: of no module of ours */
};

struct export
{
    const struct model *m;
    const struct checkpoint *cp;
    const struct kernels *k;
    const struct merge_target *target;
    const struct view *view;
    const struct classifier *head; /* that an adapter brings along, or NULL */
    struct head_layer layers[HEAD_LAYERS_MAX];
    struct entry *v;
    size_t n, cap;
    bool untied; /* the output layer has a matrix of its own now */
    struct arena arena;
    uint64_t total, done;
};

/* ---- which module a tensor belongs to ---- */

struct owner {
    const char *file;
    int32_t module;
};

static int compare_owners(const void *a, const void *b)
{
    return strcmp(((const struct owner *)a)->file, ((const struct owner *)b)->file);
}

/* The modules that store tensors, sorted by prefix; n of them. */
static struct owner *owners_new(const struct model *m, size_t *n)
{
    struct owner *v = malloc((m->n_modules + 1) * sizeof *v);
    *n = 0;
    for (size_t i = 0; v && i < m->n_modules; i++)
        if (m->modules[i].base == (int32_t)i)
            v[(*n)++] = (struct owner){m->modules[i].file, (int32_t)i};
    if (v)
        qsort(v, *n, sizeof *v, compare_owners);
    return v;
}

/* The module whose prefix, a dot and *suffix are the tensor's name; -1: none. */
static int32_t owner_of(const struct owner *v, size_t n, const char *name, const char **suffix)
{
    char prefix[512];
    size_t len = strlen(name);
    if (len >= sizeof prefix)
        return -1;
    memcpy(prefix, name, len + 1);
    for (char *dot = strrchr(prefix, '.'); dot; dot = strrchr(prefix, '.')) {
        *dot = 0;
        struct owner key = {.file = prefix};
        const struct owner *o = bsearch(&key, v, n, sizeof *v, compare_owners);
        if (o) {
            *suffix = name + (dot - prefix) + 1;
            return o->module;
        }
    }
    return -1;
}

/* ---- planning ---- */

static struct entry *add(struct export *x, enum fate fate, int32_t module)
{
    if (!GROW(x->v, x->cap, x->n + 1, 256))
        return NULL;
    struct entry *e = &x->v[x->n++];
    *e = (struct entry){.fate = fate, .module = module};
    return e;
}

static void set_shape(struct tensor *t, enum dtype dtype, int rank, const int64_t *shape)
{
    t->dtype = dtype;
    t->rank = rank;
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->bytes = (size_t)tensor_elements(t) * dtype_size(dtype);
}

static const char *full_name(struct export *x, const char *prefix, const char *suffix)
{
    size_t n = strlen(prefix) + strlen(suffix) + 2;
    char *name = arena_alloc(&x->arena, n);
    if (name)
        snprintf(name, n, "%s.%s", prefix, suffix);
    return name;
}

/* Are its tensors other than the file's: merged, or quantized while it was loaded? */
static bool is_made(const struct export *x, int32_t i)
{
    return x->m->modules[i].quantized || x->view->weights[i] != x->m->base->weights[i];
}

/* What takes the place of the base's bias: of several adapters' the last. */
static const float *own_bias(const struct export *x, int32_t module)
{
    for (size_t a = x->target->n_adapters; a-- > 0;) {
        const float *const *bias = x->target->adapters[a]->host.bias;
        if (bias && bias[module])
            return bias[module];
    }
    return NULL;
}

/* A tensor of the file goes on: kept, cast, or replaced by an adapter's bias. */
static bool carry(struct export *x, const struct tensor *t, int32_t module, bool is_bias)
{
    const float *replace = NULL;
    if (is_bias && dtype_is_float(t->dtype))
        replace = own_bias(x, module);
    bool cast = replace || (x->target->plain && dtype_is_float(t->dtype));
    struct entry *e = add(x, cast ? CAST : KEPT, module);
    if (!e)
        return false;
    e->t = *t;
    e->from = t->dtype;
    e->replace = replace;
    if (cast && x->target->plain)
        set_shape(&e->t, x->target->dtype, t->rank, t->shape);
    return true;
}

/* Does the module make room for the adapter's head, or has the head's class no such module? */
static bool gives_way(const struct export *x, int32_t module)
{
    return x->head &&
           (model_is_head(x->m, module) || !model_class_has(x->m, module, x->head->kind));
}

static enum status plan_file(struct export *x, struct error *err)
{
    size_t n;
    struct owner *owners = owners_new(x->m, &n);
    bool whole = owners != NULL;
    for (size_t i = 0; whole && i < x->cp->n_tensors; i++) {
        const struct tensor *t = &x->cp->tensors[i];
        const char *suffix = NULL;
        int32_t module = owner_of(owners, n, t->name, &suffix);
        bool is_bias = module >= 0 && !strcmp(suffix, "bias");
        if (module >= 0 && gives_way(x, module))
            continue;
        if (module < 0 || is_bias || (!x->target->plain && !is_made(x, module)))
            whole = carry(x, t, module, is_bias);
    }
    free(owners);
    return whole ? ST_OK : error_memory(err, "planning an export");
}

/* A sink that only remembers what would be stored. */
struct planner {
    struct tensor_sink sink;
    struct export *x;
    const char *prefix;
    int32_t module;
};

static enum status plan_put(struct tensor_sink *self, const char *suffix, enum dtype dtype,
                            int rank, const int64_t *shape, const void *data, struct error *err)
{
    (void)data;
    struct planner *p = (struct planner *)self;
    const char *name = full_name(p->x, p->prefix, suffix);
    struct entry *e = name ? add(p->x, STORED, p->module) : NULL;
    if (!e)
        return error_memory(err, "planning an export");
    e->t.name = name;
    e->suffix = name + strlen(p->prefix) + 1;
    set_shape(&e->t, dtype, rank, shape);
    return ST_OK;
}

static enum status plan_stored(struct export *x, int32_t i, const char *prefix, struct error *err)
{
    const struct module *mod = &x->m->modules[i];
    const struct weight *w = x->view->weights[i], *base = x->m->base->weights[i];
    if (!mod->backend->store || w->encoding != base->encoding || w->dtype != base->dtype)
        return error_set(err, ST_MERGE_UNSUPPORTED_BACKEND,
                         "%s was merged into floats, which is no form of %s: export with a dtype",
                         mod->name, mod->backend->name);
    struct planner p = {.sink = {.put = plan_put}, .x = x, .prefix = prefix, .module = i};
    return mod->backend->store(w, &p.sink, err);
}

static enum status plan_plain(struct export *x, int32_t i, const char *prefix, struct error *err)
{
    const struct module *mod = &x->m->modules[i];
    struct module_spec spec;
    enum status s = model_spec(x->m, x->cp, i, &spec);
    if (s)
        return error_set(err, s, "%s: its tensors are not known", mod->name);
    const char *name = full_name(x, prefix, "weight");
    struct entry *e = name ? add(x, PLAIN, i) : NULL;
    if (!e)
        return error_memory(err, "planning an export");
    e->t.name = name;
    if (mod->kind == MODULE_CONV2D)
        set_shape(&e->t, x->target->dtype, 4,
                  (const int64_t[]){mod->n, spec.conv[0], spec.conv[1], spec.conv[2]});
    else if (mod->kind == MODULE_CONV1D)
        set_shape(&e->t, x->target->dtype, 2, (const int64_t[]){mod->k, mod->n});
    else
        set_shape(&e->t, x->target->dtype, 2, (const int64_t[]){mod->n, mod->k});
    return ST_OK;
}

/* A tied checkpoint may hold a copy that is written anew now. */
static void drop(struct export *x, const char *prefix)
{
    size_t n = 0, len = strlen(prefix);
    for (size_t i = 0; i < x->n; i++)
        if (strncmp(x->v[i].t.name, prefix, len) || strcmp(x->v[i].t.name + len, ".weight"))
            x->v[n++] = x->v[i];
    x->n = n;
}

static enum status plan_modules(struct export *x, struct error *err)
{
    enum status s = ST_OK;
    for (size_t i = 0; i < x->m->n_modules && !s; i++) {
        const struct module *mod = &x->m->modules[i];
        const char *prefix = mod->file;
        bool owns = mod->base == (int32_t)i;
        if (gives_way(x, (int32_t)i))
            continue;
        if (!owns) { // a replicated layer, or the output layer of a tied model
            const struct module *owner = &x->m->modules[mod->base];
            if (!mod->output_embedding || x->view->weights[i] == x->view->weights[mod->base])
                continue;
            x->untied = true;
            if (!prefix || !strcmp(prefix, owner->file))
                prefix = mod->name;
            drop(x, prefix);
        }
        if (x->target->plain)
            s = plan_plain(x, (int32_t)i, prefix, err);
        else if (!owns || is_made(x, (int32_t)i))
            s = plan_stored(x, (int32_t)i, prefix, err);
    }
    return s;
}

/* One layer of the head: in its own dtype, or the export's. */
static enum status plan_layer(struct export *x, int i, struct error *err)
{
    const struct weight *w = x->head->layers[i].weight;
    const float *bias = x->head->layers[i].bias;
    enum dtype dtype = x->target->plain ? x->target->dtype : w->dtype;
    const char *name = full_name(x, x->layers[i].name, "weight");
    struct entry *e = name ? add(x, PLAIN, -1) : NULL;
    if (!e)
        return error_memory(err, "planning an export");
    e->t.name = name;
    e->weight = w;
    set_shape(&e->t, dtype, 2, (const int64_t[]){w->n, w->k});
    if (!bias)
        return ST_OK;
    name = full_name(x, x->layers[i].name, "bias");
    e = name ? add(x, CAST, -1) : NULL;
    if (!e)
        return error_memory(err, "planning an export");
    e->t.name = name;
    e->from = DT_F32;
    e->replace = bias;
    set_shape(&e->t, dtype, 1, &w->n);
    return ST_OK;
}

/* The head behind everything else, whose names get the prefix that its class demands. */
static enum status plan_head(struct export *x, struct error *err)
{
    enum status s = ST_OK;
    const char *prefix = model_class_prefix(x->m, x->head->kind);
    for (size_t i = 0; *prefix && i < x->n; i++) {
        struct tensor *t = &x->v[i].t;
        char *name = arena_alloc(&x->arena, strlen(prefix) + strlen(t->name) + 1);
        if (!name)
            return error_memory(err, "planning an export");
        sprintf(name, "%s%s", prefix, t->name);
        if (x->v[i].suffix)
            x->v[i].suffix = name + strlen(prefix) + (x->v[i].suffix - t->name);
        t->name = name;
    }
    for (int i = 0; i < x->head->n_layers && !s; i++)
        s = plan_layer(x, i, err);
    return s;
}

/* Large elements first; what one module stores stays together. */
static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t sx = dtype_size(x->t.dtype), sy = dtype_size(y->t.dtype);
    if (sx != sy)
        return sx > sy ? -1 : 1;
    bool stored_x = x->fate == STORED, stored_y = y->fate == STORED;
    if (stored_x != stored_y)
        return stored_x - stored_y;
    if (stored_x && x->module != y->module)
        return x->module < y->module ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

/* ---- writing ---- */

static enum status write_data(struct export *x, struct writer *w, const void *data, size_t size,
                              struct error *err)
{
    const struct merge_target *t = x->target;
    enum status s = writer_data(w, data, size, err);
    x->done += size;
    if (s || !t->progress ||
        t->progress(t->progress_ctx, x->total ? (double)x->done / (double)x->total : 1))
        return s;
    return error_set(err, ST_CANCELLED, "the export was cancelled");
}

static enum status write_floats(struct export *x, struct writer *w, const float *from, size_t n,
                                enum dtype dtype, float *buffer, struct error *err)
{
    tensor_from_f32(from, (int64_t)n, dtype, buffer);
    return write_data(x, w, buffer, n * dtype_size(dtype), err);
}

static enum status write_cast(struct export *x, struct writer *w, const struct entry *e,
                              struct error *err)
{
    float *buffer = malloc(2 * CHUNK * sizeof *buffer);
    if (!buffer)
        return error_memory(err, "exporting");
    struct tensor from = e->t;
    from.dtype = e->from;
    size_t n = (size_t)tensor_elements(&e->t);
    enum status s = ST_OK;
    for (size_t i = 0; i < n && !s; i += CHUNK) {
        size_t have = n - i < CHUNK ? n - i : CHUNK;
        if (e->replace)
            memcpy(buffer, e->replace + i, have * sizeof *buffer);
        else
            tensor_to_f32(&from, (int64_t)i, (int64_t)have, buffer);
        s = write_floats(x, w, buffer, have, e->t.dtype, buffer + CHUNK, err);
    }
    free(buffer);
    return s;
}

/* A decoded matrix, row by row; a Conv1D goes column by column. */
static enum status write_plain(struct export *x, struct writer *w, const struct entry *e,
                               struct error *err)
{
    const struct weight *weight = e->weight ? e->weight : x->view->weights[e->module];
    bool transposed = !e->weight && x->m->modules[e->module].kind == MODULE_CONV1D;
    int64_t n = weight->n, k = weight->k, step = transposed ? n : CHUNK / k + 1;
    float *rows = malloc((size_t)(step * k) * sizeof *rows);
    float *buffer = malloc((size_t)(transposed ? n : step * k) * 2 * sizeof *buffer);
    enum status s = rows && buffer ? ST_OK : error_memory(err, "exporting");
    for (int64_t row = 0; row < n && !s; row += step) {
        int64_t have = n - row < step ? n - row : step;
        x->k->dequantize(x->k, weight, row, have, rows);
        if (!transposed)
            s = write_floats(x, w, rows, (size_t)(have * k), e->t.dtype, buffer, err);
    }
    for (int64_t c = 0; transposed && c < k && !s; c++) {
        for (int64_t r = 0; r < n; r++)
            buffer[r] = rows[r * k + c];
        s = write_floats(x, w, buffer, (size_t)n, e->t.dtype, buffer + n, err);
    }
    free(buffer);
    free(rows);
    return s;
}

/* A sink that keeps what one module stores. */
struct captured {
    char *suffix;
    void *data;
    size_t bytes;
};
struct capture {
    struct tensor_sink sink;
    int32_t module; /* -1: none */
    struct captured *v;
    size_t n;
};

static void capture_clear(struct capture *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->v[i].suffix);
        free(c->v[i].data);
    }
    free(c->v);
    c->v = NULL;
    c->n = 0;
    c->module = -1;
}

static enum status capture_put(struct tensor_sink *self, const char *suffix, enum dtype dtype,
                               int rank, const int64_t *shape, const void *data, struct error *err)
{
    struct capture *c = (struct capture *)self;
    struct tensor t = {0};
    set_shape(&t, dtype, rank, shape);
    struct captured *v = realloc(c->v, (c->n + 1) * sizeof *v);
    if (!v)
        return error_memory(err, "exporting");
    c->v = v;
    v[c->n] = (struct captured){strdup(suffix), malloc(t.bytes + 1), t.bytes};
    struct captured *last = &v[c->n++];
    if (!last->suffix || !last->data)
        return error_memory(err, "exporting");
    memcpy(last->data, data, t.bytes);
    return ST_OK;
}

static enum status write_stored(struct export *x, struct writer *w, const struct entry *e,
                                struct capture *c, struct error *err)
{
    enum status s = ST_OK;
    const struct module *mod = &x->m->modules[e->module];
    if (c->module != e->module) {
        capture_clear(c);
        s = mod->backend->store(x->view->weights[e->module], &c->sink, err);
        c->module = e->module;
    }
    for (size_t i = 0; i < c->n && !s; i++)
        if (!strcmp(c->v[i].suffix, e->suffix))
            return write_data(x, w, c->v[i].data, c->v[i].bytes, err);
    return s ? s : error_set(err, ST_INTERNAL, "%s: %s was not stored", mod->name, e->suffix);
}

static enum status write_tensors(struct export *x, struct writer *w, struct error *err)
{
    struct capture c = {.sink = {.put = capture_put}, .module = -1};
    struct tensor *entries = malloc((x->n + 1) * sizeof *entries);
    if (!entries)
        return error_memory(err, "exporting");
    for (size_t i = 0; i < x->n; i++) {
        entries[i] = x->v[i].t;
        x->total += entries[i].bytes;
    }
    enum status s = writer_tensors(w, "model.safetensors", entries, x->n, err);
    free(entries);
    for (size_t i = 0; i < x->n && !s; i++) {
        const struct entry *e = &x->v[i];
        switch (e->fate) {
        case KEPT:
            s = write_data(x, w, e->t.data, e->t.bytes, err);
            break;
        case STORED:
            s = write_stored(x, w, e, &c, err);
            break;
        case PLAIN:
            s = write_plain(x, w, e, err);
            break;
        case CAST:
            s = write_cast(x, w, e, err);
            break;
        }
    }
    capture_clear(&c);
    return s ? s : writer_end(w, err);
}

/* The class of the head, and names for its labels unless the base has as many. */
static bool set_class(const struct export *x, json_t *config)
{
    char name[128];
    model_class_name(x->m, x->head->kind, name, sizeof name);
    bool whole = !json_object_set_new(config, "architectures", json_pack("[s]", name));
    if (x->m->classifier && x->m->labels == x->head->labels)
        return whole;
    json_t *names = json_object(), *numbers = json_object();
    for (int32_t i = 0; i < x->head->labels && whole; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", (int)i);
        snprintf(name, sizeof name, "LABEL_%d", (int)i);
        whole = !json_object_set_new(names, key, json_string(name)) &&
                !json_object_set_new(numbers, name, json_integer(i));
    }
    json_object_del(config, "num_labels");
    whole &= !json_object_set_new(config, "id2label", names);
    return !json_object_set_new(config, "label2id", numbers) && whole;
}

/* config.json with what changed, in its own order. */
static enum status write_config(const struct export *x, struct writer *w, struct error *err)
{
    json_t *config = json_copy_object(x->cp->config);
    bool whole = config != NULL;
    if (whole && x->target->plain) {
        json_object_del(config, "quantization_config");
        const char *name = dtype_torch(x->target->dtype);
        bool old = json_object_get(config, "torch_dtype"), new = json_object_get(config, "dtype");
        if (old || !new)
            whole &= !json_object_set_new(config, "torch_dtype", json_string(name));
        if (new)
            whole &= !json_object_set_new(config, "dtype", json_string(name));
    }
    if (whole && !x->target->plain && x->m->quantization)
        whole = !json_object_set(config, "quantization_config", x->m->quantization);
    if (whole && x->untied)
        whole = !json_object_set_new(config, "tie_word_embeddings", json_false());
    if (whole && x->head)
        whole = set_class(x, config);
    enum status s = whole ? writer_json(w, "config.json", config, err)
                          : error_memory(err, "writing config.json");
    json_decref(config);
    return s;
}

static enum status write_companions(const struct export *x, struct writer *w, struct error *err)
{
    enum status s = ST_OK;
    for (size_t i = 0; i < N_COMPANIONS && !s; i++)
        s = writer_copy(w, x->cp->dir, companions[i], err);
    if (!s && !x->target->plain)
        s = writer_copy(w, x->cp->dir, "quantize_config.json", err);
    return s;
}

enum status merge_write(const struct model *m, const struct checkpoint *cp,
                        const struct kernels *kernels, const struct merge_target *target,
                        struct error *err)
{
    struct export x = {.m = m,
                       .cp = cp,
                       .k = kernels,
                       .target = target,
                       .view = target->view ? target->view : m->base};
    struct writer *w = NULL;
    for (size_t a = 0; a < target->n_adapters; a++)
        if (target->adapters[a]->host.classifier)
            x.head = target->adapters[a]->host.classifier;
    if (x.head)
        model_head_layers(m, x.head->kind, x.layers);
    enum status s = plan_file(&x, err);
    if (!s)
        s = plan_modules(&x, err);
    if (!s && x.head)
        s = plan_head(&x, err);
    if (s)
        goto done;
    if (x.n)
        qsort(x.v, x.n, sizeof *x.v, compare_entries);
    s = writer_open(target->path, &w, err);
    if (!s)
        s = write_config(&x, w, err);
    if (!s)
        s = write_companions(&x, w, err);
    if (!s)
        s = write_tensors(&x, w, err);
    if (!s) {
        s = writer_commit(w, err);
        w = NULL;
    }
done:
    writer_abort(w);
    free(x.v);
    arena_free(&x.arena);
    return s;
}

enum status merge_export(const struct model *m, const struct checkpoint *cp,
                         const struct chain *chain, const struct kernels *kernels,
                         const struct view *view, bool plain, enum dtype dtype, const char *path,
                         progress_report *progress, void *progress_ctx, struct error *err)
{
    (void)chain; // every module knows its own back end
    struct merge_target target = {.view = view,
                                  .plain = plain,
                                  .dtype = dtype,
                                  .path = path,
                                  .progress = progress,
                                  .progress_ctx = progress_ctx};
    return merge_write(m, cp, kernels, &target, err);
}
