/*
 * Owns what becomes of each tensor of a llama's GGUF file.
 *
 *     token_embd                       model.embed_tokens            plain
 *     output_norm, output              model.norm, lm_head
 *     blk.L.attn_q, attn_k             model.layers.L.self_attn.q_proj, k_proj    rows permuted
 * back blk.L.attn_v, attn_output        ... v_proj, o_proj blk.L.ffn_gate, ffn_up, ffn_down
 * mlp.gate_proj, up_proj, down_proj blk.L.attn_norm, ffn_norm                      input_layernorm,
 * post_attention_layernorm
 *
 * F32 and F16 are written as they are. A linear of Q4_0, Q4_1 or Q8_0 becomes an HQQ module, axis
 * 1, groups of 32, float32 (gguf_blocks.c says which codes, steps and zeros, and that Q4_0 and Q8_0
 * are exact): a block is a group. An embedding, which HQQ does not have, and 4-bit codes whose
 * number of groups is odd, which HQQ cannot pack, become plain float32: d q has at most 19
 * significant bits, so that is exact for Q4_0 and Q8_0, where float16 (11 bits) would round.
 *
 * llama.cpp rotates neighbours, Hugging Face halves. With head size D, in each head:
 *
 *     row of GGUF     0    1      2    3    ...              2i + j
 *     holds HF's row  0    D/2    1    D/2 + 1 ...           j D/2 + i
 *
 * HQQ packs two groups into a row of bytes, group g < G/2 in the high nibbles and g + G/2 in the
 * low ones, so the file is read at two places at once and never needs more memory than one block's.
 *
 * Every tensor of the file must be one of these and have the shape that the metadata says: what is
 * left over (rope_freqs, biases, experts) would change the mathematics and is refused by name.
 */
#include "core/files/gguf_import.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/files/gguf_blocks.h"
#include "core/files/gguf_llama.h"
#include "core/files/gguf_tokenizer.h"
#include "core/files/writer.h"
#include "core/grow.h"

#define NAME_SIZE   96
#define BUFFER_SIZE (64 * 1024)

/* What is made of a tensor's bytes, or none of them. */
enum form { AS_IS, FLOATS, CODES, SCALES, ZEROS, FIXED };

struct entry {
    struct tensor t; /* as announced; data: of FIXED */
    const struct gguf_tensor *from;
    enum form form;
    int64_t heads; /* whose rows are permuted; 0: none */
};

struct import {
    struct gguf *g;
    struct gguf_llama m;
    struct gguf_tokenizer tokenizer;
    struct arena arena;
    struct entry *v;
    size_t n, cap;
    bool *planned; /* of each tensor of the file: does something become of it */
    bool four, eight;
    struct gguf_report *report;
    struct error *err;
    struct writer *writer;
    uint8_t *buffer; /* [BUFFER_SIZE], filled bytes of it not written yet */
    size_t filled;
};

static enum status memory(const struct import *x)
{
    return error_memory(x->err, "importing a GGUF file");
}

/* ---- the plan ---- */

static struct entry *add(struct import *x, const struct gguf_tensor *from, enum form form,
                         const char *prefix, const char *suffix)
{
    if (!GROW(x->v, x->cap, x->n + 1, 256))
        return NULL;
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s.%s", prefix, suffix);
    struct entry *e = &x->v[x->n];
    *e = (struct entry){.from = from, .form = form, .t.name = arena_strdup(&x->arena, name)};
    if (!e->t.name)
        return NULL;
    x->n++;
    return e;
}

static void announce(struct import *x, struct entry *e, enum dtype dtype, int rank,
                     const int64_t *shape)
{
    e->t.dtype = dtype;
    e->t.rank = rank;
    if (rank)
        memcpy(e->t.shape, shape, (size_t)rank * sizeof *shape);
    e->t.bytes = (size_t)tensor_elements(&e->t) * dtype_size(dtype);
    x->report->bytes += e->t.bytes;
}

