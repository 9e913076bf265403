/*
 * Owns the order of torch's sums on a CPU: its AVX2 kernel, which it also takes on newer machines.
 * Nothing here is about accuracy; f32 additions in another order give other bits, and quantized
 * codes that should equal the library's depend on them.
 *
 * A cascade of 4 levels: rows are added to level 0, and every 2^p rows (p = max(4, ceil(log2(rows))
 * / 4)) level 0 is added to level 1 and emptied, every 2^2p rows level 1 to level 2, and so on. At
 * the end levels 1, 2, 3 are added to level 0 in that order.
 *
 *   contiguous vector, n >= 8   rows of 32, element 32 i + 8 a + l going to lane l of register a;
 * then the rest's whole registers to register 0; registers 1, 2, 3 to 0; the last n % 8 elements
 * one by one from 0; lanes 0..7 one by one fewer than 8                rows of 4, the rest to
 * element 0, elements 1, 2, 3 to 0 columns of [rows, C]        each its own cascade, for the first
 * C / 32 * 32 columns (C < 8: C / 4
 *                               * 4); the others are summed down like a vector of fewer than 8
 */
#include "backends/torch_sum.h"

#include <string.h>

#define REGISTER 8

void torch_sum_begin(struct torch_sum *s, float *levels, int64_t width, int64_t rows)
{
    int log2 = 0;
    while (log2 < 62 && (int64_t)1 << log2 < rows)
        log2++;
    *s = (struct torch_sum){.width = width,
                            .power = log2 / TORCH_LEVELS < 4 ? 4 : log2 / TORCH_LEVELS};
    memset(levels, 0, (size_t)(TORCH_LEVELS * width) * sizeof *levels);
    for (int i = 0; i < TORCH_LEVELS; i++)
        s->level[i] = levels + i * width;
}

static void add(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

void torch_sum_add(struct torch_sum *s, int64_t at, const float *v, int64_t n)
{
    add(s->level[0] + at, v, n);
}

void torch_sum_next(struct torch_sum *s)
{
    int64_t step = (int64_t)1 << s->power;
    if (++s->rows & (step - 1))
        return;
    for (int j = 1; j < TORCH_LEVELS; j++) {
        add(s->level[j], s->level[j - 1], s->width);
        memset(s->level[j - 1], 0, (size_t)s->width * sizeof(float));
        if (s->rows & (step - 1) << j * s->power)
            break;
    }
}

const float *torch_sum_end(struct torch_sum *s)
{
    for (int j = 1; j < TORCH_LEVELS; j++)
        add(s->level[0], s->level[j], s->width);
    return s->level[0];
}

/* ---- a vector in pieces ---- */

void torch_stream_begin(struct torch_stream *s, int64_t n)
{
    torch_sum_begin(&s->sum, s->levels, TORCH_LANES, n / TORCH_LANES);
    s->n_pending = 0;
}

void torch_stream_add(struct torch_stream *s, const float *v, int64_t n)
{
    if (s->n_pending) {
        int64_t room = TORCH_LANES - s->n_pending, some = n < room ? n : room;
        memcpy(s->pending + s->n_pending, v, (size_t)some * sizeof *v);
        s->n_pending += (int)some;
        if (some < room)
            return;
        torch_sum_add(&s->sum, 0, s->pending, TORCH_LANES);
        torch_sum_next(&s->sum);
        v += some;
        n -= some;
    }
    for (; n >= TORCH_LANES; v += TORCH_LANES, n -= TORCH_LANES) {
        torch_sum_add(&s->sum, 0, v, TORCH_LANES);
        torch_sum_next(&s->sum);
    }
    memcpy(s->pending, v, (size_t)n * sizeof *v);
    s->n_pending = (int)n;
}

/* What is left of a vector after its rows of 32, to their sums. */
static float finish(float sums[TORCH_LANES], const float *rest, int64_t n)
{
    float total = 0;
    for (; n >= REGISTER; rest += REGISTER, n -= REGISTER)
        add(sums, rest, REGISTER);
    for (int a = REGISTER; a < TORCH_LANES; a += REGISTER)
        add(sums, sums + a, REGISTER);
    for (int64_t i = 0; i < n; i++)
        total += rest[i];
    for (int l = 0; l < REGISTER; l++)
        total += sums[l];
    return total;
}

float torch_stream_end(struct torch_stream *s)
{
    torch_sum_end(&s->sum);
    if (!s->sum.rows && s->n_pending < REGISTER)
        return torch_sum_column(s->pending, s->n_pending);
    return finish(s->levels, s->pending, s->n_pending);
}

float torch_sum_vector(const float *v, int64_t n)
{
    float sums[TORCH_LANES] = {0};
    int64_t rows = n / TORCH_LANES;
    if (n < REGISTER)
        return torch_sum_column(v, n);
    if (rows < 16) { // level 0 is never emptied but into nothing
        for (int64_t i = 0; i < rows; i++)
            add(sums, v + i * TORCH_LANES, TORCH_LANES);
        return finish(sums, v + rows * TORCH_LANES, n - rows * TORCH_LANES);
    }
    struct torch_stream s;
    torch_stream_begin(&s, n);
    torch_stream_add(&s, v, n);
    return torch_stream_end(&s);
}

/* ---- columns ---- */

int64_t torch_sum_columns(int64_t columns)
{
    return columns < REGISTER ? columns / 4 * 4 : columns / TORCH_LANES * TORCH_LANES;
}

float torch_sum_column(const float *v, int64_t n)
{
    float levels[TORCH_LEVELS * 4], total;
    struct torch_sum s;
    torch_sum_begin(&s, levels, 4, n / 4);
    for (int64_t i = 0; i < n / 4; i++) {
        torch_sum_add(&s, 0, v + 4 * i, 4);
        torch_sum_next(&s);
    }
    torch_sum_end(&s);
    total = levels[0];
    for (int64_t i = n / 4 * 4; i < n; i++)
        total += v[i];
    return total + levels[1] + levels[2] + levels[3];
}
