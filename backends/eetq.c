/*
 * EETQ (8-bit weights, a scale for each output channel), from EETQ/csrc/cutlass_kernels/
 * cutlass_preprocessors.cc, EETQ/python/eetq and transformers/integrations/eetq.py.
 *
 *   weight          I8 [k, n]   codes + 128 as bytes, in the order that the GPU's matrix kernel
 *                               wants; named qweight where the library itself saved the model
 *   weight_scales   F16 [n]     or F32, where the weights were F32 when they were quantized
 *
 *   W[r][c] = F16(code * scale[r])
 *
 * The order depends on the GPU that quantized, and the file does not say which:
 *
 *   7.0 - 7.4   (k, n) at k * N + n; in each aligned 4 bytes 1 and 2 change places
 *   7.5 - 8.9   rows of W in pairs, N / 2 runs of 2 K bytes. A run alternates 64 bytes of the even
 *               row and 64 of the odd one. 16 bytes hold 16 columns, the first eight of them in
 *               the even bytes and the last eight in the odd ones:
 *
 *               |c0 c8 c1 c9 c2 c10 .. c7 c15| c16 c24 .. | .. c63|c0 c8 .. of the odd row| c64 ..
 *
 *               (the reference's permutation of 16 rows, transpose, interleave and swap in one)
 *   9.0 and up  the library, and transformers' kernel by its source, refuse to quantize
 *
 * But scale = max |w| / 128, so every row has a code of 127 or -128 (codes taken from bitsandbytes:
 * 127 or -127). Rows gathered in the wrong order mostly lack one: all n have it by chance about
 * once in 1.6^n. Rows of zeros, whose codes are all 127, put one into every wrong row; but they are
 * rows of one code in the right order only. So the layout is the one in which all rows are
 * plausible; of two such the one with more rows of one code; else 7.5, and describe says that this
 * is assumed. "eetq_layout": "sm70" or "sm75" in quantization_config overrides it; no library
 * writes that key.
 *
 * Refused by name: other than int8, K or N that are no multiple of 64 (the library's own writes run
 * past the end there), other modules than linear ones. PEFT cannot merge into EETQ, nor can we.
 */
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/encodings/tile.h"
#include "backends/int8_rows.h"
#include "backends/spec.h"
#include "core/json.h"

#define UNIT  64 /* columns of a row that lie together in the 7.5 layout */
#define BLOCK 16 /* columns whose bytes are mixed */

enum layout { LAYOUT_SM75, LAYOUT_SM70 };

/* What weight.format holds. */
struct eetq_format {
    enum layout layout;
    bool certain; /* told, or only this layout is plausible */
};

/* ---- claim ---- */

static bool text_is(const json_t *v, const char *text)
{
    return json_is_string(v) && !strcmp(json_string_value(v), text);
}

static const struct tensor *codes_of(const struct module_spec *spec)
{
    const struct tensor *t = spec_tensor(spec, "weight");
    return t ? t : spec_tensor(spec, "qweight");
}

static bool is_mine(const struct module_spec *spec)
{
    const struct tensor *t = codes_of(spec);
    return spec_tensor(spec, "weight_scales") ||
           (t && t->dtype == DT_I8 &&
            text_is(json_object_get(spec->quant, "quant_method"), "eetq"));
}

