/*
 * GET /openapi.json: OpenAPI 3.1, made from the route table and the field table, so that it says
 * what the server does. Only the shapes of good answers are written down here. Numbers outside the
 * listed ones do not occur; every error has one shape (below /v2 the protocol's own).
 */
#include "server/openapi.h"

#include <stdlib.h>
#include <string.h>

#include "server/handlers.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/server.h"

#define TEXT     "{\"type\":\"string\"}"
#define INTEGER  "{\"type\":\"integer\"}"
#define NUMBER   "{\"type\":\"number\"}"
#define LIST(of) "{\"type\":\"array\",\"items\":" of "}"
#define REF(x)   "{\"$ref\":\"#/components/schemas/" x "\"}"
#define OBJECT(required, properties)                                                               \
    "{\"type\":\"object\",\"required\":[" required "],\"properties\":{" properties "}}"

static const struct {
    const char *name, *schema;
} answers[] = {
    {"Any", "{\"type\":\"object\"}"},
    {"Health", OBJECT("\"status\"", "\"status\":" TEXT ",\"progress\":" NUMBER)},
    {"Live", OBJECT("\"live\"", "\"live\":{\"type\":\"boolean\"}")},
    {"Ready", OBJECT("\"ready\"", "\"ready\":{\"type\":\"boolean\"}")},
    {"Error",
     OBJECT("\"error\"",
            "\"error\":" OBJECT("\"message\",\"type\",\"param\",\"code\"",
                                "\"message\":" TEXT ",\"type\":" TEXT
                                ",\"param\":{\"type\":[\"string\",\"null\"]},\"code\":{\"type\":["
                                "\"string\",\"integer\"]},\"details\":{\"type\":\"object\"}"))},
    {"ProtocolError", OBJECT("\"error\"", "\"error\":" TEXT)},
    {"Model",
     OBJECT("\"id\",\"object\",\"created\",\"owned_by\",\"root\",\"parent\"",
            "\"id\":" TEXT ",\"object\":{\"const\":\"model\"},\"created\":" INTEGER
            ",\"owned_by\":" TEXT ",\"root\":" TEXT ",\"parent\":{\"type\":[\"string\",\"null\"]},"
            "\"max_model_len\":" INTEGER ",\"digest\":" TEXT ",\"generation\":" INTEGER)},
    {"ModelList",
     OBJECT("\"object\",\"data\"", "\"object\":{\"const\":\"list\"},\"data\":" LIST(REF("Model")))},
    {"Network", OBJECT("\"id\",\"architecture\",\"modules\",\"kernels\"",
                       "\"id\":" TEXT ",\"architecture\":" TEXT
                       ",\"modules\":" LIST(REF("Any")) ",\"kernels\":" REF("Any"))},
    {"Usage", OBJECT("\"prompt_tokens\",\"completion_tokens\",\"total_tokens\"",
                     "\"prompt_tokens\":" INTEGER ",\"completion_tokens\":" INTEGER
                     ",\"total_tokens\":" INTEGER)},
    {"Choice",
     OBJECT("\"index\",\"text\",\"logprobs\",\"finish_reason\"",
            "\"index\":" INTEGER ",\"text\":" TEXT ",\"logprobs\":{\"type\":[\"object\",\"null\"]},"
            "\"finish_reason\":{\"type\":[\"string\",\"null\"]},\"token_ids\":" LIST(
                INTEGER) ",\"prompt_logprobs\":" LIST("{\"type\":[\"object\",\"null\"]}"))},
    {"Completion",
     OBJECT("\"id\",\"object\",\"created\",\"model\",\"choices\",\"usage\"",
            "\"id\":" TEXT ",\"object\":{\"const\":\"text_completion\"},\"created\":" INTEGER
            ",\"model\":" TEXT ",\"choices\":" LIST(REF("Choice")) ",\"usage\":" REF("Usage"))},
    {"Message",
     OBJECT("\"role\",\"content\"",
            "\"role\":{\"const\":\"assistant\"},\"content\":{\"type\":[\"string\",\"null\"]},"
            "\"refusal\":{\"type\":\"null\"},\"reasoning\":" TEXT ",\"reasoning_content\":" TEXT
            ",\"tool_calls\":" LIST(REF("ToolCall")))},
    {"ToolCall", OBJECT("\"id\",\"type\",\"function\"",
                        "\"id\":" TEXT ",\"type\":{\"const\":\"function\"},\"function\":" OBJECT(
                            "\"name\",\"arguments\"", "\"name\":" TEXT ",\"arguments\":" TEXT))},
    {"ChatChoice",
     OBJECT(
         "\"index\",\"message\",\"logprobs\",\"finish_reason\"",
         "\"index\":" INTEGER ",\"message\":" REF(
             "Message") ",\"logprobs\":{\"type\":["
                        "\"object\",\"null\"]},\"finish_reason\":{\"type\":[\"string\",\"null\"]},"
                        "\"token_ids\":" LIST(INTEGER))},
    {"ChatCompletion",
     OBJECT("\"id\",\"object\",\"created\",\"model\",\"choices\",\"usage\"",
            "\"id\":" TEXT ",\"object\":{\"const\":\"chat.completion\"},\"created\":" INTEGER
            ",\"model\":" TEXT ",\"choices\":" LIST(REF("ChatChoice")) ",\"usage\":" REF("Usage"))},
    {"Prompt", OBJECT("\"prompt\"", "\"prompt\":" TEXT)},
    {"ResponsePart",
     OBJECT("\"type\",\"text\",\"annotations\"",
            "\"type\":{\"const\":\"output_text\"},\"text\":" TEXT
            ",\"annotations\":" LIST(REF("Any")) ",\"logprobs\":" LIST(REF("Any")))},
    {"ResponseMessage",
     OBJECT("\"type\",\"id\",\"status\",\"role\",\"content\"",
            "\"type\":{\"const\":\"message\"},\"id\":" TEXT ",\"status\":" TEXT
            ",\"role\":{\"const\":\"assistant\"},\"content\":" LIST(REF("ResponsePart")))},
    {"ResponseThought",
     OBJECT("\"type\",\"id\",\"status\",\"summary\",\"content\"",
            "\"type\":{\"const\":\"reasoning\"},\"id\":" TEXT ",\"status\":" TEXT
            ",\"summary\":{\"type\":\"array\",\"maxItems\":0},\"content\":" LIST(OBJECT(
                "\"type\",\"text\"", "\"type\":{\"const\":\"reasoning_text\"},\"text\":" TEXT)))},
    {"ResponseCall",
     OBJECT("\"type\",\"id\",\"status\",\"call_id\",\"name\",\"arguments\"",
            "\"type\":{\"const\":\"function_call\"},\"id\":" TEXT ",\"status\":" TEXT
            ",\"call_id\":" TEXT ",\"name\":" TEXT ",\"arguments\":" TEXT)},
    {"Response",
     OBJECT("\"id\",\"object\",\"created_at\",\"status\",\"model\",\"output\",\"usage\"",
            "\"id\":" TEXT ",\"object\":{\"const\":\"response\"},\"created_at\":" INTEGER
            ",\"status\":{\"enum\":[\"completed\",\"incomplete\"]},\"model\":" TEXT
            ",\"output\":" LIST("{\"anyOf\":[" REF("ResponseMessage") "," REF(
                "ResponseCall") "," REF("ResponseThought") "]}") ",\"usage\":" REF("Any"))},
    {"Embedding", OBJECT("\"object\",\"index\",\"embedding\"",
                         "\"object\":{\"const\":\"embedding\"},\"index\":" INTEGER
                         ",\"embedding\":{\"anyOf\":[" LIST(NUMBER) "," TEXT "]}")},
    {"Embeddings",
     OBJECT("\"object\",\"data\",\"model\",\"usage\"",
            "\"object\":{\"const\":\"list\"},\"data\":" LIST(
                REF("Embedding")) ",\"model\":" TEXT
                                  ",\"usage\":" OBJECT("\"prompt_tokens\",\"total_tokens\"",
                                                       "\"prompt_tokens\":" INTEGER
                                                       ",\"total_tokens\":" INTEGER))},
    {"Scores", OBJECT("\"id\",\"object\",\"created\",\"model\",\"data\",\"usage\"",
                      "\"id\":" TEXT ",\"object\":{\"const\":\"list\"},\"created\":" INTEGER
                      ",\"model\":" TEXT
                      ",\"data\":" LIST(OBJECT("\"object\",\"index\",\"score\"",
                                               "\"object\":{\"const\":\"score\"},\"index\":" INTEGER
                                               ",\"score\":" NUMBER)) ",\"usage\":" REF("Usage"))},
    {"Ranking",
     OBJECT("\"id\",\"model\",\"results\",\"usage\"",
            "\"id\":" TEXT ",\"model\":" TEXT ",\"results\":" LIST(
                OBJECT("\"index\",\"relevance_score\"",
                       "\"index\":" INTEGER ",\"relevance_score\":" NUMBER ",\"document\":" OBJECT(
                           "\"text\"", "\"text\":" TEXT))) ",\"usage\":" REF("Usage"))},
    {"Tensor", OBJECT("\"shape\",\"datatype\",\"data\"",
                      "\"shape\":" LIST(
                          INTEGER) ",\"datatype\":{\"const\":\"FP32\"},\"data\":" LIST(NUMBER))},
    {"ForwardRow",
     OBJECT(
         "\"index\",\"adapters\"",
         "\"index\":" INTEGER
         ",\"adapters\":" LIST(REF("Any")) ",\"logits\":" REF("Tensor") ",\"last_logits\":" REF(
             "Tensor") ",\"hidden_states\":" REF("Tensor") ",\"logprobs\":" REF("Tensor") ",\"embed"
                                                                                          "ding\""
                                                                                          ":" REF(
                                                                                              "Tens"
                                                                                              "o"
                                                                                              "r"))},
    {"Forward",
     "{\"anyOf\":[" OBJECT(
         "\"model\",\"rows\",\"usage\"",
         "\"model\":" TEXT
         ",\"rows\":" LIST(REF("ForwardRow")) ",\"usage\":" OBJECT(
             "\"prompt_tokens\"",
             "\"prompt_tokens\":" INTEGER)) "," OBJECT("\"output\"",
                                                       "\"output\":" REF("Tensor")) "]}"},
    {"Tokens", OBJECT("\"tokens\"", "\"tokens\":" LIST("{\"type\":[\"integer\",\"object\"]}"))},
    {"Content", OBJECT("\"content\"", "\"content\":" TEXT)},
    {"Adapter",
     OBJECT("\"name\",\"state\"",
            "\"name\":" TEXT ",\"state\":{\"enum\":[\"loading\",\"ready\",\"draining\",\"failed\","
            "\"available\"]},\"generation\":" INTEGER ",\"digest\":{\"type\":[\"string\","
            "\"null\"]},\"path\":{\"type\":[\"string\",\"null\"]},\"bytes\":" REF(
                "Any") ",\"pinned\":{\"type\":\"boolean\"},\"in_flight\":" INTEGER
                       ",\"last_used\":{\"type\":[\"number\",\"null\"]},\"block_"
                       "sizes\":" LIST(INTEGER) ",\"modules\":" REF("Any") ",\"cayley\":" REF(
                           "Any") ",\"orthogonality_defect\":{"
                                  "\"type\":[\"number\","
                                  "\"null\"]},"
                                  "\"merged\":{\"type\":"
                                  "\"boolean\"}")},
    {"AdapterList", OBJECT("\"adapters\"", "\"adapters\":" LIST(REF("Adapter")))},
    {"Batch", OBJECT("\"loaded\",\"unloaded\"",
                     "\"loaded\":" LIST(REF("Adapter")) ",\"unloaded\":" LIST(TEXT))},
    {"Validation",
     OBJECT("\"ok\",\"findings\"", "\"ok\":{\"type\":\"boolean\"},\"findings\":" LIST(REF("Any")))},
    {"Unloaded", OBJECT("\"name\",\"bytes\"", "\"name\":" TEXT ",\"bytes\":" INTEGER)},
    {"Merge",
     OBJECT("\"merged\",\"mode\",\"modules\",\"bytes\",\"report\",\"warnings\"",
            "\"merged\":" LIST(TEXT) ",\"mode\":" TEXT ",\"modules\":" INTEGER ",\"bytes\":" INTEGER
                                     ",\"report\":" REF("Any") ",\"warnings\":" LIST(TEXT))},
    {"MergeList", OBJECT("\"merged\"", "\"merged\":" LIST(REF("Any")))},
    {"Unmerge", OBJECT("\"unmerged\",\"bytes\"", "\"unmerged\":" LIST(TEXT) ",\"bytes\":" INTEGER)},
    {"V2Server", OBJECT("\"name\",\"version\",\"extensions\"",
                        "\"name\":" TEXT ",\"version\":" TEXT ",\"extensions\":" LIST(TEXT))},
    {"V2Metadata", OBJECT("\"name\",\"datatype\",\"shape\"",
                          "\"name\":" TEXT ",\"datatype\":" TEXT ",\"shape\":" LIST(INTEGER))},
    {"V2Model",
     OBJECT("\"name\",\"versions\",\"platform\",\"inputs\",\"outputs\"",
            "\"name\":" TEXT ",\"versions\":" LIST(TEXT) ",\"platform\":" TEXT ",\"inputs\":" LIST(
                REF("V2Metadata")) ",\"outputs\":" LIST(REF("V2Metadata")))},
    {"V2Ready", OBJECT("\"name\",\"ready\"", "\"name\":" TEXT ",\"ready\":{\"type\":\"boolean\"}")},
    {"V2Output", OBJECT("\"name\",\"datatype\",\"shape\"",
                        "\"name\":" TEXT ",\"datatype\":{\"const\":\"FP32\"},\"shape\":" LIST(
                            INTEGER) ",\"data\":" LIST(NUMBER) ",\"parameters\":" REF("Any"))},
    {"V2Infer", OBJECT("\"model_name\",\"model_version\",\"outputs\"",
                       "\"model_name\":" TEXT ",\"model_version\":" TEXT ",\"id\":" TEXT
                       ",\"outputs\":" LIST(REF("V2Output")))},
    {"V2Generated",
     OBJECT("\"model_name\",\"model_version\",\"text_output\"",
            "\"model_name\":" TEXT ",\"model_version\":" TEXT ",\"text_output\":" TEXT)},
    {"V2Index",
     LIST(OBJECT("\"name\",\"version\",\"state\",\"reason\"",
                 "\"name\":" TEXT ",\"version\":" TEXT ",\"state\":" TEXT ",\"reason\":" TEXT))},
    {"V2Loaded", OBJECT("\"name\",\"load\"", "\"name\":" TEXT ",\"load\":{\"type\":\"boolean\"}")},
    {"V2Unloaded",
     OBJECT("\"name\",\"unload\"", "\"name\":" TEXT ",\"unload\":{\"type\":\"boolean\"}")},
    {"Export", OBJECT("\"path\",\"bytes\"", "\"path\":" TEXT ",\"bytes\":" INTEGER)},
};

