/*
 * The admin plane of adapters: list, get, load, batch, validate, unload. All work is the loader's;
 * these handlers translate.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/adapters_json.h"
#include "server/adapters_log.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

/* 1/true (also: without a value) and 0/false; absent: *out stays. */
static enum status query_bool(struct request *q, const char *name, bool *out, struct error *err)
{
    const char *v = request_query(q, name);
    if (!v)
        return ST_OK;
    if (!strcmp(v, "1") || !strcmp(v, "true") || !*v)
        *out = true;
    else if (!strcmp(v, "0") || !strcmp(v, "false"))
        *out = false;
    else
        return error_param(err, ST_INVALID_VALUE, name, "%s: true or false is expected", name);
    return ST_OK;
}

static enum status query_seconds(struct request *q, const char *name, double *out,
                                 struct error *err)
{
    const char *v = request_query(q, name);
    if (!v)
        return ST_OK;
    char *end = NULL;
    bool number = *v && strspn(v, "0123456789.eE+-") == strlen(v);
    *out = number ? strtod(v, &end) : 0;
    if (number && !*end && *out >= 0 && *out <= 86400)
        return ST_OK;
    return error_param(err, ST_INVALID_VALUE, name, "%s: seconds from 0 to 86400 are expected",
                       name);
}

void route_adapters_list(struct request *q)
{
    struct error err = ERROR_INIT;
    struct adapter_info *v = NULL;
    size_t n = 0;
    bool available = false;
    enum status s = query_bool(q, "available", &available, &err);
    s = s ? s : engine_adapter_list(q->server->engine, available, &v, &n, &err);
    if (s) {
        reply_error(q, &err);
        return;
    }
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; i < n; i++) {
        if (whole)
            whole = !json_array_append_new(list, adapter_info_json(&v[i]));
        adapter_info_clear(&v[i]);
    }
    free(v);
    json_t *body = whole ? json_pack("{s:O}", "adapters", list) : NULL;
    json_decref(list);
    reply_json(q, 200, body);
}

/* The adapter as it stands now; status when there is one. */
static void answer_info(struct request *q, const char *name, int status)
{
    struct error err = ERROR_INIT;
    struct adapter_info info = {0};
    if (engine_adapter_info(q->server->engine, name, &info, &err))
        reply_error(q, &err);
    else
        reply_json(q, status, adapter_info_json(&info));
    adapter_info_clear(&info);
}

void route_adapters_get(struct request *q)
{
    answer_info(q, q->params[0], 200);
}

/* ---- loading ---- */

static void answer_load(struct request *q)
{
    struct error err = ERROR_INIT;
    if (adapters_log_load(q, field_text(q->json, "name"), &err)) {
        reply_error(q, &err);
        return;
    }
    const struct job_result *r = ticket_job(q->ticket);
    reply_json(q, r->replaced ? 200 : 201, adapter_info_json(&r->adapter));
}

/* A load that nobody waits for: its request is over, its outcome goes to the log. */
struct background {
    struct log *log;
    struct ticket *ticket;
    char id[REQUEST_ID_MAX + 1], name[];
};

/* ticket_wake; also called for what has ended already. */
static void background_ended(void *arg)
{
    struct background *b = arg;
    struct error err = ERROR_INIT;
    if (ticket_status(b->ticket, &err))
        adapters_log_refused(b->log, b->id, b->name, &err);
    else
        adapters_log_loaded(b->log, b->id, &ticket_job(b->ticket)->adapter);
    error_clear(&err);
    ticket_free(b->ticket);
    free(b);
}

static void load_in_background(struct request *q, const struct adapter_request *r)
{
    struct error err = ERROR_INIT;
    size_t len = strlen(r->name);
    struct background *b = calloc(1, sizeof *b + len + 1);
    if (!b) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    if (engine_adapter_load(q->server->engine, r, &b->ticket, &err)) {
        reply_error(q, &err);
        free(b);
        return;
    }
    b->log = q->server->log;
    memcpy(b->id, q->id, sizeof b->id);
    memcpy(b->name, r->name, len);
    if (ticket_ended(b->ticket) && ticket_status(b->ticket, &err)) {
        adapters_log_refused(b->log, b->id, b->name, &err);
        reply_error(q, &err);
        ticket_free(b->ticket);
        free(b);
        return;
    }
    if (!ticket_wait(b->ticket, TICKET_END, background_ended, b))
        background_ended(b);
    reply_json(q, 202, json_pack("{s:s, s:s}", "name", r->name, "state", "loading"));
}

