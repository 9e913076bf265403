/* The tile layout against its definition in core/kernels.h, written out a second time, slowly. */
#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "core/memory.h"

static uint32_t state = 1;
static uint32_t next(void)
{
    return state = state * 1664525u + 1013904223u, state >> 8;
}

/* The code by the words of kernels.h, bit by bit. */
static int code_by_definition(const uint8_t *data, int64_t k_padded, int bits, int64_t row,
                              int64_t k)
{
    static const int widths[9][3] = {{0}, {1}, {2}, {2, 1}, {4}, {4, 1}, {4, 2}, {4, 2, 1}, {8}};
    const uint8_t *chunk = data + (row / 16 * (k_padded / 32) + k / 32) * 64 * bits;
    int code = 0, shift = 0, i = (int)(k % 32);
    for (int p = 0; p < 3 && widths[bits][p]; p++) {
        int w = widths[bits][p];
        int d = i / (32 / w), within = i % (32 / w), f = within / 4, j = within % 4;
        int byte = chunk[64 * d + 4 * (row % 16) + j];
        code |= (byte >> (w * f) & ((1 << w) - 1)) << shift;
        shift += w;
        chunk += 64 * w;
    }
    return code;
}

START_TEST(codes_of_every_width)
{
    int bits = _i;
    static const int64_t shapes[][2] = {{16, 32}, {1, 1}, {17, 33}, {40, 100}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t n = shapes[s][0], k = shapes[s][1], kp = tile_pad_k(k), tiles = tile_count(n);
        size_t bytes = tile_code_bytes(n, k, bits);
        ck_assert_uint_eq(bytes, (size_t)(tiles * 16 * kp * bits / 8));
        uint8_t *data = memory_alloc(bytes);
        uint8_t *codes = calloc((size_t)(n * k), 1), *back = calloc((size_t)(16 * (kp + 5)), 1);
        ck_assert(data && codes && back);
        for (int64_t i = 0; i < n * k; i++)
            codes[i] = (uint8_t)(next() & ((1u << bits) - 1));
        for (int64_t t = 0; t < tiles; t++) {
            int64_t rows = n - 16 * t < 16 ? n - 16 * t : 16;
            tile_pack_codes(data, kp, bits, t, codes + 16 * t * k, k, rows, k);
        }
        for (int64_t r = 0; r < tiles * 16; r++)
            for (int64_t c = 0; c < kp; c++) {
                int want = r < n && c < k ? codes[r * k + c] : 0;
                ck_assert_int_eq(code_by_definition(data, kp, bits, r, c), want);
                ck_assert_int_eq(tile_code(data, kp, bits, r, c), want);
            }
        for (int64_t t = 0; t < tiles; t++) {
            tile_unpack_codes(data, kp, bits, t, back, kp + 5);
            for (int64_t r = 0; r < 16; r++)
                for (int64_t c = 0; c < kp; c++)
                    ck_assert_int_eq(back[r * (kp + 5) + c],
                                     tile_code(data, kp, bits, 16 * t + r, c));
        }
        memory_free(data);
        free(codes);
        free(back);
    }
}
END_TEST

