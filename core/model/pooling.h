/*
 * How the hidden states of a text become its embedding. What the folder says wins (the files of
 * sentence-transformers), else the family: a decoder's last token, an encoder's pooler.
 */
#ifndef OFTD_CORE_MODEL_POOLING_H
#define OFTD_CORE_MODEL_POOLING_H

#include "core/model/model.h"

/* Fills m->pooling and m->no_embedding; the network must have been built. What we cannot do leaves
 * the model without embeddings, with the reason; a file that is broken is a finding. Fails only
 * when memory runs out. */
enum status pooling_read(const char *dir, struct model *m, struct findings *findings,
                         struct error *err);

#endif