static enum status add_plain(struct import *x, const struct gguf_tensor *t, const char *prefix,
                             int64_t heads)
{
    enum form form = gguf_block_bytes(t->type) ? FLOATS : AS_IS;
    struct entry *e = add(x, t, form, prefix, "weight");
    if (!e)
        return memory(x);
    announce(x, e, t->type == GGUF_F16 ? DT_F16 : DT_F32, t->rank, t->shape);
    e->heads = heads;
    x->report->plain++;
    return ST_OK;
}

/* A small tensor of an HQQ module; data must live as long as the import. */
static bool add_fixed(struct import *x, const char *prefix, const char *suffix, enum dtype dtype,
                      int64_t n, const void *data)
{
    struct entry *e = add(x, NULL, FIXED, prefix, suffix);
    if (!e)
        return false;
    announce(x, e, dtype, n != 0, &n);
    e->t.data = data;
    return true;
}

static bool add_text(struct import *x, const char *prefix, const char *suffix, const char *text)
{
    return add_fixed(x, prefix, suffix, DT_U8, (int64_t)strlen(text), text);
}

/* What the library saves beside codes, scales and zeros. */
static bool add_parameters(struct import *x, const struct gguf_tensor *t, const char *prefix)
{
    static const int32_t four = 4, eight = 8, group = GGUF_BLOCK, axis = 1;
    static const uint8_t no = 0, yes = 1;
    static const struct {
        const char *suffix;
        const uint8_t *value;
    } flags[] = {
        {"view_as_float", &no}, {"quant_scale", &no},         {"quant_zero", &no},
        {"channel_wise", &yes}, {"optimize", &yes},           {"round_zero", &no},
        {"offload_meta", &no},  {"encoded_state_dict", &yes}, {"stores_quant_config", &yes},
    };
    bool wide = gguf_block_bits(t->type) == 8;
    const int64_t *shape = arena_copy(&x->arena, t->shape, 2 * sizeof *shape);
    bool whole = shape && add_fixed(x, prefix, "shape", DT_I64, 2, shape) &&
                 add_fixed(x, prefix, "nbits", DT_I32, 0, wide ? &eight : &four) &&
                 add_fixed(x, prefix, "group_size", DT_I32, 0, &group) &&
                 add_fixed(x, prefix, "axis", DT_I32, 0, &axis) &&
                 add_text(x, prefix, "packing", wide ? "8bit_u8" : "4bit_u8") &&
                 add_text(x, prefix, "unpack_view_dtype", "torch.uint8") &&
                 add_text(x, prefix, "compute_dtype", "torch.float32");
    for (size_t i = 0; whole && i < sizeof flags / sizeof flags[0]; i++)
        whole = add_fixed(x, prefix, flags[i].suffix, DT_U8, 0, flags[i].value);
    return whole;
}

static int64_t count_groups(const struct gguf_tensor *t)
{
    return t->shape[0] * (t->shape[1] / GGUF_BLOCK);
}

static enum status add_linear(struct import *x, const struct gguf_tensor *t, const char *prefix,
                              int64_t heads)
{
    static const struct {
        const char *suffix;
        enum form form;
    } parts[] = {{"W_q", CODES}, {"scale", SCALES}, {"zero", ZEROS}};
    if (!gguf_block_bytes(t->type))
        return add_plain(x, t, prefix, heads);
    int64_t groups = count_groups(t), bits = gguf_block_bits(t->type);
    if (bits == 4 && groups % 2)
        return add_plain(x, t, prefix, heads);
    for (size_t i = 0; i < 3; i++) {
        struct entry *e = add(x, t, parts[i].form, prefix, parts[i].suffix);
        if (!e)
            return memory(x);
        const int64_t codes[2] = {groups * bits / 8, GGUF_BLOCK}, steps[2] = {groups, 1};
        announce(x, e, i ? DT_F32 : DT_U8, 2, i ? steps : codes);
        e->heads = heads;
    }
    *(bits == 4 ? &x->four : &x->eight) = true;
    x->report->steps++;
    return add_parameters(x, t, prefix) ? ST_OK : memory(x);
}

