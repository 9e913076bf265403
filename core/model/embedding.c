/* Owns the way in: rows of the embedding matrix, each rotated by its own adapters (e' = e R). */
#include "core/model/pass.h"

void embedding_forward(const struct pass *p, int32_t module, const int32_t *ids, float *out,
                       int64_t ldo)
{
    p->kernels->gather(p->kernels, p->view->weights[module], ids, p->rows, out, ldo);
    module_rotate(p, module, out, ldo, p->model->modules[module].k);
}
