/*
 * auto-round (quant_method "auto-round", older "intel/auto-round"; matched as part of the word),
 * and what calls itself "fp8": auto-round's export of that name and transformers' own, which are
 * the same tensors. The bits are those of three other layouts; this file reads the config:
 *
 *   bits 2..8, group_size (-1: all), sym     parameters, the same names in extra_config
 *   extra_config    {name or regex: overrides}. The module's own name first; else the first entry
 *                   in file order that, as a regex, is found in its name. A name without regex
 *                   characters, of the same root as the module's, is that module or block alone.
 *                   "bits": 16 means that the module is not quantized
 *   packing_format  a word with colons (older files: backend), after "auto_round":
 *       auto_gptq, gptq; "auto"; absent     gptq_layout.c, zeros stored minus one, 2..8 bits
 *       nothing, gptqmodel, a kernel        gptq_layout.c, zeros as they are, 2..8 bits
 *       auto_awq, awq                       awq_layout.c, GEMM, 4 bits; 5, 6, 7 in its own stream
 *       fp8, fp8_static                     fp8_layout.c
 *   fmt e4m3 | e5m2                         must fit the tensor
 *   weight_block_size, or group_size, [rows, cols]   blocks of weight_scale_inv, a multiplier
 *                                           despite its name
 *
 * All widths are one stream of bits, also 5, 6 and 7 (GPTQModel's are planes). FP8 modules:
 *
 *   weight        F8_E4M3 or F8_E5M2 [n, k]
 *   weight_scale  one; n (also [n, 1]): per output; n * ceil(k / group_size): grouped
 *   weight_scale_inv   [ceil(n / rows), ceil(k / cols)]
 *   input_scale   for the activations; not used, as everywhere: products are with the decoded W
 *
 *   decoded elements are rounded to the dtype of the scales
 *
 * Refused by name: MX, NV and GGUF data types, mlx and llm_compressor packings, 8-bit activations
 * over integer codes, rotations, FP8 in a Conv1D (nobody says which way it lies), and asymmetric
 * files with the key `backend` and a kernel's name, whose zeros may lie either way.
 * Source: auto-round's export_to_autoround, export_to_fp8 and inference/convert_model.
 */
#include "backends/auto_round.h"

#include <stdio.h>
#include <string.h>

#include "backends/quant_config.h"
#include "backends/spec.h"

#define PATTERNS_MAX 1024 /* regular expressions in extra_config */

static bool is_fp8(const struct module_spec *spec)
{
    return quant_config_is(json_object_get(spec->quant, "quant_method"), "fp8");
}

bool auto_round_is(const struct module_spec *spec)
{
    static const char *const own[] = {"qweight",       "weight_scale", "weight_scale_inv",
                                      "weight_packed", "scales",       NULL};
    const char *method = json_string_value(json_object_get(spec->quant, "quant_method"));
    if (!method || (!strstr(method, "auto-round") && strcmp(method, "fp8") != 0))
        return false;
    for (const char *const *s = own; *s; s++)
        if (spec_tensor(spec, *s))
            return true;
    const struct tensor *t = spec_tensor(spec, "weight");
    return t && !dtype_is_float(t->dtype);
}

/* ---- extra_config ---- */

static bool is_regex(const char *key)
{
    return strpbrk(key, "*^$|()[]{}?+\\") != NULL;
}

/* Is this entry's key for the module? */
static enum quant_match entry_match(const char *key, const char *name)
{
    size_t n = strlen(key), root = strcspn(key, ".");
    bool same_root = !strncmp(key, name, root) && (name[root] == '.' || !name[root]);
    bool begins = !strncmp(key, name, n) && (name[n] == '.' || !name[n]);
    enum status why;
    if (!is_regex(key))
        return (same_root ? begins : strstr(name, key) != NULL) ? QUANT_MATCH_YES : QUANT_MATCH_NO;
    enum quant_match m = quant_config_match(key, name, true, &why);
    // what is no regex is passed over, as the library does
    return m == QUANT_MATCH_ERROR && why != ST_OUT_OF_MEMORY ? QUANT_MATCH_NO : m;
}

