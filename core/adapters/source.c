/*
 * Owns the meaning of an adapter file's tensor names (formats.md 12.3):
 *
 *     [base_model.model.]MODULE.oft_R.weight               vectors of a rotation
 *     [base_model.model.]MODULE.oft_embedding_R.weight     the same of an embedding
 *     [base_model.model.]MODULE[.base_layer].bias          with bias "all" or "oft_only"
 *     [base_model.model.]MODULE[.base_layer].weight        PEFT's copy of an embedding: must be the
 *                                                          base's
 *     [base_model.model.]score... or classifier...         a head of its own (classifier.c)
 *     ....oft_r....                                        PEFT before 0.15: refused
 *
 * A module may be called by either generation's name. No quality is lost silently: the config's
 * selection and the file's modules must be the same set, each tensor must have the one shape that
 * the module and the config allow, and whatever cannot be served is refused.
 */
#include "core/adapters/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/adapters/rotation.h"
#include "core/adapters/targets.h"
#include "core/memory.h"
#include "core/model/view.h"
#include "core/turns.h"

#define PREFIX          "base_model.model."
#define MODULE_NAME_MAX 512
#define CHUNK_ROWS      32

enum part { PART_ROTATION, PART_EMBEDDING_ROTATION, PART_BIAS, PART_WEIGHT, PART_OTHER };

static const struct {
    const char *suffix;
    enum part part;
} parts[] = {
    {".oft_R.weight", PART_ROTATION},    {".oft_embedding_R.weight", PART_EMBEDDING_ROTATION},
    {".base_layer.bias", PART_BIAS},     {".bias", PART_BIAS},
    {".base_layer.weight", PART_WEIGHT}, {".weight", PART_WEIGHT},
};
#define N_PARTS (sizeof parts / sizeof parts[0])

struct name_entry {
    const char *name;
    int32_t module;
};

struct check {
    const struct package *p;
    const struct model *m;
    const struct kernels *k;
    struct source *out;
    struct findings *f;
    const struct tensor *tensors;
    size_t n_tensors;
    bool opened;              /* the container is valid */
    struct name_entry *names; /* canonical names and aliases, sorted */
    size_t n_names;
};

/* ---- names ---- */

/* Cuts a tensor's name into module (into buf) and part. */
static enum part split_name(const char *name, char buf[MODULE_NAME_MAX])
{
    if (!strncmp(name, PREFIX, strlen(PREFIX)))
        name += strlen(PREFIX);
    size_t len = strlen(name);
    snprintf(buf, MODULE_NAME_MAX, "%s", name);
    for (size_t i = 0; i < N_PARTS; i++) {
        size_t n = strlen(parts[i].suffix);
        if (len > n && len - n < MODULE_NAME_MAX && !strcmp(name + len - n, parts[i].suffix)) {
            buf[len - n] = 0;
            return parts[i].part;
        }
    }
    return PART_OTHER;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name_entry *)a)->name, ((const struct name_entry *)b)->name);
}

/* An adapter may name thousands of modules: they are looked up in a sorted list. */
static enum status index_names(struct check *c, struct error *err)
{
    c->names = malloc((2 * c->m->n_modules + 1) * sizeof *c->names);
    if (!c->names)
        return error_memory(err, "checking an adapter");
    for (size_t i = 0; i < c->m->n_modules; i++) {
        const struct module *mod = &c->m->modules[i];
        c->names[c->n_names++] = (struct name_entry){mod->name, (int32_t)i};
        if (mod->alias && strcmp(mod->alias, mod->name))
            c->names[c->n_names++] = (struct name_entry){mod->alias, (int32_t)i};
    }
    qsort(c->names, c->n_names, sizeof *c->names, compare_names);
    return ST_OK;
}

static int32_t find_module(const struct check *c, const char *name)
{
    struct name_entry key = {.name = name};
    const struct name_entry *e =
        bsearch(&key, c->names, c->n_names, sizeof *c->names, compare_names);
    return e ? e->module : -1;
}

static bool is_other_name(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->n_other_names; i++)
        if (!strcmp(m->other_names[i], name))
            return true;
    return false;
}

