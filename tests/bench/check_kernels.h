/*
 * What the parts of check_kernels share: the two tables, a slot's inputs and outputs, and the lines
 * that tell what came of them (check_kernels.c).
 */
#ifndef OFTD_TESTS_BENCH_CHECK_KERNELS_H
#define OFTD_TESTS_BENCH_CHECK_KERNELS_H

#include "core/status.h"
#include "tests/backends/kernels/random_weight.h"

extern struct kernels *oracle, *table;
extern bool timing;

int64_t between(int64_t low, int64_t high);
/* n random ones; freed by memory_free. */
float *floats(int64_t n);
/* Ends the program with a sentence unless s is ST_OK. */
void must(enum status s, const struct error *err);

/* What a slot's check works on: inputs and two outputs that start equal. */
struct data {
    const struct weight_case *c;
    struct weight w;
    int32_t rows;
    int64_t n, k, size;
    float *x, *y, *z, *out[2];
    struct act a[2]; /* products: x as the oracle and the table prepare it */
    void *buffer[2];
    struct rotation r[2];
    struct kv kv[2];
    int32_t *positions, *ends, **pages;
    bool flag;
    int kind;
};

/* One call of the slot on table t, writing d->out[which]. */
typedef void call(struct kernels *t, struct data *d, int which);

/* d->out, of so many floats. */
void outputs(struct data *d, int64_t size);
/* Runs the slot on both tables and notes whether all outputs are equal. */
void compare(const char *slot, const char *what, struct data *d, call *run);
void release(struct data *d);

/* What comes belongs to a line of its own, if it is another slot or case; one of its shapes. */
void begin_line(const char *slot, const char *what);
void note_shape(bool same);
void end_line(void);

/* ---- parts ---- */

void check_attention(void);
/* Of a device: against core/run/sampler.c. */
void check_draws(struct kernels *device);

#endif
