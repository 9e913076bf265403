/*
 * `oftd inspect`: a checkpoint through the eyes of `serve`. It builds and loads the whole network
 * and its tokenizer, so what serve would refuse is refused here, with all findings; or (--module)
 * writes one module's dequantized weight.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files/writer.h"
#include "core/model/view.h"
#include "core/tokenizer/tokenizer.h"
#include "server/cmd_common.h"

static const char *const kinds[] = {"linear", "conv1d", "conv2d", "embedding"};
static const char *const model_kinds[] = {"decoder", "encoder", "convnet"};

static char *parameters(const struct model *m, size_t i, char *text, size_t size)
{
    const struct backend *b = m->modules[i].backend;
    *text = 0;
    return b && b->describe ? b->describe(m->base->weights[i], text, size) : text;
}

/* ---- for machines ---- */

static json_t *module_json(const struct model *m, size_t i)
{
    const struct module *x = &m->modules[i];
    const struct weight *w = m->base->weights[i];
    char text[160];
    return json_pack(
        "{s:s, s:s, s:[I, I], s:s, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:b, s:s?}", "name", x->name,
        "kind", kinds[x->kind], "shape", (json_int_t)x->n, (json_int_t)x->k, "backend",
        x->backend->name, "why", x->why, "parameters", parameters(m, i, text, sizeof text), "bits",
        w->encoding == ENC_DENSE ? 8 * (int)dtype_size(w->dtype) : w->bits, "dtype",
        dtype_name(w->dtype), "group", (json_int_t)w->group, "bytes", (json_int_t)weight_bytes(w),
        "file_bytes", (json_int_t)w->file_bytes, "mergeable", x->backend->requantize != NULL,
        "weights_of", x->base == (int32_t)i ? NULL : m->modules[x->base].name);
}

static json_t *model_json(const struct cmd_base *b, bool tokenizer)
{
    const struct model *m = b->model;
    json_t *modules = json_array();
    bool whole = modules != NULL;
    for (size_t i = 0; i < m->n_modules && whole; i++)
        whole = !json_array_append_new(modules, module_json(m, i));
    json_t *value =
        whole ? json_pack("{s:b, s:[], s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I, "
                          "s:b, s:b, s:b, s:I, s:I, s:s, s:s, s:O}",
                          "ok", 1, "findings", "path", b->dir, "architecture", m->architecture,
                          "model_type", m->model_type, "kind", model_kinds[m->kind], "quant_method",
                          m->quant_method, "layers", m->layers, "hidden", m->hidden, "vocab",
                          m->vocab, "heads", m->heads, "kv_heads", m->kv_heads, "head_dim",
                          m->head_dim, "max_model_len", (json_int_t)m->max_len, "tied", m->tied,
                          "replicated", m->replicated, "tokenizer", tokenizer, "weight_bytes",
                          (json_int_t)m->weight_bytes, "file_bytes", (json_int_t)m->file_bytes,
                          "identity", m->identity, "isa", b->kernels->isa, "modules", modules)
              : NULL;
    json_decref(modules);
    return value;
}

/* ---- for people ---- */

static void print_model(const struct cmd_base *b, bool tokenizer)
{
    const struct model *m = b->model;
    char text[160];
    printf("%s: %s (%s, %s)\n", b->dir, m->architecture, m->model_type, model_kinds[m->kind]);
    printf("  layers %d, hidden %d, vocabulary %d, heads %d, kv heads %d, longest sequence %lld\n",
           m->layers, m->hidden, m->vocab, m->heads, m->kv_heads, (long long)m->max_len);
    const char *method = b->checkpoint->quant ? "without quant_method" : "none";
    printf("  quantization %s, tokenizer %s%s%s\n", *m->quant_method ? m->quant_method : method,
           tokenizer ? "yes" : "none: ids only", m->tied ? ", tied output layer" : "",
           m->replicated ? ", replicated layers: no merges" : "");
    printf("  %.1f MB in memory, %.1f MB in files\n\n", (double)m->weight_bytes / 1e6,
           (double)m->file_bytes / 1e6);
    printf("  %-48s %-9s %-16s %-9s %10s %10s  %s\n", "module", "kind", "shape", "back end",
           "MB on disk", "in memory", "parameters, why");
    for (size_t i = 0; i < m->n_modules; i++) {
        const struct module *x = &m->modules[i];
        char shape[48];
        snprintf(shape, sizeof shape, "[%lld, %lld]", (long long)x->n, (long long)x->k);
        const struct weight *w = m->base->weights[i];
        printf("  %-48s %-9s %-16s %-9s %10.3f %10.3f  %s%s (%s)\n", x->name, kinds[x->kind], shape,
               x->backend->name, (double)w->file_bytes / 1e6, (double)weight_bytes(w) / 1e6,
               parameters(m, i, text, sizeof text),
               x->backend->requantize ? "" : ", cannot be merged", x->why);
    }
}