/* The tensor of that name, of [rows, columns] or, with rows 0, [columns]. */
static enum status want(struct import *x, const char *name, int64_t rows, int64_t columns,
                        const struct gguf_tensor **out)
{
    size_t n;
    char expected[48], got[96];
    const int64_t shape[2] = {rows ? rows : columns, columns};
    int rank = rows ? 2 : 1;
    const struct gguf_tensor *t = gguf_tensor_find(x->g, name);
    *out = t;
    if (!t)
        return error_set(x->err, ST_TENSOR_MISSING, "%s: tensor %s is missing", gguf_path(x->g),
                         name);
    struct tensor is = {.rank = t->rank}, wanted = {.rank = rank};
    memcpy(is.shape, t->shape, sizeof t->shape);
    memcpy(wanted.shape, shape, sizeof shape);
    if (!tensor_shape_is(&is, rank, shape))
        return error_set(x->err, ST_TENSOR_SHAPE_MISMATCH,
                         "%s: tensor %s has shape %s, expected %s", gguf_path(x->g), name,
                         tensor_shape_text(&is, got, sizeof got),
                         tensor_shape_text(&wanted, expected, sizeof expected));
    x->planned[t - gguf_tensors(x->g, &n)] = true;
    return ST_OK;
}

static enum status plan_norm(struct import *x, const char *name, const char *prefix)
{
    char buf[24];
    const struct gguf_tensor *t;
    enum status s = want(x, name, 0, x->m.hidden, &t);
    if (s)
        return s;
    if (gguf_block_bytes(t->type))
        return error_set(x->err, ST_DTYPE_UNSUPPORTED,
                         "%s: tensor %s is of type %s, expected F32 or F16", gguf_path(x->g), name,
                         gguf_type_name(t->type, buf));
    return add_plain(x, t, prefix, 0);
}

static enum status plan_layer(struct import *x, int64_t layer)
{
    const struct gguf_llama *m = &x->m;
    int64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    const struct {
        const char *from, *to;
        int64_t rows, columns, heads;
    } linears[] = {
        {"attn_q", "self_attn.q_proj", q, m->hidden, m->heads},
        {"attn_k", "self_attn.k_proj", kv, m->hidden, m->kv_heads},
        {"attn_v", "self_attn.v_proj", kv, m->hidden, 0},
        {"attn_output", "self_attn.o_proj", m->hidden, q, 0},
        {"ffn_gate", "mlp.gate_proj", m->ffn, m->hidden, 0},
        {"ffn_up", "mlp.up_proj", m->ffn, m->hidden, 0},
        {"ffn_down", "mlp.down_proj", m->hidden, m->ffn, 0},
    };
    static const char *const norms[2][2] = {{"attn_norm", "input_layernorm"},
                                            {"ffn_norm", "post_attention_layernorm"}};
    char name[NAME_SIZE], prefix[NAME_SIZE];
    enum status s = ST_OK;
    for (size_t i = 0; !s && i < 2; i++) {
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)layer, norms[i][0]);
        snprintf(prefix, sizeof prefix, "model.layers.%lld.%s", (long long)layer, norms[i][1]);
        s = plan_norm(x, name, prefix);
    }
    for (size_t i = 0; !s && i < sizeof linears / sizeof linears[0]; i++) {
        const struct gguf_tensor *t;
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)layer, linears[i].from);
        snprintf(prefix, sizeof prefix, "model.layers.%lld.%s", (long long)layer, linears[i].to);
        s = want(x, name, linears[i].rows, linears[i].columns, &t);
        s = s ? s : add_linear(x, t, prefix, linears[i].heads);
    }
    return s;
}

/* The plan must have a place for every tensor. */
static enum status refuse_rest(const struct import *x)
{
    size_t n;
    const struct gguf_tensor *t = gguf_tensors(x->g, &n);
    for (size_t i = 0; i < n; i++)
        if (!x->planned[i])
            return error_set(x->err, ST_TENSOR_UNEXPECTED,
                             "%s: tensor %.200s is none that a supported llama of %lld layers has",
                             gguf_path(x->g), t[i].name, (long long)x->m.layers);
    return ST_OK;
}

