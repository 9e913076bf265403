/*
 * What a model_type is: names, rules and defaults as data (family.def), and the functions a row
 * names for what is not data. The decoder never asks which family it runs: it sees roles, norms and
 * numbers. A new family is a row; a new mechanism is a role, a member or a function that rows name.
 */
#ifndef OFTD_CORE_MODEL_FAMILY_H
#define OFTD_CORE_MODEL_FAMILY_H

#include "core/backend.h"
#include "core/kernels.h"

struct keys;
struct model_config;

/* What a matrix is for. */
enum role {
    ROLE_EMBEDDING,
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O,
    ROLE_GATE,
    ROLE_UP,
    ROLE_DOWN,
    ROLE_HEAD,
    ROLE_COUNT
};

/* Where a norm stands; the first LAYER_NORMS belong to a layer. */
enum norm_role { NORM_ATTENTION, NORM_MLP, NORM_FINAL, LAYER_NORMS = NORM_FINAL };

/* Has the module a bias? By the config's attention_bias or mlp_bias, or whatever they say. */
enum bias_rule { BIAS_NEVER, BIAS_ALWAYS, BIAS_ATTENTION, BIAS_MLP };

struct family_module {
    const char *name; /* `#`: the layer's number; NULL ends a list */
    enum role role;
    enum bias_rule bias;
    const char *file, *alias; /* NULL: as name; none */
};

struct family_norm {
    const char *name;
    enum norm_role role;
};

struct family {
    const char *model_type, *architecture;
    const struct family_module *modules;
    const struct family_norm *norms;
    const char *layers; /* the prefix below which the file numbers its layers */
    const char *const *other_names;
    const char *const *ignored; /* tensors whose names end so are left over from training */
    const char *const *keys;    /* of config.json that only some families know */
    enum norm_kind norm;
    const char *norm_eps, *activation; /* the keys' names */
    /* Fills config->windows, [base_layers]. */
    void (*windows)(const struct keys *keys, struct model_config *config);
    int32_t max_positions; /* where config.json names none */
    bool tied;             /* likewise */
    const char *targets;   /* PEFT's default OFT targets */
};

const struct family *family_find(const char *model_type); /* NULL: unknown */
/* Rows in order; NULL behind the last. */
const struct family *family_at(size_t i);
/* What a row says, for people, into buf; returns buf. */
char *family_describe(const struct family *f, char *buf, size_t size);
/* The model_types, "llama, mistral, ...", into buf; returns buf. */
char *family_list(char *buf, size_t size);

/* pattern with `#` replaced by layer, into buf; returns buf. A name that does not fit is cut. */
char *family_name(const char *pattern, int32_t layer, char *buf, size_t size);
#define FAMILY_NAME_MAX 256
/* Is the pattern one of a layer? */
bool family_per_layer(const char *pattern);

#endif
