/*
 * THE list of the raw pass's outputs, as clients name them.
 */
#include "server/outputs.h"

#include <string.h>

const struct output_kind outputs_kinds[N_OUTPUTS] = {
    {"logits", OUTPUT_LOGITS, true, false},
    {"last_logits", OUTPUT_LAST_LOGITS, false, false},
    {"hidden_states", OUTPUT_HIDDEN, true, true},
    {"logprobs", OUTPUT_LOGPROBS, true, false},
    {"embedding", OUTPUT_EMBEDDING, false, true}};

const struct output_kind *outputs_named(const char *name)
{
    for (size_t i = 0; i < N_OUTPUTS; i++)
        if (!strcmp(outputs_kinds[i].name, name))
            return &outputs_kinds[i];
    return NULL;
}

bool outputs_each_token(const struct forward_row *r, const struct output_kind *k)
{
    bool own_shape = k->bit == OUTPUT_HIDDEN && r->hidden_rank;
    return k->each_token && !own_shape && (k->hidden || r->classifier != CLASSIFIER_SEQUENCE);
}

int outputs_shape(const struct model *m, const struct forward_row *r, const struct output_kind *k,
                  int64_t shape[3])
{
    int rank = 0;
    if (k->bit == OUTPUT_HIDDEN && r->hidden_rank) {
        memcpy(shape, r->hidden_shape, (size_t)r->hidden_rank * sizeof *shape);
        return r->hidden_rank;
    }
    if (outputs_each_token(r, k))
        shape[rank++] = r->tokens;
    shape[rank++] = k->hidden ? m->hidden : r->width;
    return rank;
}

const float *outputs_of(const struct forward_row *r, const struct output_kind *k)
{
    switch (k->bit) {
    case OUTPUT_LOGITS:
        return r->logits;
    case OUTPUT_LAST_LOGITS:
        return r->last_logits;
    case OUTPUT_HIDDEN:
        return r->hidden;
    case OUTPUT_LOGPROBS:
        return r->logprobs;
    case OUTPUT_EMBEDDING:
        return r->embedding;
    }
    return NULL;
}
