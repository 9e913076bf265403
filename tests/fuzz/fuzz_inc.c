/*
 * Bytes become a module of Neural Compressor or auto-round: a config of a few keys (or raw JSON
 * text) and tensors that mostly have the shapes which that config makes, with any content.
 */
#include "tests/fuzz/fuzz_backend.h"

enum { NATIVE, CODES, AWQ, FP8 };

struct made {
    int kind;
    int64_t bits, group, rows, cols;
};

static json_t *made_config(struct fuzz_input *in, struct made *m)
{
    static const char *const packings[8] = {
        "auto_round", "auto_round:auto_gptq",           "auto_round:gptqmodel", "auto_round:awq",
        "auto",       "auto_round:auto_gptq:exllamav2", "auto_round:exllamav2", "auto_round:mlx"};
    static const char *const keys[4] = {"m", ".*m$", "(m|x)+", "m.x"};
    unsigned a = fuzz_byte(in), b = fuzz_byte(in), c = fuzz_byte(in);
    m->kind = a & 3;
    m->bits = a & 4 ? 4 : 1 + (a >> 3) % 9;
    m->group = (int64_t)(b & 63) - 1;
    m->rows = 1 + (c & 15);
    m->cols = 1 + (c >> 3);
    if (m->kind == NATIVE)
        return json_pack("{ss ss ss ss}", "fp8_config", a & 4 ? "E5M2" : "E4M3", "mode", "LOAD",
                         "hp_dtype", b & 1 ? "bf16" : "fp16", "fake_quant",
                         b == 2 ? "True" : "False");
    json_t *config = json_pack("{ss sb ss}", "quant_method", "auto-round", "sym", (int)(c >> 7),
                               c & 64 ? "backend" : "packing_format",
                               m->kind == AWQ ? packings[3] : packings[a >> 3 & 7]);
    if (m->kind == FP8 && b & 64)
        json_object_set_new(config, "group_size",
                            json_pack("[II]", (json_int_t)m->rows, (json_int_t)m->cols));
    else
        json_object_set_new(config, "group_size", json_integer(m->group));
    if (b & 128)
        json_object_set_new(config, "extra_config",
                            json_pack("{s{sI}}", keys[c >> 4 & 3], "bits", (json_int_t)m->bits));
    else
        json_object_set_new(config, "bits", json_integer(m->bits));
    return config;
}

static void put_fp8(struct fuzz_module *m, const struct fuzz_input *in, const struct made *made,
                    unsigned mode)
{
    int64_t n = m->spec.n, k = m->spec.k;
    enum dtype code = mode & 4 ? DT_F8_E5M2 : DT_F8_E4M3;
    enum dtype scale = mode & 8 ? DT_BF16 : DT_F32;
    int64_t shapes[4][2] = {{1}, {n}, {n, 1}, {(n + made->rows - 1) / made->rows}};
    shapes[3][1] = (k + made->cols - 1) / made->cols;
    int which = mode >> 4 & 3;
    if (made->kind == NATIVE) {
        static const char *const suffixes[2] = {"scale_weight", "dequant_weights.scale"};
        fuzz_put(m, in, "weight", code, 2, (int64_t[]){k, n}, NULL);
        fuzz_put(m, in, suffixes[mode >> 6 & 1], scale, which & 1, shapes[which], NULL);
        fuzz_put(m, in, mode >> 7 ? "quant_input.scale_inv" : "scale_input", DT_BF16, 0, shapes[0],
                 NULL);
        return;
    }
    fuzz_put(m, in, "weight", code, 2, (int64_t[]){n, k}, NULL);
    fuzz_put(m, in, which == 3 ? "weight_scale_inv" : "weight_scale", scale, which < 2 ? 1 : 2,
             shapes[which], NULL);
}

static void put_codes(struct fuzz_module *m, struct fuzz_input *in, const struct made *made,
                      unsigned mode)
{
    int64_t n = m->spec.n, k = m->spec.k, bits = made->bits;
    int64_t group = made->group < 1 || made->group > k ? k : made->group;
    int64_t groups = group ? (k + group - 1) / group : 0, words = (n * bits + 31) / 32;
    int64_t gptq[2] = {(k * bits + 31) / 32, n}, awq[2] = {k, words};
    fuzz_put(m, in, "qweight", DT_I32, 2, made->kind == AWQ ? awq : gptq, NULL);
    fuzz_put(m, in, "qzeros", DT_I32, 2, (int64_t[]){groups, words}, NULL);
    fuzz_put(m, in, "scales", mode & 8 ? DT_F16 : DT_BF16, 2, (int64_t[]){groups, n}, NULL);
    if (mode & 4)
        fuzz_groups(m, in, groups);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const suffixes[] = {"weight",     "weight_scale", "scale_weight",
                                           "weight_0_2", "qweight",      "weight_scale_inv"};
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    struct made made = {.kind = CODES, .bits = 4, .group = -1, .rows = 1, .cols = 1};
    unsigned mode = fuzz_byte(&in);
    json_t *config = NULL;
    if (mode & 1) {
        config = made_config(&in, &made);
    } else {
        size_t length = fuzz_byte(&in);
        length = length < in.size ? length : in.size;
        json_parse((const char *)in.data, length, 16, "config", &config, NULL);
        in.data += length;
        in.size -= length;
    }
    fuzz_module_init(&m, &in, config);
    if (mode & 128 && made.kind == AWQ)
        m.spec.n = 32 * (1 + m.spec.n % 2);
    if (!(mode & 2))
        for (int i = 0; i < 6; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
    else if (made.kind == CODES || made.kind == AWQ)
        put_codes(&m, &in, &made, mode);
    else
        put_fp8(&m, &in, &made, mode);
    fuzz_backend(&inc_backend, &m, &in);
    json_decref(config);
    return 0;
}
