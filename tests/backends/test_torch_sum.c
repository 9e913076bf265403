/*
 * The oracle is torch: bits of its sums (2.15 on a CPU, one thread) of numbers that a formula
 * makes, in the lengths and shapes where its order changes.
 */
#include "tests/check_main.h"

#include <string.h>

#include "backends/torch_sum.h"

/* Multiples of 2^-24 in [-0.5, 0.5). */
static float *numbers(int64_t n)
{
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    ck_assert_ptr_nonnull(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((uint32_t)(uint64_t)i * 2654435761u >> 8) * 0x1p-24f - 0.5f;
    return v;
}

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static const struct {
    int64_t n;
    uint32_t sum;
} vectors[] = {
    {1, 0xbf000000},     {3, 0xbf255994},      {7, 0xbf057307},       {8, 0xbf31eeb4},
    {9, 0xbe8065ce},     {31, 0xbde9e028},     {32, 0xbee90892},      {33, 0xbe36544c},
    {63, 0xbef59180},    {100, 0xbf3b552d},    {511, 0xbf14d499},     {512, 0xbe883160},
    {513, 0xbeaa4aa0},   {1000, 0xbcc1a2c0},   {4096, 0x3de553f8},    {8191, 0x3dcab2b8},
    {16384, 0xbfb3aafd}, {100003, 0xbe96ecd8}, {1048581, 0xbf900282}, {4194344, 0xbeb5f0ca},
};

START_TEST(vectors_have_torchs_bits)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        int64_t n = vectors[i].n;
        float *v = numbers(n);
        ck_assert_msg(bits(torch_sum_vector(v, n)) == vectors[i].sum, "%lld", (long long)n);
        for (int64_t piece = 1; piece <= n && piece < 2000; piece += 1 + piece * 3 / 2) {
            struct torch_stream s;
            torch_stream_begin(&s, n);
            for (int64_t at = 0; at < n; at += piece)
                torch_stream_add(&s, v + at, n - at < piece ? n - at : piece);
            ck_assert_msg(bits(torch_stream_end(&s)) == vectors[i].sum, "%lld in pieces of %lld",
                          (long long)n, (long long)piece);
        }
        free(v);
    }
}
END_TEST

static const struct {
    int64_t rows, columns;
    uint32_t hash; /* FNV-1a over the sums' bits, a word at a time */
} matrices[] = {
    {1, 9, 0xcb412e31},    {3, 2, 0x8f450052},     {7, 5, 0xf1c02c98},     {16, 7, 0x908ca22a},
    {17, 8, 0xebe39776},   {5, 31, 0x61e4cc43},    {64, 32, 0x2998ee57},   {33, 45, 0x15eaeaa3},
    {300, 40, 0x89a12562}, {4096, 36, 0x2ba86e66}, {70000, 6, 0x27a66e12},
};

START_TEST(columns_have_torchs_bits)
{
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        int64_t rows = matrices[i].rows, columns = matrices[i].columns;
        int64_t simple = torch_sum_columns(columns);
        float *v = numbers(rows * columns), *column = numbers(rows);
        float *levels = malloc((size_t)(TORCH_LEVELS * simple + 1) * sizeof *levels);
        struct torch_sum s;
        torch_sum_begin(&s, levels, simple, rows);
        for (int64_t r = 0; r < rows; r++, torch_sum_next(&s)) {
            torch_sum_add(&s, 0, v + r * columns, simple / 2);
            torch_sum_add(&s, simple / 2, v + r * columns + simple / 2, simple - simple / 2);
        }
        const float *sums = torch_sum_end(&s);
        uint32_t hash = 2166136261u;
        for (int64_t c = 0; c < columns; c++) {
            for (int64_t r = 0; r < rows; r++)
                column[r] = v[r * columns + c];
            float sum = c < simple ? sums[c] : torch_sum_column(column, rows);
            hash = (hash ^ bits(sum)) * 16777619u;
        }
        ck_assert_msg(hash == matrices[i].hash, "[%lld, %lld]", (long long)rows,
                      (long long)columns);
        free(v);
        free(column);
        free(levels);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/torch_sum");
    TCase *t = tcase_create("torch_sum");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, vectors_have_torchs_bits);
    tcase_add_test(t, columns_have_torchs_bits);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