static void unexpected(const struct check *c, const char *module, const char *name,
                       const char *expected, const char *why)
{
    findings_add(c->f, SEVERITY_ERROR, ST_TENSOR_UNEXPECTED, module, name, expected, name,
                 "%s: %s: %s", c->p->tensors_path, name, why);
}

static void take_rotation(const struct check *c, const struct tensor *t, const char *module,
                          enum part part)
{
    int32_t i = find_module(c, module);
    if (i < 0) {
        findings_add(c->f, SEVERITY_ERROR, ST_MODULE_NOT_FOUND, module, t->name,
                     "a module of the base", module, "%s: %s: the base has no module %s",
                     c->p->tensors_path, t->name, module);
        return;
    }
    struct source_module *s = &c->out->modules[i];
    bool embedding = c->m->modules[i].kind == MODULE_EMBEDDING;
    if (embedding != (part == PART_EMBEDDING_ROTATION))
        unexpected(c, module, t->name, embedding ? "oft_embedding_R" : "oft_R",
                   embedding ? "an embedding has oft_embedding_R" : "this module has oft_R");
    else if (s->rotation)
        unexpected(c, module, t->name, s->rotation->name, "the module has two rotations");
    else {
        s->rotation = t;
        s->alias = strcmp(c->m->modules[i].name, module) != 0;
    }
}

static void bias_conflict(const struct check *c, const struct tensor *t, const char *module,
                          const char *why)
{
    findings_add(c->f, SEVERITY_ERROR, ST_BIAS_CONFLICT, module, t->name, NULL, NULL, "%s: %s: %s",
                 c->p->tensors_path, t->name, why);
}

static void take_bias(const struct check *c, const struct tensor *t, const char *module)
{
    if (c->out->config.bias == OFT_BIAS_NONE) {
        unexpected(c, module, t->name, "no bias", "the config says bias none");
        return;
    }
    int32_t i = find_module(c, module);
    if (i < 0 && is_other_name(c->m, module))
        bias_conflict(c, t, module, "a trained bias of this module cannot be served");
    else if (i < 0)
        findings_add(c->f, SEVERITY_ERROR, ST_MODULE_NOT_FOUND, module, t->name,
                     "a module of the base", module, "%s: %s: the base has no module %s",
                     c->p->tensors_path, t->name, module);
    else if (!c->m->modules[i].bias)
        bias_conflict(c, t, module, "this module of the base has no bias");
    else if (c->out->modules[i].bias)
        unexpected(c, module, t->name, c->out->modules[i].bias->name, "the module has two biases");
    else
        c->out->modules[i].bias = t;
}

/* Is t the base's own weight, in t's dtype? True also where the base was opened without weights. */
static enum status equals_base(const struct check *c, const struct tensor *t, int32_t module,
                               bool *equal)
{
    const struct weight *w = c->m->base ? c->m->base->weights[module] : NULL;
    int64_t shape[2] = {c->m->modules[module].n, c->m->modules[module].k};
    *equal = dtype_is_float(t->dtype) && tensor_shape_is(t, 2, shape);
    if (!*equal || !w || !w->data)
        return ST_OK;
    size_t n = (size_t)shape[1] * CHUNK_ROWS;
    float *base = memory_alloc(2 * n * sizeof *base);
    if (!base)
        return ST_OUT_OF_MEMORY;
    float *file = base + n;
    for (int64_t row = 0; row < shape[0] && *equal; row += CHUNK_ROWS) {
        turns_pause();
        int64_t rows = shape[0] - row < CHUNK_ROWS ? shape[0] - row : CHUNK_ROWS;
        c->k->dequantize(c->k, w, row, rows, base);
        tensor_to_f32(t, row * shape[1], rows * shape[1], file);
        for (int64_t i = 0; i < rows * shape[1] && *equal; i++)
            *equal = round_to_dtype(base[i], t->dtype) == file[i];
    }
    memory_free(base);
    return ST_OK;
}

