/*
 * A version is exact or it is not there: a client that asks for generation 3 gets 3 or 404, also
 * when 4 is swapped in between the question and the pass.
 */
#include "server/v2_model.h"

#include <stdio.h>
#include <string.h>

#include "server/names.h"
#include "server/reply.h"
#include "server/server.h"

static enum status check_version(const struct v2_model *m, uint64_t serves, struct error *err)
{
    char version[24];
    snprintf(version, sizeof version, "%llu", (unsigned long long)serves);
    if (!m->asked || !strcmp(m->asked, version))
        return ST_OK;
    return error_param(err, ST_MODEL_NOT_FOUND, "version",
                       "'%.200s' has no version '%.40s': version %s serves", m->name, m->asked,
                       version);
}

enum status v2_model_read(struct request *q, struct v2_model *out, struct error *err)
{
    struct engine *e = q->server->engine;
    struct adapter_info info = {0};
    *out = (struct v2_model){.name = q->params[0], .asked = q->params[1]};
    enum status s = names_resolve(q, out->name, NULL, &out->names, &out->by_model, err);
    if (s || !out->names.n)
        return s ? s : check_version(out, V2_MODEL_BASE, err);
    if (!out->asked)
        return ST_OK;
    s = engine_adapter_info(e, out->names.names[0], &info, err);
    s = s ? s : check_version(out, info.generation, err);
    adapter_info_clear(&info);
    return s;
}

/* Of its own adapter: a row may have named others. */
static uint64_t version_ran(const struct v2_model *m, const struct adapter_ref *refs, size_t n)
{
    for (size_t i = 0; i < n && m->names.n; i++)
        if (!strcmp(refs[i].name, m->names.names[0]))
            return refs[i].generation;
    return V2_MODEL_BASE;
}

enum status v2_model_ran(const struct v2_model *m, const struct adapter_ref *refs, size_t n,
                         struct error *err)
{
    return check_version(m, version_ran(m, refs, n), err);
}

void v2_model_refuse(struct request *q, const struct v2_model *m, struct error *err)
{
    if (m->by_model && err->code == ST_ADAPTER_NOT_FOUND)
        error_param(err, ST_MODEL_NOT_FOUND, "model", "there is no model '%.200s'", m->name);
    reply_error(q, err);
}

void v2_model_text(const struct v2_model *m, const struct adapter_ref *refs, size_t n,
                   struct buffer *out)
{
    buffer_text(out, "\"model_name\":");
    buffer_cstring(out, m->name);
    buffer_format(out, ",\"model_version\":\"%llu\"", (unsigned long long)version_ran(m, refs, n));
}