static void complain(const struct module_spec *spec, enum status code, const char *key,
                     const json_t *value, const char *expected, struct findings *findings)
{
    char got[64];
    char *text = value ? json_text(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(got, sizeof got, "%s", text ? text : "nothing");
    free(text);
    findings_add(findings, SEVERITY_ERROR, code, spec->name, key, expected, got,
                 "module %s: \"%s\" of the EETQ config is %s, expected %s", spec->name, key, got,
                 expected);
}

/* Keys of quantization_config for which there is only one value: transformers' and EETQ's own. */
static void check_config(const struct module_spec *spec, struct findings *findings)
{
    const json_t *method = json_object_get(spec->quant, "quant_method");
    const json_t *weights = json_object_get(spec->quant, "weights");
    const json_t *bits = json_object_get(spec->quant, "bits");
    const json_t *zero_point = json_object_get(spec->quant, "zero_point");
    if (method && !text_is(method, "eetq"))
        complain(spec, ST_CHECKPOINT_INVALID, "quant_method", method, "\"eetq\"", findings);
    if (weights && !text_is(weights, "int8"))
        complain(spec, ST_QUANT_METHOD_UNSUPPORTED, "weights", weights, "\"int8\"", findings);
    if (bits && (!json_is_integer(bits) || json_integer_value(bits) != 8))
        complain(spec, ST_QUANT_METHOD_UNSUPPORTED, "bits", bits, "8", findings);
    if (zero_point && !json_is_false(zero_point))
        complain(spec, ST_QUANT_METHOD_UNSUPPORTED, "zero_point", zero_point, "false", findings);
}

/* Whether "eetq_layout" tells the layout; a wrong value is a finding. */
static bool told_layout(const struct module_spec *spec, enum layout *out, struct findings *findings)
{
    const json_t *v = json_object_get(spec->quant, "eetq_layout");
    const char *text = json_string_value(v);
    if (!v || json_is_null(v))
        return false;
    bool sm70 = text && !strcmp(text, "sm70"), sm75 = text && !strcmp(text, "sm75");
    if (!sm70 && !sm75)
        complain(spec, ST_CONFIG_INVALID_VALUE, "eetq_layout", v, "\"sm70\" or \"sm75\"", findings);
    *out = sm70 ? LAYOUT_SM70 : LAYOUT_SM75;
    return true;
}

/* Checks everything but data; false with findings. */
static bool examine(const struct module_spec *spec, struct findings *findings)
{
    const struct tensor *t = codes_of(spec);
    const char *codes = t ? spec_suffix(spec, t) : "weight";
    const char *const suffixes[] = {codes, "weight_scales", "bias", NULL};
    size_t errors = findings->errors;
    enum layout layout;
    check_config(spec, findings);
    told_layout(spec, &layout, findings);
    spec_only(spec, suffixes, findings);
    if (spec->kind != MODULE_LINEAR)
        findings_add(findings, SEVERITY_ERROR, ST_QUANT_METHOD_UNSUPPORTED, spec->name, NULL,
                     "a linear module", NULL, "module %s: EETQ is only supported in linear modules",
                     spec->name);
    if (!spec_sizes(spec, findings))
        return false;
    const struct spec_want wants[] = {
        {codes, SPEC_DTYPE(I8), 2, {spec->k, spec->n}, false},
        {"weight_scales", SPEC_DTYPE(F16) | SPEC_DTYPE(F32), 1, {spec->n}, false},
    };
    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++)
        spec_want(spec, &wants[i], findings);
    if (spec->n % UNIT || spec->k % UNIT)
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name,
                     t ? t->name : NULL, "multiples of 64", NULL,
                     "module %s: EETQ needs both dimensions of [%lld, %lld] to be multiples of 64",
                     spec->name, (long long)spec->n, (long long)spec->k);
    return findings->errors == errors;
}

static enum claim eetq_claim(const struct module_spec *spec, struct findings *findings)
{
    if (!is_mine(spec))
        return CLAIM_DECLINED;
    return examine(spec, findings) ? CLAIM_CLAIMED : CLAIM_FAILED;
}

/* ---- the two layouts ---- */

/* Columns [col, col + n) of one row of W, unsigned codes. */
static void read_sm75(const uint8_t *codes, int64_t k, int64_t row, int64_t col, int64_t n,
                      uint8_t *to)
{
    const uint8_t *run = codes + row / 2 * 2 * k + row % 2 * UNIT;
    for (int64_t c = col / BLOCK * BLOCK; c < col + n; c += BLOCK) {
        const uint8_t *from = run + c / UNIT * 2 * UNIT + c % UNIT;
        uint8_t block[BLOCK];
        for (int i = 0; i < BLOCK / 2; i++) {
            block[i] = from[2 * i];
            block[BLOCK / 2 + i] = from[2 * i + 1];
        }
        int64_t skip = c < col ? col - c : 0, left = col + n - c;
        int64_t count = (left < BLOCK ? left : BLOCK) - skip;
        memcpy(to, block + skip, (size_t)count);
        to += count;
    }
}

static void read_sm70(const uint8_t *codes, int64_t rows, int64_t row, int64_t col, int64_t n,
                      uint8_t *to)
{
    static const int8_t swap[4] = {0, 1, -1, 0}; // bytes 1 and 2
    const uint8_t *from = codes + row + swap[row % 4];
    for (int64_t c = col; c < col + n; c++)
        *to++ = from[c * rows];
}

static void read_row(const struct module_spec *spec, enum layout layout, int64_t row, int64_t col,
                     int64_t n, uint8_t *to)
{
    const uint8_t *codes = codes_of(spec)->data;
    if (layout == LAYOUT_SM70)
        read_sm70(codes, spec->n, row, col, n, to);
    else
        read_sm75(codes, spec->k, row, col, n, to);
}