START_TEST(dense)
{
    static const enum dtype dtypes[] = {DT_F32, DT_F16, DT_BF16};
    enum dtype d = dtypes[_i];
    size_t size = dtype_size(d);
    for (int64_t k = 1; k < 70; k += 17) {
        int64_t n = 21, kp = tile_pad_k(k), ld = k + 3;
        uint8_t *data = memory_alloc(tile_dense_bytes(n, k, d));
        uint8_t *raw = malloc((size_t)(n * ld) * size + 1), *src = raw + 1; // unaligned
        ck_assert(data && raw);
        for (int64_t i = 0; i < n * ld; i++) {
            float f = (float)((int)(next() % 2001) - 1000) / 8;
            uint16_t h = d == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
            memcpy(src + i * (int64_t)size, d == DT_F32 ? (void *)&f : (void *)&h, size);
        }
        for (int64_t t = 0; t < tile_count(n); t++) {
            int64_t rows = n - 16 * t < 16 ? n - 16 * t : 16;
            tile_pack_dense(data, kp, d, t, src + 16 * t * ld * (int64_t)size, ld, rows, k);
        }
        struct tensor whole = {.dtype = d, .rank = 1, .shape = {n * ld}, .data = src};
        for (int64_t r = 0; r < 32; r++)
            for (int64_t c = 0; c < kp; c++) {
                float want = r < n && c < k ? tensor_f32(&whole, r * ld + c) : 0;
                ck_assert_float_eq(tile_dense(data, kp, d, r, c), want);
            }
        memory_free(data);
        free(raw);
    }
}
END_TEST

/* The worked example of NF4's first block: {0.5, -0.25, ...}, absmax 0.5. */
START_TEST(table_element)
{
    static const uint8_t codes[8] = {15, 2, 9, 7, 0, 14, 8, 6};
    static const float want[8] = {0.5f,  -0.26253653f, 0.0804651f,  0,
                                  -0.5f, 0.36147842f,  0.03979015f, -0.04552502f};
    struct weight w = {.encoding = ENC_TABLE4,
                       .dtype = DT_F32,
                       .rule = RULE_PRODUCT,
                       .n = 1,
                       .k = 8,
                       .n_tiles = 1,
                       .k_padded = 32,
                       .bits = 4,
                       .group = 64,
                       .n_groups = 1,
                       .scale_dtype = DT_F32,
                       .table = {-1.0f, -0.6961928009986877f, -0.5250730514526367f,
                                 -0.39491748809814453f, -0.28444138169288635f,
                                 -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
                                 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                                 0.7229568362236023f, 1.0f}};
    uint8_t data[256] = {0};
    float absmax[16] = {0.5f};
    w.data = data;
    w.scales = absmax;
    tile_pack_codes(data, 32, 4, 0, codes, 8, 1, 8);
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq_tol(weight_element(&w, 0, i), want[i], 1e-8f);
    // nested: absmax code 0 -> (-0.99296874 * 0.375) + 0.625
    uint8_t nested_code[16] = {3};
    float nested_absmax[1] = {0.375f};
    w.nested = true;
    w.scales = nested_code;
    w.scale_dtype = DT_U8;
    w.nested_absmax = nested_absmax;
    w.n_nested = 1;
    w.nested_block = 256;
    w.nested_map[3] = -0.992968738f;
    w.nested_offset = 0.625f;
    w.flat_k = 8;
    ck_assert_float_eq_tol(weight_scale(&w, 0, 5), 0.25263673f, 1e-8f);
}
END_TEST

