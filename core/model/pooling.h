/*
 * How the hidden states of a text become its embedding, and the logit of a pair its score. What the
 * folder says wins (the files of sentence-transformers), else the family: a decoder's last token,
 * an encoder's pooler; a score is the logit's sigmoid.
 */
#ifndef OFTD_CORE_MODEL_POOLING_H
#define OFTD_CORE_MODEL_POOLING_H

#include "core/model/model.h"

/* Fills pooling and score of m, and why they are none; the network must have been built. What we
 * cannot do leaves the model without embeddings, with the reason; a file that is broken is a
 * finding. Fails only when memory runs out. */
enum status pooling_read(const struct checkpoint *cp, struct model *m, struct findings *findings,
                         struct error *err);

#endif