static enum status plan(struct import *x)
{
    size_t n;
    const struct gguf_tensor *t;
    gguf_tensors(x->g, &n);
    x->planned = calloc(n + 1, sizeof *x->planned);
    if (!x->planned)
        return memory(x);
    enum status s = want(x, "token_embd.weight", x->m.vocab, x->m.hidden, &t);
    s = s ? s : add_plain(x, t, "model.embed_tokens", 0);
    for (int64_t i = 0; !s && i < x->m.layers; i++)
        s = plan_layer(x, i);
    s = s ? s : plan_norm(x, "output_norm.weight", "model.norm");
    if (!s && !x->m.tied) {
        s = want(x, "output.weight", x->m.vocab, x->m.hidden, &t);
        s = s ? s : add_linear(x, t, "lm_head", 0);
    }
    return s ? s : refuse_rest(x);
}

/* ---- the bytes ---- */

static enum status flush(struct import *x)
{
    size_t n = x->filled;
    x->filled = 0;
    return n ? writer_data(x->writer, x->buffer, n, x->err) : ST_OK;
}

static enum status put(struct import *x, const void *data, size_t n)
{
    for (const uint8_t *from = data; n;) {
        size_t room = BUFFER_SIZE - x->filled, part = n < room ? n : room;
        memcpy(x->buffer + x->filled, from, part);
        x->filled += part;
        from += part;
        n -= part;
        enum status s = x->filled == BUFFER_SIZE ? flush(x) : ST_OK;
        if (s)
            return s;
    }
    return ST_OK;
}

/* The row of the file that holds this row of Hugging Face's matrix. */
static int64_t source_row(const struct entry *e, int64_t row)
{
    if (!e->heads)
        return row;
    int64_t size = e->from->shape[0] / e->heads, half = size / 2, at = row % size;
    return row - at + 2 * (at % half) + at / half;
}

/* Block g of the matrix in Hugging Face's order. */
static const uint8_t *block_of(const struct entry *e, int64_t g)
{
    int64_t per_row = e->from->shape[1] / GGUF_BLOCK;
    int64_t at = source_row(e, g / per_row) * per_row + g % per_row;
    return e->from->data + (size_t)at * gguf_block_bytes(e->from->type);
}

static enum status not_finite(const struct import *x, const struct entry *e, int64_t g)
{
    int64_t per_row = e->from->shape[1] / GGUF_BLOCK;
    error_set(x->err, ST_NON_FINITE_WEIGHTS, "%s: tensor %s, row %lld holds NaN or Inf",
              gguf_path(x->g), e->from->name, (long long)source_row(e, g / per_row));
    return ST_NON_FINITE_WEIGHTS;
}

/* The rows of a matrix, or a vector whole, byte for byte. */
static enum status put_as_is(struct import *x, const struct entry *e)
{
    int64_t rows = e->from->rank == 2 ? e->from->shape[0] : 1;
    size_t size = e->from->bytes / (size_t)rows;
    enum status s = ST_OK;
    for (int64_t r = 0; !s && r < rows; r++)
        s = put(x, e->from->data + (size_t)source_row(e, r) * size, size);
    return s;
}

static enum status put_group(struct import *x, const struct entry *e, int64_t g)
{
    enum gguf_type type = e->from->type;
    const uint8_t *block = block_of(e, g);
    uint8_t codes[2][GGUF_BLOCK];
    float floats[GGUF_BLOCK], steps[2];
    switch (e->form) {
    case FLOATS:
        return gguf_block_floats(type, block, floats) ? put(x, floats, sizeof floats)
                                                      : not_finite(x, e, g);
    case SCALES:
    case ZEROS:
        return gguf_block_steps(type, block, &steps[0], &steps[1])
                   ? put(x, &steps[e->form == ZEROS], sizeof steps[0])
                   : not_finite(x, e, g);
    default:
        break;
    }
    gguf_block_codes(type, block, codes[0]);
    if (gguf_block_bits(type) == 4) {
        gguf_block_codes(type, block_of(e, g + count_groups(e->from) / 2), codes[1]);
        for (int i = 0; i < GGUF_BLOCK; i++)
            codes[0][i] = (uint8_t)(codes[0][i] << 4 | codes[1][i]);
    }
    return put(x, codes[0], sizeof codes[0]);
}