/* Groups that straddle rows, in a slice; irregular groups; both rounding rules. */
START_TEST(group_element)
{
    enum { N = 3, K = 10, MODULE_K = 14, ROW = 2, COL = 4, GROUP = 6 };
    uint8_t data[32 * 8 * 16] = {0}, codes[N * K];
    for (int i = 0; i < N * K; i++)
        codes[i] = (uint8_t)next();
    tile_pack_codes(data, 32, 8, 0, codes, K, N, K);
    float scales[16], zeros[16];
    for (int i = 0; i < 16; i++) {
        scales[i] = round_to_dtype(0.01f * (float)(i + 1), DT_F16);
        zeros[i] = round_to_dtype(100.3f + (float)i, DT_F16);
    }
    struct weight w = {.encoding = ENC_GROUP,
                       .dtype = DT_F16,
                       .rule = RULE_STEPS,
                       .n = N,
                       .k = K,
                       .n_tiles = 1,
                       .k_padded = 32,
                       .data = data,
                       .bits = 8,
                       .group = GROUP,
                       .n_groups = 12,
                       .grouping = GROUPS_FLAT,
                       .flat_k = MODULE_K,
                       .flat_row = ROW,
                       .flat_col = COL,
                       .scales = scales,
                       .scale_dtype = DT_F32,
                       .zeros = zeros,
                       .zero_dtype = DT_F32};
    for (int r = 0; r < N; r++)
        for (int k = 0; k < K; k++) {
            int g = ((ROW + r) * MODULE_K + COL + k) / GROUP;
            float c = round_to_dtype((float)codes[r * K + k] - zeros[g], DT_F16);
            ck_assert_float_eq(weight_element(&w, r, k), round_to_dtype(c * scales[g], DT_F16));
        }
    int32_t group_of[32] = {1, 0, 1, 0};
    uint8_t zero_codes[32];
    uint16_t half[32];
    for (int i = 0; i < 32; i++) {
        zero_codes[i] = (uint8_t)next();
        half[i] = f32_to_f16(0.25f + (float)i / 64);
    }
    w.grouping = GROUPS_OF_ROWS;
    w.n_groups = 2;
    w.group_of = group_of;
    w.rule = RULE_PRODUCT;
    w.dtype = DT_BF16;
    w.scales = half;
    w.scale_dtype = DT_F16;
    w.zeros = zero_codes;
    w.zero_dtype = DT_U8;
    for (int r = 0; r < N; r++)
        for (int k = 0; k < K; k++) {
            int p = 16 * group_of[k] + r;
            float f = (float)(codes[r * K + k] - zero_codes[p]) * f16_to_f32(half[p]);
            ck_assert_float_eq(weight_element(&w, r, k), round_to_dtype(f, DT_BF16));
        }
}
END_TEST

/* An 8-bit float by its fields. */
static double float8_by_definition(int code, enum dtype d)
{
    int mantissa_bits = d == DT_F8_E4M3 ? 3 : 2, bias = d == DT_F8_E4M3 ? 7 : 15;
    int exponent = (code & 0x7f) >> mantissa_bits, mantissa = code & ((1 << mantissa_bits) - 1);
    double sign = code & 0x80 ? -1 : 1;
    if (d == DT_F8_E4M3 && (code & 0x7f) == 0x7f)
        return NAN;
    if (d == DT_F8_E5M2 && exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    if (!exponent)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

START_TEST(float8)
{
    static const enum dtype formats[] = {DT_F8_E4M3, DT_F8_E5M2};
    enum dtype d = formats[_i];
    uint8_t data[64 * 8 * 8] = {0}, codes[256];
    float scales[16];
    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)i;
        double want = float8_by_definition(i, d);
        float got = tile_float8((uint8_t)i, d);
        ck_assert(isnan(want) ? isnan(got) : (double)got == want);
        ck_assert(!signbit(want) == !signbit(got) || isnan(want));
    }
    for (int i = 0; i < 16; i++)
        scales[i] = 0.37f + (float)i / 7;
    tile_pack_codes(data, 256, 8, 0, codes, 256, 1, 256);
    struct weight w = {.encoding = ENC_FLOAT8,
                       .dtype = DT_BF16,
                       .n = 1,
                       .k = 256,
                       .n_tiles = 1,
                       .k_padded = 256,
                       .data = data,
                       .bits = 8,
                       .group = 256,
                       .n_groups = 1,
                       .scales = scales,
                       .scale_dtype = DT_F32,
                       .code_dtype = d};
    for (int i = 0; i < 256; i++) { // the product of eight bits and 24 is exact in double
        float product = (float)(float8_by_definition(i, d) * (double)scales[0]);
        float want = round_to_dtype(product, DT_BF16), got = weight_element(&w, 0, i);
        ck_assert(isnan(want) ? isnan(got) : got == want);
    }
    // a worked example: E4M3 38 40 B8 01, scale 0.5
    if (d == DT_F8_E4M3) {
        scales[0] = 0.5f;
        ck_assert_float_eq(weight_element(&w, 0, 0x38), 0.5f);
        ck_assert_float_eq(weight_element(&w, 0, 0x40), 1);
        ck_assert_float_eq(weight_element(&w, 0, 0xb8), -0.5f);
        ck_assert_float_eq(weight_element(&w, 0, 0x01), 0.0009765625f);
    }
}
END_TEST

