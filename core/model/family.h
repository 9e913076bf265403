/*
 * What a model_type is: names, rules and defaults as data (family.def), and the functions a row
 * names for what is not data. The decoder never asks which family it runs: it sees roles, norms and
 * numbers. A new family is a row; a new mechanism is a role, a member or a function that rows name.
 */
#ifndef OFTD_CORE_MODEL_FAMILY_H
#define OFTD_CORE_MODEL_FAMILY_H

#include "core/backend.h"
#include "core/kernels.h"
#include "core/model/model.h"

struct keys;
struct model_config;

/* What a matrix is for. A fused one stands for several: QKV, GATE_UP. */
enum role {
    ROLE_EMBEDDING,
    ROLE_POSITION, /* learned positions */
    ROLE_TYPE,     /* learned types of tokens; all are of type 0 */
    ROLE_PROJECT_IN,
    ROLE_PROJECT_OUT, /* between the embedding's width and hidden */
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_QKV,
    ROLE_O,
    ROLE_GATE,
    ROLE_UP,
    ROLE_GATE_UP,
    ROLE_DOWN,
    ROLE_ROUTER,
    ROLE_EXPERT_GATE, /* one for each expert, like the next two */
    ROLE_EXPERT_UP,
    ROLE_EXPERT_DOWN,
    ROLE_HEAD,
    ROLE_POOLER,           /* the first token's way out of an encoder: tanh(W h + b) */
    ROLE_CLASSIFIER_DENSE, /* tanh(W h + b) before ... */
    ROLE_CLASSIFIER,       /* ... labels: W h [+ b] */
    ROLE_PATCH,            /* an image's squares become tokens */
    ROLE_STEM,             /* a convnet's first convolution */
    ROLE_SHORTCUT,
    ROLE_CONV_1, /* of a block, one for each in the stage, like the next two */
    ROLE_CONV_2,
    ROLE_CONV_3,
    ROLE_COUNT
};

/* Where a norm stands; the first LAYER_NORMS belong to a layer. ATTENTION and MLP stand before
 * their block (RESIDUAL_POST: after the sum), *_OUT between a block and the sum, Q and K on each
 * head before it turns. */
enum norm_role {
    NORM_ATTENTION,
    NORM_ATTENTION_OUT,
    NORM_MLP,
    NORM_MLP_OUT,
    NORM_Q,
    NORM_K,
    NORM_FINAL,
    NORM_EMBEDDING, /* of what enters the first layer */
    NORM_COUNT,
    LAYER_NORMS = NORM_FINAL
};

/* Has the module a bias? By the config (attention_bias, mlp_bias, token_classification_bias), or
 * whatever it says. */
enum bias_rule { BIAS_NEVER, BIAS_ALWAYS, BIAS_ATTENTION, BIAS_MLP, BIAS_LABELS };

/* When a norm or module is there; a config's options say which hold besides ALWAYS. */
enum condition {
    WHEN_ALWAYS,
    WHEN_FINAL_NORM, /* opt: there is a norm before the head */
    WHEN_PROJECTED,  /* opt: the embedding is not as wide as hidden */
    WHEN_PARALLEL,   /* falcon: one norm feeds both blocks, ... */
    WHEN_PARALLEL_TWO /* ... or each has its own */,
    WHEN_SEQUENTIAL, /* ... or the blocks follow each other */
    WHEN_STORED,     /* the file has it */
    WHEN_LANGUAGE,   /* the class gives logits of tokens, ... */
    WHEN_SEQUENCE,   /* ... of labels of a sequence, ... */
    WHEN_TOKEN,      /* ... or of each token */
    WHEN_DENSE,      /* of a layer: it has an MLP, ... */
    WHEN_SPARSE,     /* ... or a mixture of experts */
    WHEN_SHORTCUT,   /* of a stage: its first block changes the shape */
    WHEN_BOTTLENECK  /* a block has three convolutions, not two */
};

/* Rows of a fused qkv: all of q, k, v in turn; or for each kv head its q heads, its k, its v. */
enum qkv_rows { QKV_BLOCKS, QKV_GROUPS };

