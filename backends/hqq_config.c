/*
 * Owns what quantization_config says of an HQQ module:
 *
 *   "quant_method": "hqq"
 *   "quant_config": {"weight_quant_params": {nbits, group_size, axis, ...}, ...}      for all, or
 *                   {"self_attn.q_proj": {"weight_quant_params": {...}}, ...}         by linear tag
 *
 * A linear tag is a module's name without "model", "layers" and numbers. A null group_size means k
 * for axis 1 and n for axis 0. The tensors decide (hqq_meta.c); a config that says something else
 * about nbits, group_size, axis, view_as_float or channel_wise, or that has tags but not this
 * module's, is refused. skip_modules is not looked at: a module is quantized if its tensors are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/hqq_meta.h"
#include "backends/spec.h"
#include "core/json.h"

#define TAG_MAX 256

/* "model.layers.0.self_attn.q_proj" -> "self_attn.q_proj"; cut if it is too long. */
static void linear_tag(const char *name, char tag[TAG_MAX])
{
    size_t at = 0;
    tag[0] = 0;
    while (*name) {
        size_t n = strcspn(name, ".");
        bool left_out = (n == 5 && !strncmp(name, "model", n)) ||
                        (n == 6 && !strncmp(name, "layers", n)) ||
                        (n && strspn(name, "0123456789") >= n);
        if (!left_out && at + n + 2 < TAG_MAX) {
            if (at)
                tag[at++] = '.';
            memcpy(tag + at, name, n);
            at += n;
            tag[at] = 0;
        }
        name += n + (name[n] == '.');
    }
}

/* The module's weight_quant_params, or NULL, with a finding if there should be some. */
static const json_t *find_params(const struct module_spec *spec, struct findings *findings)
{
    char tag[TAG_MAX];
    const json_t *settings = json_object_get(spec->quant, "quant_config");
    if (!settings || json_is_null(settings))
        return NULL;
    if (!json_is_object(settings)) {
        hqq_complain(spec, findings, ST_CONFIG_INVALID_VALUE, "quant_config", "an object",
                     "something else");
        return NULL;
    }
    if (!json_object_get(settings, "weight_quant_params")) {
        linear_tag(spec->name, tag);
        settings = json_object_get(settings, tag);
        if (!json_is_object(settings)) {
            hqq_complain(spec, findings, ST_CHECKPOINT_INVALID, "quant_config",
                         "\"weight_quant_params\" or the module's linear tag", "without");
            return NULL;
        }
    }
    const json_t *params = json_object_get(settings, "weight_quant_params");
    if (!json_is_object(params))
        hqq_complain(spec, findings, ST_CONFIG_INVALID_VALUE, "weight_quant_params", "an object",
                     params ? "something else" : "missing");
    return json_is_object(params) ? params : NULL;
}

static void differ(const struct module_spec *spec, struct findings *findings, const char *key,
                   double expected, const json_t *v)
{
    char *text = json_text(v, JSON_ENCODE_ANY | JSON_COMPACT);
    char want[64], got[64];
    snprintf(want, sizeof want, "%g, like the module's tensor %s", expected, key);
    snprintf(got, sizeof got, "%.40s in quantization_config", text ? text : "another value");
    hqq_complain(spec, findings, ST_CHECKPOINT_INVALID, key, want, got);
    free(text);
}

static void check_number(const struct module_spec *spec, const json_t *params, const char *key,
                         double expected, struct findings *findings)
{
    const json_t *v = json_object_get(params, key);
    bool same = json_is_number(v) && (float)json_number_value(v) == (float)expected;
    if (v && !same)
        differ(spec, findings, key, expected, v);
}

/* A setting that the tensors have must agree; one that they leave out is taken. */
static void check_flag(const struct module_spec *spec, const json_t *params, struct hqq_meta *m,
                       enum hqq_field f, struct findings *findings)
{
    const json_t *v = json_object_get(params, hqq_field_names[f]);
    if (!hqq_meta_has(m, f) && json_is_boolean(v))
        m->flags[f] = json_is_true(v);
    if (v && (!json_is_boolean(v) || json_is_true(v) != m->flags[f]))
        differ(spec, findings, hqq_field_names[f], m->flags[f], v);
}

void hqq_config_check(const struct module_spec *spec, struct hqq_meta *m, struct findings *findings)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    if (method && (!json_is_string(method) || strcmp(json_string_value(method), "hqq") != 0))
        hqq_complain(spec, findings, ST_CHECKPOINT_INVALID, "quant_method", "\"hqq\"",
                     json_is_string(method) ? json_string_value(method) : "something else");
    const json_t *params = find_params(spec, findings);
    if (!params)
        return;
    check_number(spec, params, "nbits", m->nbits, findings);
    check_number(spec, params, "axis", m->axis, findings);
    const json_t *group = json_object_get(params, "group_size");
    int64_t whole = m->axis ? m->k : m->n;
    if (!json_is_null(group))
        check_number(spec, params, "group_size", (double)m->group, findings);
    else if (m->group != whole)
        differ(spec, findings, "group_size", (double)m->group, group);
    check_flag(spec, params, m, HQQ_VIEW_AS_FLOAT, findings);
    check_flag(spec, params, m, HQQ_CHANNEL_WISE, findings);
    check_flag(spec, params, m, HQQ_OPTIMIZE, findings);
    check_flag(spec, params, m, HQQ_ROUND_ZERO, findings);
}
