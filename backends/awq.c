/*
 * AWQ (AutoAWQ, GPTQModel, llm-awq, auto-round's export that calls itself awq). The bits are
 * awq_layout.c's; this file reads the config:
 *
 *   bits (w_bit)                4. GEMM by GPTQModel: 2..8; GEMM by auto-round: 4..7
 *   group_size (q_group_size)   -1: all; absent: 128
 *   version, format, checkpoint_format, which must agree and fit the tensors:
 *       gemm, exllama, ipex     GEMM; the latter two only chose a kernel. Absent, or GPTQModel's
 *                               placeholder gptq: what the tensors are
 *       gemv, gemv_fast         GEMV, GEMV-fast
 *       llm-awq, and backend llm-awq    GEMV-fast with scaled_zeros
 *   dynamic                     as GPTQ's (quant_config.c)
 *   modules_to_not_convert      may not name a module that has AWQ tensors
 *   zero_point, do_fuse, fuse_max_seq_len, exllama_config, ... change nothing here
 *
 * Refused by name: marlin, bitblas and other packings; the int32 packing of older llm-awq, which
 * nobody documents; a config that contradicts the tensors. The scales that AWQ puts into the
 * activation functions of some networks are no tensors of a linear module: the network refuses
 * them. A module is AWQ if quant_method says so and it has qweight. There is no requantize: PEFT
 * does not merge into AWQ.
 */
#include <ctype.h>
#include <string.h>

#include "backends/awq_layout.h"
#include "backends/backends.h"
#include "backends/quant_config.h"
#include "backends/spec.h"

/* ---- which layout ---- */

enum layout_named { NAMED_NOTHING, NAMED_GEMM, NAMED_GEMV, NAMED_FAST, NAMED_LLM, NAMED_OTHER };

static enum layout_named layout_named(const json_t *v)
{
    static const struct {
        const char *text;
        enum layout_named means;
    } names[] = {
        {"gemm", NAMED_GEMM},    {"exllama", NAMED_GEMM}, {"ipex", NAMED_GEMM},
        {"gptq", NAMED_NOTHING}, {"gemv", NAMED_GEMV},    {"gemv_fast", NAMED_FAST},
        {"llm-awq", NAMED_LLM},
    };
    char lower[16] = {0};
    const char *text = json_string_value(v);
    if (!v)
        return NAMED_NOTHING;
    for (size_t i = 0; text && text[i] && i < sizeof lower - 1; i++)
        lower[i] = (char)tolower((unsigned char)text[i]);
    for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(lower, names[i].text) && strlen(text) == strlen(lower))
            return names[i].means;
    return NAMED_OTHER;
}

/* The layout that the config names; what cannot be read, or is contradictory, is a finding. */
static enum layout_named read_named(const struct quant_config *q)
{
    static const char *const keys[] = {"version", "format", "checkpoint_format"};
    enum layout_named named = NAMED_NOTHING;
    if (quant_config_is(quant_config_get(q, "backend"), "llm-awq"))
        named = NAMED_LLM;
    bool llm = named == NAMED_LLM;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        enum layout_named one = layout_named(quant_config_get(q, keys[i]));
        if (one == NAMED_OTHER)
            quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, keys[i],
                                "\"gemm\", \"gemv\", \"gemv_fast\" or \"llm-awq\"");
        else if (one != NAMED_NOTHING && named != NAMED_NOTHING && one != named && !llm)
            quant_config_refuse(q, ST_CHECKPOINT_INVALID, keys[i],
                                "the same layout as the other keys name");
        if (one != NAMED_NOTHING && !llm)
            named = one;
    }
    return named;
}

