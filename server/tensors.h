/*
 * Replies that hold large tensors: JSON text around lists of floats, and floats as bytes behind the
 * text, written while they are sent, some thousand numbers at a time.
 */
#ifndef OFTD_SERVER_TENSORS_H
#define OFTD_SERVER_TENSORS_H

#include "server/request.h"

struct tensors;
/* Empty; becomes the state of q and is freed with it. NULL when memory runs out. */
struct tensors *tensors_new(struct request *q);
/* JSON text in front of what is added next; the last text closes the reply. */
struct buffer *tensors_text(struct tensors *t);

/* n floats at v (NULL: n zeros), which is borrowed and lives as long as the request's ticket; as
 * n numbers with commas between them, or (binary) as 4n bytes, little-endian, behind the text and
 * the bytes that were added before. name and row are for refusals. false: memory ran out. */
struct floats {
    const float *v;
    int64_t n;
    bool binary;
    const char *name;
    size_t row;
};
bool tensors_floats(struct tensors *t, const struct floats *f);
/* {"shape","datatype","data"} of v, as numbers; borrowed as above. */
bool tensors_add(struct tensors *t, const float *v, const int64_t *shape, int rank,
                 const char *name, size_t row);
/* Answers: 500 if a number is NaN or Inf (naming the row), else 200 and all parts. With bytes
 * behind the text the reply says how long the text is, as the inference protocol wants it. */
void tensors_reply(struct request *q, struct tensors *t);

#endif