/* A whole weight: the copy of an embedding or a head that PEFT writes, or modules_to_save. */
static enum status take_weight(const struct check *c, const struct tensor *t, const char *module)
{
    int32_t i = find_module(c, module);
    bool saves = c->out->config.saves_modules || c->out->config.saves_head;
    if (i < 0 && !is_other_name(c->m, module) && !saves) {
        unexpected(c, NULL, t->name, "oft_R.weight", "this is no tensor of an OFT adapter");
        return ST_OK;
    }
    bool equal = false;
    const struct module *mod = i >= 0 ? &c->m->modules[i] : NULL;
    if (mod && (mod->kind == MODULE_EMBEDDING || mod->output_embedding)) {
        enum status s = equals_base(c, t, i, &equal);
        if (s)
            return s;
    }
    char got[128];
    if (!equal)
        findings_add(c->f, SEVERITY_ERROR, ST_MODULES_TO_SAVE_UNSUPPORTED, module, t->name,
                     "the base's own weight", tensor_shape_text(t, got, sizeof got),
                     "%s: %s %s is not the base's weight, and a trained copy cannot be served",
                     c->p->tensors_path, t->name, got);
    return ST_OK;
}

static enum status take_tensors(const struct check *c)
{
    size_t legacy = 0;
    const char *first = NULL;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        char module[MODULE_NAME_MAX];
        enum status s = ST_OK;
        turns_pause();
        if (strstr(t->name, ".oft_r.") || strstr(t->name, ".oft_s.")) {
            first = legacy++ ? first : t->name;
            continue;
        }
        enum part part = split_name(t->name, module);
        if ((part == PART_WEIGHT || part == PART_BIAS) &&
            head_source_take(&c->out->head, t, module, part == PART_BIAS))
            continue;
        if (part == PART_ROTATION || part == PART_EMBEDDING_ROTATION)
            take_rotation(c, t, module, part);
        else if (part == PART_BIAS)
            take_bias(c, t, module);
        else if (part == PART_WEIGHT)
            s = take_weight(c, t, module);
        else
            unexpected(c, NULL, t->name, "oft_R.weight", "this is no tensor of an OFT adapter");
        if (s)
            return s;
    }
    if (legacy)
        findings_add(c->f, SEVERITY_ERROR, ST_LEGACY_OFT_FORMAT, NULL, first, "oft_R", "oft_r",
                     "%s: %s and %zu more tensors are of PEFT 0.15 or older: train the adapter "
                     "again",
                     c->p->tensors_path, first, legacy - 1);
    return ST_OK;
}

/* ---- shapes ---- */

static int64_t expected_rows(const struct oftconfig *g, int64_t dim, int64_t block)
{
    return g->block_share ? 1 : dim / block;
}

static bool rotation_fits(const struct check *c, size_t module)
{
    const struct source_module *s = &c->out->modules[module];
    int64_t dim = c->m->modules[module].rotate_dim;
    int64_t shape[2] = {expected_rows(&c->out->config, dim, s->block), rotation_packed(s->block)};
    return tensor_shape_is(s->rotation, 2, shape);
}

/* Does another module of the same dimension fit? Then it is this tensor that is wrong. */
static bool dimension_fits(const struct check *c, int64_t dim)
{
    for (size_t i = 0; i < c->m->n_modules; i++)
        if (c->out->modules[i].rotation && c->m->modules[i].rotate_dim == dim &&
            rotation_fits(c, i))
            return true;
    return false;
}

/* Names what a tensor of the wrong shape says: blocks that do not divide, another base, or nothing.
 */
static enum status shape_status(const struct check *c, size_t module, int64_t *file_dim)
{
    const struct tensor *t = c->out->modules[module].rotation;
    const struct oftconfig *g = &c->out->config;
    int64_t dim = c->m->modules[module].rotate_dim;
    int64_t block = t->rank == 2 ? rotation_unpacked(t->shape[1]) : 0;
    if (!block || g->block_share || dimension_fits(c, dim))
        return ST_TENSOR_SHAPE_MISMATCH;
    if (block == g->block && dim % block && t->shape[0] == dim / block)
        return ST_BLOCK_SIZE_NOT_DIVISOR;
    *file_dim = t->shape[0] * block;
    return *file_dim != dim ? ST_BASE_SHAPE_MISMATCH : ST_TENSOR_SHAPE_MISMATCH;
}