/* 8-bit floats as integers of a step that fits the greatest of them; none where one has no value.
 */
START_TEST(float8_steps)
{
    static const enum dtype formats[] = {DT_F8_E4M3, DT_F8_E5M2};
    enum dtype d = formats[_i];
    uint8_t data[128];
    for (int top = 0; top < 128; top++) {
        struct weight w = {
            .encoding = ENC_FLOAT8, .code_dtype = d, .data = data, .data_bytes = sizeof data};
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(next() % (unsigned)(top + 1) | (next() & 0x80));
        data[next() % sizeof data] = (uint8_t)top;
        double most = float8_by_definition(top, d);
        tile_float8_steps(&w);
        if (!isfinite(most)) {
            ck_assert_float_eq(w.step, 0);
            continue;
        }
        ck_assert(w.step > 0 && (top == 0 || most / (double)w.step >= 8192));
        for (int c = 0; c <= top; c++) {
            double steps = float8_by_definition(c, d) / (double)w.step;
            ck_assert(w.high_low[0][c] < 120 || (w.high_low[0][c] == 120 && w.high_low[1][c] == 0));
            ck_assert_double_eq(128 * w.high_low[0][c] + w.high_low[1][c], nearbyint(steps));
        }
    }
}
END_TEST

/* Strided groups of a slice, n_groups a multiple of the module's k and not, with the rules that
 * have a factor or a fused product; each step as a double or long double that holds it. */
START_TEST(strided_element)
{
    enum { N = 5, K = 12, MODULE_K = 20, ROW = 3, COL = 6 };
    static const int64_t counts[] = {40, 20, 23, 7};
    static const enum rule rules[] = {RULE_FACTOR, RULE_FMA, RULE_STEPS, RULE_PRODUCT};
    uint8_t data[64 * 4] = {0}, codes[N * K];
    float scales[40], zeros[40];
    for (int i = 0; i < N * K; i++)
        codes[i] = (uint8_t)(next() & 15);
    tile_pack_codes(data, 32, 4, 0, codes, K, N, K);
    for (int i = 0; i < 40; i++) {
        scales[i] = 0.013f * (float)(i + 1);
        zeros[i] = 7.3f - 0.21f * (float)i;
    }
    for (int c = 0; c < 4; c++)
        for (int u = 0; u < 4; u++) {
            struct weight w = {.encoding = ENC_GROUP,
                               .dtype = DT_F16,
                               .rule = rules[u],
                               .n = N,
                               .k = K,
                               .n_tiles = 1,
                               .k_padded = 32,
                               .data = data,
                               .bits = 4,
                               .group = 4,
                               .n_groups = counts[c],
                               .grouping = GROUPS_STRIDED,
                               .flat_k = MODULE_K,
                               .flat_row = ROW,
                               .flat_col = COL,
                               .scales = scales,
                               .scale_dtype = DT_F32,
                               .zeros = zeros,
                               .zero_dtype = DT_F32,
                               .factor = 1.0f / 127};
            for (int r = 0; r < N; r++)
                for (int k = 0; k < K; k++) {
                    int64_t g = ((ROW + r) * MODULE_K + COL + k) % counts[c];
                    long double code = codes[r * K + k], scale = scales[g], zero = zeros[g];
                    float less = (float)(code - zero);
                    if (rules[u] == RULE_STEPS)
                        less = round_to_dtype(less, DT_F16);
                    float want = (float)((long double)less * scale);
                    if (rules[u] == RULE_FACTOR)
                        want = (float)((long double)want * (long double)w.factor);
                    if (rules[u] == RULE_FMA)
                        want = (float)(code * scale + zero);
                    ck_assert_int_eq(weight_group(&w, r, k), g);
                    ck_assert_float_eq(weight_element(&w, r, k), round_to_dtype(want, DT_F16));
                }
        }
}
END_TEST

