/*
 * Bytes become a GPTQ module: a config of a few keys (or raw JSON text) and tensors that mostly
 * have the shapes which that config makes, with any content, g_idx above all.
 */
#include "tests/fuzz/fuzz_backend.h"

static json_t *made_config(struct fuzz_input *in, int64_t *bits, int64_t *group)
{
    static const char *const formats[4] = {"gptq", "gptq_v2", "gptq_p", "marlin"};
    static const char *const patterns[4] = {"m", "-:x", "+:(a|m)+$", "-:.*"};
    unsigned a = fuzz_byte(in), b = fuzz_byte(in);
    *bits = 1 + a % 9;
    *group = (int64_t)(b & 63) - 1;
    json_t *dynamic = json_object();
    if (a & 64)
        json_object_set_new(dynamic, patterns[b >> 6],
                            json_pack("{sI}", "bits", (json_int_t)*bits));
    return json_pack("{ss sI sI ss so sb}", "quant_method", "gptq", "bits", (json_int_t)*bits,
                     "group_size", (json_int_t)*group, "checkpoint_format", formats[a >> 4 & 3],
                     "dynamic", dynamic, "desc_act", (int)(a >> 7));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    unsigned mode = fuzz_byte(&in);
    int64_t bits = 4, group = -1;
    json_t *config = NULL;
    if (mode & 1) {
        config = made_config(&in, &bits, &group);
    } else {
        size_t length = fuzz_byte(&in);
        length = length < in.size ? length : in.size;
        json_parse((const char *)in.data, length, 16, "config", &config, NULL);
        in.data += length;
        in.size -= length;
    }
    fuzz_module_init(&m, &in, config);
    int64_t n = m.spec.n, k = m.spec.k;
    int64_t g = group < 1 || group > k ? k : group, groups = k ? (k + g - 1) / g : 0;
    static const enum dtype scales[4] = {DT_F16, DT_BF16, DT_F32, DT_F64};
    if (mode & 2) {
        fuzz_put(&m, &in, "qweight", DT_I32, 2, (int64_t[]){(k * bits + 31) / 32, n}, NULL);
        fuzz_put(&m, &in, "qzeros", DT_I32, 2, (int64_t[]){groups, (n * bits + 31) / 32}, NULL);
        fuzz_put(&m, &in, "scales", scales[mode >> 4 & 3], 2, (int64_t[]){groups, n}, NULL);
        if (mode & 4)
            fuzz_groups(&m, &in, groups);
    } else {
        static const char *const suffixes[] = {"qweight", "qzeros", "scales", "g_idx"};
        for (int i = 0; i < 4; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
    }
    fuzz_backend(&gptq_backend, &m, &in);
    json_decref(config);
    return 0;
}
