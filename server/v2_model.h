/* Models and versions of the open inference protocol: the base is version 1, an adapter's version
 * is its generation. */
#ifndef OFTD_SERVER_V2_MODEL_H
#define OFTD_SERVER_V2_MODEL_H

#include "server/request.h"

#define V2_MODEL_BASE 1

/* What the path names: {model} and, if the route has it, {version}. */
struct v2_model {
    const char *name;       /* as the client wrote it */
    struct name_list names; /* the adapter, or none: the base */
    bool by_model;          /* the name is the adapter's alone, without the base */
    const char *asked;      /* the version, or NULL: whichever serves */
};
/* MODEL_NOT_FOUND also when another version serves. */
enum status v2_model_read(struct request *q, struct v2_model *out, struct error *err);
/* The same of what the work ran on: its own version may have been swapped out before it began. */
enum status v2_model_ran(const struct v2_model *m, const struct adapter_ref *refs, size_t n,
                         struct error *err);
/* Refuses; an adapter that only the path named is, to the client, a model. */
void v2_model_refuse(struct request *q, const struct v2_model *m, struct error *err);
/* "model_name":...,"model_version":"..." of what it ran on. */
void v2_model_text(const struct v2_model *m, const struct adapter_ref *refs, size_t n,
                   struct buffer *out);

#endif
