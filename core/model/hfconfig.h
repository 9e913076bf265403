/*
 * The hyper-parameters of a decoder as plain numbers, whatever the spelling of config.json, and the
 * network that build.c makes of them. Private to core/model; everything in it lives in its arena
 * and is immutable once model_open has returned.
 */
#ifndef OFTD_CORE_MODEL_HFCONFIG_H
#define OFTD_CORE_MODEL_HFCONFIG_H

#include "core/arena.h"
#include "core/files/checkpoint.h"
#include "core/kernels.h"
#include "core/model/family.h"
#include "core/model/model.h"

/* Rotary positions: the first `dim` of each head's elements turn in pairs (i, i + dim/2) by
 * position * inverse[i]; cos and sin are multiplied by factor. */
struct rope {
    int32_t dim;
    float *inverse; /* [dim / 2] */
    float factor;
    /* longrope: sequences longer than original turn by stretched [dim / 2]; NULL: there is none */
    float *stretched;
    /* dynamic: those longer than original by theta * (growth * length / original - growth + 1) ^
     * (dim / (dim - 2)); 0: there is none */
    float growth, theta;
    int32_t original;
};

/* One layer of the expanded network. */
struct layer {
    int32_t base;                       /* its layer in the checkpoint */
    int32_t first;                      /* the first layer with this base; it owns the weights */
    int32_t window;                     /* 0: sees everything */
    const struct rope *rope;            /* NULL: heads do not turn */
    float scale;                        /* of the scores */
    int32_t module[ROLE_COUNT];         /* -1: none; experts: the first one's */
    int32_t module_0;                   /* the first of all */
    struct norm_args norm[LAYER_NORMS]; /* weights shared by the copies of a base layer; weight
                                           NULL: there is none */
};

/* Where a token's position enters. */
enum positions { POSITIONS_ROPE, POSITIONS_LEARNED, POSITIONS_ALIBI };

/* How a layer's two blocks meet the residual x. */
enum residual {
    RESIDUAL_PRE,      /* x += attention(norm(x)); x += mlp(norm(x)) */
    RESIDUAL_PARALLEL, /* x += attention(norm(x)) + mlp(norm'(x)), norm' = norm if there is one */
    RESIDUAL_POST      /* x = norm(x + attention(x)); x = norm(x + mlp(x)) */
};

#define EXPERT_MODULES 3 /* an expert's gate, up and down are neighbours in the list of modules */

/* A name or alias of a module. */
struct module_name {
    const char *name;
    int32_t module;
};

/* A batch norm in inference: x * scale + shift, by channel. */
struct affine {
    float *scale, *shift;
};

struct model_config {
    const struct family *family;
    const char *architecture;
    int32_t hidden, intermediate, vocab;
    int32_t embedding_dim; /* hidden, or what project_in and project_out bridge */
    int32_t base_layers;   /* in the checkpoint */
    int32_t heads, kv_heads, head_dim;
    enum classifier_kind classifier_kind;
    int32_t labels;
    const char **label_names; /* [labels] */
    const char *problem_type;
    bool label_bias; /* ... of tokens has a bias */
    int32_t pad;     /* -1: none */
    int32_t max_positions;
    int32_t position_rows, position_offset; /* learned positions: rows; row of position 0 */
    bool positions_skip_pad;                /* ... tokens position_pad have row position_pad */
    int32_t position_pad;
    int32_t types;
    enum activation activation;
    enum residual residual;
    enum positions positions;
    unsigned conditions; /* bits of enum condition: which rows of the family hold */
    float norm_eps, attention_scale;
    float embedding_scale;      /* 1: none */
    float score_cap, logit_cap; /* 0: none */
    bool scale_by_layer;        /* scores are divided by the layer's number, from 1 */
    bool attention_bias, mlp_bias, tied;
    int32_t experts, experts_used; /* of a sparse layer; a token's */
    int32_t expert_inner;
    bool experts_renormalised; /* the chosen ones' weights sum to 1 */
    bool *sparse;              /* [base_layers] has experts instead of an MLP */
    struct image_size image;   /* what is read, see struct model */
    int32_t patch[2];          /* the sides of an image's squares */
    int32_t stem;              /* convnets: channels behind the stem */
    int32_t *widths, *depths;  /* [base_layers] channels and blocks of a stage; NULL: no convnet */
    bool stride_first_stage, stride_first_conv; /* ... where the shape shrinks */
    int32_t convs;                              /* of a block */
    int32_t *windows;                           /* [base_layers], 0: none */
    bool *local;                                /* [base_layers] turns by rope[1] */
    struct rope rope[2];                        /* of all layers; of local ones */
    float *alibi;                               /* [heads] slopes, or NULL */
    int32_t *eos;
    size_t n_eos;
    int32_t bos;