static json_t *reference(const char *name)
{
    return json_pack("{s:s+}", "$ref", "#/components/schemas/", name);
}

static json_t *content(const char *type, json_t *schema)
{
    json_t *media = schema ? json_pack("{s:o}", "schema", schema) : json_object();
    return json_pack("{s:{s:o}}", "content", type, media);
}

static json_t *described(json_t *response, const char *text)
{
    if (response)
        json_object_set_new(response, "description", json_string(text));
    return response;
}

static json_t *good_answer(const struct route *r)
{
    if (r->handler == route_completions || r->handler == route_chat_completions ||
        r->handler == route_responses) {
        json_t *both = content(TYPE_JSON, reference(r->reply));
        json_object_set_new(json_object_get(both, "content"), "text/event-stream", json_object());
        return described(both, "The completion, or with stream its frames");
    }
    if (r->handler == route_v2_infer) {
        json_t *both = content(TYPE_JSON, reference(r->reply));
        json_object_set_new(json_object_get(both, "content"), TYPE_BYTES, json_object());
        return described(both, "The outputs, as numbers or as bytes behind the JSON");
    }
    json_t *answer =
        strchr(r->reply, '/') ? content(r->reply, NULL) : content(TYPE_JSON, reference(r->reply));
    return described(answer, "Done");
}