static void check_shape(const struct check *c, size_t module)
{
    const struct source_module *s = &c->out->modules[module];
    const char *name = c->m->modules[module].name;
    int64_t dim = c->m->modules[module].rotate_dim, file_dim = 0;
    if (rotation_fits(c, module))
        return;
    char expected[96], got[128];
    snprintf(expected, sizeof expected, "[%" PRId64 ", %" PRId64 "]",
             expected_rows(&c->out->config, dim, s->block), rotation_packed(s->block));
    tensor_shape_text(s->rotation, got, sizeof got);
    enum status code = shape_status(c, module, &file_dim);
    if (code == ST_BASE_SHAPE_MISMATCH)
        findings_add(c->f, SEVERITY_ERROR, code, name, s->rotation->name, expected, got,
                     "%s: %s is %s, for a module of %" PRId64 " inputs; %s of the base has %" PRId64
                     " (%s)",
                     c->p->tensors_path, s->rotation->name, got, file_dim, name, dim, expected);
    else
        findings_add(c->f, SEVERITY_ERROR, code, name, s->rotation->name, expected, got,
                     "%s: %s is %s, expected %s for %" PRId64 " inputs in blocks of %d",
                     c->p->tensors_path, s->rotation->name, got, expected, dim, s->block);
}

static void check_dtype(const struct check *c, const char *module, const struct tensor *t)
{
    if (!dtype_is_float(t->dtype))
        findings_add(c->f, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, module, t->name,
                     "F32, F16 or BF16", dtype_name(t->dtype),
                     "%s: %s has dtype %s, F32, F16 or BF16 are served", c->p->tensors_path,
                     t->name, dtype_name(t->dtype));
}

static void check_modules(const struct check *c)
{
    const struct oftconfig *g = &c->out->config;
    for (size_t i = 0; i < c->m->n_modules; i++) {
        struct source_module *s = &c->out->modules[i];
        const struct module *mod = &c->m->modules[i];
        if (s->bias) {
            check_dtype(c, mod->name, s->bias);
            char expected[64], got[128];
            snprintf(expected, sizeof expected, "[%" PRId64 "]", mod->n);
            if (!tensor_shape_is(s->bias, 1, &mod->n))
                findings_add(c->f, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, mod->name,
                             s->bias->name, expected, tensor_shape_text(s->bias, got, sizeof got),
                             "%s: %s is %s, expected %s", c->p->tensors_path, s->bias->name, got,
                             expected);
        }
        if (!s->rotation)
            continue;
        check_dtype(c, mod->name, s->rotation);
        if (mod->rotate_dim < 1 || mod->rotate_dim != mod->k) {
            findings_add(c->f, SEVERITY_ERROR, ST_BASE_SHAPE_MISMATCH, mod->name, s->rotation->name,
                         NULL, NULL, "%s: %s: the inputs of %s cannot be rotated in blocks",
                         c->p->tensors_path, s->rotation->name, mod->name);
            s->rotation = NULL;
            continue;
        }
        s->block = (int32_t)rotation_block(mod->rotate_dim, g->blocks, g->block);
    }
    for (size_t i = 0; i < c->m->n_modules; i++)
        if (c->out->modules[i].rotation)
            check_shape(c, i);
}

/* ---- the config's selection and the file's modules ---- */

static void check_missing(const struct check *c, size_t i, const char *name, bool selected)
{
    const struct source_module *s = &c->out->modules[i];
    const struct module *mod = &c->m->modules[i];
    const char *leaf = mod->kind == MODULE_EMBEDDING ? "oft_embedding_R" : "oft_R";
    char expected[MODULE_NAME_MAX + 64];
    if (selected && !s->rotation) {
        snprintf(expected, sizeof expected, PREFIX "%s.%s.weight", name, leaf);
        findings_add(c->f, SEVERITY_ERROR, ST_TENSOR_MISSING, mod->name, expected, expected,
                     "nothing", "%s: %s is missing: target_modules selects %s", c->p->tensors_path,
                     expected, name);
    } else if (!selected && s->rotation) {
        unexpected(c, mod->name, s->rotation->name, "modules that target_modules selects",
                   "target_modules does not select this module");
    }
    if (selected && mod->bias && !s->bias && c->out->config.bias != OFT_BIAS_NONE) {
        snprintf(expected, sizeof expected, PREFIX "%s.base_layer.bias", name);
        findings_add(c->f, SEVERITY_ERROR, ST_TENSOR_MISSING, mod->name, expected, expected,
                     "nothing", "%s: %s is missing: the config says that biases were trained",
                     c->p->tensors_path, expected);
    }
}

