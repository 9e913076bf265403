/*
 * Owns what touches each element once, and norms, on a device. Elements have a thread each. A norm
 * has a block for a row: the row is brought to the block's memory, sixteen threads add it up in the
 * sixteen lanes of norm.c, one adds the lanes by their tree, all write.
 */
#include "backends/kernels/device_cuda.cuh"
#include "backends/kernels/special_cuda.cuh"

#define NORM_BYTES                                                                                 \
    ((size_t)40 << 10) /* of a row in a block's memory; a wider one stays outside                  \
                        */

#define ELEMENT() ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)

/* ---- norms ---- */

__global__ void norm(struct norm_args a, const float *x, int64_t ldx, float *out, int64_t ldo,
                     bool inside)
{
    SHARED float lane[16], result[2];
    DYNAMIC(row);
    int t = threadIdx.x;
    const float *from = x + (int64_t)blockIdx.x * ldx, *v = inside ? row : from;
    for (int64_t i = t; i < a.dim && inside; i += blockDim.x)
        row[i] = from[i];
    __syncthreads();
    if (a.kind == NORM_LAYER) {
        float sum = 0;
        for (int64_t i = t; i < a.dim && t < 16; i += 16)
            sum += v[i];
        if (t < 16)
            lane[t] = sum;
        __syncthreads();
    }
    if (t == 0)
        result[0] = a.kind == NORM_LAYER ? device_sum_of_lanes(lane) / (float)a.dim : 0;
    __syncthreads();
    float mean = result[0], square = 0;
    for (int64_t i = t; i < a.dim && t < 16; i += 16)
        square = fmaf(v[i] - mean, v[i] - mean, square);
    if (t < 16)
        lane[t] = square;
    __syncthreads();
    if (t == 0)
        result[1] = 1.0f / sqrtf(device_sum_of_lanes(lane) / (float)a.dim + a.eps);
    __syncthreads();
    float r = result[1], *to = out + (int64_t)blockIdx.x * ldo;
    for (int64_t i = t; i < a.dim; i += blockDim.x) {
        float w = a.plus_one ? 1.0f + a.weight[i] : a.weight[i];
        float y = (v[i] - mean) * r * w;
        to[i] = a.bias ? y + a.bias[i] : y;
    }
}

void elementwise_cuda_norm(const struct kernels *self, const struct norm_args *args, const float *x,
                           int64_t ldx, int32_t rows, float *out, int64_t ldo)
{
    size_t bytes = (size_t)args->dim * sizeof(float);
    bool inside = bytes <= NORM_BYTES;
    device_enter(self->state);
    if (rows > 0)
        LAUNCH(norm, dim3((unsigned)rows), dim3(THREADS), inside ? bytes : 0, self->state, *args, x,
               ldx, out, ldo, inside);
    device_leave(self->state, "norm");
}

/* ---- rope, activations ---- */

__global__ void rope(float *x, int64_t ld, int64_t threads, int32_t heads, int32_t head_dim,
                     int32_t half, const float *cosines, const float *sines)
{
    int64_t at = ELEMENT();
    if (at >= threads)
        return;
    int64_t i = at % half, h = at / half % heads, row = at / half / heads;
    float *a = x + row * ld + h * head_dim + i, *b = a + half, v = *a, w = *b;
    float c = cosines[row * half + i], s = sines[row * half + i];
    *a = v * c - w * s;
    *b = w * c + v * s;
}

void elementwise_cuda_rope(const struct kernels *self, float *x, int64_t ld, int32_t rows,
                           int32_t heads, int32_t head_dim, int32_t rot, const float *cosines,
                           const float *sines)
{
    int64_t threads = (int64_t)rows * heads * (rot / 2);
    device_enter(self->state);
    if (threads > 0)
        LAUNCH_FREE(rope, device_grid(threads), dim3(THREADS), 0, self->state, x, ld, threads,
                    heads, head_dim, rot / 2, cosines, sines);
    device_leave(self->state, "rope");
}

__global__ void activate(enum activation act, const float *gate, int64_t ldg, const float *up,
                         int64_t ldu, int64_t threads, int64_t dim, float *out, int64_t ldo)
{
    int64_t at = ELEMENT(), row = at / dim, i = at % dim;
    if (at >= threads)
        return;
    float y = special_activation(act, gate[row * ldg + i]);
    out[row * ldo + i] = up ? y * up[row * ldu + i] : y;
}

