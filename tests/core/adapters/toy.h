/*
 * A network of a handful of modules built by hand, a table of kernels made of plain loops, and
 * adapters written to a temporary folder: what the tests of adapters and merges stand on. Nothing
 * here shares code with what is tested.
 */
#ifndef OFTD_TESTS_CORE_ADAPTERS_TOY_H
#define OFTD_TESTS_CORE_ADAPTERS_TOY_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/adapters/adapter.h"
#include "core/backend.h"
#include "core/kernels.h"
#include "core/memory.h"
#include "core/model/model.h"
#include "core/model/view.h"

/* ---- kernels ---- */

static inline void toy_gemm(const struct kernels *self, bool ta, bool tb, int64_t m, int64_t n,
                            int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                            float *c, int64_t ldc)
{
    (void)self;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum +=
                    (ta ? a[l * lda + i] : a[i * lda + l]) * (tb ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = sum;
        }
}

/* Gauss with row pivoting. */
static inline bool toy_solve(const struct kernels *self, int32_t n, int32_t m, double *a, double *b,
                             int32_t *pivots)
{
    (void)self;
    (void)pivots;
    for (int32_t c = 0; c < n; c++) {
        int32_t p = c;
        for (int32_t r = c + 1; r < n; r++)
            if (fabs(a[r * n + c]) > fabs(a[p * n + c]))
                p = r;
        if (a[p * n + c] == 0)
            return false;
        for (int32_t j = 0; j < n; j++) {
            double t = a[p * n + j];
            a[p * n + j] = a[c * n + j];
            a[c * n + j] = t;
        }
        for (int32_t j = 0; j < m; j++) {
            double t = b[p * m + j];
            b[p * m + j] = b[c * m + j];
            b[c * m + j] = t;
        }
        for (int32_t r = 0; r < n; r++) {
            double f = r == c ? 0 : a[r * n + c] / a[c * n + c];
            for (int32_t j = 0; j < n && f != 0; j++)
                a[r * n + j] -= f * a[c * n + j];
            for (int32_t j = 0; j < m && f != 0; j++)
                b[r * m + j] -= f * b[c * m + j];
        }
    }
    for (int32_t r = 0; r < n; r++)
        for (int32_t j = 0; j < m; j++)
            b[r * m + j] /= a[r * n + r];
    return true;
}

static inline void toy_combine(const struct kernels *self, int32_t b, float c0, float c1,
                               const float *s, float c2, const float *p, float *m)
{
    (void)self;
    for (int32_t r = 0; r < b; r++)
        for (int32_t c = 0; c < b; c++) {
            int32_t i = r * b + c;
            float sum = c2 == 0 ? c1 * s[i] : c2 * p[i] + c1 * s[i];
            m[i] = r == c ? sum + c0 : sum;
        }
}

static inline double toy_squares(const struct kernels *self, const float *v, int64_t n)
{
    double sum = 0;
    (void)self;
    for (int64_t i = 0; i < n; i++)
        sum += (double)v[i] * v[i];
    return sum;
}

static inline float toy_largest(const struct kernels *self, const float *v, int64_t n)
{
    float most = 0;
    (void)self;
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(v[i]));
    return most;
}

static inline void toy_to_bytes(const struct kernels *self, int32_t b, const float *d, void *out)
{
    (void)self;
    int8_t *q = out;
    for (int32_t c = 0; c < b; c++) {
        float peak = 0;
        for (int32_t r = 0; r < b; r++)
            peak = fmaxf(peak, fabsf(d[r * b + c]));
        float step = peak / 127;
        for (int32_t r = 0; r < b; r++)
            q[r * b + c] = (int8_t)(step > 0 ? lrintf(d[r * b + c] * (127 / peak)) : 0);
        memcpy(q + rotation_steps_at(b) + (size_t)c * sizeof step, &step, sizeof step);
    }
}

/* Element of a dense F32 weight in the tile layout. */
static inline float *toy_element(const struct weight *w, int64_t row, int64_t k)
{
    return (float *)w->data + (row / TILE_ROWS * w->k_padded + k) * TILE_ROWS + row % TILE_ROWS;
}

static inline void toy_dequantize(const struct kernels *self, const struct weight *w, int64_t row,
                                  int64_t rows, float *out)
{
    (void)self;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < w->k; k++)
            out[r * w->k + k] = *toy_element(w, row + r, k);
}

static const struct kernels toy_kernels __attribute__((unused)) = {.device = "cpu",
                                                                   .isa = "toy",
                                                                   .mode = COMPUTE_EXACT,
                                                                   .threads = 1,
                                                                   .gemm = toy_gemm,
                                                                   .solve = toy_solve,
                                                                   .combine = toy_combine,
                                                                   .squares = toy_squares,
                                                                   .largest = toy_largest,
                                                                   .to_bytes = toy_to_bytes,
                                                                   .dequantize = toy_dequantize};