/* The key of a family for a common number. */
#define FAMILY_KEY(family, member, usual) ((family)->key.member ? (family)->key.member : (usual))
/* The keys under which a family's config.json keeps the common numbers; NULL: the usual one. */
struct family_keys {
    const char *hidden, *layers, *heads, *intermediate, *max_positions, *activation;
    /* at top level, before there was rope_parameters */
    const char *rope_theta, *rope_part, *rope_local_theta;
};

struct family_module {
    const char *name; /* `#`: the layer's (convnet: stage's) number, `@`: the expert's (block's) in
                         it; NULL ends a list */
    enum role role;
    enum bias_rule bias;
    const char *file, *alias; /* other names, in files (NULL: none) and for PEFT */
    enum module_kind kind;    /* MODULE_LINEAR: an embedding role makes it MODULE_EMBEDDING */
    enum condition when;
    const char *norm; /* the last word of the name of the batch norm behind it, or NULL */
};

struct family_norm {
    const char *name;
    enum norm_role role;
    enum condition when;
};

struct family {
    const char *model_type;
    const char *architecture;               /* the class that is served */
    const char *const *other_architectures; /* classes whose files serve it too, or NULL */
    const char *stem;                       /* ... of the names of its classifiers */
    bool classes_pooled; /* a sequence's classifier reads the pooler, not the final norm */
    bool no_token_class; /* though it shares a list of modules with families that have one */
    enum model_kind kind;
    bool bare_names; /* the class has its modules without the prefix (the alias has it) */
    const struct family_module *modules;
    const struct family_norm *norms;
    const char *prefix;              /* of all names but the head's; files may lack it ("model.") */
    const char *layers;              /* the prefix below which the file numbers its layers */
    const char *other_layers;        /* ... and the older files', or NULL */
    bool images;                     /* it reads pixel_values, its logits are of labels */
    const char *class_token, *table; /* of images: tensors of the first token; of all positions */
    const char *const *other_names;
    const char *const *ignored; /* tensors whose names end so are left over from training */
    const char *const *keys;    /* of config.json that only some families know */
    struct family_keys key;
    enum norm_kind norm;
    const char *norm_eps; /* the key; NULL: always default_eps */
    double default_eps;
    bool norm_plus_one; /* times (1 + weight) */
    enum qkv_rows qkv;
    /* Reads what only some configs say into config, after the common keys; c->windows [base_layers]
     * and c->local are there and zero. */
    void (*options)(const struct keys *keys, struct model_config *config);
    /* Reads all sizes, where no layers of attention have them: instead of the common keys and of
     * options. OUT_OF_MEMORY or ST_OK. */
    enum status (*shape)(const struct keys *keys, struct model_config *config);
    const char *default_activation;
    int32_t max_positions;               /* where config.json names none */
    int32_t head_dim;                    /* likewise; 0: hidden / heads */
    int32_t intermediate_ratio;          /* likewise: times hidden; 0: required */
    double rope_theta, rope_local_theta; /* likewise; 0: 10000; 0: there is no local rope */
    double rope_part;                    /* likewise; 0: 1 */
    int32_t position_offset;             /* learned positions: row of position 0 */
    bool yarn_is_longrope;               /* an old name */
    int32_t pad;                         /* pad_token_id + 1 where config.json has no such key */
    bool own_kv_heads;                   /* options decide them, num_key_value_heads says nothing */
    bool tied;                           /* where config.json does not say */
    const char *targets;                 /* PEFT's default OFT targets; NULL: it has none */
};

const struct family *family_find(const char *model_type); /* NULL: unknown */
/* Rows in order; NULL behind the last. */
const struct family *family_at(size_t i);
/* What a row says, for people, into buf; returns buf. */
char *family_describe(const struct family *f, char *buf, size_t size);
/* The model_types, "llama, mistral, ...", into buf; returns buf. */
char *family_list(char *buf, size_t size);

/* pattern with `#` replaced by layer and `@` by expert, into buf; returns buf. A name that does not
 * fit is cut. */
char *family_name(const char *pattern, int32_t layer, int32_t expert, char *buf, size_t size);
#define FAMILY_NAME_MAX 256
/* The row of a class's classifier; NULL: the family has no such class, or no such module in it. */
const struct family_module *family_classifier(const struct family *f, enum classifier_kind kind,
                                              enum role role);
/* Is the pattern one of a layer? */
bool family_per_layer(const char *pattern);
/* ... or of an expert of a layer? */
bool family_per_expert(const char *pattern);

#endif