static json_t *error_answer(const struct route *r)
{
    bool protocol = !strncmp(r->pattern, "/v2", 3);
    json_t *schema =
        protocol ? json_pack("{s:[o, o, o]}", "anyOf", reference("ProtocolError"),
                             reference("Ready"), reference("Live"))
                 : json_pack("{s:[o, o]}", "anyOf", reference("Error"), reference("Health"));
    return described(content(TYPE_JSON, schema), "Refused");
}

static json_t *responses(const struct route *r)
{
    json_t *o = json_pack("{s:o, s:o}", "4XX", error_answer(r), "5XX", error_answer(r));
    if (!o || !*r->reply)
        return o;
    json_object_set_new(o, "200", good_answer(r));
    if (r->handler == route_adapters_load) {
        json_object_set_new(o, "201", good_answer(r));
        json_object_set_new(o, "202", good_answer(r));
    }
    return o;
}

static void add_parameter(json_t *list, const char *name, size_t len, const char *in,
                          const char *type, size_t type_len)
{
    bool path = !strcmp(in, "path"), boolean = !strncmp(type, "boolean", type_len);
    json_t *schema = boolean
                         ? json_pack("{s:[s, s, s, s, s]}", "enum", "true", "false", "1", "0", "")
                         : json_pack("{s:s%}", "type", type, type_len);
    if (schema && !path && !strncmp(type, "number", type_len)) {
        json_object_set_new(schema, "minimum", json_integer(0));
        json_object_set_new(schema, "maximum", json_integer(86400));
    }
    json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:o}", "name", name, len, "in", in,
                                          "required", path, "schema", schema));
}

