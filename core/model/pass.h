/*
 * One pass through the network, from the inside: what its blocks share. A pass reads the model, a
 * view and a batch, and writes only its scratch, the KV pages and the caller's outputs. Private to
 * core/model.
 */
#ifndef OFTD_CORE_MODEL_PASS_H
#define OFTD_CORE_MODEL_PASS_H

#include <string.h>

#include "core/model/batch.h"
#include "core/model/hfconfig.h"

#define PRODUCTS_MAX 3  /* modules that share an input: q, k, v */
#define HEAD_ROWS    32 /* rows of logits computed at once */

/* Floats from one row to the next of a matrix that goes into products. */
static inline int64_t row_stride(int64_t columns)
{
    return (columns + TILE_K - 1) / TILE_K * TILE_K;
}

/* The input of one module of a product: which rows are rotated by what, and the result. */
struct input {
    struct rotate_group *groups;       /* [max_groups] */
    const struct rotation **rotations; /* [max_groups * ADAPTERS_MAX], the groups point into it */
    int32_t n;
    const struct weight *weight; /* NULL: nothing here to share */
    struct act act;
    void *buffer; /* of prepare */
};

/* Buffers of a mixture of experts. */
struct routing {
    float *logits; /* [max_rows, ld_experts] */
    float *shares; /* the same on the host */
    int64_t ld_experts;
    int32_t *chosen;          /* [max_rows, experts_used] */
    float *share;             /* [max_rows, experts_used] */
    int32_t *rows;            /* [max_rows] those that chose the expert at hand, ascending */
    float *row_share;         /* [max_rows] theirs */
    float *in, *out;          /* [max_rows, ld_hidden] */
    struct row_group *groups; /* [max_groups] */
};

/* Numbers lie where the table computes; lists of what to do, and what the host reckons for itself,
 * in the host's memory, which on a CPU is the same. */
struct scratch {
    void *memory, *lists; /* all that follows lies in them */
    const struct kernels *kernels;
    size_t bytes;
    int32_t max_rows, max_groups;
    int32_t out_rows;  /* rows of logits: HEAD_ROWS, or fewer */
    int64_t out_width; /* ... of a device: no row that leaves the network is wider */
    int64_t ld_hidden, ld_q, ld_kv, ld_mlp; /* row strides, multiples of TILE_K */
    int64_t ld_qkv, ld_narrow;              /* ... of what is fused; of the embedding's width */
    int64_t ld_input;                       /* ... of the widest input of any module */
    float *x, *normed;                      /* [max_rows, ld_hidden]: the residual; a block's in */
    float *branch;                          /* [max_rows, ld_hidden]: another in, a block's out */
    float *q, *attended;                    /* [max_rows, ld_q] */
    float *k, *v;                           /* [max_rows, ld_kv] */
    float *qkv;                             /* [max_rows, ld_qkv]; families that fuse them */
    float *gate, *up;                       /* [max_rows, ld_mlp]; fused: gate holds both */
    float *narrow;                          /* [max_rows, ld_narrow]; families that project */
    float *cosines[2], *sines[2];           /* [max_rows, rope[i].dim / 2] */
    float *turns[2];                        /* the same on the host, cos and sin of one rope */
    float *inverse;                         /* [head_dim / 2]; of one length */
    int32_t *rows_of;                       /* [max_rows] rows of learned positions */
    struct routing *routing;                /* mixtures of experts; else NULL */
    float *wide;                            /* [max_rows, ld_input]: model_module_forward's x */
    float *tail;                            /* [HEAD_ROWS, ld_hidden] rows on their way out */
    float *tail_narrow;                     /* [HEAD_ROWS, ld_narrow] */
    float *logits;                          /* [out_rows, vocab or out_width] */
    float *row;                             /* [ld_hidden] the host's copy of one, of a device */
    struct row_group *tail_groups;          /* [max_groups] */
    struct input input[PRODUCTS_MAX];
};

struct pass {
    const struct model *model;
    const struct view *view;
    const struct kernels *kernels;
    const struct row_group *groups; /* cover rows [0, rows), ascending */
    int32_t n_groups, rows;
    struct scratch *scratch;
    bool rotated; /* what goes into products has been through its rotations already */
};

