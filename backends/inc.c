/*
 * Intel Neural Compressor's FP8 as it is saved for Gaudi, and everything that says auto-round
 * (auto_round.c). Neural Compressor's config names no quant_method; it is known by fp8_config and
 * mode. Its weights lie the other way round:
 *
 *   weight         F8_E4M3 or F8_E5M2 [k, n]: input first
 *   scale_weight   one, or n: a multiplier              default mode
 *   dequant_weights.scale   the same                    use_qdq
 *   dequant_weights.zero_point   must be 0
 *   scale_input, quant_input.*, dequant_output.*        for the activations; not used
 *
 *   W[r][c] = D(f32(weight[c][r]) * f32(scale[r])), D = hp_dtype (bf16 unless the config says
 *   otherwise): the product as its own dequantization on a CPU makes it
 *
 *   fp8_config   E4M3 (default) or E5M2; must fit the tensor
 *
 * Gaudi 2 cuts E4M3 off at 240; its codes mean what they mean elsewhere (fp8_layout.c).
 * Refused by name: fake_quant, whose weights are no FP8; shards of several devices (weight_0_2);
 * an input scale for each channel, which also is in the weight; modules that are not linear. There
 * is no requantize: PEFT does not merge into INC.
 * Source: neural-compressor's fp8_quant/save_load.py, helper_modules.py and quant_dequant.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/auto_round.h"
#include "backends/backends.h"
#include "backends/quant_config.h"
#include "backends/spec.h"

/* ---- whose ---- */

static bool is_inc(const struct module_spec *spec)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    return (!method || json_is_null(method) || quant_config_is(method, "inc")) &&
           json_object_get(spec->quant, "fp8_config") && json_object_get(spec->quant, "mode");
}

/* "weight_0_2": the part of rank 0 of 2. */
static bool is_shard(const char *suffix)
{
    const char *end = suffix + strlen(suffix);
    for (int i = 0; i < 2; i++) {
        const char *digits = end;
        while (digits > suffix && digits[-1] >= '0' && digits[-1] <= '9')
            digits--;
        if (digits == end || digits == suffix || digits[-1] != '_')
            return false;
        end = digits - 1;
    }
    return end > suffix;
}

static const struct tensor *find_shard(const struct module_spec *spec)
{
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const char *suffix = spec_suffix(spec, &spec->tensors[i]);
        if (suffix && is_shard(suffix))
            return &spec->tensors[i];
    }
    return NULL;
}

/* Has the module anything that only this format has? */
static bool is_quantized(const struct module_spec *spec)
{
    const struct tensor *weight = spec_tensor(spec, "weight");
    return (weight && (weight->dtype == DT_F8_E4M3 || weight->dtype == DT_F8_E5M2)) ||
           spec_tensor(spec, "scale_weight") || spec_tensor(spec, "dequant_weights.scale") ||
           spec_tensor(spec, "qdq_weights.scale") || find_shard(spec);
}

/* ---- config ---- */

/* A flag, which the library writes as a string. */
static bool flag(const struct quant_config *q, const char *key)
{
    const json_t *v = quant_config_get(q, key);
    return json_is_true(v) || quant_config_is(v, "True") || quant_config_is(v, "true");
}

static void read_config(const struct quant_config *q, struct fp8_layout *out)
{
    const json_t *type = quant_config_get(q, "fp8_config"), *hp = quant_config_get(q, "hp_dtype");
    if (!type || quant_config_is(type, "E4M3"))
        out->code_dtypes = SPEC_DTYPE(F8_E4M3);
    else if (quant_config_is(type, "E5M2"))
        out->code_dtypes = SPEC_DTYPE(F8_E5M2);
    else
        quant_config_refuse(q, ST_CONFIG_INVALID_VALUE, "fp8_config", "\"E4M3\" or \"E5M2\"");
    if (!hp || quant_config_is(hp, "bf16"))
        out->dtype = DT_BF16;
    else if (quant_config_is(hp, "fp16"))
        out->dtype = DT_F16;
    else if (quant_config_is(hp, "fp32"))
        out->dtype = DT_F32;
    else
        quant_config_refuse(q, ST_CONFIG_INVALID_VALUE, "hp_dtype",
                            "\"bf16\", \"fp16\" or \"fp32\"");
    if (flag(q, "fake_quant"))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "fake_quant",
                            "\"False\" (its weights are not FP8)");
}

