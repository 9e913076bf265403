/*
 * A network: hyper-parameters, modules in a fixed order, the base's weights. Immutable once opened;
 * shared by every thread without locks. model_open reads the checkpoint's config through the family
 * table (family.def), gives each module to the chain, and loads it in a layout of the kernels. What
 * may change while serving (adapters, merged weights) is not here: a pass (batch.h) brings it
 * along.
 *
 * Modules are identified by index; arrays "per module" all over core/ have model->n_modules
 * entries.
 */
#ifndef OFTD_CORE_MODEL_MODEL_H
#define OFTD_CORE_MODEL_MODEL_H

#include "core/backend.h"
#include "core/files/checkpoint.h"
#include "core/kernels.h"
#include "core/place.h"
#include "core/progress.h"
#include "core/status.h"

enum model_kind { MODEL_DECODER, MODEL_ENCODER, MODEL_CONVNET };

/* What logits are of: tokens, labels of a whole sequence, labels of each token. */
enum classifier_kind { CLASSIFIER_NONE, CLASSIFIER_SEQUENCE, CLASSIFIER_TOKEN };

/* How a text's hidden states become its embedding (pooling.h). */
enum pooling {
    POOLING_NONE,
    POOLING_POOLER, /* tanh(W h_0 + b) */
    POOLING_FIRST,
    POOLING_LAST,
    POOLING_MEAN,
    POOLING_MEAN_SQRT, /* sum h_i / sqrt(n) */
    POOLING_WEIGHTED,  /* sum (i + 1) h_i / sum (i + 1) */
    POOLING_MAX
};

/* What a classifier of one label makes of its logit where a pair of texts is scored. */
enum score_kind { SCORE_SIGMOID, SCORE_LOGIT, SCORE_OTHER };

/* Half-open ranges of base layers, in the order of the expanded network (PEFT's layer_replication).
 */
struct layer_range {
    int32_t first, end;
};

struct model_options {
    const struct layer_range *replication; /* NULL: none */
    size_t n_replication;
    int64_t max_len; /* 0: the config's max_position_embeddings */
    bool conv2d_peft;
    bool claim_only;               /* build and check everything, load no weight (a dry look) */
    const struct scheme *quantize; /* NULL: as stored. Plain modules are quantized while they load;
                                      needed only during model_open */
    const struct scheme *head;     /* NULL: none. A second output layer, where it is plain, for fast
                                      mode: in the first form whose group divides its columns; the
                                      last one's is 0, a row */
    int quantize_threads;          /* modules that are quantized at once; 0: 1 */
    uint64_t
        memory_limit; /* refuse a base that needs more bytes than this; 0: what the machine has */
};

/* A Conv2d's windows, rows first: kernel[0] x kernel[1] pixels, dilation apart, of each of
 * `channels` channels, a window every stride pixels of an image with padding zeros around it. A row
 * of W is a window in the order (channel, row, column). */
struct conv2d {
    int32_t channels, kernel[2], stride[2], padding[2], dilation[2];
};

/* What an image network is given: 0 channels: it reads tokens; height and width 0: any that fit. */
struct image_size {
    int32_t channels, height, width;
};

struct module {
    const char *name;  /* canonical: PEFT on transformers 5 */
    const char *alias; /* the other generation's name, or NULL */
    const char *file;  /* prefix of its tensors in the checkpoint */
    enum module_kind kind;
    int64_t n, k;       /* W [n, k], whole */
    int64_t rotate_dim; /* what an OFT adapter rotates: k, or the embedding dim; a Conv2d's channels
                           times kernel[0] squared, as PEFT counts */
    struct conv2d conv; /* MODULE_CONV2D */
    int32_t layer;      /* in the expanded network, or -1 */
    int32_t base; /* index of the module that owns the stored weight: itself, or (replicated layer,
                     tied head) another */
    bool output_embedding; /* the head: PEFT's get_output_embeddings() */
    bool input_embedding;
    bool expert; /* an expert's: a module to transformers 4, part of a parameter to 5 */
    const struct backend *backend;
    const char *why; /* it has the module: what of the checkpoint decided (evidence.h) */
    bool quantized;  /* while it was loaded: the file has plain tensors instead of the back end's */
    const float *bias; /* [n] or NULL; owned by the model */
};

struct model_config; /* everything the decoder needs; hfconfig.h, private to core/model */
struct view;