/* ---- which of them ---- */

struct evidence {
    bool plausible; /* every row has a code of 127, -128 or -127, or is blank */
    int64_t blank;  /* rows of one code throughout; counted if plausible */
};

/* codes: [k] scratch. */
static struct evidence look(const struct module_spec *spec, enum layout layout, uint8_t *codes)
{
    struct evidence e = {.plausible = true};
    for (int64_t row = 0; row < spec->n && e.plausible; row++) {
        int64_t extreme = 0, same = 0;
        read_row(spec, layout, row, 0, spec->k, codes);
        for (int64_t i = 0; i < spec->k; i++) {
            extreme += codes[i] == 255 || codes[i] <= 1;
            same += codes[i] == codes[0];
        }
        e.plausible = extreme || same == spec->k;
        e.blank += same == spec->k;
    }
    return e;
}

static enum status find_layout(const struct module_spec *spec, struct eetq_format *out,
                               struct error *err)
{
    struct findings none = {0};
    *out = (struct eetq_format){.layout = LAYOUT_SM75, .certain = true};
    if (told_layout(spec, &out->layout, &none))
        return ST_OK;
    uint8_t *codes = malloc((size_t)spec->k);
    if (!codes)
        return error_memory(err, "finding the layout of an EETQ weight");
    struct evidence sm75 = look(spec, LAYOUT_SM75, codes), sm70 = look(spec, LAYOUT_SM70, codes);
    if (sm70.plausible && (!sm75.plausible || sm70.blank > sm75.blank))
        out->layout = LAYOUT_SM70;
    out->certain = sm75.plausible != sm70.plausible || sm75.blank != sm70.blank;
    free(codes);
    return ST_OK;
}

/* ---- load ---- */

static enum status load_codes(const struct module_spec *spec, enum layout layout,
                              const struct slice *part, struct weight *w, struct error *err)
{
    uint8_t *codes = malloc(TILE_ROWS * (size_t)w->k);
    if (!codes)
        return error_memory(err, "loading an EETQ weight");
    for (int64_t tile = 0; tile < w->n_tiles; tile++) {
        uint8_t *to = codes;
        int64_t first = tile * TILE_ROWS;
        for (int64_t r = first; r < first + TILE_ROWS && r < w->n; r++, to += w->k)
            read_row(spec, layout, part->row + r, part->col, w->k, to);
        int8_rows_pack(w, tile, codes);
    }
    free(codes);
    return ST_OK;
}

static enum status set_format(struct weight *w, const struct eetq_format *format, struct error *err)
{
    w->format = malloc(sizeof *format);
    if (!w->format)
        return error_memory(err, "loading an EETQ weight");
    memcpy(w->format, format, sizeof *format);
    w->format_bytes = sizeof *format;
    return ST_OK;
}

static enum status eetq_load(const struct module_spec *spec, struct slice slice, struct weight *out,
                             struct error *err)
{
    memset(out, 0, sizeof *out);
    struct findings findings = {0};
    if (!examine(spec, &findings))
        return error_from_findings(err, &findings);
    struct slice part;
    enum status st = spec_slice(spec, slice, 1, &part, err);
    struct eetq_format format;
    const struct tensor *scales = spec_tensor(spec, "weight_scales");
    if (!st)
        st = spec_finite(spec, scales, err);
    if (!st)
        st = find_layout(spec, &format, err);
    if (st)
        return st;
    *out = (struct weight){.dtype = DT_F16, .rule = RULE_PRODUCT, .scale_dtype = scales->dtype};
    st = int8_rows_init(out, &part, spec->k, err);
    if (!st)
        st = set_format(out, &format, err);
    if (!st)
        st = load_codes(spec, format.layout, &part, out, err);
    if (st) {
        weight_clear(out);
        return st;
    }
    int8_rows_scales(out, scales, part.row);
    out->file_bytes = spec_file_bytes(spec, &part);
    return ST_OK;
}

static char *eetq_describe(const struct weight *w, char *buf, size_t size)
{
    const struct eetq_format *format = w->format;
    snprintf(buf, size, "int8, a scale a row, layout of compute capability %s%s",
             format->layout == LAYOUT_SM70 ? "7.0" : "7.5", format->certain ? "" : " (assumed)");
    return buf;
}

const struct backend eetq_backend = {
    .name = "eetq",
    .claim = eetq_claim,
    .load = eetq_load,
    .describe = eetq_describe,
};
