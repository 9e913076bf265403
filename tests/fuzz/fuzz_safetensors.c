/* Any bytes as a safetensors file: what opens must keep what the header promises, because readers
 * touch every byte of every tensor without looking again. */
#include "core/files/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    enum status s = safetensors_parse(data, size, "fuzz", &st, &err);
    fuzz_check(!s == !!st);
    fuzz_check(s ? *err.text != 0 : !err.findings.n);
    size_t n = 0, total = 0;
    const struct tensor *t = st ? safetensors_tensors(st, &n) : NULL;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = t[i].data;
        fuzz_check(at >= data + 8 && at + t[i].bytes <= data + size);
        fuzz_check((size_t)tensor_elements(&t[i]) * dtype_size(t[i].dtype) == t[i].bytes);
        fuzz_check(!i || strcmp(t[i - 1].name, t[i].name) < 0);
        fuzz_check(safetensors_find(st, t[i].name) == &t[i]);
        total += t[i].bytes;
    }
    size_t header = 0;
    if (st) {
        safetensors_header(st, &header);
        fuzz_check(total == size - 8 - header);
    }
    safetensors_close(st);
    error_clear(&err);
    return 0;
}