/* ---- back ends ---- */

static inline enum status toy_requantize(const struct weight *like, const float *w,
                                         struct weight *out, struct error *err)
{
    *out = (struct weight){.encoding = ENC_DENSE,
                           .dtype = DT_F32,
                           .n = like->n,
                           .k = like->k,
                           .n_tiles = like->n_tiles,
                           .k_padded = like->k_padded};
    out->data_bytes = (size_t)(like->n_tiles * TILE_ROWS * like->k_padded) * sizeof(float);
    out->data = memory_alloc(out->data_bytes);
    if (!out->data)
        return error_memory(err, "a toy weight");
    for (int64_t r = 0; r < like->n; r++)
        for (int64_t k = 0; k < like->k; k++)
            *toy_element(out, r, k) = w[r * like->k + k];
    return ST_OK;
}

static const struct backend toy_plain = {.name = "default", .requantize = toy_requantize};
static const struct backend toy_eetq = {.name = "eetq"};
static const struct backend toy_gptq = {.name = "gptq"};
static const struct backend *const toy_rows[] = {&toy_eetq, &toy_gptq, &toy_plain, NULL};
static const struct chain toy_chain __attribute__((unused)) = {.backends = toy_rows};

/* ---- the network ---- */

enum { TOY_EMBED, TOY_Q0, TOY_V0, TOY_UP0, TOY_Q1, TOY_V1, TOY_UP1, TOY_HEAD, TOY_MODULES };
#define TOY_HIDDEN 12
#define TOY_FFN    20
#define TOY_VOCAB  24

struct toy {
    struct model m;
    struct module modules[TOY_MODULES];
    float bias[TOY_HIDDEN];
};

static const char *const toy_others[] __attribute__((unused)) = {"model",
                                                                 "model.layers",
                                                                 "model.layers.0",
                                                                 "model.layers.0.self_attn",
                                                                 "model.layers.1",
                                                                 "model.norm",
                                                                 "model.layers.0.input_layernorm"};

static inline struct weight *toy_weight(int64_t n, int64_t k, unsigned seed)
{
    struct weight like = {.n = n,
                          .k = k,
                          .n_tiles = (n + TILE_ROWS - 1) / TILE_ROWS,
                          .k_padded = (k + TILE_K - 1) / TILE_K * TILE_K};
    struct weight *w = calloc(1, sizeof *w);
    float *values = malloc((size_t)(n * k) * sizeof *values);
    for (int64_t i = 0; i < n * k; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (float)(int32_t)seed / 2147483648.0f;
    }
    toy_requantize(&like, values, w, NULL);
    free(values);
    return w;
}

/* layers.N.q has the alias layer.N.query; v has a bias; the head is tied to the embedding if asked.
 */
static inline void toy_open(struct toy *t, bool tied)
{
    static const struct module rows[TOY_MODULES] = {
        [TOY_EMBED] = {.name = "model.embed_tokens",
                       .kind = MODULE_EMBEDDING,
                       .n = TOY_VOCAB,
                       .k = TOY_HIDDEN,
                       .layer = -1,
                       .input_embedding = true},
        [TOY_Q0] = {.name = "model.layers.0.self_attn.q_proj",
                    .alias = "old.layer.0.query",
                    .n = TOY_HIDDEN,
                    .k = TOY_HIDDEN},
        [TOY_V0] = {.name = "model.layers.0.self_attn.v_proj", .n = TOY_HIDDEN, .k = TOY_HIDDEN},
        [TOY_UP0] = {.name = "model.layers.0.mlp.up_proj", .n = TOY_FFN, .k = TOY_HIDDEN},
        [TOY_Q1] = {.name = "model.layers.1.self_attn.q_proj",
                    .alias = "old.layer.1.query",
                    .n = TOY_HIDDEN,
                    .k = TOY_HIDDEN,
                    .layer = 1},
        [TOY_V1] = {.name = "model.layers.1.self_attn.v_proj",
                    .n = TOY_HIDDEN,
                    .k = TOY_HIDDEN,
                    .layer = 1},
        [TOY_UP1] = {.name = "model.layers.1.mlp.up_proj",
                     .n = TOY_FFN,
                     .k = TOY_HIDDEN,
                     .layer = 1},
        [TOY_HEAD] = {.name = "lm_head",
                      .n = TOY_VOCAB,
                      .k = TOY_HIDDEN,
                      .layer = -1,
                      .output_embedding = true},
    };
    memset(t, 0, sizeof *t);
    memcpy(t->modules, rows, sizeof rows);
    struct weight **owned = calloc(TOY_MODULES, sizeof(struct weight *));
    t->m = (struct model){.model_type = "llama",
                          .quant_method = "",
                          .layers = 2,
                          .hidden = TOY_HIDDEN,
                          .vocab = TOY_VOCAB,
                          .tied = tied,
                          .modules = t->modules,
                          .n_modules = TOY_MODULES,
                          .other_names = toy_others,
                          .n_other_names = sizeof toy_others / sizeof toy_others[0]};
    for (int32_t i = 0; i < TOY_MODULES; i++) {
        struct module *mod = &t->modules[i];
        mod->file = mod->name;
        mod->rotate_dim = mod->k;
        mod->backend = &toy_plain;
        mod->base = tied && i == TOY_HEAD ? TOY_EMBED : i;
        if (i == TOY_V0 || i == TOY_V1)
            mod->bias = t->bias;
        if (mod->base == i)
            owned[i] = toy_weight(mod->n, mod->k, (unsigned)i + 1);
    }
    t->m.base = view_new(&t->m, owned);
}