static bool refuse_extra(const struct quant_config *q, enum status code, const char *why)
{
    findings_add(q->findings, SEVERITY_ERROR, code, q->spec->name, "extra_config", NULL, NULL,
                 "module %s: \"extra_config\" of the %s config %s", q->spec->name, q->format, why);
    return false;
}

/* The overrides of this module become q's; false with a finding. */
static bool read_extra(struct quant_config *q)
{
    json_t *extra = json_object_get(q->spec->quant, "extra_config"), *value;
    const char *key;
    int patterns = 0;
    q->overrides = NULL;
    if (!extra || json_is_null(extra))
        return true;
    if (!json_is_object(extra))
        return refuse_extra(q, ST_CONFIG_INVALID_VALUE, "must be an object");
    q->overrides = json_object_get(extra, q->spec->name);
    if (q->overrides)
        return true;
    json_object_foreach(extra, key, value)
    {
        if (!json_object_size(value))
            continue;
        if (is_regex(key) && ++patterns > PATTERNS_MAX)
            return refuse_extra(q, ST_CONFIG_INVALID_VALUE, "has too many regular expressions");
        switch (entry_match(key, q->spec->name)) {
        case QUANT_MATCH_NO:
            continue;
        case QUANT_MATCH_ERROR:
            return refuse_extra(q, ST_OUT_OF_MEMORY, "cannot be matched: out of memory");
        case QUANT_MATCH_YES:
            break;
        }
        q->overrides = value;
        return true;
    }
    return true;
}

/* ---- packing_format ---- */

enum packing { PACKING_ZEROS_V1, PACKING_ZEROS, PACKING_AWQ, PACKING_KERNEL, PACKING_UNKNOWN };

/* What a component of a word means. */
static enum packing packing_named(const char *word, size_t length)
{
    static const struct {
        const char *text;
        enum packing packing;
    } names[] = {
        {"auto_gptq", PACKING_ZEROS_V1}, {"gptq", PACKING_ZEROS_V1}, {"gptqmodel", PACKING_ZEROS},
        {"auto_awq", PACKING_AWQ},       {"awq", PACKING_AWQ},       {"exllamav2", PACKING_KERNEL},
        {"exllama", PACKING_KERNEL},     {"triton", PACKING_KERNEL}, {"tritonv2", PACKING_KERNEL},
        {"torch", PACKING_KERNEL},       {"marlin", PACKING_KERNEL}, {"cuda", PACKING_KERNEL},
    };
    if (!length)
        return PACKING_ZEROS;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i].text) == length && !strncmp(names[i].text, word, length))
            return names[i].packing;
    return PACKING_UNKNOWN;
}

/* "auto_round:auto_gptq:exllamav2" and the like; a kernel behind the packing says nothing. */
static enum packing packing_of(const char *word)
{
    static const char prefix[] = "auto_round";
    size_t n = sizeof prefix - 1;
    if (!strcmp(word, "auto"))
        return PACKING_ZEROS_V1;
    if (strncmp(word, prefix, n) != 0 || (word[n] && word[n] != ':'))
        return PACKING_UNKNOWN;
    word += n + (word[n] == ':');
    size_t length = strcspn(word, ":");
    enum packing packing = packing_named(word, length);
    const char *tail = word + length;
    bool kernel = !*tail || packing_named(tail + 1, strlen(tail + 1)) == PACKING_KERNEL;
    return kernel ? packing : PACKING_UNKNOWN;
}

static bool symmetric(const struct quant_config *q)
{
    const json_t *sym = quant_config_get(q, "sym");
    return !sym || json_is_true(sym);
}

/* Which layout of integer codes; false with a finding. */
static bool read_packing(const struct quant_config *q, struct auto_round *out)
{
    const json_t *format = quant_config_get(q, "packing_format");
    const char *backend = json_string_value(quant_config_get(q, "backend"));
    // `backend` of newer files is what shall compute
    bool old = !format && backend && !strncmp(backend, "auto_round", strlen("auto_round"));
    const char *word = old ? backend : json_string_value(format);
    enum packing packing = word ? packing_of(word) : format ? PACKING_UNKNOWN : PACKING_ZEROS_V1;
    // symmetric files with a kernel alone were written like auto_gptq; of the others nobody knows
    if (old && packing == PACKING_KERNEL)
        packing = symmetric(q) ? PACKING_ZEROS_V1 : PACKING_UNKNOWN;
    if (packing == PACKING_UNKNOWN) {
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, old ? "backend" : "packing_format",
                            "auto_round, auto_round:auto_gptq, :gptqmodel or :auto_awq");
        return false;
    }
    out->kind = packing == PACKING_AWQ ? AUTO_ROUND_AWQ : AUTO_ROUND_GPTQ;
    out->gptq.zeros_v1 = packing == PACKING_ZEROS_V1;
    return true;
}

