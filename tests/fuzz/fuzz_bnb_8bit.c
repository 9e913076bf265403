/*
 * Bytes become an 8-bit bitsandbytes module: a config (made of flags, or raw JSON text) and tensors
 * that mostly have the right dtypes and shapes, with any content, scales above all.
 */
#include "tests/fuzz/fuzz_backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    unsigned mode = fuzz_byte(&in), flags = fuzz_byte(&in);
    json_t *config = NULL;
    if (mode & 1) {
        config = json_pack("{ss sb sb}", "quant_method", flags & 1 ? "bitsandbytes" : "gptq",
                           "load_in_8bit", (int)(flags >> 1 & 1), "llm_int8_has_fp16_weight",
                           (int)(flags >> 2 & 1));
    } else if (mode & 2) {
        size_t length = flags < in.size ? flags : in.size;
        json_parse((const char *)in.data, length, 16, "config", &config, NULL);
        in.data += length;
        in.size -= length;
    }
    fuzz_module_init(&m, &in, config);
    m.spec.kind = (enum module_kind)(mode >> 6);
    int64_t n = m.spec.n, k = m.spec.k;
    uint8_t format = (mode & 16) != 0;
    if (mode & 4) {
        fuzz_put(&m, &in, "SCB", DT_F32, 1, &n, NULL);
        fuzz_put(&m, &in, "weight", DT_I8, 2, (int64_t[]){n, k}, NULL);
        if (mode & 8)
            fuzz_put(&m, &in, "weight_format", DT_U8, 0, &n, &format);
    } else {
        static const char *const suffixes[] = {"SCB", "bias", "weight", "weight_format"};
        for (int i = 0; i < 4; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
    }
    fuzz_backend(&bnb_8bit_backend, &m, &in);
    json_decref(config);
    return 0;
}
