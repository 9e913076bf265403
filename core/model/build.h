/*
 * Names become a network: the list of modules, which of them own a stored weight, who reads each,
 * and what in the checkpoint is wrong or left over. Private to core/model.
 */
#ifndef OFTD_CORE_MODEL_BUILD_H
#define OFTD_CORE_MODEL_BUILD_H

#include "core/model/hfconfig.h"

/* Fills m's modules, layers and other_names from m->config (read and free of errors), and has every
 * module claimed. What is wrong with the checkpoint goes to findings; OUT_OF_MEMORY and a bad
 * replication are returned. */
enum status build_network(struct model *m, const struct checkpoint *cp,
                          const struct model_options *options, const struct chain *chain,
                          struct findings *findings, struct error *err);

/* Loads biases and norms, then every stored weight, into m. */
enum status build_load(struct model *m, const struct checkpoint *cp,
                       const struct model_options *options, const struct chain *chain,
                       progress_report *progress, void *progress_ctx, uint64_t limit,
                       struct error *err);

/* load.c: every stored weight into m's base view. limit: bytes that it may take. */
enum status load_weights(struct model *m, const struct checkpoint *cp,
                         const struct model_options *options, progress_report *progress,
                         void *progress_ctx, uint64_t limit, struct error *err);

/* quantize.c: gives the modules that the scheme's library would quantize to the scheme's back end;
 * a base that is not plain is refused. */
enum status quantize_claim(struct model *m, const struct checkpoint *cp,
                           const struct scheme *scheme, const struct chain *chain,
                           struct error *err);
/* Whether options ask for a second output layer and the model has one that is plain; and that
 * layer, to m->head8. */
bool quantize_makes_head(const struct model *m, const struct model_options *options);
enum status quantize_head(struct model *m, const struct checkpoint *cp,
                          const struct model_options *options, const struct chain *chain,
                          struct error *err);
/* The plain weight of such a module, quantized; wide: parameters in F32, not in the dtype of the
 * file. */
enum status quantize_load(const struct backend *backend, const struct scheme *scheme,
                          const struct module_spec *plain, bool wide, struct weight *out,
                          struct error *err);

/* check.c: what the checkpoint holds against what the network needs, all findings at once. */
void check_layers(const struct model *m, const struct checkpoint *cp, struct findings *findings);
void check_sizes(const struct model *m, const struct checkpoint *cp, struct findings *findings);
void check_norms(const struct model *m, const struct checkpoint *cp, struct findings *findings);
/* convnet_build.c: the batch norms of a convnet; patches.c: the tables of a network of patches.
 * Each does nothing where the network has none; loading returns OUT_OF_MEMORY or
 * NON_FINITE_WEIGHTS. */
void convnet_check(const struct model *m, const struct checkpoint *cp, struct findings *findings);
enum status convnet_load(struct model *m, const struct checkpoint *cp, struct error *err);
void patches_check(const struct model *m, const struct checkpoint *cp, struct findings *findings);
enum status patches_load(struct model *m, const struct checkpoint *cp, struct error *err);
/* Their tensors in seen [cp->n_tensors]. */
void convnet_mark(const struct model *m, const struct checkpoint *cp, bool *seen);
void patches_mark(const struct model *m, const struct checkpoint *cp, bool *seen);
/* A vector of n floats, <module>.<suffix>. */
void check_vector(const struct checkpoint *cp, const char *module, const char *suffix, int64_t n,
                  struct findings *findings);
void check_biases(const struct model *m, const struct checkpoint *cp, struct findings *findings);
enum status check_leftovers(const struct model *m, const struct checkpoint *cp,
                            struct findings *findings);

/* names.c: the canonical name of a pattern in the model's arena; NULL when memory runs out. */
const char *names_make(struct model *m, const char *pattern, int32_t layer, int32_t expert);
/* Fills c->by_name, for model_module. */
enum status names_sort(struct model *m);
/* Fills m->other_names. */
enum status names_others(struct model *m);

/* Whether a row of the family table is there under this config, in this base layer (-1: in none).
 */
static inline bool build_holds(const struct model *m, enum condition when, int32_t layer)
{
    const struct model_config *c = m->config;
    if (when == WHEN_DENSE || when == WHEN_SPARSE)
        return layer >= 0 && c->sparse[layer] == (when == WHEN_SPARSE);
    if (when == WHEN_SHORTCUT)
        return layer >= 0 && convnet_has_shortcut(c, layer);
    return c->conditions >> when & 1;
}
/* How often a row with `@` is there in a base layer: its experts, or a stage's blocks. */
static inline int32_t build_repeats(const struct model *m, int32_t layer)
{
    const struct model_config *c = m->config;
    return c->depths ? c->depths[layer] : c->experts;
}
/* The name under which the file keeps a module or norm of a base layer (-1: none), into buf, which
 * is returned: the first of its spellings that has tensors, with or without the family's prefix. */
char *names_file(const struct model *m, const struct checkpoint *cp,
                 const struct family_module *row, int32_t layer, int32_t expert, char *buf,
                 size_t size);
char *names_norm(const struct model *m, const char *pattern, int32_t layer, char *buf, size_t size);
/* name with another last word, into buf, which is returned. */
char *names_beside(const char *name, const char *last, char buf[FAMILY_NAME_MAX]);
/* The pattern of a module's own name: without the prefix where the class has none. */
const char *names_canonical(const struct model *m, const char *pattern);
/* ... of its other name, or NULL: there is none. */
const char *names_alias(const struct model *m, const struct family_module *row);
/* The tensor of a norm, under its first name (weight, bias) or the oldest files' (gamma, beta). */
const struct tensor *build_norm(const struct checkpoint *cp, const char *norm, const char *suffix);
/* Whether the file leaves the family's prefix out. */
bool names_bare(const struct model *m, const struct checkpoint *cp);
/* Whether it numbers its layers below the family's other_layers. */
bool names_old_layers(const struct model *m, const struct checkpoint *cp);
/* Elements of a norm's weight. */
int64_t build_norm_dim(const struct model *m, enum norm_role role);

/* The tensors of a module's bias and of a norm's weight ("<name>.<suffix>"), or NULL. */
const struct tensor *build_tensor(const struct checkpoint *cp, const char *module,
                                  const char *suffix);
/* Whether the config promises module i a bias. */
bool build_wants_bias(const struct model *m, size_t i);

#endif