void route_adapters_load(struct request *q)
{
    struct error err = ERROR_INIT;
    struct adapter_request r;
    struct ticket *ticket = NULL;
    bool wait = true;
    adapter_request_read(q->json, &r);
    enum status s = query_bool(q, "wait", &wait, &err);
    if (!s && !wait) {
        load_in_background(q, &r);
        return;
    }
    s = s ? s : engine_adapter_load(q->server->engine, &r, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_load);
}

static void answer_validation(struct request *q)
{
    struct error err = ERROR_INIT;
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    const struct findings *f = &ticket_job(q->ticket)->findings;
    reply_json(q, 200,
               json_pack("{s:b, s:o}", "ok", f->errors == 0, "findings", reply_findings_json(f)));
}

void route_adapters_validate(struct request *q)
{
    struct error err = ERROR_INIT;
    struct adapter_request r;
    struct ticket *ticket = NULL;
    adapter_request_read(q->json, &r);
    if (engine_adapter_validate(q->server->engine, &r, &ticket, &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_validation);
}

/* ---- several at once ---- */

static void answer_batch(struct request *q)
{
    struct error err = ERROR_INIT;
    const json_t *load = field(q->json, "load"), *unload = field(q->json, "unload");
    if (ticket_status(q->ticket, &err)) {
        reply_error(q, &err);
        return;
    }
    json_t *loaded = json_array();
    bool whole = loaded != NULL;
    for (size_t i = 0; whole && i < json_array_size(load); i++) {
        struct adapter_info info = {0};
        const char *name = field_text(json_array_get(load, i), "name");
        if (!engine_adapter_info(q->server->engine, name, &info, &err))
            whole = !json_array_append_new(loaded, adapter_info_json(&info));
        error_clear(&err); /* unloaded again since: then it is not listed */
        adapter_info_clear(&info);
    }
    json_t *body = whole ? json_pack("{s:O, s:o}", "loaded", loaded, "unloaded",
                                     unload ? json_incref((json_t *)unload) : json_array())
                         : NULL;
    json_decref(loaded);
    reply_json(q, 200, body);
}

void route_adapters_batch(struct request *q)
{
    const json_t *load = field(q->json, "load"), *unload = field(q->json, "unload");
    size_t n_load = json_array_size(load), n_unload = json_array_size(unload);
    struct adapter_request *requests = arena_alloc(&q->arena, (n_load + 1) * sizeof *requests);
    const char **names = arena_alloc(&q->arena, (n_unload + 1) * sizeof *names);
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (!requests || !names) {
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < n_load; i++)
        adapter_request_read(json_array_get(load, i), &requests[i]);
    for (size_t i = 0; i < n_unload; i++)
        names[i] = json_string_value(json_array_get(unload, i));
    if (!load && !unload)
        reply_failure(q, ST_MISSING_FIELD, "load", "load or unload is required");
    else if (engine_adapter_batch(q->server->engine, requests, n_load, names, n_unload, &ticket,
                                  &err))
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_batch);
}

/* ---- unloading ---- */

static void answer_unload(struct request *q)
{
    struct error err = ERROR_INIT;
    if (adapters_log_unload(q, q->params[0], &err)) {
        reply_error(q, &err);
        return;
    }
    reply_json(q, 200,
               json_pack("{s:s, s:I}", "name", q->params[0], "bytes",
                         (json_int_t)ticket_job(q->ticket)->bytes));
}

void route_adapters_unload(struct request *q)
{
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    double timeout_s = -1;
    enum status s = query_seconds(q, "timeout_s", &timeout_s, &err);
    s = s ? s : engine_adapter_unload(q->server->engine, q->params[0], timeout_s, &ticket, &err);
    if (s)
        reply_error(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_unload);
}