static inline void toy_close(struct toy *t)
{
    view_unref(t->m.base);
}

/* ---- adapters ---- */

struct toy_tensor {
    const char *name; /* without the prefix; "/..." is taken as it is, without the slash */
    enum dtype dtype;
    int64_t rows, cols; /* cols < 0: one dimension */
    float scale;        /* of pseudo-random values in (-scale, scale); NAN: NaN */
};

/* A safetensors file in memory (malloc'ed). */
static inline char *toy_tensors(const struct toy_tensor *v, size_t n, size_t *size)
{
    char head[16384];
    size_t at = 0, offset = 0;
    at += (size_t)sprintf(head, "{");
    for (size_t i = 0; i < n; i++) {
        size_t bytes =
            (size_t)(v[i].rows * (v[i].cols < 0 ? 1 : v[i].cols)) * dtype_size(v[i].dtype);
        bool whole = v[i].name[0] == '/';
        at += (size_t)sprintf(head + at, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%lld",
                              i ? "," : "", whole ? "" : "base_model.model.", v[i].name + whole,
                              dtype_name(v[i].dtype), (long long)v[i].rows);
        if (v[i].cols >= 0)
            at += (size_t)sprintf(head + at, ",%lld", (long long)v[i].cols);
        at += (size_t)sprintf(head + at, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    at += (size_t)sprintf(head + at, "}");
    while (at % 8)
        head[at++] = ' ';
    char *out = calloc(1, 8 + at + offset + 1);
    memcpy(out, &(uint64_t){at}, 8);
    memcpy(out + 8, head, at);
    char *p = out + 8 + at;
    unsigned seed = 7;
    for (size_t i = 0; i < n; i++)
        for (int64_t e = 0; e < v[i].rows * (v[i].cols < 0 ? 1 : v[i].cols); e++) {
            seed = seed * 1664525 + 1013904223;
            float f = isnan(v[i].scale) ? NAN : v[i].scale * ((float)(int32_t)seed / 2147483648.0f);
            uint16_t half = v[i].dtype == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
            if (v[i].dtype == DT_F32)
                memcpy(p, &f, 4);
            else if (dtype_size(v[i].dtype) == 2)
                memcpy(p, &half, 2);
            p += dtype_size(v[i].dtype);
        }
    *size = 8 + at + offset;
    return out;
}

static inline void toy_write_file(const char *dir, const char *name, const void *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size)
        abort();
    fclose(f);
}

/* dir/adapter_config.json and dir/adapter_model.safetensors; dir is made. */
static inline void toy_adapter(const char *dir, const char *config, const struct toy_tensor *v,
                               size_t n)
{
    size_t size;
    char *tensors = toy_tensors(v, n, &size);
    mkdir(dir, 0755);
    toy_write_file(dir, "adapter_config.json", config, strlen(config));
    toy_write_file(dir, "adapter_model.safetensors", tensors, size);
    free(tensors);
}

/* A config with the usual keys, `more` in front (", ..." is not needed). */
static inline const char *toy_config(const char *more)
{
    static char text[4096];
    snprintf(text, sizeof text,
             "{%s%s\"peft_type\":\"OFT\",\"r\":0,\"bias\":\"none\",\"peft_version\":\"0.21.2\","
             "\"task_type\":\"CAUSAL_LM\",\"inference_mode\":true}",
             more, *more ? "," : "");
    return text;
}

static char toy_folder[64];

/* A fresh folder; the same one until it is removed. */
static inline const char *toy_dir(void)
{
    if (!*toy_folder) {
        snprintf(toy_folder, sizeof toy_folder, "/tmp/oftd-test-XXXXXX");
        if (!mkdtemp(toy_folder))
            abort();
    }
    return toy_folder;
}

static inline void toy_remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", toy_dir());
    if (system(command))
        abort();
    *toy_folder = 0;
}

static inline const char *toy_path(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", toy_dir(), name);
    return p;
}

#endif