/* Does the table compute in memory of its own? */
static inline bool pass_apart(const struct pass *p)
{
    return p->kernels->own_memory;
}
/* n floats from where the table computes to the host, and to there. */
static inline void pass_fetch(const struct pass *p, float *to, const float *from, int64_t n)
{
    if (pass_apart(p))
        p->kernels->fetch(p->kernels, to, from, (size_t)n * sizeof *to);
    else if (to != from)
        memcpy(to, from, (size_t)n * sizeof *to);
}
static inline void pass_send(const struct pass *p, float *to, const float *from, int64_t n)
{
    if (pass_apart(p))
        p->kernels->send(p->kernels, to, from, (size_t)n * sizeof *to);
    else if (to != from)
        memcpy(to, from, (size_t)n * sizeof *to);
}

/* x of all rows through one module, rotated and with the bias of each row's adapters. */
struct product {
    int32_t module;
    float *out; /* [rows, ldo] */
    int64_t ldo;
    bool add; /* out += */
};

/* Up to PRODUCTS_MAX modules of one input x [rows, ldx]; ldx is a multiple of TILE_K. */
void module_forward(const struct pass *p, const float *x, int64_t ldx,
                    const struct product *products, int n);
/* x [rows, ldx] (dim used) -> x R of the module, in place. */
void module_rotate(const struct pass *p, int32_t module, float *x, int64_t ldx, int64_t dim);

/* Where a block's result goes: to [rows, ld_hidden], added or not. */
struct sum {
    float *to;
    bool add;
};

/* Rows ids of an embedding, rotated, to out [rows, ldo]. */
void embedding_forward(const struct pass *p, int32_t module, const int32_t *ids, float *out,
                       int64_t ldo);
/* The batch's tokens to scratch->x: all that happens before the first layer. */
void embedding_rows(const struct pass *p, const struct batch *b);
/* One layer's blocks, of x [rows, ld_hidden]; x may be out.to where it is added. */
void attention_forward(const struct pass *p, const struct batch *b, int32_t layer, const float *x,
                       struct sum out);
void mlp_forward(const struct pass *p, int32_t layer, const float *x, struct sum out);
void moe_forward(const struct pass *p, int32_t layer, const float *x, struct sum out);
/* act(gate(x)) * up(x), or act(up(x)), to scratch->gate [rows, ld_mlp]; gate -1: there is none. */
void mlp_inner(const struct pass *p, int32_t gate, int32_t up, int32_t dim, const float *x);
/* The pass over n of its rows, ascending; groups [max_groups] holds theirs. */
struct pass pass_of_rows(const struct pass *p, const int32_t *rows, int32_t n,
                         struct row_group *groups);
/* The pass over `rows` rows from `first` on, of `per` rows for each of p's; groups [max_groups]. */
struct pass pass_of_span(const struct pass *p, int64_t per, int64_t first, int32_t rows,
                         struct row_group *groups);
/* One row of an encoder, x [hidden] after the last norm, through its pooler to out [hidden]. */
void pooler_forward(const struct pass *p, int32_t row, const float *x, int64_t ld, float *out);
/* Are some rows' logits of labels? */
bool classifier_any(const struct pass *p);
/* The way out of a row: the last classifier that its adapters bring; NULL: the network's own. */
const struct classifier *classifier_of(const struct pass *p, int32_t row);
/* Rows of the pass (ascending), x [n, ld] after the last norm, to their labels out[i]. Their way
 * out is a classifier. */
void classifier_forward(const struct pass *p, const int32_t *rows, const float *x, int64_t ld,
                        float *const *out, int32_t n);
/* Final norm and output layer of the wanted rows. */
void head_forward(const struct pass *p, const struct row_output *outputs, int32_t n);

/* cos and sin of each row's position, [rows, rope->dim / 2]; lengths as in struct batch; scratch
 * [rope->dim / 2]. */
void rope_fill(const struct rope *rope, const int32_t *positions, const int32_t *lengths,
               int32_t rows, float *scratch, float *cosines, float *sines);

#endif
