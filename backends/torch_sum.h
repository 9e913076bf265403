/* The order in which torch's CPU kernels add floats (one thread): what makes means of a library
 * that runs on torch come out with the same bits. Sums are fed row by row. */
#ifndef OFTD_BACKENDS_TORCH_SUM_H
#define OFTD_BACKENDS_TORCH_SUM_H

#include <stdbool.h>
#include <stdint.h>

#define TORCH_LEVELS 4
#define TORCH_LANES  32 /* running sums of a contiguous vector: 4 of torch's registers of 8 */

/* `width` running sums, each a cascade of 4 levels. */
struct torch_sum {
    int64_t width, rows; /* rows: whole ones added so far */
    int power;           /* every 2^power rows a level is added to the next */
    float *level[TORCH_LEVELS];
};
/* levels: room for 4 * width floats, borrowed; rows: how many will be added. */
void torch_sum_begin(struct torch_sum *s, float *levels, int64_t width, int64_t rows);
/* Elements [at, at + n) of the next row; when all are in, torch_sum_next. */
void torch_sum_add(struct torch_sum *s, int64_t at, const float *v, int64_t n);
void torch_sum_next(struct torch_sum *s);
/* The sums, in level[0]. */
const float *torch_sum_end(struct torch_sum *s);

/* The sum of a contiguous vector of n floats that comes in pieces. */
struct torch_stream {
    struct torch_sum sum;
    float levels[TORCH_LEVELS * TORCH_LANES], pending[TORCH_LANES];
    int n_pending;
};
void torch_stream_begin(struct torch_stream *s, int64_t n);
void torch_stream_add(struct torch_stream *s, const float *v, int64_t n);
float torch_stream_end(struct torch_stream *s);

/* The sum of a contiguous vector that lies there whole. */
float torch_sum_vector(const float *v, int64_t n);
/* Sums over the columns of a matrix of C columns: the first torch_sum_columns(C) are summed each by
 * itself (a torch_sum of that width), the others as torch_sum_column does. */
int64_t torch_sum_columns(int64_t columns);
float torch_sum_column(const float *v, int64_t n);

#endif
