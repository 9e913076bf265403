/*
 * Owns drawing tokens on a device, so that a token and not a row of logits travels to the host. A
 * block has a row: its largest, then what each token is likely, summed by blocks of DRAW_BLOCK in
 * the sixteen lanes and by the tree of the likelihoods of every table; one thread finds the block
 * that u falls into and, when all have made its likelihoods again, the token. The sums of blocks
 * and of tokens are doubles, added in order, as core/run/sampler.c's: the same token.
 */
#include "backends/kernels/device_cuda.cuh"
#include "backends/kernels/special_cuda.cuh"

#define BLOCKS_MOST 2048 /* of a row: half a million tokens */
#define AT_ONCE     (THREADS / 16)

/* What threads tell each other of a row. */
struct row_draw {
    float largest[THREADS];
    int32_t first[THREADS];
    float lane[AT_ONCE][16];
    float sums[BLOCKS_MOST];
    float likely[DRAW_BLOCK];
    double goal, before; /* u times the sum of all; the sum of the blocks before `block` */
    int32_t block;
};

/* The largest of a row and where it stands first; NaN: not all are finite. */
DEVICE float row_largest(const float *x, int64_t n, struct row_draw *r)
{
    int t = threadIdx.x;
    float most = -INFINITY;
    int32_t first = 0;
    for (int64_t i = t; i < n; i += THREADS) {
        if (!device_finite(x[i]))
            most = device_float(0x7fc00000);
        if (x[i] > most) {
            most = x[i];
            first = (int32_t)i;
        }
    }
    r->largest[t] = most;
    r->first[t] = first;
    __syncthreads();
    for (int half = THREADS / 2; half; half /= 2) {
        if (t < half) {
            float a = r->largest[t], b = r->largest[t + half];
            bool later =
                b != b || (a == a && (b > a || (b == a && r->first[t + half] < r->first[t])));
            r->largest[t] = later ? b : a;
            r->first[t] = later ? r->first[t + half] : r->first[t];
        }
        __syncthreads();
    }
    return r->largest[0];
}

DEVICE float likelihood(const float *x, int64_t n, int64_t i, float max, float scale)
{
    return i < n ? special_power((x[i] - max) * scale) : 0;
}

/* The sums of all blocks. */
DEVICE void sum_blocks(const float *x, int64_t n, float max, float scale, struct row_draw *r)
{
    int l = threadIdx.x % 16, at = threadIdx.x / 16;
    for (int64_t first = 0; first * DRAW_BLOCK < n; first += AT_ONCE) {
        int64_t from = (first + at) * DRAW_BLOCK;
        float sum = 0;
        for (int i = l; i < DRAW_BLOCK; i += 16)
            if (from + i < n)
                sum += likelihood(x, n, from + i, max, scale);
        r->lane[at][l] = sum;
        __syncthreads();
        if (l == 0 && from < n)
            r->sums[first + at] = device_sum_of_lanes(r->lane[at]);
        __syncthreads();
    }
}

/* One thread: the block that u falls into. */
DEVICE void find_block(int64_t n, double u, struct row_draw *r)
{
    int32_t last = (int32_t)((n - 1) / DRAW_BLOCK), block = 0;
    double all = 0, sum = 0;
    for (int32_t b = 0; b <= last; b++)
        all += (double)r->sums[b];
    r->goal = u * all;
    while (block < last && sum + (double)r->sums[block] <= r->goal)
        sum += (double)r->sums[block++];
    while (r->sums[block] == 0)
        block--;
    r->before = sum;
    r->block = block;
}

__global__ void draw(const float *x, int64_t ldx, int64_t n, const struct draw *how,
                     int32_t *tokens)
{
    SHARED struct row_draw r;
    const struct draw d = how[blockIdx.x];
    const float *row = x + blockIdx.x * ldx;
    int t = threadIdx.x;
    if (d.token != DRAW_NOT_YET) // nobody wants one; for all threads
        return;
    float max = row_largest(row, n, &r), scale = d.scale * SPECIAL_LOG2E;
    if (t == 0)
        tokens[blockIdx.x] = max == max ? r.first[0] : DRAW_NOTHING;
    if (max != max || d.scale == 0)
        return;
    sum_blocks(row, n, max, scale, &r);
    if (t == 0)
        find_block(n, d.u, &r);
    __syncthreads();
    int64_t from = (int64_t)r.block * DRAW_BLOCK;
    for (int i = t; i < DRAW_BLOCK; i += THREADS)
        r.likely[i] = likelihood(row, n, from + i, max, scale);
    __syncthreads();
    if (t > 0)
        return;
    double sum = r.before;
    int32_t found = 0;
    for (int i = 0; i < DRAW_BLOCK && from + i < n && sum <= r.goal; i++) {
        sum += (double)r.likely[i];
        found = r.likely[i] > 0 ? (int32_t)from + i : found;
    }
    tokens[blockIdx.x] = found;
}

void draw_cuda_run(const struct kernels *self, const float *x, int64_t ldx, int32_t rows, int64_t n,
                   struct draw *const *draws)
{
    struct kernels_state *s = self->state;
    void *there;
    size_t bytes = (size_t)rows * (sizeof(struct draw) + sizeof(int32_t));
    if (n > (int64_t)BLOCKS_MOST * DRAW_BLOCK || rows < 1)
        return;
    device_enter(s);
    char *here = (char *)device_room(s, &s->ring, bytes, &there);
    if (!here)
        return;
    struct draw *list = (struct draw *)here;
    int32_t *tokens = (int32_t *)(list + rows);
    for (int32_t i = 0; i < rows; i++) {
        memset(&list[i], 0, sizeof list[i]);
        if (draws[i])
            list[i] = *draws[i];
    }
    device_push(s, &s->ring, here, there, (size_t)rows * sizeof *list);
    int32_t *drawn = (int32_t *)((struct draw *)there + rows);
    LAUNCH(draw, dim3((unsigned)rows), dim3(THREADS), 0, s, x, ldx, n, (const struct draw *)there,
           drawn);
    device_leave(s, "draw");
    self->fetch(self, tokens, drawn, (size_t)rows * sizeof *tokens);
    for (int32_t i = 0; i < rows; i++)
        if (draws[i])
            draws[i]->token = tokens[i];
}
