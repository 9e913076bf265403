/*
 * GPTQ (AutoGPTQ, GPTQModel, Intel's and auto-round's exports that call themselves gptq). The bits
 * are gptq_layout.c's; this file reads the config:
 *
 *   bits 2..8, group_size (-1: all), desc_act          parameters; `dynamic` may override them
 *   checkpoint_format, format     gptq: zeros stored minus one; gptq_v2: as they are; gptq_p: bit
 *                                 planes and zeros as they are. Absent: gptq. 5, 6 and 7 bits are
 *                                 always planes. Any other layout (marlin, bitblas, ...) is refused
 *   dynamic    {"+:regex" or "regex": overrides, "-:regex": {}}: the first entry in file order
 *              whose regex matches at the start of the module's name; "-:" means that the module is
 *              not quantized
 *
 * A module is GPTQ if it has qweight, and the config does not say another quant_method (old
 * AutoGPTQ files say none). Config and tensors that disagree are refused with the module's name.
 * There is no requantize and no store: PEFT refuses to merge into GPTQ, and so do we.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/gptq_layout.h"
#include "backends/spec.h"

#define DYNAMIC_MAX    4096 /* entries */
#define PATTERN_MAX    2048 /* bytes */
#define MATCH_LIMIT    100000
#define MATCH_DEPTH    1000
#define MATCH_HEAP_KIB 4096

/* What the config says about one module. */
struct config {
    struct gptq_layout layout;
    bool act_order;
};

struct reader {
    const struct module_spec *spec;
    const json_t *overrides; /* of `dynamic`, or NULL */
    struct findings *findings;
};

static void complain(const struct reader *r, enum status code, const char *key,
                     const char *expected)
{
    const json_t *v = json_object_get(r->overrides, key);
    if (!v)
        v = json_object_get(r->spec->quant, key);
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char got[64];
    snprintf(got, sizeof got, "%s", text ? text : "nothing");
    findings_add(r->findings, SEVERITY_ERROR, code, r->spec->name, key, expected, got,
                 "module %s: \"%s\" of the GPTQ config is %s, expected %s", r->spec->name, key, got,
                 expected);
    free(text);
}

/* ---- dynamic ---- */

enum match { MATCH_NO, MATCH_YES, MATCH_ERROR };

/* Does the pattern match at the start of name? */
static enum match match(const char *pattern, const char *name, enum status *why)
{
    enum match result = MATCH_ERROR;
    int code = 0;
    PCRE2_SIZE offset;
    *why = ST_OUT_OF_MEMORY;
    pcre2_code *regex = NULL;
    pcre2_match_data *data = NULL;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (!limits)
        goto done;
    pcre2_set_match_limit(limits, MATCH_LIMIT);
    pcre2_set_depth_limit(limits, MATCH_DEPTH);
    pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
    *why = ST_CONFIG_INVALID_VALUE;
    size_t length = strlen(pattern);
    if (length > PATTERN_MAX)
        goto done;
    regex = pcre2_compile((PCRE2_SPTR)pattern, length, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
                          &offset, NULL);
    if (!regex) {
        *why = code == PCRE2_ERROR_HEAP_FAILED ? ST_OUT_OF_MEMORY : ST_CONFIG_INVALID_VALUE;
        goto done;
    }
    data = pcre2_match_data_create(1, NULL);
    if (!data) {
        *why = ST_OUT_OF_MEMORY;
        goto done;
    }
    code = pcre2_match(regex, (PCRE2_SPTR)name, strlen(name), 0, PCRE2_ANCHORED, data, limits);
    if (code >= 0)
        result = MATCH_YES;
    else if (code == PCRE2_ERROR_NOMATCH)
        result = MATCH_NO;
    else if (code == PCRE2_ERROR_NOMEMORY)
        *why = ST_OUT_OF_MEMORY;
done:
    pcre2_match_data_free(data);
    pcre2_code_free(regex);
    pcre2_match_context_free(limits);
    return result;
}

/* The first entry for this module: its overrides, or *excluded. false with a finding. */
static bool find_rule(struct reader *r, bool *excluded)
{
    json_t *dynamic = json_object_get(r->spec->quant, "dynamic"), *value;
    const char *key;
    *excluded = false;
    if (!dynamic || json_is_null(dynamic))
        return true;
    if (!json_is_object(dynamic) || json_object_size(dynamic) > DYNAMIC_MAX) {
        findings_add(r->findings, SEVERITY_ERROR, ST_CONFIG_INVALID_VALUE, r->spec->name, "dynamic",
                     NULL, NULL,
                     "\"dynamic\" of the GPTQ config must be an object of at most %d entries",
                     DYNAMIC_MAX);
        return false;
    }
    json_object_foreach(dynamic, key, value)
    {
        bool negative = !strncmp(key, "-:", 2), positive = !strncmp(key, "+:", 2);
        enum status why;
        enum match m = match(key + (negative || positive ? 2 : 0), r->spec->name, &why);
        if (m == MATCH_NO)
            continue;
        if (m == MATCH_ERROR || (!negative && !json_is_object(value))) {
            if (m == MATCH_YES)
                why = ST_CONFIG_INVALID_VALUE;
            findings_add(r->findings, SEVERITY_ERROR, why, r->spec->name, "dynamic", NULL, key,
                         "module %s: the entry \"%.200s\" of \"dynamic\" cannot be used: %s",
                         r->spec->name, key, status_text(why));
            return false;
        }
        *excluded = negative;
        r->overrides = negative ? NULL : value;
        return true;
    }
    return true;
}

