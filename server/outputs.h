/* What the raw pass gives back: its tensors by name, for every protocol that asks for them. */
#ifndef OFTD_SERVER_OUTPUTS_H
#define OFTD_SERVER_OUTPUTS_H

#include "server/request.h"

struct output_kind {
    const char *name;
    enum output bit;
    bool each_token; /* of tokens: one vector each, else one in all */
    bool hidden;     /* of the hidden size, else of the vocabulary (or labels) */
};
#define N_OUTPUTS 5
extern const struct output_kind outputs_kinds[N_OUTPUTS]; /* in the order of replies */

/* NULL: there is none of that name. */
const struct output_kind *outputs_named(const char *name);
/* Does the row have a vector for each of its tokens? Labels of a whole sequence are one vector, an
 * image's hidden state has a shape of its own. */
bool outputs_each_token(const struct forward_row *r, const struct output_kind *k);
/* The shape of the row's tensor; returns its rank, at most 3. */
int outputs_shape(const struct model *m, const struct forward_row *r, const struct output_kind *k,
                  int64_t shape[3]);
/* The row's numbers, NULL: not asked. */
const float *outputs_of(const struct forward_row *r, const struct output_kind *k);

#endif