/* The layout of the tensors, which the config's name must fit. */
static void read_kind(const struct quant_config *q, struct awq_layout *out)
{
    static const enum awq_kind kinds[] = {
        [NAMED_GEMM] = AWQ_GEMM,     [NAMED_GEMV] = AWQ_GEMV,  [NAMED_FAST] = AWQ_GEMV_FAST,
        [NAMED_LLM] = AWQ_GEMV_FAST, [NAMED_OTHER] = AWQ_GEMM,
    };
    size_t errors = q->findings->errors;
    const struct module_spec *spec = q->spec;
    const struct tensor *codes = spec_tensor(spec, "qweight");
    enum layout_named named = read_named(q);
    out->kind = awq_layout_kind(spec);
    out->scaled_zeros =
        out->kind == AWQ_GEMV_FAST && (named == NAMED_LLM || spec_tensor(spec, "scaled_zeros"));
    if (q->findings->errors != errors || !codes)
        return;
    if (named == NAMED_LLM && out->kind != AWQ_GEMV_FAST) {
        findings_add(q->findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name,
                     codes->name, "I16", dtype_name(codes->dtype),
                     "%s: tensor %s is %s: the int32 packing of older llm-awq is not supported",
                     codes->file, codes->name, dtype_name(codes->dtype));
        return;
    }
    if (named != NAMED_NOTHING && kinds[named] != out->kind)
        findings_add(q->findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name, "version",
                     awq_layout_name(kinds[named]), awq_layout_name(out->kind),
                     "module %s: the AWQ config names the layout %s, but its tensors are %s",
                     spec->name, awq_layout_name(kinds[named]), awq_layout_name(out->kind));
}

/* ---- the other keys ---- */

/* A key that older files call otherwise. */
static const char *spelled(const struct quant_config *q, const char *key, const char *old)
{
    return quant_config_get(q, key) || !quant_config_get(q, old) ? key : old;
}

static void read_config(const struct quant_config *q, struct awq_layout *out)
{
    *out = (struct awq_layout){0};
    const json_t *method = quant_config_get(q, "method");
    if (method && !quant_config_is(method, "awq"))
        quant_config_refuse(q, ST_CHECKPOINT_INVALID, "method", "\"awq\", like quant_method");
    read_kind(q, out);
    const char *bits = spelled(q, "bits", "w_bit");
    out->bits = (int)quant_config_int(q, bits, 2, 8, false, 4);
    out->group =
        quant_config_int(q, spelled(q, "group_size", "q_group_size"), 1, INT32_MAX, true, 128);
    bool auto_round = quant_config_is(quant_config_get(q, "provider"), "auto-round");
    if (out->kind != AWQ_GEMM && out->bits != 4)
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, bits, "4 (GEMV)");
    else if (auto_round && (out->bits < 4 || out->bits > 7))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, bits, "4 to 7 (auto-round)");
    out->interleaved = out->bits == 4 || auto_round;
}

/* ---- claim ---- */

static bool is_mine(const struct module_spec *spec)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    return quant_config_is(method, "awq") && spec->n_tensors && !spec_tensor(spec, "weight");
}

/* Checks everything; false with findings. */
static bool examine(const struct module_spec *spec, struct awq_layout *layout,
                    struct findings *findings)
{
    size_t errors = findings->errors;
    struct quant_config q = {.format = "AWQ", .spec = spec, .findings = findings};
    if (!quant_config_dynamic(&q, "qweight"))
        return false;
    read_config(&q, layout);
    if (findings->errors != errors)
        return false;
    if (quant_config_listed(quant_config_get(&q, "modules_to_not_convert"), spec->name)) {
        findings_add(findings, SEVERITY_ERROR, ST_CHECKPOINT_INVALID, spec->name,
                     "modules_to_not_convert", "a plain weight", "qweight",
                     "module %s has AWQ tensors, but \"modules_to_not_convert\" names it",
                     spec->name);
        return false;
    }
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL, "module %s: AWQ is only supported in linear modules",
                     spec->name);
    awq_layout_check(spec, layout, findings);
    return findings->errors == errors;
}

static enum claim awq_claim(const struct module_spec *spec, struct findings *findings)
{
    struct awq_layout layout;
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, &layout, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

static enum status awq_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                            struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    struct awq_layout layout;
    if (!examine(spec, &layout, &findings))
        return error_from_findings(err, &findings);
    return awq_layout_load(spec, &layout, slice, out, err);
}

const struct backend awq_backend = {
    .name = "awq",
    .claim = awq_claim,
    .load = awq_load,
    .describe = awq_layout_describe,
};
