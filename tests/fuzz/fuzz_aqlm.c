/*
 * Bytes become an AQLM module: codebooks and codes of the shapes that mostly right groups make, and
 * then some tensors of any shape.
 */
#include "tests/fuzz/fuzz_backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dtype floats[] = {DT_F16, DT_BF16, DT_F32, DT_F16};
    static const enum dtype ints[] = {DT_I8, DT_I16, DT_I32, DT_I64};
    static const char *const suffixes[] = {"codebooks", "codes", "scales", "bias"};
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    fuzz_module_init(&m, &in, NULL);
    unsigned a = fuzz_byte(&in), b = fuzz_byte(&in), wild = fuzz_byte(&in);
    int64_t books = 1 + (a & 3), in_group = 1 + (a >> 2 & 7), out_group = 1 + (a >> 5 & 3);
    int bits = b & 15;
    enum dtype dtype = floats[b >> 4 & 3];
    m.spec.n -= m.spec.n % out_group; // mostly whole groups
    m.spec.k -= m.spec.k % in_group - (a >> 7);
    int64_t out = m.spec.n / out_group, columns = m.spec.k / in_group;
    for (int i = 0; i < 4; i++)
        if (wild >> i & 1)
            fuzz_tensor(&m, &in, suffixes[i]);
    fuzz_put(&m, &in, "codebooks", dtype, 4,
             (int64_t[]){books, (int64_t)1 << bits, out_group, in_group}, NULL);
    bool turned = wild >> 4 & 1;
    fuzz_put(&m, &in, "codes", ints[b >> 6], 3,
             (int64_t[]){turned ? columns : out, turned ? out : columns, books}, NULL);
    fuzz_put(&m, &in, "scales", dtype, 4, (int64_t[]){out, 1, 1, 1}, NULL);
    fuzz_backend(&aqlm_backend, &m, &in);
    return 0;
}
