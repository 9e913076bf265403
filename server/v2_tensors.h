/*
 * The input tensors of an inference request: names, types, shapes, and elements that stand in the
 * JSON or as bytes behind it.
 */
#ifndef OFTD_SERVER_V2_TENSORS_H
#define OFTD_SERVER_V2_TENSORS_H

#include "server/request.h"

struct v2_type;
struct v2_tensor {
    const char *name;
    const struct v2_type *type;
    int rank;
    int64_t shape[4];
    int64_t n;          /* elements */
    const json_t *data; /* their list, or NULL: */
    const char *bytes;  /* [size], little-endian; of BYTES each with its length before it */
    size_t size;
};

/* The tensors of q's body (checked against FIELDS_infer), in its order: each with exactly one kind
 * of data, of the size that its shape says, and no byte of the body left over. They live as long
 * as q's JSON and body. INVALID_VALUE, MISSING_FIELD; the sentence names the tensor. */
enum status v2_tensors_read(struct request *q, struct v2_tensor **out, size_t *n,
                            struct error *err);
const struct v2_tensor *v2_tensors_find(const struct v2_tensor *v, size_t n, const char *name);

/* The elements of an INT32 or INT64 tensor, all from low to high, in q's arena. */
enum status v2_tensors_ints(struct request *q, const struct v2_tensor *t, int32_t low, int32_t high,
                            const int32_t **out, struct error *err);
/* The elements of an FP32, FP16 or BF16 tensor, all finite, in q's arena. */
enum status v2_tensors_floats(struct request *q, const struct v2_tensor *t, const float **out,
                              struct error *err);
/* The elements of a BYTES tensor; NUL ended, in q's arena. */
enum status v2_tensors_texts(struct request *q, const struct v2_tensor *t, const struct text **out,
                             struct error *err);

#endif
