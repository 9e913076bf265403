/*
 * Bytes become an EETQ module: a config (made of flags, or raw JSON text) and tensors that mostly
 * have the right dtypes and shapes, with any content: what the layout is guessed from.
 */
#include "tests/fuzz/fuzz_backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const layouts[4] = {"sm75", "sm70", "sm75", "sm90"};
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    unsigned mode = fuzz_byte(&in), flags = fuzz_byte(&in);
    json_t *config = NULL;
    if (mode & 1) {
        config = json_pack("{ss ss si}", "quant_method", flags & 1 ? "eetq" : "awq", "weights",
                           flags & 2 ? "int8" : "int4", "bits", flags & 4 ? 8 : 4);
        if (flags & 8)
            json_object_set_new(config, "eetq_layout", json_string(layouts[flags >> 4 & 3]));
    } else if (mode & 2) {
        size_t length = flags < in.size ? flags : in.size;
        json_parse((const char *)in.data, length, 16, "config", &config, NULL);
        in.data += length;
        in.size -= length;
    }
    fuzz_module_init(&m, &in, config);
    if (mode & 8) { // sizes that the format can have
        m.spec.n = 64 << (mode >> 4 & 1);
        m.spec.k = mode & 16 ? 64 : 64 << (mode >> 5 & 1);
    }
    int64_t n = m.spec.n, k = m.spec.k;
    m.spec.kind = mode >> 6 == 3 ? MODULE_CONV1D : MODULE_LINEAR;
    if (mode & 4) {
        fuzz_put(&m, &in, flags & 64 ? "qweight" : "weight", DT_I8, 2, (int64_t[]){k, n}, NULL);
        fuzz_put(&m, &in, "weight_scales", flags & 128 ? DT_F32 : DT_F16, 1, &n, NULL);
    } else {
        static const char *const suffixes[] = {"bias", "qweight", "weight", "weight_scales"};
        for (int i = 0; i < 4; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
    }
    fuzz_backend(&eetq_backend, &m, &in);
    json_decref(config);
    return 0;
}