struct model {
    const char *model_type, *architecture; /* "llama", "LlamaForCausalLM" */
    enum model_kind kind;
    int32_t layers, vocab, hidden, heads, kv_heads, head_dim; /* hidden: of hidden states out */
    int64_t max_len;                                          /* longest sequence served */
    int32_t window;     /* the widest sliding window if every layer slides (KV behind it may be
                           dropped), else 0 */
    int32_t stretch_at; /* longrope: a sequence longer than this turns all its positions by other
                           frequencies (struct batch); 0: never */
    int32_t dynamic_at; /* dynamic rope: positions of a prompt longer than this turn by its length,
                           those generated behind it by the length at that moment; 0: never */
    bool tied;          /* the head is the input embedding */
    bool replicated;
    bool conv2d_peft;
    const char *quant_method; /* the checkpoint's own word, "" if none */
    char identity[65];    /* checkpoint_identity; of it and the scheme if it is quantized here */
    json_t *quantization; /* the quantization_config of what is quantized here, or NULL */
    const int32_t *eos;   /* end tokens: union of both configs */
    size_t n_eos;
    int32_t bos; /* -1: none */
    int32_t
        token_types; /* rows of the embedding that tells the texts of a pair, 0: there is none */
    bool has_head;   /* it has logits */
    enum pooling pooling;
    enum score_kind score;
    const char *other_score;         /* the name of a SCORE_OTHER */
    const char *no_embedding;        /* why it cannot give `embedding` (POOLING_NONE), or NULL */
    struct image_size image;         /* its logits are of labels then, vocab of them an image */
    enum classifier_kind classifier; /* its own class; an adapter may bring a head along */
    int32_t labels;                  /* of a classifier */
    const char *const *label_names;  /* [labels] */
    const char *problem_type;        /* as config.json says, or NULL */
    int32_t pad; /* a sequence's labels are read at the last token that is not this; -1: the last */
    const struct backend *plain; /* keeps floats: the last of the chain */
    struct module *modules;
    size_t n_modules;
    struct view *base; /* the base's weights */
    struct weight
        *head8; /* what fast mode multiplies with instead of base's output layer, or NULL */
    const struct weight *head8_placed; /* the same where steps compute */
    struct place place;                /* of what is no view's: vectors of steps lie there alone */
    uint64_t weight_bytes, file_bytes;
    const struct layer_range *replication;
    size_t n_replication;
    struct model_config *config;
    /* Names that a target pattern may meet and that are no modules of ours ("model.layers.0",
     * norms): regexes of target_modules see all of them, as PEFT's named_modules does. */
    const char *const *other_names;
    size_t n_other_names;
};

/* Builds and loads, and places what steps read where `kernels` (the steps' table) computes. cp must
 * stay open as long as the model (store and export read it). All findings
 * at once: CONFIG_INVALID_VALUE (names the key), MODEL_TYPE_UNSUPPORTED, TENSOR_MISSING,
 * TENSOR_UNEXPECTED, ...; OUT_OF_MEMORY or CAPACITY_EXCEEDED with the figure before anything is
 * loaded; CANCELLED. */
enum status model_open(const struct checkpoint *cp, const struct model_options *options,
                       const struct chain *chain, const struct kernels *kernels,
                       progress_report *progress, void *progress_ctx, struct model **out,
                       struct error *err);
void model_close(struct model *m);

/* Is the module a convolution of more than 1x1? PEFT's unmerged forward of its adapters differs
 * from the merged one then (formats: Conv2d). */
static inline bool module_has_windows(const struct module *u)
{
    return u->kind == MODULE_CONV2D && (u->conv.kernel[0] > 1 || u->conv.kernel[1] > 1);
}

/* By canonical name or alias; -1: none. */
int32_t model_module(const struct model *m, const char *name);
/* Where the module's own tensors are, for store, inspect and export. */
enum status model_spec(const struct model *m, const struct checkpoint *cp, int32_t module,
                       struct module_spec *out);
/* The weight of one module that owns one, as model_open would load it; the caller clears it. For a
 * model opened with claim_only; options are those of model_open. */
enum status model_load_weight(const struct model *m, const struct checkpoint *cp,
                              const struct model_options *options, int32_t module,
                              struct weight *out, struct error *err);

/* A matrix of a classification head, as a class of this network has it. */
struct head_layer {
    const char *name; /* "score", "classifier.dense" */
    int64_t n, k;     /* n 0: one row a label */
    bool bias;
};
#define HEAD_LAYERS_MAX 2
/* The head's layers in order, tanh between them, of the class of that kind over this network's
 * backbone, whether or not it is the network's own; returns how many, 0: there is no such class, or
 * it reads a pooler that the checkpoint does not have. */
int model_head_layers(const struct model *m, enum classifier_kind kind,
                      struct head_layer out[HEAD_LAYERS_MAX]);
/* Is the module one of the network's own head of labels? */
bool model_is_head(const struct model *m, int32_t module);
/* Is the module part of the class of that kind over this backbone? A classifier has no output
 * layer, and a pooler only if it reads it. CLASSIFIER_NONE: the network's own class. */
bool model_class_has(const struct model *m, int32_t module, enum classifier_kind kind);
/* What the names of a checkpoint of that class begin with where this file's do not ("bert."), or
 * "".
 */
const char *model_class_prefix(const struct model *m, enum classifier_kind kind);
/* The class's name ("LlamaForSequenceClassification"), into buf; returns buf. */
char *model_class_name(const struct model *m, enum classifier_kind kind, char *buf, size_t size);

/* The family table as text rows (docs/families.md is generated from it). */
void model_families(void (*row)(void *ctx, const char *model_type, const char *text), void *ctx);
/* PEFT's default OFT targets of a model_type ("q_proj v_proj"), or NULL. */
const char *model_default_targets(const char *model_type);

#endif