/* ---- claim ---- */

/* Scales of the inputs: one each. */
static void check_inputs(const struct module_spec *spec, struct findings *findings)
{
    static const char *const inputs[] = {"scale_input", "quant_input.scale",
                                         "quant_input.scale_inv"};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        const struct tensor *t = spec_tensor(spec, inputs[i]);
        if (t && tensor_elements(t) != 1)
            findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, t->name,
                         "one scale", NULL,
                         "%s: tensor %s has %lld scales, expected one: input scales for each "
                         "channel are not supported",
                         t->file, t->name, (long long)tensor_elements(t));
    }
}

static bool examine_inc(const struct module_spec *spec, struct fp8_layout *layout,
                        struct findings *findings)
{
    static const char *const suffixes[] = {"weight",
                                           "bias",
                                           "scale_weight",
                                           "scale_input",
                                           "quant_input.scale",
                                           "quant_input.scale_inv",
                                           "quant_input.zero_point",
                                           "dequant_weights.scale",
                                           "dequant_weights.scale_inv",
                                           "dequant_weights.zero_point",
                                           "dequant_output.scale",
                                           "dequant_output.zero_point",
                                           NULL};
    size_t errors = findings->errors;
    struct quant_config q = {.format = "Neural Compressor", .spec = spec, .findings = findings};
    const struct tensor *shard = find_shard(spec);
    if (shard)
        return findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name,
                            shard->name, NULL, NULL,
                            "%s: tensor %s is a part of several devices, which is not supported",
                            shard->file, shard->name) == ST_OK;
    const char *scale =
        spec_tensor(spec, "dequant_weights.scale") ? "dequant_weights.scale" : "scale_weight";
    const struct tensor *t = spec_tensor(spec, scale);
    *layout = (struct fp8_layout){.transposed = true, .scale = scale, .rows = 1, .cols = 1};
    read_config(&q, layout);
    if (spec->kind != MODULE_LINEAR)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL,
                     "module %s: FP8 of Neural Compressor is only supported in linear modules",
                     spec->name);
    if (findings->errors != errors || !spec_sizes(spec, findings))
        return false;
    layout->rows = t && tensor_elements(t) == 1 ? spec->n : 1;
    layout->cols = spec->k;
    spec_only(spec, suffixes, findings);
    spec_want(spec, &(struct spec_want){"dequant_weights.zero_point", SPEC_FLOATS, 0, {0}, true},
              findings);
    check_inputs(spec, findings);
    fp8_layout_check(spec, layout, findings);
    return findings->errors == errors;
}

static enum claim inc_claim(const struct module_spec *spec, struct findings *findings)
{
    struct auto_round a;
    struct fp8_layout layout;
    if (auto_round_is(spec))
        return auto_round_examine(spec, &a, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
    if (!is_inc(spec) || !is_quantized(spec))
        return CLAIM_DECLINED;
    return examine_inc(spec, &layout, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- load ---- */

static enum status inc_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                            struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct auto_round a;
    struct fp8_layout layout;
    bool other = auto_round_is(spec);
    if (other ? !auto_round_examine(spec, &a, &findings) : !examine_inc(spec, &layout, &findings))
        return error_from_findings(err, &findings);
    if (other)
        return auto_round_load(spec, &a, slice, out, err);
    const struct tensor *zero = spec_tensor(spec, "dequant_weights.zero_point");
    if (zero && tensor_f32(zero, 0) != 0)
        return error_set(err, ST_NOT_SUPPORTED, "%s: tensor %s is %g, expected 0", zero->file,
                         zero->name, (double)tensor_f32(zero, 0));
    return fp8_layout_load(spec, &layout, slice, out, err);
}

static char *inc_describe(const struct weight *w, char *buf, size_t size)
{
    return w->encoding == ENC_FLOAT8 ? fp8_layout_describe(w, buf, size)
                                     : gptq_layout_describe(w, buf, size);
}

const struct backend inc_backend = {
    .name = "inc",
    .claim = inc_claim,
    .load = inc_load,
    .describe = inc_describe,
};
