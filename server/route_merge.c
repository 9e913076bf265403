/* Merges, unmerges and exports: the loader works, these handlers translate its reports. */
#include <stdlib.h>
#include <string.h>

#include "server/fields.h"
#include "server/handlers.h"
#include "server/names.h"
#include "server/reply.h"
#include "server/server.h"

static json_t *names_json(char *const *names, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_string(names[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* ---- merging ---- */

static json_t *modules_json(const struct engine *e, const struct merge_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < r->n; i++) {
        const struct merge_module_report *m = &r->modules[i];
        json_t *row = json_pack("{s:s, s:s, s:f}", "name", engine_model(e)->modules[m->module].name,
                                "backend", m->backend, "rel_fro", m->rel_fro);
        if (json_array_append_new(list, row)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static void answer_merge(struct request *q)
{
    struct error err = ERROR_INIT;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const struct job_result *j = ticket_job(q->ticket);
    const struct merge_report *r = &j->report;
    const char *mode = field_text(q->json, "mode");
    bool dry = field_bool(q->json, "dry_run", false);
    log_event(q->server->log, LOG_INFO, dry ? "merge_tried" : "merged", LOG_TEXT("id", q->id),
              LOG_TEXT("adapter", j->n_names ? j->names[0] : NULL),
              LOG_TEXT("mode", mode ? mode : "resident"), LOG_INT("modules", (int64_t)j->modules),
              LOG_REAL("rel_fro_max", r->rel_fro_max));
    reply_json(q, 200,
               json_pack("{s:o, s:s, s:I, s:I, s:{s:{s:f, s:f}, s:f, s:o}, s:o, s:b}", "merged",
                         names_json(j->names, j->n_names), "mode", mode ? mode : "resident",
                         "modules", (json_int_t)j->modules, "bytes", (json_int_t)r->bytes, "report",
                         "rel_fro", "max", r->rel_fro_max, "mean", r->rel_fro_mean,
                         "orthogonality_defect", r->orthogonality_defect, "modules",
                         modules_json(q->server->engine, r), "warnings",
                         names_json(r->warnings, r->n_warnings), "dry_run", dry));
}

void route_merge(struct request *q)
{
    const char *mode = field_text(q->json, "mode"), *into = field_text(q->json, "into");
    struct merge_request r = {
        .mode = mode && !strcmp(mode, "in_place") ? MERGE_IN_PLACE : MERGE_RESIDENT,
        .options = {.dense = into != NULL,
                    .safe = field_bool(q->json, "safe_merge", true),
                    .max_rel_fro = field_number(field(q->json, "max_error"), "rel_fro", -1),
                    .dry_run = field_bool(q->json, "dry_run", false)}};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    enum status s = ST_OK;
    if (into && r.mode == MERGE_IN_PLACE)
        s = error_param(&err, ST_INVALID_VALUE, "into", "into is for resident merges only");
    if (into && !s)
        dtype_parse_torch(into, &r.options.dtype);
    s = s ? s : names_read(q, field(q->json, "adapter"), &r.adapters, &err);
    s = s ? s : engine_merge(q->server->engine, &r, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_merge);
}

void route_merges(struct request *q)
{
    struct error err = ERROR_INIT;
    struct merge_info *v = NULL;
    size_t n = 0;
    if (engine_merges(q->server->engine, &v, &n, &err)) {
        reply_error(q, &err);
        return;
    }
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; i < n && whole; i++)
        whole = !json_array_append_new(
            list, json_pack("{s:o, s:s, s:I, s:I}", "adapters",
                            names_json(v[i].adapters, v[i].n_adapters), "mode",
                            v[i].mode == MERGE_IN_PLACE ? "in_place" : "resident", "modules",
                            (json_int_t)v[i].modules, "bytes", (json_int_t)v[i].bytes));
    merge_infos_free(v, n);
    json_t *body = whole ? json_pack("{s:O}", "merged", list) : NULL;
    json_decref(list);
    reply_json(q, 200, body);
}

static void answer_unmerge(struct request *q)
{
    struct error err = ERROR_INIT;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const struct job_result *j = ticket_job(q->ticket);
    log_event(q->server->log, LOG_INFO, "unmerged", LOG_TEXT("id", q->id),
              LOG_INT("bytes", (int64_t)j->bytes));
    reply_json(q, 200,
               json_pack("{s:o, s:I}", "unmerged", names_json(j->names, j->n_names), "bytes",
                         (json_int_t)j->bytes));
}

void route_unmerge(struct request *q)
{
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    struct name_list names;
    enum status s = names_read(q, field(q->json, "adapter"), &names, &err);
    s = s ? s : engine_unmerge(q->server->engine, &names, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_unmerge);
}

/* ---- exporting ---- */

static void answer_export(struct request *q)
{
    struct error err = ERROR_INIT;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const struct job_result *j = ticket_job(q->ticket);
    log_event(q->server->log, LOG_INFO, "exported", LOG_TEXT("id", q->id),
              LOG_INT("bytes", (int64_t)j->bytes));
    reply_json(q, 200,
               json_pack("{s:s, s:I}", "path", field_text(q->json, "path"), "bytes",
                         (json_int_t)j->bytes));
}

void route_export(struct request *q)
{
    const char *dtype = field_text(q->json, "dtype");
    struct export_request r = {.path = field_text(q->json, "path"), .plain = dtype != NULL};
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (dtype)
        dtype_parse_torch(dtype, &r.dtype);
    enum status s = names_read(q, field(q->json, "adapter"), &r.adapters, &err);
    s = s ? s : engine_export(q->server->engine, &r, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_export);
}
