/*
 * The interface between the network (core/) and a checkpoint format (backends/<format>.c). A back
 * end is knowledge of one library's tensor names and packing; it turns a module's tensors into a
 * struct weight in one of the encodings of kernels.h, and (optional) float weights back into them.
 * It knows nothing of adapters, networks or HTTP, keeps no state, and is one const struct at the
 * bottom of its file.
 *
 * The chain (backends/chain.c) is a NULL-ended array of these in PEFT's dispatch order; the first
 * that claims a module has it. Claiming is pure: it looks at names, dtypes, shapes and the
 * quantization_config, never at data.
 */
#ifndef OFTD_CORE_BACKEND_H
#define OFTD_CORE_BACKEND_H

#include <jansson.h>

#include "core/kernels.h"
#include "core/status.h"
#include "core/tensor.h"

enum module_kind {
    MODULE_LINEAR,   /* y = x W^T, W [n, k] */
    MODULE_CONV1D,   /* GPT-2: stored [k, n] in plain files */
    MODULE_CONV2D,   /* W [n, k = in/groups * kh * kw] */
    MODULE_EMBEDDING /* rows are looked up, W [n = entries, k = dim] */
};

/* All that a back end may look at. Everything is borrowed. */
struct module_spec {
    const char *name; /* canonical module name, for messages and the config's module rules */
    const char *file; /* the module's prefix in the checkpoint, without the last dot */
    enum module_kind kind;
    int64_t n, k;                 /* what the network expects */
    int64_t conv[4];              /* MODULE_CONV2D: in/groups, kh, kw, groups */
    const struct tensor *tensors; /* those named `file`.*, sorted by name */
    size_t n_tensors;
    const json_t
        *quant; /* quantization_config (config.json's, else quantize_config.json's), or NULL */
};

/* The tensor `file`.suffix, or NULL. */
const struct tensor *spec_tensor(const struct module_spec *spec, const char *suffix);

/* A part of a module: rows [row, row + rows) and columns [col, col + cols) of W. rows 0: all rows;
 * cols 0: all columns. Not every cut is possible in every format; a cut that is not is
 * NOT_SUPPORTED, naming the unit. */
struct slice {
    int64_t row, rows, col, cols;
};

enum claim {
    CLAIM_DECLINED, /* not mine */
    CLAIM_CLAIMED,
    CLAIM_FAILED /* mine, and broken: findings filled (module, tensor, expected, got) */
};

/* Where store puts the file's own tensors; suffix is below the module's prefix. Data is copied by
 * the callee. */
struct tensor_sink {
    enum status (*put)(struct tensor_sink *self, const char *suffix, enum dtype dtype, int rank,
                       const int64_t *shape, const void *data, struct error *err);
};

/* What --quantize asks for, read by backends/scheme.c: the parameters that its library would give
 * every module, and what the library writes into config.json. */
struct scheme {
    char word[32];       /* "bnb-nf4-dq" */
    const char *backend; /* name of the back end that makes it */
    int bits;            /* of a code */
    int64_t group;       /* elements that share a scale; 0: a row */
    bool fp4, nested;    /* bnb_4bit: the other table; double quantization */
    bool conv1d;         /* GPT-2's Conv1D is one of the library's linear modules */
    bool experts;        /* so are a mixture's experts and its router */
    json_t *config;      /* quantization_config, owned */
};

struct backend {
    const char *name;
    /* Is this module yours? CLAIM_FAILED adds to findings. */
    enum claim (*claim)(const struct module_spec *spec, struct findings *findings);
    /* Loads a slice of a claimed module. Data is distrusted: every index, zero, group is checked.
     * On failure *out is left cleared and err or its findings tell. */
    enum status (*load)(const struct module_spec *spec, struct slice slice, struct weight *out,
                        struct error *err);
    /* One line of parameters for people: "nf4, block 64, double-quantized". buf is returned. */
    char *(*describe)(const struct weight *w, char *buf, size_t size);
    /* (optional, NULL: cannot merge) w [like->n, like->k] f32, natural order, already rounded to
     * like->dtype -> the same format with like's own parameters (bits, group, table, nesting). */
    enum status (*requantize)(const struct weight *like, const float *w, struct weight *out,
                              struct error *err);
    /* (optional with requantize) The `like` of a plain module under a scheme of this back end:
     * parameters and no data, for a weight of dtype; cleared by the caller. NOT_SUPPORTED names the
     * module whose sizes the format has no room for. */
    enum status (*plan)(const struct scheme *scheme, const struct module_spec *plain,
                        enum dtype dtype, struct weight *like, struct error *err);
    /* (optional with requantize) The file's own tensors of w again. */
    enum status (*store)(const struct weight *w, struct tensor_sink *sink, struct error *err);
};

/* The chain: NULL-ended, in dispatch order; its last row is `default`, whose requantize with a
 * `like` of encoding ENC_DENSE also makes dense copies (merge `into`). */
struct chain {
    const struct backend *const *backends;
};

#endif