/* ---- integer codes ---- */

static bool examine_codes(const struct quant_config *q, struct auto_round *out)
{
    static const char *const suffixes[] = {"qweight", "qzeros", "scales", "g_idx", "bias", NULL};
    size_t errors = q->findings->errors;
    const json_t *type = quant_config_get(q, "data_type");
    const char *text = json_string_value(type);
    if (type && (!text || (strcmp(text, "int") != 0 && strcmp(text, "int_sym") != 0 &&
                           strcmp(text, "int_asym") != 0)))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "data_type", "\"int\"");
    if (quant_config_int(q, "act_bits", 1, 32, false, 16) <= 8)
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "act_bits",
                            "16 (8-bit activations over integer codes are not supported)");
    int bits = (int)quant_config_int(q, "bits", 2, 8, false, 4);
    int64_t group = quant_config_int(q, "group_size", 1, INT32_MAX, true, 128);
    if (!read_packing(q, out) || q->findings->errors != errors)
        return false;
    if (out->kind == AUTO_ROUND_AWQ) {
        out->awq = (struct awq_layout){
            .kind = AWQ_GEMM, .bits = bits, .group = group, .interleaved = true};
        if (bits < 4 || bits > 7) {
            quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "bits", "4 to 7 (auto_awq)");
            return false;
        }
        return awq_layout_check(q->spec, &out->awq, q->findings);
    }
    out->gptq.bits = bits;
    out->gptq.group = group;
    spec_only(q->spec, suffixes, q->findings);
    gptq_layout_check(q->spec, &out->gptq, q->findings);
    return q->findings->errors == errors;
}

/* ---- FP8 ---- */

/* [rows, cols] of weight_block_size or group_size; false with a finding. */
static bool read_block(const struct quant_config *q, struct fp8_layout *out)
{
    const char *key = quant_config_get(q, "weight_block_size") ? "weight_block_size" : "group_size";
    const json_t *v = quant_config_get(q, key);
    const json_t *rows = json_array_get(v, 0), *cols = json_array_get(v, 1);
    out->rows = json_integer_value(rows);
    out->cols = json_integer_value(cols);
    if (json_array_size(v) == 2 && json_is_integer(rows) && json_is_integer(cols) &&
        out->rows >= 1 && out->cols >= 1 && out->rows <= INT32_MAX && out->cols <= INT32_MAX)
        return true;
    quant_config_refuse(q, ST_CONFIG_INVALID_VALUE, key, "[rows, columns] of a block");
    return false;
}

/* weight_scale: what is shared follows from how many there are. */
static bool read_sharing(const struct quant_config *q, const struct tensor *scale,
                         struct fp8_layout *out)
{
    const struct module_spec *spec = q->spec;
    int64_t have = tensor_elements(scale);
    const json_t *size = quant_config_get(q, "group_size");
    out->rows = have == 1 ? spec->n : 1;
    out->cols = spec->k;
    if (have == 1 || have == spec->n)
        return true;
    if (json_is_array(size))
        return read_block(q, out);
    int64_t group = quant_config_int(q, "group_size", 0, INT32_MAX, true, -1);
    if (group > 0)
        out->cols = group;
    return true;
}

