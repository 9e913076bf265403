/*
 * Bytes become an AWQ module: a config of a few keys (or raw JSON text) and tensors that mostly
 * have the shapes which that config makes in one of the three layouts, with any content.
 */
#include "tests/fuzz/fuzz_backend.h"

struct made {
    int64_t bits, group;
    unsigned layout; /* GEMM, GEMV, GEMV-fast, the same with scaled_zeros */
};

static json_t *made_config(struct fuzz_input *in, struct made *m)
{
    static const char *const versions[8] = {"gemm",    "GEMV", "gemv_fast", "llm-awq",
                                            "exllama", "gptq", "marlin",    "x"};
    static const char *const providers[4] = {"auto-round", "gptqmodel", "", "autoawq"};
    static const int groups[8] = {-1, 8, 16, 32, 64, 128, 0, 3};
    unsigned a = fuzz_byte(in), b = fuzz_byte(in);
    m->bits = a & 8 ? 4 : 1 + a % 9;
    m->group = groups[b & 7];
    m->layout = a >> 6;
    json_t *config = json_pack("{ss sI sI ss ss}", "quant_method", "awq", "bits",
                               (json_int_t)m->bits, "group_size", (json_int_t)m->group, "version",
                               b & 8 ? versions[m->layout] : versions[b >> 4 & 7], "provider",
                               providers[a >> 4 & 3]);
    if (b & 128)
        json_object_set_new(config, "modules_to_not_convert", json_pack("[ss]", "lm_head", "x.m"));
    return config;
}

static void put_tensors(struct fuzz_module *m, const struct fuzz_input *in, const struct made *made,
                        unsigned mode)
{
    static const enum dtype scales[4] = {DT_F16, DT_F16, DT_BF16, DT_F32};
    int64_t n = m->spec.n, k = m->spec.k, words = (n * made->bits + 31) / 32;
    int64_t group = made->group < 1 ? k : made->group, groups = group ? k / group : 0;
    int64_t many = group >= 128 ? 1 : group == 64 ? 2 : group == 32 ? 4 : 8;
    int64_t width = ((groups + 7) / 8 + many - 1) / many * many;
    if (made->layout == 0) {
        fuzz_put(m, in, "qweight", DT_I32, 2, (int64_t[]){k, words}, NULL);
        fuzz_put(m, in, "qzeros", DT_I32, 2, (int64_t[]){groups, words}, NULL);
        fuzz_put(m, in, "scales", scales[mode >> 4 & 3], 2, (int64_t[]){groups, n}, NULL);
    } else if (made->layout == 1) {
        fuzz_put(m, in, "qweight", DT_I32, 2, (int64_t[]){n, k / 8}, NULL);
        fuzz_put(m, in, "qzeros", DT_I32, 2, (int64_t[]){n, width}, NULL);
        fuzz_put(m, in, "scales", scales[mode >> 4 & 3], 2, (int64_t[]){n, 8 * width}, NULL);
    } else {
        const char *zeros = made->layout == 3 ? "scaled_zeros" : "qzeros";
        fuzz_put(m, in, "qweight", DT_I16, 2, (int64_t[]){n / 4, k}, NULL);
        fuzz_put(m, in, zeros, DT_F16, 2, (int64_t[]){8 * width, n}, NULL);
        fuzz_put(m, in, "scales", scales[mode >> 4 & 3], 2, (int64_t[]){8 * width, n}, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    struct made made = {.bits = 4, .group = -1};
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
    if (mode & 8) { // sizes that the layouts can have
        m.spec.n = 8 * (1 + m.spec.n % 8);
        m.spec.k = mode & 64 ? 128 : 64;
    }
    m.spec.kind = mode >> 6 == 3 ? MODULE_EMBEDDING : MODULE_LINEAR;
    if (mode & 2) {
        put_tensors(&m, &in, &made, mode);
    } else {
        static const char *const suffixes[] = {"qweight", "qzeros", "scaled_zeros", "scales"};
        for (int i = 0; i < 4; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
    }
    fuzz_backend(&awq_backend, &m, &in);
    json_decref(config);
    return 0;
}
