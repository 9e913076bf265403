/*
 * Outcome -> HTTP number, in one switch without a default: a new row of status.def does not compile
 * until it has its number here. The numbers follow api.md 2; where it leaves a choice:
 *
 *   400  the request itself is wrong, whoever finds out (also a module or token that it names)
 *   404  a thing that the request names does not exist
 *   409  the request is right, but the state of the daemon forbids it now: merge rules, names in
 *        use, budgets, a digest that is not the expected one, an output that exists
 *   422  files are refused: every finding about an adapter or a checkpoint, and a path that leads
 *        out of the roots
 *   503  not ready, draining, or stopped while it ran: try again later (Retry-After)
 *
 * A code of a finding that comes with the name of a request field and without findings is about the
 * request: 400.
 */
#include "server/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "server/server.h"

int reply_status(enum status s)
{
    switch (s) {
    case ST_OK:
        return 200;
    case ST_MALFORMED_REQUEST:
    case ST_INVALID_JSON:
    case ST_INVALID_VALUE:
    case ST_MISSING_FIELD:
    case ST_UNKNOWN_FIELD:
    case ST_CONTEXT_LENGTH_EXCEEDED:
    case ST_REPLY_TOO_LARGE:
    case ST_TOKENIZER_MISSING:
    case ST_CHAT_TEMPLATE_MISSING:
    case ST_TEMPLATE_RAISED:
    case ST_TEMPLATE_FAILED:
    case ST_LIMIT_EXCEEDED:
        return 400;
    case ST_INVALID_API_KEY:
        return 401;
    case ST_ADMIN_DISABLED:
    case ST_ADMIN_KEY_REQUIRED:
    case ST_ORIGIN_NOT_ALLOWED:
        return 403;
    case ST_ROUTE_NOT_FOUND:
    case ST_MODEL_NOT_FOUND:
    case ST_ADAPTER_NOT_FOUND:
        return 404;
    case ST_METHOD_NOT_ALLOWED:
        return 405;
    case ST_REQUEST_TIMEOUT:
        return 408;
    case ST_MERGE_FORBIDDEN_GPTQ:
    case ST_MERGE_FORBIDDEN_LAYER_REPLICATION:
    case ST_MERGE_UNSUPPORTED_BACKEND:
    case ST_MERGE_NON_FINITE:
    case ST_MERGE_ERROR_ABOVE_BOUND:
    case ST_MODEL_IS_MERGED:
    case ST_NOT_MERGED:
    case ST_ADAPTER_MERGED:
    case ST_NAME_IN_USE:
    case ST_ADAPTER_BUSY:
    case ST_CAPACITY_EXCEEDED:
    case ST_PATH_EXISTS:
    case ST_DIGEST_MISMATCH:
        return 409;
    case ST_BODY_TOO_LARGE:
        return 413;
    case ST_PEFT_TYPE_UNSUPPORTED:
    case ST_CONFIG_MISSING_FIELD:
    case ST_CONFIG_UNKNOWN_FIELD:
    case ST_CONFIG_INVALID_VALUE:
    case ST_CONFIG_DUPLICATE_KEY:
    case ST_CONFIG_UNSUPPORTED:
    case ST_LEGACY_OFT_FORMAT:
    case ST_CAYLEY_VERSION_MISMATCH:
    case ST_R_AND_BLOCK_SIZE_CONFLICT:
    case ST_BLOCK_SIZE_NOT_DIVISOR:
    case ST_FILE_UNREADABLE:
    case ST_TENSOR_MISSING:
    case ST_TENSOR_UNEXPECTED:
    case ST_TENSOR_SHAPE_MISMATCH:
    case ST_DTYPE_UNSUPPORTED:
    case ST_MODULE_NOT_FOUND:
    case ST_NO_EFFECTIVE_MODULES:
    case ST_MODULES_TO_SAVE_UNSUPPORTED:
    case ST_BIAS_CONFLICT:
    case ST_COFT_OUT_OF_BOUNDS:
    case ST_NON_FINITE_WEIGHTS:
    case ST_NEUMANN_DIVERGENT:
    case ST_ORTHOGONALITY_DEFECT_HIGH:
    case ST_BASE_MODEL_MISMATCH:
    case ST_BASE_SHAPE_MISMATCH:
    case ST_PATH_OUTSIDE_ROOT:
    case ST_CONV2D_FORWARD_DIFFERS:
    case ST_CHECKPOINT_INVALID:
    case ST_QUANT_METHOD_UNSUPPORTED:
    case ST_MODEL_TYPE_UNSUPPORTED:
    case ST_TOKENIZER_UNSUPPORTED:
    case ST_TEMPLATE_INVALID:
    case ST_TEMPLATE_UNSUPPORTED:
        return 422;
    case ST_OVERLOADED:
        return 429;
    case ST_HEADERS_TOO_LARGE:
        return 431;
    case ST_NON_FINITE_OUTPUT:
    case ST_OUT_OF_MEMORY:
    case ST_IO_ERROR:
    case ST_INTERNAL:
        return 500;
    case ST_NOT_SUPPORTED:
        return 501;
    case ST_NOT_READY:
    case ST_DRAINING:
    case ST_CANCELLED:
        return 503;
    case ST_COUNT_:
        break;
    }
    return 500;
}