/* The worked example (two books of two vectors, scale 2), and vectors of two rows. */
START_TEST(codebook_element)
{
    uint8_t codes[4 * BOOK_LINE] = {0};
    float books[8] = {0.5f, -1, 1.5f, 2, 0.25f, 0.5f, -0.5f, 1}, scale = 2;
    static const float want[4] = {0, 0, 3.5f, 5};
    struct weight w = {.encoding = ENC_CODEBOOK,
                       .dtype = DT_F16,
                       .rule = RULE_STEPS,
                       .n = 1,
                       .k = 4,
                       .n_tiles = 1,
                       .k_padded = 32,
                       .data = codes,
                       .bits = 1,
                       .scales = &scale,
                       .scale_dtype = DT_F32,
                       .books = 2,
                       .in_group = 2,
                       .out_group = 1,
                       .codebook = books,
                       .codebook_dtype = DT_F32};
    for (int l = 0; l < 4; l++)
        codes[l * BOOK_LINE] = l == 1 || l == 2;
    for (int k = 0; k < 4; k++)
        ck_assert_float_eq(weight_element(&w, 0, k), want[k]);

    enum { N = 6, K = 9, IN = 3, OUT = 2, BOOKS = 3, BITS = 10, SIZE = 1 << BITS };
    uint16_t wide[N / OUT * (K / IN) * BOOKS],
        *book = malloc(sizeof(uint16_t[BOOKS * SIZE * OUT * IN]));
    float scales[N / OUT];
    ck_assert_ptr_nonnull(book);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        wide[i] = (uint16_t)(next() & (SIZE - 1));
    for (int i = 0; i < BOOKS * SIZE * OUT * IN; i++)
        book[i] = f32_to_f16((float)((int)(next() % 4001) - 2000) / 700);
    for (int i = 0; i < N / OUT; i++)
        scales[i] = 0.11f + 0.07f * (float)i;
    w.n = N;
    w.k = K;
    w.data = wide;
    w.bits = BITS;
    w.books = BOOKS;
    w.in_group = IN;
    w.out_group = OUT;
    w.codebook = book;
    w.codebook_dtype = DT_F16;
    w.scales = scales;
    for (int i = 0; i < N / OUT; i++)
        for (int j = 0; j < K / IN; j++)
            for (int p = 0; p < OUT; p++)
                for (int q = 0; q < IN; q++) {
                    double sum = 0; // eleven bits each: exact
                    for (int m = 0; m < BOOKS; m++) {
                        int code = wide[(i * (K / IN) + j) * BOOKS + m];
                        sum += (double)f16_to_f32(book[((m * SIZE + code) * OUT + p) * IN + q]);
                    }
                    double once = (double)round_to_dtype((float)sum, DT_F16);
                    float value = round_to_dtype((float)(once * (double)scales[i]), DT_F16);
                    ck_assert_float_eq(weight_element(&w, i * OUT + p, j * IN + q), value);
                }
    free(book);
}
END_TEST

static Suite *tile_suite(void)
{
    Suite *s = suite_create("tile");
    TCase *t = tcase_create("tile");
    tcase_add_loop_test(t, codes_of_every_width, 1, 9);
    tcase_add_loop_test(t, dense, 0, 3);
    tcase_add_test(t, table_element);
    tcase_add_test(t, group_element);
    tcase_add_loop_test(t, float8, 0, 2);
    tcase_add_loop_test(t, float8_steps, 0, 2);
    tcase_add_test(t, strided_element);
    tcase_add_test(t, codebook_element);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(tile_suite)
