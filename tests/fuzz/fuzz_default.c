/*
 * Bytes become a plain module: kind, sizes, convolution, a tensor's dtype, rank and shape, and its
 * content. Whatever claim accepts must load (whole and in part), describe, round and store without
 * a fault; what it refuses, load refuses too.
 */
#include "tests/fuzz/fuzz_backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    fuzz_module_init(&m, &in, NULL);
    m.spec.kind = (enum module_kind)(fuzz_byte(&in) % 4);
    for (int i = 0; i < 4; i++)
        m.spec.conv[i] = fuzz_byte(&in) % 8;
    static const char *const suffixes[] = {"weight", "bias", "SCB", "weight.absmax"};
    for (int i = 0; i < 4; i++)
        fuzz_tensor(&m, &in, suffixes[i]);
    fuzz_backend(&default_backend, &m, &in);
    return 0;
}