static int inspect_model(const struct config *c)
{
    struct cmd_base base = {0};
    struct tokenizer *tokenizer = NULL;
    struct error err = ERROR_INIT;
    int code = EXIT_DONE;
    enum status s = cmd_base_open(c, false, &base, &err);
    s = s ? s : tokenizer_load(base.dir, &tokenizer, &err);
    if (s && c->json)
        cmd_print_json(cmd_refusal_json(&err));
    if (s) {
        code = cmd_refuse(&err);
    } else if (c->json) {
        code = cmd_print_json(model_json(&base, tokenizer != NULL)) ? EXIT_DONE : EXIT_REFUSED;
    } else {
        print_model(&base, tokenizer != NULL);
    }
    tokenizer_free(tokenizer);
    cmd_base_close(&base);
    return code;
}

/* ---- one module ---- */

static enum status write_weight(const struct cmd_base *b, const struct weight *w, const char *path,
                                struct error *err)
{
    const int64_t shape[] = {w->n, w->k, (int64_t)sizeof(float)};
    int64_t bytes;
    if (!size_product(shape, 3, &bytes))
        return error_set(err, ST_OUT_OF_MEMORY, "the weight is too large");
    float *v = malloc((size_t)bytes);
    if (!v)
        return error_memory(err, "dequantizing");
    b->kernels->dequantize(b->kernels, w, 0, w->n, v);
    const struct tensor t = {.name = "weight",
                             .file = path,
                             .dtype = DT_F32,
                             .rank = 2,
                             .shape = {w->n, w->k},
                             .data = v,
                             .bytes = (size_t)bytes};
    enum status s = writer_file(path, &t, 1, err);
    free(v);
    return s;
}

static enum status find_module(const struct model *m, const char *name, int32_t *out,
                               struct error *err)
{
    *out = model_module(m, name);
    if (*out < 0)
        return error_param(err, ST_MODULE_NOT_FOUND, "--module", "there is no module '%.200s'",
                           name);
    *out = m->modules[*out].base; /* whoever owns the stored weight */
    return ST_OK;
}

/* Only the module asked for is loaded. */
static int inspect_module(const struct config *c)
{
    struct cmd_base base = {0};
    struct weight w = {0};
    struct error err = ERROR_INIT;
    int32_t module = -1;
    enum status s = cmd_base_open(c, true, &base, &err);
    s = s ? s : find_module(base.model, c->module, &module, &err);
    s = s ? s : model_load_weight(base.model, base.checkpoint, &base.options, module, &w, &err);
    s = s ? s : write_weight(&base, &w, c->output, &err);
    weight_clear(&w);
    cmd_base_close(&base);
    return s ? cmd_refuse(&err) : EXIT_DONE;
}

int cmd_inspect(int argc, char **argv, char **envp)
{
    struct config c;
    int code;
    if (!cmd_config("inspect", argc, argv, envp, &c, &code))
        return code;
    if (!c.module != !c.output) {
        fputs("oftd: --module and --output belong together\n", stderr);
        code = EXIT_USAGE;
    } else {
        code = c.module ? inspect_module(&c) : inspect_model(&c);
    }
    config_clear(&c);
    return code;
}
