/*
 * Replies that hold large tensors: JSON text around flat lists of floats, written while they are
 * sent, some thousand numbers at a time.
 */
#ifndef OFTD_SERVER_TENSORS_H
#define OFTD_SERVER_TENSORS_H

#include "server/request.h"

struct tensors;
/* Empty; becomes the state of q and is freed with it. NULL when memory runs out. */
struct tensors *tensors_new(struct request *q);
/* JSON text in front of the next tensor; the last text closes the reply. */
struct buffer *tensors_text(struct tensors *t);
/* {"shape","datatype","data"} of v, which is borrowed and lives as long as the request's ticket.
 * name and row are for refusals. false: memory ran out. */
bool tensors_add(struct tensors *t, const float *v, const int64_t *shape, int rank,
                 const char *name, size_t row);
/* Answers: 500 if a number is NaN or Inf (naming the row), else 200 and all parts. */
void tensors_reply(struct request *q, struct tensors *t);

#endif