static enum status check_selection(const struct check *c, struct error *err)
{
    size_t n = c->m->n_modules;
    const char **names = calloc(n + 1, sizeof *names);
    bool *flags = calloc(2 * n + 1, sizeof *flags), *selected = flags + n;
    enum status s = names && flags ? ST_OK : error_memory(err, "checking an adapter's modules");
    bool any_alias = false, usable = false, effective = false;
    if (s)
        goto done;
    for (size_t i = 0; i < n; i++)
        any_alias |= c->out->modules[i].alias;
    for (size_t i = 0; i < n; i++) {
        const struct source_module *x = &c->out->modules[i];
        bool alias = x->rotation ? x->alias : any_alias;
        flags[i] = x->rotation != NULL;
        names[i] = alias && c->m->modules[i].alias ? c->m->modules[i].alias : c->m->modules[i].name;
    }
    s = targets_select(&c->out->config, c->m, names, flags, selected, &usable, c->f, err);
    if (s || !usable)
        goto done;
    for (size_t i = 0; i < n; i++)
        effective |= flags[i] && selected[i];
    if (!effective)
        findings_add(c->f, SEVERITY_ERROR, ST_NO_EFFECTIVE_MODULES, NULL, "target_modules",
                     "at least one module of the base", "none",
                     "%s: target_modules and %s together rotate no module of the base",
                     c->p->config_path, c->p->tensors_path);
    for (size_t i = 0; i < n; i++)
        check_missing(c, i, names[i], selected[i]);
done:
    free(names);
    free(flags);
    return s;
}

/* ---- all of it ---- */

/* The container's own errors become findings of the adapter. */
static enum status open_tensors(struct check *c, struct error *err)
{
    struct error why = ERROR_INIT;
    enum status s = safetensors_parse(c->p->tensors, c->p->tensors_size, c->p->tensors_path,
                                      &c->out->tensors, &why);
    c->opened = !s;
    if (!s)
        c->tensors = safetensors_tensors(c->out->tensors, &c->n_tensors);
    if (s == ST_OUT_OF_MEMORY)
        error_move(err, &why);
    else if (s)
        findings_add(c->f, SEVERITY_ERROR, s == ST_DTYPE_UNSUPPORTED ? s : ST_FILE_UNREADABLE, NULL,
                     "adapter_model.safetensors", "a valid safetensors file", NULL, "%s", why.text);
    error_clear(&why);
    return s == ST_OUT_OF_MEMORY ? s : ST_OK;
}

enum status source_check(const struct package *p, const struct model *m, const struct kernels *k,
                         bool permissive, struct source *out, struct findings *findings,
                         struct error *err)
{
    memset(out, 0, sizeof *out);
    struct check c = {.p = p, .m = m, .k = k, .out = out, .f = findings};
    enum status s = ST_OK;
    out->modules = calloc(m->n_modules + 1, sizeof *out->modules);
    if (!out->modules)
        return error_memory(err, "checking an adapter");
    if (p->config)
        s = oftconfig_parse(p->config, p->config_size, p->config_path, m, permissive, &out->config,
                            findings, err);
    if (!s && p->tensors)
        s = open_tensors(&c, err);
    if (!s)
        s = index_names(&c, err);
    if (!s && out->config.json)
        head_source_open(&out->config, m, &out->head, findings);
    if (!s && c.opened && take_tensors(&c))
        s = error_memory(err, "comparing an adapter's weights with the base's");
    free(c.names);
    turns_pause();
    // what follows needs both files
    if (s || !c.opened || !out->config.json || !out->config.blocks == !out->config.block)
        return s;
    check_modules(&c);
    head_source_check(&out->head, p->tensors_path, findings);
    return check_selection(&c, err);
}

void source_clear(struct source *s)
{
    free(s->modules);
    safetensors_close(s->tensors);
    oftconfig_clear(&s->config);
    memset(s, 0, sizeof *s);
}
