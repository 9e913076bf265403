/*
 * Owns fast mode's products with codebooks: how they are cut, and the plain C primitives, which
 * define the arithmetic (core/kernels.h) for every twin.
 *
 *   up to 8 bits   the products of a row of x with all vectors are made once, for all rows of W: a
 *                  parallel region makes the tables of some rows, a second one looks up in them.
 *                  They are the weight's own (its codebooks'), so matmul makes them, not prepare,
 *                  in memory that the table of kernels has for it. Where there are many rows of
 *                  x, the tables of sixteen lie side by side, and one look-up serves them all.
 *   more bits      a table would have more entries than W has rows; vectors are fetched and
 *                  multiplied, fetched once for up to 64 rows of x.
 *
 * Refuses nothing: what has neither form never comes here.
 */
#include "backends/kernels/lookup.h"

#include <math.h>
#include <string.h>

#include "backends/encodings/tile.h"
#include "backends/kernels/twins.h"

#define TOP 2047 /* BOOK_LOOKUPS of them fit 16 bits */
/* Floats of scratch for the codebooks' columns, and for sums of rows side by side. */
#define COLUMNS   (LOOKUP_COLUMNS * 256)
#define WIDE_SUMS (LOOKUP_WIDE_LINES * BOOK_LINE * LOOKUP_WIDE)
_Static_assert(COLUMNS + LOOKUP_WIDE * BOOK_LOOKUPS * 256 <= SCRATCH_FLOATS,
               "columns and products of rows side by side fit");
_Static_assert(sizeof(struct lookup_wide) <= LOOKUP_WIDE * sizeof(struct lookup_chunk),
               "tables side by side fit where they lie one by one");
_Static_assert(WIDE_SUMS + WIDE_SUMS / 2 <= SCRATCH_FLOATS, "sums and words fit");
/* Rows of x that eights() takes, and the most that have tables at once. */
#define EIGHTS_ROWS 64
#define TABLE_ROWS  32

/* ---- the plain primitives ---- */

static void lookup_columns(const struct weight *w, float *columns)
{
    int64_t vectors = (int64_t)1 << w->bits, in = w->in_group, rows = w->books * in;
    memset(columns, 0, (size_t)(rows * 256) * sizeof *columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t v = 0; v < vectors; v++)
            columns[i * 256 + v] =
                tile_value(w->codebook, w->codebook_dtype, (i / in * vectors + v) * in + i % in);
}

static void lookup_tables(const struct weight *w, int64_t c, const float *x, const float *columns,
                          struct lookup_chunk *to, float *t)
{
    int64_t first = c * lookup_groups(w), end = first + lookup_groups(w), l = 0;
    float peak = 0;
    bool finite = true;
    end = end < w->k / w->in_group ? end : w->k / w->in_group;
    for (int64_t j = first; j < end; j++)
        for (int64_t b = 0; b < w->books; b++, l++)
            for (int64_t v = 0; v < 256; v++) {
                float sum = 0;
                for (int64_t q = 0; q < w->in_group; q++)
                    sum =
                        fmaf(x[j * w->in_group + q], columns[(b * w->in_group + q) * 256 + v], sum);
                t[l * 256 + v] = sum;
                finite &= isfinite(sum) != 0;
                peak = fmaxf(peak, fabsf(sum));
            }
    memset(to, 0, sizeof *to);
    if (!finite)
        to->scale = NAN;
    if (!finite || peak < 0x1p-100f)
        return;
    to->scale = peak / TOP;
    float inverse = TOP / peak;
    for (int64_t i = 0; i < l * 256; i++)
        to->s[i / 256][i % 256] = (int16_t)rintf(t[i] * inverse);
}

static void lookup(const struct weight *w, int64_t line, int64_t lines,
                   const struct lookup_chunk *tables, float *out)
{
    int64_t lookups = w->k / w->in_group * w->books, per = lookup_groups(w) * w->books;
    for (; lines > 0; line++, lines--, out += BOOK_LINE) {
        const uint8_t *codes = (const uint8_t *)w->data + line * lookups * BOOK_LINE;
        memset(out, 0, BOOK_LINE * sizeof *out);
        for (int64_t l = 0, c = 0; l < lookups; c++) {
            int32_t dot[BOOK_LINE] = {0};
            for (int64_t i = 0; i < per && l < lookups; i++, l++, codes += BOOK_LINE)
                for (int r = 0; r < BOOK_LINE; r++)
                    dot[r] += tables[c].s[i][codes[r]];
            for (int r = 0; r < BOOK_LINE; r++)
                out[r] = fmaf(tables[c].scale, (float)dot[r], out[r]);
        }
        for (int r = 0; r < BOOK_LINE && line * BOOK_LINE + r < w->n; r++)
            out[r] *= weight_scale(w, line * BOOK_LINE + r, 0);
    }
}