void elementwise_cuda_activate(const struct kernels *self, enum activation act, const float *gate,
                               int64_t ldg, const float *up, int64_t ldu, int32_t rows, int64_t dim,
                               float *out, int64_t ldo)
{
    int64_t threads = rows * dim;
    device_enter(self->state);
    if (threads > 0)
        LAUNCH_FREE(activate, device_grid(threads), dim3(THREADS), 0, self->state, act, gate, ldg,
                    up, ldu, threads, dim, out, ldo);
    device_leave(self->state, "activate");
}

/* ---- sums and copies ---- */

__global__ void add(float *x, int64_t ldx, const float *y, int64_t ldy, int64_t threads,
                    int64_t dim)
{
    int64_t at = ELEMENT(), row = at / dim, i = at % dim;
    if (at < threads)
        x[row * ldx + i] += y[row * ldy + i];
}

void elementwise_cuda_add(const struct kernels *self, float *x, int64_t ldx, const float *y,
                          int64_t ldy, int32_t rows, int64_t dim)
{
    int64_t threads = rows * dim;
    device_enter(self->state);
    if (threads > 0)
        LAUNCH_FREE(add, device_grid(threads), dim3(THREADS), 0, self->state, x, ldx, y, ldy,
                    threads, dim);
    device_leave(self->state, "add");
}

__global__ void scale(float *x, int64_t n, float s)
{
    int64_t at = ELEMENT();
    if (at < n)
        x[at] *= s;
}

void elementwise_cuda_scale(const struct kernels *self, float *x, int64_t n, float s)
{
    device_enter(self->state);
    if (n > 0)
        LAUNCH_FREE(scale, device_grid(n), dim3(THREADS), 0, self->state, x, n, s);
    device_leave(self->state, "scale");
}

__global__ void copy_rows(const float *x, int64_t ldx, const int32_t *ids, int64_t threads,
                          int64_t dim, float *out, int64_t ldo)
{
    int64_t at = ELEMENT(), row = at / dim, i = at % dim;
    if (at < threads)
        out[row * ldo + i] = x ? x[(ids ? ids[row] : row) * ldx + i] : 0;
}

void elementwise_cuda_copy_rows(const struct kernels *self, const float *x, int64_t ldx,
                                const int32_t *ids, int32_t n, int64_t dim, float *out, int64_t ldo)
{
    struct kernels_state *s = self->state;
    int64_t threads = n * dim;
    device_enter(s);
    const int32_t *list =
        ids ? (const int32_t *)device_stage(s, &s->ring, ids, (size_t)n * sizeof *ids) : NULL;
    if (threads > 0 && (list || !ids))
        LAUNCH_FREE(copy_rows, device_grid(threads), dim3(THREADS), 0, s, x, ldx, list, threads,
                    dim, out, ldo);
    device_leave(s, "copy_rows");
}

__global__ void add_rows(const float *x, int64_t ldx, const int32_t *ids, const float *shares,
                         int64_t threads, int64_t dim, float *out, int64_t ldo)
{
    int64_t at = ELEMENT(), row = at / dim, i = at % dim;
    if (at < threads)
        out[ids[row] * ldo + i] += shares[row] * x[row * ldx + i];
}

void elementwise_cuda_add_rows(const struct kernels *self, const float *x, int64_t ldx,
                               const int32_t *ids, const float *shares, int32_t n, int64_t dim,
                               float *out, int64_t ldo)
{
    struct kernels_state *s = self->state;
    int64_t threads = n * dim;
    device_enter(s);
    const int32_t *list = (const int32_t *)device_stage(s, &s->ring, ids, (size_t)n * sizeof *ids);
    const float *parts =
        (const float *)device_stage(s, &s->ring, shares, (size_t)n * sizeof *shares);
    if (threads > 0 && list && parts)
        LAUNCH_FREE(add_rows, device_grid(threads), dim3(THREADS), 0, s, x, ldx, list, parts,
                    threads, dim, out, ldo);
    device_leave(s, "add_rows");
}