/* ---- the other keys ---- */

static const json_t *get(const struct reader *r, const char *key)
{
    const json_t *v = json_object_get(r->overrides, key);
    if (!v || json_is_null(v))
        v = json_object_get(r->spec->quant, key);
    return v && !json_is_null(v) ? v : NULL;
}

static bool text_is(const json_t *v, const char *text)
{
    return json_is_string(v) && !strcmp(json_string_value(v), text);
}

/* checkpoint_format and format, which must agree: planes and version of the zeros. */
static void read_format(const struct reader *r, struct config *out)
{
    const json_t *checkpoint = get(r, "checkpoint_format"), *format = get(r, "format");
    const char *key = checkpoint ? "checkpoint_format" : "format";
    const json_t *v = checkpoint ? checkpoint : format;
    if (checkpoint && format && !json_equal(checkpoint, format)) {
        complain(r, ST_CHECKPOINT_INVALID, "format", "the same as \"checkpoint_format\"");
        return;
    }
    if (json_is_true(get(r, "is_marlin_format"))) {
        complain(r, ST_QUANT_METHOD_UNSUPPORTED, "is_marlin_format",
                 "false (marlin is not supported)");
        return;
    }
    out->layout.zeros_v1 = !v || text_is(v, "gptq");
    out->layout.planar = text_is(v, "gptq_p");
    if (v && !out->layout.zeros_v1 && !out->layout.planar && !text_is(v, "gptq_v2"))
        complain(r, ST_QUANT_METHOD_UNSUPPORTED, key, "\"gptq\", \"gptq_v2\" or \"gptq_p\"");
}

static void read_config(const struct reader *r, struct config *out)
{
    memset(out, 0, sizeof *out);
    const json_t *method = get(r, "method"), *pack = get(r, "pack_dtype");
    const json_t *bits = get(r, "bits"), *group = get(r, "group_size");
    if (method && !text_is(method, "gptq"))
        complain(r, ST_CHECKPOINT_INVALID, "method", "\"gptq\", like quant_method");
    if (pack && !text_is(pack, "int32"))
        complain(r, ST_QUANT_METHOD_UNSUPPORTED, "pack_dtype", "\"int32\"");
    read_format(r, out);
    json_int_t b = json_integer_value(bits), g = group ? json_integer_value(group) : 128;
    if (!bits)
        complain(r, ST_CONFIG_MISSING_FIELD, "bits", "2 to 8");
    else if (!json_is_integer(bits) || b < 2 || b > 8)
        complain(r, ST_CONFIG_INVALID_VALUE, "bits", "2 to 8");
    else
        out->layout.bits = (int)b;
    if ((group && !json_is_integer(group)) || (g < 1 && g != -1))
        complain(r, ST_CONFIG_INVALID_VALUE, "group_size", "-1 or at least 1");
    out->layout.group = g;
    out->layout.planar &= b == 3;
    out->layout.planar |= b >= 5 && b <= 7;
    out->act_order = json_is_true(get(r, "desc_act"));
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    if (method && !text_is(method, "gptq"))
        return false;
    if (spec_tensor(spec, "qweight"))
        return true;
    // tensors of another layout (marlin's are B and s): to be refused by the format's name
    struct config config;
    struct findings findings = {0};
    struct reader r = {.spec = spec, .findings = &findings};
    read_format(&r, &config);
    bool foreign = method && findings.errors && spec->n_tensors && !spec_tensor(spec, "weight");
    findings_clear(&findings);
    return foreign;
}

/* Checks everything; false with findings. */
static bool examine(const struct module_spec *spec, struct config *config,
                    struct findings *findings)
{
    static const char *const suffixes[] = {"qweight", "qzeros", "scales", "g_idx", "bias", NULL};
    size_t errors = findings->errors;
    struct reader r = {.spec = spec, .findings = findings};
    bool excluded;
    if (!find_rule(&r, &excluded))
        return false;
    if (excluded) {
        findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, "dynamic",
                     "a plain weight", "qweight",
                     "module %s has GPTQ tensors, but a \"-:\" entry of \"dynamic\" says that it "
                     "is not quantized",
                     spec->name);
        return false;
    }
    read_config(&r, config);
    if (findings->errors != errors)
        return false;
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL, "module %s: GPTQ is only supported in linear modules",
                     spec->name);
    if (config->act_order && config->layout.group < spec->k && config->layout.group > 0 &&
        !spec_tensor(spec, "g_idx"))
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, spec->name, "g_idx", NULL, NULL,
                     "module %s: \"desc_act\" is true, but tensor %s.g_idx is missing", spec->name,
                     spec->file);
    spec_only(spec, suffixes, findings);
    gptq_layout_check(spec, &config->layout, findings);
    return findings->errors == errors;
}

static enum claim gptq_claim(const struct module_spec *spec, struct findings *findings)
{
    struct config config;
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, &config, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

static enum status gptq_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                             struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct config config;
    if (!examine(spec, &config, &findings))
        return error_from_findings(err, &findings);
    return gptq_layout_load(spec, &config.layout, slice, out, err);
}

const struct backend gptq_backend = {
    .name = "gptq",
    .claim = gptq_claim,
    .load = gptq_load,
    .describe = gptq_layout_describe,
};
