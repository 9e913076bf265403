/*
 * GPTQ (AutoGPTQ, GPTQModel, Intel's and auto-round's exports that call themselves gptq). The bits
 * are gptq_layout.c's; this file reads the config:
 *
 *   bits 2..8, group_size (-1: all), desc_act          parameters; `dynamic` may override them
 *   checkpoint_format, format     gptq: zeros stored minus one; gptq_v2: as they are; gptq_p: bit
 *                                 planes and zeros as they are. Absent: gptq. Any other layout
 *                                 (marlin, bitblas, ...) is refused
 *   provider                      5, 6 and 7 bits are always planes, unless auto-round packed them
 *   dynamic    {"+:regex" or "regex": overrides, "-:regex": {}}: the first entry in file order
 *              whose regex matches at the start of the module's name; "-:" means that the module is
 *              not quantized
 *
 * A module is GPTQ if it has qweight, and the config does not say another quant_method (old
 * AutoGPTQ files say none). Config and tensors that disagree are refused with the module's name.
 * There is no requantize and no store: PEFT refuses to merge into GPTQ, and so do we.
 */
#include <string.h>

#include "backends/backends.h"
#include "backends/gptq_layout.h"
#include "backends/quant_config.h"
#include "backends/spec.h"

/* What the config says about one module. */
struct config {
    struct gptq_layout layout;
    bool act_order;
};

/* checkpoint_format and format, which must agree: planes and version of the zeros. */
static void read_format(const struct quant_config *q, struct config *out)
{
    const json_t *checkpoint = quant_config_get(q, "checkpoint_format"),
                 *format = quant_config_get(q, "format");
    const char *key = checkpoint ? "checkpoint_format" : "format";
    const json_t *v = checkpoint ? checkpoint : format;
    if (checkpoint && format && !json_equal(checkpoint, format)) {
        quant_config_refuse(q, ST_CHECKPOINT_INVALID, "format",
                            "the same as \"checkpoint_format\"");
        return;
    }
    if (json_is_true(quant_config_get(q, "is_marlin_format"))) {
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "is_marlin_format",
                            "false (marlin is not supported)");
        return;
    }
    out->layout.zeros_v1 = !v || quant_config_is(v, "gptq");
    out->layout.planar = quant_config_is(v, "gptq_p");
    if (v && !out->layout.zeros_v1 && !out->layout.planar && !quant_config_is(v, "gptq_v2"))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, key,
                            "\"gptq\", \"gptq_v2\" or \"gptq_p\"");
}

static void read_config(const struct quant_config *q, struct config *out)
{
    memset(out, 0, sizeof *out);
    const json_t *method = quant_config_get(q, "method"), *pack = quant_config_get(q, "pack_dtype");
    if (method && !quant_config_is(method, "gptq"))
        quant_config_refuse(q, ST_CHECKPOINT_INVALID, "method", "\"gptq\", like quant_method");
    if (pack && !quant_config_is(pack, "int32"))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "pack_dtype", "\"int32\"");
    read_format(q, out);
    if (!quant_config_get(q, "bits"))
        quant_config_refuse(q, ST_CONFIG_MISSING_FIELD, "bits", "2 to 8");
    int bits = (int)quant_config_int(q, "bits", 2, 8, false, 4);
    out->layout.bits = bits;
    out->layout.group = quant_config_int(q, "group_size", 1, INT32_MAX, true, 128);
    out->layout.planar &= bits == 3;
    // auto-round's own packer knows no planes
    if (!quant_config_is(quant_config_get(q, "provider"), "auto-round"))
        out->layout.planar |= bits >= 5 && bits <= 7;
    out->act_order = json_is_true(quant_config_get(q, "desc_act"));
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    if (method && !quant_config_is(method, "gptq"))
        return false;
    if (spec_tensor(spec, "qweight"))
        return true;
    // tensors of another layout (marlin's are B and s): to be refused by the format's name
    struct config config;
    struct findings findings = {0};
    struct quant_config q = {.format = "GPTQ", .spec = spec, .findings = &findings};
    read_format(&q, &config);
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
    struct quant_config q = {.format = "GPTQ", .spec = spec, .findings = findings};
    if (!quant_config_dynamic(&q, "qweight"))
        return false;
    read_config(&q, config);
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