static bool examine_fp8(const struct quant_config *q, struct auto_round *out)
{
    static const char *const suffixes[] = {"weight",      "weight_scale", "weight_scale_inv",
                                           "input_scale", "bias",         NULL};
    size_t errors = q->findings->errors;
    const struct module_spec *spec = q->spec;
    const struct tensor *inverse = spec_tensor(spec, "weight_scale_inv");
    const struct tensor *scale = inverse ? inverse : spec_tensor(spec, "weight_scale");
    const json_t *fmt = quant_config_get(q, "fmt");
    out->kind = AUTO_ROUND_FP8;
    out->fp8 = (struct fp8_layout){.scale = inverse ? "weight_scale_inv" : "weight_scale",
                                   .rows = 1,
                                   .cols = 1,
                                   .dtype = DT_BF16,
                                   .code_dtypes = SPEC_DTYPE(F8_E4M3) | SPEC_DTYPE(F8_E5M2)};
    if (spec->kind == MODULE_CONV1D)
        findings_add(q->findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL, "module %s: FP8 of auto-round in a Conv1D",
                     spec->name);
    if (quant_config_is(fmt, "e5m2"))
        out->fp8.code_dtypes = SPEC_DTYPE(F8_E5M2);
    else if (quant_config_is(fmt, "e4m3") || is_fp8(spec))
        out->fp8.code_dtypes = SPEC_DTYPE(F8_E4M3);
    if (fmt && !quant_config_is(fmt, "e5m2") && !quant_config_is(fmt, "e4m3"))
        quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, "fmt", "\"e4m3\" or \"e5m2\"");
    if (q->findings->errors != errors || !spec_sizes(spec, q->findings) ||
        (inverse ? !read_block(q, &out->fp8) : scale && !read_sharing(q, scale, &out->fp8)))
        return false;
    if (scale && dtype_is_float(scale->dtype))
        out->fp8.dtype = scale->dtype;
    spec_only(spec, suffixes, q->findings);
    fp8_layout_check(spec, &out->fp8, q->findings);
    return q->findings->errors == errors;
}

/* ---- all of it ---- */

/* Things that change a module and that we do not do; false with a finding. */
static bool refuse_others(const struct quant_config *q)
{
    static const char *const transforms[] = {"rotation_config", "spinquant_config"};
    const struct module_spec *spec = q->spec;
    size_t errors = q->findings->errors;
    for (size_t i = 0; i < sizeof transforms / sizeof transforms[0]; i++)
        if (json_object_size(quant_config_get(q, transforms[i])))
            quant_config_refuse(q, ST_QUANT_METHOD_UNSUPPORTED, transforms[i],
                                "nothing (rotations are not supported)");
    const struct tensor *packed = spec_tensor(spec, "weight_packed");
    if (packed)
        findings_add(q->findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name,
                     packed->name, NULL, "weight_packed",
                     "%s: module %s is packed as llm-compressor does (MX, NV), which is not "
                     "supported",
                     packed->file, spec->name);
    if (spec->kind == MODULE_CONV2D || spec->kind == MODULE_EMBEDDING)
        findings_add(q->findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL,
                     "module %s: auto-round is only supported in linear modules", spec->name);
    return q->findings->errors == errors;
}

bool auto_round_examine(const struct module_spec *spec, struct auto_round *out,
                        struct findings *findings)
{
    struct quant_config q = {
        .format = is_fp8(spec) ? "FP8" : "auto-round", .spec = spec, .findings = findings};
    memset(out, 0, sizeof *out);
    if (!read_extra(&q) || !refuse_others(&q))
        return false;
    const json_t *bits = quant_config_get(&q, "bits");
    if (json_integer_value(bits) >= 16) {
        quant_config_refuse(&q, ST_CHECKPOINT_INVALID, "bits",
                            "2 to 8, since the module has the tensors of a quantized one");
        return false;
    }
    return spec_tensor(spec, "qweight") ? examine_codes(&q, out) : examine_fp8(&q, out);
}

enum status auto_round_load(const struct module_spec *spec, const struct auto_round *a,
                            struct slice slice, struct weight *out, struct error *err)
{
    switch (a->kind) {
    case AUTO_ROUND_GPTQ:
        return gptq_layout_load(spec, &a->gptq, slice, out, err);
    case AUTO_ROUND_AWQ:
        return awq_layout_load(spec, &a->awq, slice, out, err);
    case AUTO_ROUND_FP8:
        break;
    }
    return fp8_layout_load(spec, &a->fp8, slice, out, err);
}