static int status_of(const struct error *err)
{
    int status = reply_status(err->code);
    bool of_request = status == 422 && err->param[0] && !err->findings.n;
    return of_request && err->code != ST_PATH_OUTSIDE_ROOT ? 400 : status;
}

/* OpenAI's names of kinds of errors. */
static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 500:
    case 503:
        return "server_error";
    default:
        return "invalid_request_error";
    }
}

static bool set(json_t *object, const char *key, json_t *value)
{
    return !json_object_set_new(object, key, value);
}

/* Text that a file put into a message may be no UTF-8; jansson refuses it, we replace it. */
json_t *reply_text_json(const char *s)
{
    json_t *value = json_string(s);
    if (value)
        return value;
    struct buffer b = {0};
    buffer_cstring(&b, s);
    if (!b.failed)
        json_parse(b.v, b.len, 0, "a text", &value, NULL);
    buffer_free(&b);
    return value;
}

static bool set_text(json_t *object, const char *key, const char *s)
{
    return !s || set(object, key, reply_text_json(s));
}

static json_t *finding_json(const struct finding *f)
{
    json_t *o =
        json_pack("{s:s, s:s, s:b}", "code", status_code(f->code), "severity",
                  f->severity == SEVERITY_ERROR ? "error" : "warning", "permanent", f->permanent);
    if (o && set_text(o, "message", f->message) && set_text(o, "module", f->module) &&
        set_text(o, "field", f->field) && set_text(o, "expected", f->expected) &&
        set_text(o, "got", f->got))
        return o;
    json_decref(o);
    return NULL;
}

