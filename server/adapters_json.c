/* The one spelling of an adapter: every route that shows one shows the same object. */
#include "server/adapters_json.h"

#include <math.h>
#include <string.h>

#include "server/fields.h"
#include "server/reply.h"

static const char *const states[] = {"loading", "ready", "draining", "failed", "available"};

static json_t *block_sizes_json(const struct adapter_info *a)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < a->n_block_sizes; i++)
        if (json_array_append_new(list, json_integer(a->block_sizes[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static bool add(json_t *object, const char *key, json_t *value)
{
    return !json_object_set_new(object, key, value);
}

json_t *adapter_info_json(const struct adapter_info *a)
{
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:s?, s:s?, s:{s:I, s:I}, s:b, s:i, s:o, s:o, s:{s:i, s:i}, "
        "s:{s:s, s:i}, s:o, s:b}",
        "name", a->name, "state", states[a->state], "generation", (json_int_t)a->generation,
        "digest", a->digest[0] ? a->digest : NULL, "path", a->path, "bytes", "packed",
        (json_int_t)a->packed_bytes, "rotations", (json_int_t)a->rotation_bytes, "pinned",
        a->pinned, "in_flight", a->in_flight, "last_used",
        a->last_used > 0 ? json_integer((json_int_t)a->last_used) : json_null(), "block_sizes",
        block_sizes_json(a), "modules", "matched", a->matched, "total", a->total, "cayley",
        "method", a->neumann ? "neumann" : "exact", "terms", a->neumann ? a->terms : 0,
        "orthogonality_defect",
        isfinite(a->orthogonality_defect) ? json_real(a->orthogonality_defect) : json_null(),
        "merged", a->merged);
    bool whole = o != NULL;
    if (whole && a->error)
        whole = add(o, "error", json_string(a->error));
    if (whole && a->warnings.n)
        whole = add(o, "warnings", reply_findings_json(&a->warnings));
    if (whole)
        return o;
    json_decref(o);
    return NULL;
}

void adapter_request_read(const json_t *body, struct adapter_request *out)
{
    const char *replace = field_text(body, "replace");
    *out = (struct adapter_request){.name = field_text(body, "name"),
                                    .path = field_text(body, "path"),
                                    .pinned = field_bool(body, "pinned", false),
                                    .replace = REPLACE_NEVER,
                                    .if_digest = field_text(body, "if_digest")};
    if (replace && !strcmp(replace, "always"))
        out->replace = REPLACE_ALWAYS;
    else if (replace && !strcmp(replace, "if_digest_differs"))
        out->replace = REPLACE_IF_DIGEST_DIFFERS;
}
