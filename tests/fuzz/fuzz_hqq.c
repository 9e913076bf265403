/*
 * Bytes become an HQQ module: mostly right parameters (bits, axis, a group that divides), tensors
 * of the shapes that follow from them, and then some of them replaced by what the bytes say.
 */
#include "tests/fuzz/fuzz_backend.h"

static void put_text(struct fuzz_module *m, const struct fuzz_input *in, const char *suffix,
                     const char *text)
{
    fuzz_put(m, in, suffix, DT_U8, 1, (int64_t[]){(int64_t)strlen(text)}, text);
}

static void put_int(struct fuzz_module *m, const struct fuzz_input *in, const char *suffix,
                    int32_t v)
{
    fuzz_put(m, in, suffix, DT_I32, 0, &m->spec.n, &v);
}

/* The nth divisor of count, or nearly. */
static int64_t divisor(int64_t count, unsigned nth)
{
    int64_t d = 1;
    for (int64_t i = 1; i <= count && nth; i++)
        if (count % i == 0) {
            d = i;
            nth--;
        }
    return d;
}

/* The parameters, less those of skip's bits. */
static void put_parameters(struct fuzz_module *m, struct fuzz_input *in, int bits, int axis,
                           int64_t group, bool as_float, enum dtype dtype, unsigned skip)
{
    static const char *const packings[] = {"1bit_u8", "2bit_u8", "3bit_32", "4bit_u8",
                                           "8bit_u8", "8bit_u8", "8bit_u8", "8bit_u8"};
    int64_t shape[2] = {m->spec.n, m->spec.k};
    char text[32];
    uint8_t flag = as_float;
    float odd = 1.58f;
    snprintf(text, sizeof text, "torch.%s", dtype_torch(dtype));
    if (!(skip & 1))
        fuzz_put(m, in, "shape", DT_I64, 1, (int64_t[]){2}, shape);
    if (bits == 2 && skip & 64)
        fuzz_put(m, in, "nbits", DT_F32, 0, &m->spec.n, &odd);
    else if (!(skip & 2))
        put_int(m, in, "nbits", bits);
    if (!(skip & 4))
        put_int(m, in, "group_size", (int32_t)group);
    if (!(skip & 8))
        put_int(m, in, "axis", axis);
    if (!(skip & 16))
        put_text(m, in, "packing", packings[bits - 1]);
    if (!(skip & 32))
        put_text(m, in, "compute_dtype", text);
    fuzz_put(m, in, "view_as_float", DT_U8, 0, &m->spec.n, &flag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dtype floats[] = {DT_F16, DT_BF16, DT_F32, DT_F16};
    static const char *const others[] = {
        "W_q",          "scale",    "zero",      "bias", "unpack_view_dtype",
        "channel_wise", "optimize", "round_zero"};
    struct fuzz_input in = {data, size};
    struct fuzz_module m;
    fuzz_module_init(&m, &in, NULL);
    unsigned a = fuzz_byte(&in), b = fuzz_byte(&in), skip = fuzz_byte(&in), wild = fuzz_byte(&in);
    int bits = 1 + (int)(a & 7), axis = a >> 3 & 1,
        fields = bits == 3  ? 10
                 : bits > 4 ? 1
                            : 8 / bits;
    int64_t count = m.spec.n * m.spec.k, group = divisor(count, b), groups = count / group;
    enum dtype dtype = floats[a >> 4 & 3];
    bool as_float = a >> 6 & 1;
    put_parameters(&m, &in, bits, axis, group, as_float, dtype, skip & (skip >> 4 | 64));
    for (int i = 0; i < 8; i++)
        if (wild >> i & 1)
            fuzz_tensor(&m, &in, others[i]);
    int64_t rows = axis ? groups : group, columns = rows ? count / rows : 0;
    enum dtype word = bits == 3 ? DT_I32 : DT_U8, storage = as_float ? dtype : word;
    int64_t bytes = columns * (int64_t)dtype_size(word);
    fuzz_put(&m, &in, "W_q", storage, 2,
             (int64_t[]){(rows + fields - 1) / fields, bytes / (int64_t)dtype_size(storage)}, NULL);
    for (int i = 0; i < 2; i++)
        fuzz_put(&m, &in, i ? "zero" : "scale", dtype, 2,
                 (int64_t[]){axis ? groups : 1, axis ? 1 : groups}, NULL);
    // what is left may be a quantization_config
    json_t *quant = skip & 128 ? json_loadb((const char *)in.data, in.size, 0, NULL) : NULL;
    m.spec.quant = quant;
    fuzz_backend(&hqq_backend, &m, &in);
    json_decref(quant);
    return 0;
}