    /* of build.c */
    bool bare;                         /* the file leaves the family's prefix out */
    bool old_layers;                   /* ... and has the older word for the layers */
    struct layer *layers;              /* [model->layers] */
    const struct family_module **rows; /* [model->n_modules] */
    struct module_name *by_name;       /* [n_names] sorted */
    size_t n_names;
    int32_t embedding, head;
    int32_t position, type, project_in, project_out, pooler; /* -1: none; head too */
    int32_t classifier, classifier_dense;
    int32_t patches, stem_module; /* likewise */
    struct affine *affine;        /* [n_modules] what follows a convolution; scale NULL: nothing */
    float *class_token;           /* [hidden] */
    float *table;                 /* [max_positions, hidden] of an image's positions */
    struct norm_args final_norm, embedding_norm;
    struct arena arena;
};

/* Reads and checks everything that config.json and generation_config.json say about the network.
 * What is wrong goes to findings (the values are then unusable); OUT_OF_MEMORY is returned. */
enum status hfconfig_read(const struct checkpoint *cp, struct model_config *c,
                          struct findings *findings);

/* classes.c: which class `architectures` names, and its labels. OUT_OF_MEMORY or ST_OK. */
enum status classes_read(const struct keys *keys, struct model_config *c);

/* options.c: what rows of the family table name. */
void options_llama(const struct keys *keys, struct model_config *c);
void options_mistral(const struct keys *keys, struct model_config *c);
void options_qwen2(const struct keys *keys, struct model_config *c);
void options_qwen3(const struct keys *keys, struct model_config *c);
void options_gemma(const struct keys *keys, struct model_config *c);
void options_gemma2(const struct keys *keys, struct model_config *c);
void options_gemma3(const struct keys *keys, struct model_config *c);
void options_phi3(const struct keys *keys, struct model_config *c);
void options_gpt_neox(const struct keys *keys, struct model_config *c);
void options_falcon(const struct keys *keys, struct model_config *c);
void options_opt(const struct keys *keys, struct model_config *c);
void options_gpt2(const struct keys *keys, struct model_config *c);
void options_bert(const struct keys *keys, struct model_config *c);
void options_roberta(const struct keys *keys, struct model_config *c);
void options_mixtral(const struct keys *keys, struct model_config *c);
void options_qwen3_moe(const struct keys *keys, struct model_config *c);
void options_vit(const struct keys *keys, struct model_config *c);

/* convnet_build.c: likewise, of convnets. */
enum status shape_resnet(const struct keys *keys, struct model_config *c);
/* The window and rows of a convolution of a role in a stage's block (-1: in none). */
void convnet_shape(const struct model_config *c, enum role role, int32_t stage, int32_t block,
                   struct conv2d *conv, int64_t *n);
/* Whether a stage's first block changes the shape. */
bool convnet_has_shortcut(const struct model_config *c, int32_t stage);

/* Rows and columns of the matrix of a role. */
void hfconfig_shape(const struct model_config *c, enum role role, int64_t *n, int64_t *k);
/* The keys that decide rows (side 0) and columns (side 1), for messages. */
const char *hfconfig_shape_key(const struct model_config *c, enum role role, int side);
bool hfconfig_has_bias(const struct model_config *c, enum bias_rule rule);

/* rope.c: reads rope_parameters or rope_theta and rope_scaling into c->rope. */
enum status rope_read(const struct keys *keys, struct model_config *c);

#endif