/* Of the pattern ({name}) and of the row's query parameters (name:type,...). */
static json_t *parameters(const struct route *r)
{
    json_t *list = json_array();
    if (!list)
        return NULL;
    for (const char *p = strchr(r->pattern, '{'); p; p = strchr(p + 1, '{'))
        add_parameter(list, p + 1, strcspn(p + 1, "}"), "path", "string", 6);
    for (const char *p = r->query; *p;) {
        size_t len = strcspn(p, ":"), type_len = strcspn(p + len + 1, ",");
        add_parameter(list, p, len, "query", p + len + 1, type_len);
        p += len + 1 + type_len;
        p += *p == ',';
    }
    return list;
}

static json_t *security(const struct route *r)
{
    return r->plane == PLANE_PUBLIC ? json_array() : json_pack("[{s:[]}, {}]", "bearer");
}

static json_t *operation(const struct route *r)
{
    json_t *o = json_pack("{s:s, s:o, s:o, s:o}", "summary", r->summary, "parameters",
                          parameters(r), "responses", responses(r), "security", security(r));
    if (!o || !r->body)
        return o;
    json_t *body = content(TYPE_JSON, reference(fields_name(r->body)));
    if (body)
        json_object_set_new(body, "required", json_boolean(!fields_optional(r->body)));
    if (r->body == FIELDS_infer)
        json_object_set_new(json_object_get(body, "content"), TYPE_BYTES, json_object());
    json_object_set_new(o, "requestBody", body);
    return o;
}