static enum status put_entry(struct import *x, const struct entry *e)
{
    enum status s = ST_OK;
    if (e->form == FIXED)
        return put(x, e->t.data, e->t.bytes);
    if (e->form == AS_IS)
        return put_as_is(x, e);
    int64_t groups = count_groups(e->from);
    if (e->form == CODES)
        groups = groups * gguf_block_bits(e->from->type) / 8;
    for (int64_t g = 0; !s && g < groups; g++)
        s = put_group(x, e, g);
    return s;
}

static enum status write_tensors(struct import *x, progress_report *progress, void *ctx)
{
    uint64_t done = 0;
    struct tensor *announced = calloc(x->n + 1, sizeof *announced);
    x->buffer = malloc(BUFFER_SIZE);
    if (!announced || !x->buffer) {
        free(announced);
        return memory(x);
    }
    for (size_t i = 0; i < x->n; i++)
        announced[i] = x->v[i].t;
    enum status s = writer_tensors(x->writer, "model.safetensors", announced, x->n, x->err);
    free(announced);
    for (size_t i = 0; !s && i < x->n; i++) {
        s = put_entry(x, &x->v[i]);
        s = s ? s : flush(x); // a call's bytes belong to one tensor
        done += x->v[i].t.bytes;
        if (!s && progress && x->v[i].form != FIXED &&
            !progress(ctx, (double)done / (double)x->report->bytes))
            s = error_set(x->err, ST_CANCELLED, "the import was stopped");
    }
    return s ? s : writer_end(x->writer, x->err);
}

/* ---- the folder ---- */

/* quantization_config; with codes of both widths the modules' own tensors say which. */
static json_t *quantization(const struct import *x)
{
    if (x->four && x->eight)
        return json_pack("{s:s}", "quant_method", "hqq");
    return json_pack("{s:s, s:[s], s:{s:{s:i, s:i, s:i, s:b, s:b, s:b, s:b}, s:n, s:n, s:b}}",
                     "quant_method", "hqq", "skip_modules", "lm_head", "quant_config",
                     "weight_quant_params", "nbits", x->four ? 4 : 8, "group_size", GGUF_BLOCK,
                     "axis", 1, "channel_wise", 1, "optimize", 1, "round_zero", 0, "view_as_float",
                     0, "scale_quant_params", "zero_quant_params", "offload_meta", 0);
}

static enum status write_config(struct import *x)
{
    json_t *config = gguf_llama_config(&x->m);
    bool whole = config && (!x->report->steps ||
                            !json_object_set_new(config, "quantization_config", quantization(x)));
    whole =
        whole && (!x->tokenizer.generation || !json_object_update(config, x->tokenizer.generation));
    enum status s = whole ? writer_json(x->writer, "config.json", config, x->err) : memory(x);
    json_decref(config);
    return s;
}

static enum status write_folder(struct import *x, const char *output, progress_report *progress,
                                void *ctx)
{
    const struct gguf_tokenizer *t = &x->tokenizer;
    enum status s = writer_open(output, &x->writer, x->err);
    s = s ? s : write_config(x);
    if (!s && t->tokenizer) {
        s = writer_json(x->writer, "tokenizer.json", t->tokenizer, x->err);
        s = s ? s : writer_json(x->writer, "tokenizer_config.json", t->config, x->err);
        s = s ? s : writer_json(x->writer, "generation_config.json", t->generation, x->err);
    }
    s = s ? s : write_tensors(x, progress, ctx);
    if (s) {
        writer_abort(x->writer);
        return s;
    }
    return writer_commit(x->writer, x->err);
}

enum status gguf_import(const char *file, const char *output, progress_report *progress, void *ctx,
                        struct gguf_report *report, struct error *err)
{
    struct import x = {.report = report, .err = err};
    *report = (struct gguf_report){0};
    enum status s = gguf_open(file, &x.g, err);
    s = s ? s : gguf_llama_read(x.g, &x.m, err);
    s = s ? s : plan(&x);
    s = s ? s : gguf_tokenizer_read(x.g, x.m.vocab, &x.tokenizer, err);
    report->tokenizer = x.tokenizer.tokenizer;
    s = s ? s : write_folder(&x, output, progress, ctx);
    gguf_tokenizer_clear(&x.tokenizer);
    gguf_close(x.g);
    arena_free(&x.arena);
    free(x.planned);
    free(x.buffer);
    free(x.v);
    return s;
}
