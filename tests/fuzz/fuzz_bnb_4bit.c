/*
 * Bytes become a bitsandbytes 4-bit module: each of its tensors with its own dtype and shape, and
 * the quant state as raw text or (so that more than parsing is met) as a text made of a few bytes.
 */
#include "tests/fuzz/fuzz_backend.h"

/* A state that is mostly right. */
static int state_text(struct fuzz_module *m, struct fuzz_input *in, char *buf, size_t size)
{
    static const char *const dtypes[4] = {"float16", "bfloat16", "float32", "float64"};
    unsigned a = fuzz_byte(in), b = fuzz_byte(in);
    int n = snprintf(buf, size,
                     "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": "
                     "[%lld, %lld]",
                     a & 1 ? "nf4" : "fp4", 16 << (a >> 1 & 15), dtypes[a >> 5 & 3],
                     (long long)m->spec.n, (long long)m->spec.k);
    if (b & 1)
        n += snprintf(buf + n, size - (size_t)n,
                      ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", "
                      "\"nested_offset\": %d.25e%d",
                      16 << (b >> 1 & 15), (int)b - 128, (int)(b >> 4) - 8);
    return n + snprintf(buf + n, size - (size_t)n, "}");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    fuzz_module_init(&m, &in, NULL);
    char text[512];
    unsigned mode = fuzz_byte(&in);
    const char *state =
        mode & 1 ? "weight.quant_state.bitsandbytes__nf4" : "weight.quant_state.bitsandbytes__fp4";
    static const char *const suffixes[] = {"weight", "weight.absmax", "weight.quant_map",
                                           "weight.nested_absmax", "weight.nested_quant_map"};
    if (mode & 2) {
        int length = state_text(&m, &in, text, sizeof text);
        int64_t bytes = (m.spec.n * m.spec.k + 1) / 2;
        fuzz_put(&m, &in, state, DT_U8, 1, (int64_t[]){length}, text);
        fuzz_put(&m, &in, "weight", DT_U8, 2, (int64_t[]){bytes, 1}, NULL);
        bool nested = strstr(text, "nested_offset") != NULL;
        for (int i = 1; i < 5; i++)
            if (mode >> i & 4)
                fuzz_tensor(&m, &in, suffixes[i]);
        int64_t block = 0, inner = 1;
        block = strtol(strstr(text, "blocksize\": ") + 12, NULL, 10);
        if (nested)
            inner = strtol(strstr(text, "nested_blocksize\": ") + 19, NULL, 10);
        int64_t blocks = (m.spec.n * m.spec.k + block - 1) / block;
        fuzz_put(&m, &in, suffixes[1], nested ? DT_U8 : DT_F32, 1, &blocks, NULL);
        if (nested) {
            int64_t outer = (blocks + inner - 1) / inner;
            fuzz_put(&m, &in, suffixes[3], DT_F32, 1, &outer, NULL);
            fuzz_put(&m, &in, suffixes[4], DT_F32, 1, (int64_t[]){256}, NULL);
        }
    } else {
        for (int i = 0; i < 5; i++)
            fuzz_tensor(&m, &in, suffixes[i]);
        fuzz_put(&m, &in, state, DT_U8, 1, (int64_t[]){(int64_t)in.size}, NULL);
    }
    fuzz_backend(&bnb_4bit_backend, &m, &in);
    return 0;
}