static void add_operation(const struct route *r, json_t *path)
{
    char method[16] = "";
    for (size_t i = 0; i < sizeof method - 1 && r->method[i]; i++)
        method[i] = (char)(r->method[i] | 0x20);
    json_object_set_new(path, method, operation(r));
}

static json_t *paths(bool admin)
{
    json_t *o = json_object();
    for (size_t i = 0; o && i < n_routes; i++) {
        const struct route *r = &routes[i];
        if (r->plane == PLANE_ADMIN && !admin)
            continue;
        json_t *path = json_object_get(o, r->pattern);
        if (!path && !json_object_set_new(o, r->pattern, json_object()))
            path = json_object_get(o, r->pattern);
        if (path)
            add_operation(r, path);
    }
    return o;
}

static json_t *schemas(void)
{
    json_t *o = json_object();
    for (size_t i = 0; o && i < sizeof answers / sizeof answers[0]; i++)
        json_object_set_new(o, answers[i].name, json_loads(answers[i].schema, 0, NULL));
    for (int i = 1; o && i < FIELDS_COUNT_; i++)
        if (!fields_shared((enum field_set)i))
            json_object_set_new(o, fields_name((enum field_set)i),
                                fields_schema((enum field_set)i));
    return o;
}

json_t *openapi_json(bool admin)
{
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}}}}", "openapi", "3.1.0",
                     "info", "title", "oftd", "version", OFTD_VERSION, "description",
                     "Forward, generate and merge with OFT adapters on one quantized base.",
                     "paths", paths(admin), "components", "schemas", schemas(), "securitySchemes",
                     "bearer", "type", "http", "scheme", "bearer");
}

void route_openapi(struct request *q)
{
    reply_json(q, 200, openapi_json(!q->role.has_admin));
}
