/* The classification head in an adapter's file: tensors in, a struct classifier of the network out.
 */
#ifndef OFTD_CORE_ADAPTERS_CLASSIFIER_H
#define OFTD_CORE_ADAPTERS_CLASSIFIER_H

#include "core/adapters/oftconfig.h"
#include "core/model/batch.h"
#include "core/place.h"

/* The tensors of a head, borrowed from the file. n_layers 0: the adapter has none. */
struct head_source {
    enum classifier_kind kind;
    int n_layers;
    struct head_layer layers[HEAD_LAYERS_MAX];
    const struct tensor *weight[HEAD_LAYERS_MAX], *bias[HEAD_LAYERS_MAX];
};

/* What head the config promises over this base. A class that the base cannot have is refused. */
void head_source_open(const struct oftconfig *c, const struct model *m, struct head_source *out,
                      struct findings *f);
/* Takes the tensor if it is one of the head's: `module` and weight or bias. */
bool head_source_take(struct head_source *h, const struct tensor *t, const char *module,
                      bool is_bias);
/* That all are there, with the right shapes and numbers; path names the file. */
void head_source_check(const struct head_source *h, const char *path, struct findings *f);

/* The head as values of its own. Cleared by the caller in every case. */
struct head {
    struct classifier classifier;
    struct weight weights[HEAD_LAYERS_MAX];
    float *biases[HEAD_LAYERS_MAX];
    size_t bytes;
};
enum status head_load(const struct head_source *h, const struct model *m, struct head *out,
                      struct error *err);
/* Its classifier where steps compute (core/place.h), to *out; false: no memory. */
bool head_place(const struct head *h, struct place *place, struct classifier *out);
void head_clear(struct head *h);
/* What head_load will take. */
size_t head_bytes(const struct head_source *h);

#endif
