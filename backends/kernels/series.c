/*
 * Owns what a block of a rotation takes besides products when it is built: the terms of Cayley's
 * series, how large its vector is, D in bytes.
 *
 * The definition is in series_text.h, in plain loops that are element by element or have a fixed
 * order of lanes, so what a compiler makes of them for an instruction set has the same bits; this
 * file compiles them for every machine.
 *
 * Roofline: blocks of 32 lie in the first-level cache; a loop is bound by its loads and stores, 4
 * to 12 bytes an element. Of a load of an adapter of 24 MB (12 million elements of its R) they and
 * the laying out of S took 27 ms in every machine's instructions and 15 with AVX-512 (profiles on a
 * Sapphire Rapids).
 */
#define NAME(name) name##_portable
#include "backends/kernels/series_text.h"

void series_combine(const struct kernels *self, int32_t b, float c0, float c1, const float *s,
                    float c2, const float *p, float *m)
{
    self->state->twins.combine(b, c0, c1, s, c2, p, m);
}

double series_squares(const struct kernels *self, const float *v, int64_t n)
{
    return self->state->twins.squares(v, n);
}

float series_largest(const struct kernels *self, const float *v, int64_t n)
{
    return self->state->twins.largest(v, n);
}

void series_to_bytes(const struct kernels *self, int32_t b, const float *d, void *out)
{
    self->state->twins.to_bytes(b, d, out);
}