json_t *reply_findings_json(const struct findings *f)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < f->n; i++)
        if (json_array_append_new(list, finding_json(&f->v[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *details_json(const struct error *err)
{
    json_t *details = err->details ? json_copy_object(err->details) : json_object();
    bool whole = details != NULL;
    if (whole && err->findings.n)
        whole = set(details, "findings", reply_findings_json(&err->findings));
    if (whole && err->findings.lost)
        whole = set(details, "findings_incomplete", json_true());
    if (whole)
        return details;
    json_decref(details);
    return NULL;
}

json_t *reply_error_json(const struct error *err)
{
    json_t *o = json_pack("{s:o, s:s, s:o, s:s}", "message",
                          reply_text_json(err->text[0] ? err->text : status_text(err->code)),
                          "type", type_of(status_of(err)), "param",
                          err->param[0] ? reply_text_json(err->param) : json_null(), "code",
                          status_code(err->code));
    bool whole = o != NULL;
    if (whole && (err->details || err->findings.n || err->findings.lost))
        whole = set(o, "details", details_json(err));
    if (whole)
        return json_pack("{s:o}", "error", o);
    json_decref(o);
    return NULL;
}

/* ---- giving the answer ---- */

static void answer(struct request *q, int status, const char *type, char *body, size_t len)
{
    free(q->reply.body);
    q->reply.status = status;
    q->reply.type = type;
    q->reply.body = body;
    q->reply.len = len;
    q->reply.produce = NULL;
}

void reply_json(struct request *q, int status, json_t *value)
{
    char *text = value ? json_text(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (text)
        answer(q, status, TYPE_JSON, text, strlen(text));
    else
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
}

void reply_buffer(struct request *q, int status, const char *type, struct buffer *b)
{
    if (b->failed) {
        buffer_free(b);
        reply_failure(q, ST_OUT_OF_MEMORY, NULL, NULL);
        return;
    }
    answer(q, status, type, b->v, b->len);
    *b = (struct buffer){0};
}

void reply_text(struct request *q, int status, const char *text)
{
    struct buffer b = {0};
    buffer_text(&b, text);
    reply_buffer(q, status, TYPE_TEXT, &b);
}

void reply_produce_body(struct request *q, const char *type, reply_produce *produce)
{
    answer(q, 200, type, NULL, 0);
    q->reply.produce = produce;
}

void reply_header(struct request *q, const char *name, const char *value)
{
    struct reply_header *h = arena_alloc(&q->arena, sizeof *h);
    char *copy = arena_strdup(&q->arena, value);
    if (!h || !copy)
        return;
    *h = (struct reply_header){.name = name, .value = copy, .next = q->reply.headers};
    q->reply.headers = h;
}

static bool inference_protocol(const struct request *q)
{
    return !strncmp(q->path, "/v2", 3) && (q->path[3] == 0 || q->path[3] == '/');
}

static void write_error(const char *text, enum status code, int status, struct buffer *b)
{
    buffer_text(b, "{\"error\":{\"message\":");
    buffer_cstring(b, text);
    buffer_format(b, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}", type_of(status),
                  status_code(code));
}

void reply_plain_error(enum status code, int status, struct buffer *out)
{
    write_error(status_text(code), code, status, out);
}

/* The body without jansson: memory may have run out. */
static void plain_error(const struct request *q, const struct error *err, struct buffer *out)
{
    const char *text = err->text[0] ? err->text : status_text(err->code);
    if (inference_protocol(q)) {
        buffer_text(out, "{\"error\":");
        buffer_cstring(out, text);
        buffer_text(out, "}");
    } else {
        write_error(text, err->code, status_of(err), out);
    }
}

void reply_error_body(const struct request *q, const struct error *err, struct buffer *out)
{
    if (out->failed)
        return;
    json_t *body = inference_protocol(q) ? NULL : reply_error_json(err);
    char *text = body ? json_text(body, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(body);
    if (text)
        buffer_text(out, text);
    free(text);
    if (text && !out->failed)
        return;
    out->failed = false; /* there may be room for less */
    plain_error(q, err, out);
}

void reply_error(struct request *q, struct error *err)
{
    int status = status_of(err);
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", q->server->options.retry_after_s);
    if (status == 503 || status == 429)
        reply_header(q, "Retry-After", seconds);
    if (status == 401)
        reply_header(q, "WWW-Authenticate", "Bearer");
    struct buffer body = {0};
    reply_error_body(q, err, &body);
    if (body.failed) /* an empty one */
        buffer_free(&body);
    answer(q, status, TYPE_JSON, body.v, body.len);
    error_clear(err);
}

void reply_failure(struct request *q, enum status code, const char *param, const char *fmt, ...)
{
    struct error err = ERROR_INIT;
    if (fmt) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err.text, sizeof err.text, fmt, ap);
        va_end(ap);
    }
    err.code = code;
    snprintf(err.param, sizeof err.param, "%s", param ? param : "");
    reply_error(q, &err);
}