static float eights_dot(const struct weight *w, int64_t row, const float *x)
{
    float a[8] = {0};
    int64_t lookups = w->k / 8 * w->books;
    for (int64_t l = 0; l < lookups; l++) {
        int64_t b = l % w->books, code = tile_book_code(w, row, lookups, l);
        for (int q = 0; q < 8; q++)
            a[q] = fmaf(x[l / w->books * 8 + q],
                        tile_value(w->codebook, w->codebook_dtype, ((b << w->bits) + code) * 8 + q),
                        a[q]);
    }
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

static void eights(const struct weight *w, int64_t row, int64_t rows, const float *x, int64_t ldx,
                   int m, float *out, int64_t ldo)
{
    for (int i = 0; i < m; i++)
        for (int64_t r = 0; r < rows; r++)
            out[i * ldo + r] = eights_dot(w, row + r, x + i * ldx) * weight_scale(w, row + r, 0);
}

void lookup_portable(struct twins *t)
{
    t->lookup_columns = lookup_columns;
    t->lookup_tables = lookup_tables;
    t->lookup = lookup;
    t->lookup_least = 0;
    t->eights = eights;
}

/* ---- vectors ---- */

void eights_run(const struct twins *t, const struct matmul_job *j, int64_t first, int64_t end,
                float *scratch)
{
    for (int64_t tile = first; tile < end; tile++)
        for (int64_t row = 0; row < j->a->rows; row += EIGHTS_ROWS) {
            int64_t n = j->w->n - tile * TILE_ROWS;
            int m = j->a->rows - row < EIGHTS_ROWS ? (int)(j->a->rows - row) : EIGHTS_ROWS;
            t->eights(j->w, tile * TILE_ROWS, n < TILE_ROWS ? n : TILE_ROWS,
                      j->a->x + row * j->a->ldx, j->a->ldx, m, scratch, TILE_ROWS);
            matmul_finish(j, tile, 1, row, m, scratch, 0);
        }
}

/* ---- tables ---- */

/* Up to LOOKUP_JOBS jobs, of each the rows [row, row + rows). */
struct batch {
    const struct kernels *self;
    const struct matmul_job *jobs[LOOKUP_JOBS];
    struct lookup_chunk *tables[LOOKUP_JOBS]; /* [rows of the pass][lookup_chunks] */
    int n;
    int32_t row, rows;
    int64_t units[LOOKUP_JOBS], chunks[LOOKUP_JOBS]; /* of the region that runs */
};

static int32_t rows_of(const struct batch *b, int i)
{
    int32_t left = b->jobs[i]->a->rows - b->row;
    return left < 0 ? 0 : left < b->rows ? left : b->rows;
}

/* Blocks of rows side by side; 0: the job's rows are taken one by one. */
static int64_t wide_blocks(const struct batch *b, int i)
{
    int least = b->self->state->twins.lookup_least;
    if (!least || rows_of(b, i) < least)
        return 0;
    return (rows_of(b, i) + LOOKUP_WIDE - 1) / LOOKUP_WIDE;
}

/* Rows that block `block` has. */
static int wide_rows(const struct batch *b, int i, int64_t block)
{
    int64_t left = rows_of(b, i) - block * LOOKUP_WIDE;
    return (int)(left < LOOKUP_WIDE ? left : LOOKUP_WIDE);
}

static struct lookup_wide *wide_tables(const struct batch *b, int i, int64_t block)
{
    return (struct lookup_wide *)(void *)(b->tables[i] +
                                          block * LOOKUP_WIDE * lookup_chunks(b->jobs[i]->w));
}

/* The job of a chunk, which becomes its number in the job. */
static int find_job(const struct batch *b, int64_t *chunk)
{
    int i = 0;
    for (; *chunk >= b->chunks[i]; i++)
        *chunk -= b->chunks[i];
    return i;
}

static void make_tables(void *ctx, int64_t chunk, int thread)
{
    const struct batch *b = ctx;
    int i = find_job(b, &chunk);
    const struct matmul_job *j = b->jobs[i];
    int64_t unit, end, per = lookup_chunks(j->w);
    const struct twins *t = &b->self->state->twins;
    bool wide = wide_blocks(b, i) > 0;
    float *columns = b->self->state->scratch[thread];
    float *products = columns + COLUMNS;
    chunk_range(b->units[i], b->chunks[i], chunk, &unit, &end);
    t->lookup_columns(j->w, columns);
    for (; unit < end; unit++) {
        int64_t c = unit % per, at = unit / per, row = b->row + at * (wide ? LOOKUP_WIDE : 1);
        const float *x = j->a->x + row * j->a->ldx;
        if (wide)
            t->lookup_tables_wide(j->w, c, x, j->a->ldx, wide_rows(b, i, at), columns,
                                  wide_tables(b, i, at) + c, products);
        else
            t->lookup_tables(j->w, c, x, columns, b->tables[i] + unit, products);
    }
}

/* Tiles of lines [first, first + lines). */
static int64_t tiles_of(const struct weight *w, int64_t first, int64_t lines)
{
    int64_t tiles = BOOK_LINE / TILE_ROWS, left = w->n_tiles - first * tiles;
    return lines * tiles < left ? lines * tiles : left;
}

/* Lines [first, end) times the rows of a block. */
static void look_up_wide(const struct batch *b, int i, int64_t block, int64_t first, int64_t end,
                         float *sum)
{
    const struct matmul_job *j = b->jobs[i];
    int64_t tiles = BOOK_LINE / TILE_ROWS;
    for (; first < end; first += LOOKUP_WIDE_LINES) {
        int64_t lines = end - first < LOOKUP_WIDE_LINES ? end - first : LOOKUP_WIDE_LINES;
        b->self->state->twins.lookup_wide(j->w, first, lines, wide_tables(b, i, block),
                                          (int16_t *)(void *)(sum + WIDE_SUMS), sum);
        matmul_finish(j, first * tiles, tiles_of(j->w, first, lines), b->row + block * LOOKUP_WIDE,
                      wide_rows(b, i, block), sum, TILE_ROWS * LOOKUP_WIDE);
    }
}

static void look_up(void *ctx, int64_t chunk, int thread)
{
    const struct batch *b = ctx;
    int i = find_job(b, &chunk);
    const struct matmul_job *j = b->jobs[i];
    float *sum = b->self->state->scratch[thread];
    int64_t first, end, tiles = BOOK_LINE / TILE_ROWS;
    chunk_range(b->units[i], b->chunks[i], chunk, &first, &end);
    int64_t blocks = wide_blocks(b, i);
    for (int64_t block = 0; block < blocks; block++)
        look_up_wide(b, i, block, first, end, sum);
    for (; blocks == 0 && first < end; first += LOOKUP_LINES) {
        int64_t lines = end - first < LOOKUP_LINES ? end - first : LOOKUP_LINES;
        for (int32_t row = 0; row < rows_of(b, i); row++) {
            b->self->state->twins.lookup(j->w, first, lines,
                                         b->tables[i] + row * lookup_chunks(j->w), sum);
            matmul_finish(j, first * tiles, tiles_of(j->w, first, lines), b->row + row, 1, sum,
                          TILE_ROWS);
        }
    }
}

/* One region: up to `most` chunks of each job, by the cycles that a unit takes. */
static void run_region(struct batch *b, pool_task *task, const double cycles[], int64_t most)
{
    int64_t chunks = 0;
    for (int i = 0; i < b->n; i++) {
        b->chunks[i] = chunk_count(b->self, b->units[i], cycles[i]);
        b->chunks[i] = b->chunks[i] < most ? b->chunks[i] : most;
        chunks += b->chunks[i];
    }
    pool_run(b->self->state->pool, chunks, task, b);
}

/* Rows [row, row + rows) of all jobs of the batch. */
static void run_pass(struct batch *b)
{
    double cycles[LOOKUP_JOBS];
    for (int i = 0; i < b->n; i++) {
        int64_t blocks = wide_blocks(b, i);
        b->units[i] = lookup_chunks(b->jobs[i]->w) * (blocks ? blocks : rows_of(b, i));
        cycles[i] = (blocks ? 300.0 : 25.0) * BOOK_LOOKUPS * b->jobs[i]->w->in_group;
    }
    run_region(b, make_tables, cycles, b->self->threads); // each chunk makes columns
    for (int i = 0; i < b->n; i++) {
        const struct weight *w = b->jobs[i]->w;
        int64_t lookups = w->k / w->in_group * w->books;
        b->units[i] = rows_of(b, i) ? (w->n + BOOK_LINE - 1) / BOOK_LINE : 0;
        cycles[i] = 8.0 * (double)lookups * rows_of(b, i);
    }
    run_region(b, look_up, cycles, INT64_MAX);
}

static void run_batch(struct batch *b)
{
    size_t row_bytes = 0;
    int32_t most = 0;
    for (int i = 0; i < b->n; i++) {
        row_bytes += (size_t)lookup_chunks(b->jobs[i]->w) * sizeof(struct lookup_chunk);
        most = b->jobs[i]->a->rows > most ? b->jobs[i]->a->rows : most;
    }
    b->rows = TABLE_ROWS;
    while ((size_t)b->rows * row_bytes > LOOKUP_BYTES) // one row of each job fits: lookup_has
        b->rows--;
    struct lookup_chunk *next = b->self->state->shared;
    for (int i = 0; i < b->n; i++) {
        b->tables[i] = next;
        next += b->rows * lookup_chunks(b->jobs[i]->w);
    }
    for (b->row = 0; b->row < most; b->row += b->rows)
        run_pass(b);
}

void lookup_run(const struct kernels *self, const struct matmul_job *jobs, int n)
{
    struct batch b = {.self = self};
    for (int i = 0; i < n; i++) {
        if (!lookup_has(jobs[i].w) || jobs[i].a->rows < 1)
            continue;
        b.jobs[b.n++] = &jobs[i];
        if (b.n < LOOKUP_JOBS)
            continue;
        run_batch(&b);
        b.n = 0;
    }
    if (b.n)
        run_batch(&b);
}
