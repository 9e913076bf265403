/*
 * vLLM's dynamic adapters under vLLM's names, so that its side-cars and operators work unchanged:
 * the same texts, the same numbers, and its form of error ({"error":{"message","type","param",
 * "code": number}}). And under SageMaker's, which are the same thing with another wording of
 * success.
 */
#include <stdio.h>
#include <string.h>

#include "server/adapters_log.h"
#include "server/fields.h"
#include "server/handlers.h"
#include "server/reply.h"
#include "server/server.h"

static void refuse(struct request *q, int status, const char *type, const char *message)
{
    reply_json(q, status,
               json_pack("{s:{s:s, s:s, s:n, s:i}}", "error", "message", message, "type", type,
                         "param", "code", status));
}

/* One load or unload and how its success is worded (with %s for the name); in the arena. */
struct lora {
    const char *name, *path;
    const char *done;
};

static struct lora *lora_new(struct request *q, const char *name, const char *path,
                             const char *done)
{
    struct lora *l = arena_alloc(&q->arena, sizeof *l);
    if (l)
        *l = (struct lora){.name = name, .path = path, .done = done};
    q->state = l;
    return l;
}

static void success(struct request *q)
{
    const struct lora *l = q->state;
    const char *at = strstr(l->done, "%s");
    struct buffer b = {0};
    buffer_add(&b, l->done, (size_t)(at - l->done));
    buffer_text(&b, l->name);
    buffer_text(&b, at + 2);
    reply_buffer(q, 200, TYPE_TEXT, &b);
}

static bool empty(const char *s)
{
    return !s || !*s;
}

/* vLLM knows no finer numbers: what is refused is a bad request. */
static void refuse_otherwise(struct request *q, int status, const struct error *err)
{
    bool ours = status >= 500;
    refuse(q, ours ? status : 400, ours ? "InternalServerError" : "BadRequestError", err->text);
}

/* What the loader says, as vLLM would: loaded already, not there, or the loader's own words. */
static void refuse_load(struct request *q, struct error *err)
{
    const struct lora *l = q->state;
    const char *name = l->name;
    char text[1024];
    int status = reply_status(err->code);
    bool missing = err->code == ST_FILE_UNREADABLE || err->code == ST_ADAPTER_NOT_FOUND;
    if (err->code == ST_NAME_IN_USE && strcmp(name, engine_name(q->server->engine))) {
        snprintf(text, sizeof text,
                 "The lora adapter '%.256s' has already been loaded. If you want to load the "
                 "adapter in place, set 'load_inplace' to True.",
                 name);
        refuse(q, 400, "InvalidUserInput", text);
    } else if (missing) {
        snprintf(text, sizeof text, "Loading lora %.256s failed: No adapter found for %.512s", name,
                 l->path);
        refuse(q, 404, "NotFoundError", text);
    } else {
        refuse_otherwise(q, status, err);
    }
    error_clear(err);
}

static void answer_load(struct request *q)
{
    const struct lora *l = q->state;
    struct error err = ERROR_INIT;
    if (adapters_log_load(q, l->name, &err))
        refuse_load(q, &err);
    else
        success(q);
}

static void load(struct request *q, const struct adapter_request *r)
{
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (!registry_name_valid(r->name))
        refuse(q, 400, "InvalidUserInput",
               "'lora_name' must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}.");
    else if (engine_adapter_load(q->server->engine, r, &ticket, &err))
        refuse_load(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_load);
}

void route_lora_load(struct request *q)
{
    const char *name = field_text(q->json, "lora_name"), *path = field_text(q->json, "lora_path");
    bool in_place = field_bool(q->json, "load_inplace", false);
    const struct adapter_request r = {.name = name,
                                      .path = path,
                                      .pinned = field_bool(q->json, "pinned", false),
                                      .replace = in_place ? REPLACE_ALWAYS : REPLACE_NEVER};
    if (empty(name) || empty(path))
        refuse(q, 400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.");
    else if (!lora_new(q, name, path, "Success: LoRA adapter '%s' added successfully."))
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
    else
        load(q, &r);
}

/* POST /adapters */
void route_sagemaker_load(struct request *q)
{
    const char *name = field_text(q->json, "name"), *path = field_text(q->json, "src");
    bool in_place = field_bool(q->json, "load_inplace", false);
    const struct adapter_request r = {.name = name,
                                      .path = path,
                                      .pinned = field_bool(q->json, "pin", false),
                                      .replace = in_place ? REPLACE_ALWAYS : REPLACE_NEVER};
    if (!lora_new(q, name, path, "Adapter %s registered"))
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
    else
        load(q, &r);
}

static void refuse_unload(struct request *q, struct error *err)
{
    const struct lora *l = q->state;
    char text[512];
    int status = reply_status(err->code);
    snprintf(text, sizeof text, "The lora adapter '%.256s' cannot be found.", l->name);
    if (err->code == ST_ADAPTER_NOT_FOUND)
        refuse(q, 404, "NotFoundError", text);
    else
        refuse_otherwise(q, status, err);
    error_clear(err);
}

static void answer_unload(struct request *q)
{
    const struct lora *l = q->state;
    struct error err = ERROR_INIT;
    if (adapters_log_unload(q, l->name, &err))
        refuse_unload(q, &err);
    else
        success(q);
}

static void unload(struct request *q, const char *name, const char *done)
{
    struct error err = ERROR_INIT;
    struct ticket *ticket = NULL;
    if (!lora_new(q, name, NULL, done))
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
    else if (engine_adapter_unload(q->server->engine, name, -1, &ticket, &err))
        refuse_unload(q, &err);
    else
        request_wait(q, ticket, TICKET_END, answer_unload);
}

void route_lora_unload(struct request *q)
{
    const char *name = field_text(q->json, "lora_name");
    if (empty(name))
        refuse(q, 400, "InvalidUserInput",
               "'lora_name' needs to be provided to unload a LoRA adapter.");
    else
        unload(q, name, "Success: LoRA adapter '%s' removed successfully.");
}

/* DELETE /adapters/{name} */
void route_sagemaker_unload(struct request *q)
{
    unload(q, q->params[0], "Adapter %s unregistered");
}
