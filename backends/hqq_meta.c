/*
 * Owns the small tensors of an HQQ module: hqq/core/utils.py's encode_safetensor_type.
 *
 *   bool   U8 []   0 or 1          int, float   I32 [], F32 []          shape   I64 [2]
 *   text   U8 [length], ASCII; a dtype is its torch name ("torch.float16")
 *
 * shape, nbits, group_size, axis and packing must be there. Left out: unpack_view_dtype (follows
 * from the packing), view_as_float (0), compute_dtype (float16), and the quantizer's settings
 * (config's, else the library's). The reference evaluates the two dtypes as code; here they are
 * looked up.
 *
 * Refused by name: quant_scale and quant_zero (scales and zeros that are quantized themselves; the
 * library cannot save them this way), channel_wise 0 (one group for the matrix), offload_meta's
 * zero_scale (hqq.c).
 *
 * Invariant: after hqq_meta_read n and k are the module's, group divides n * k, and the packing is
 * the one of nbits.
 */
#include "backends/hqq_meta.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backends/spec.h"

#define TEXT_MAX 32

const char *const hqq_field_names[HQQ_FIELDS + 1] = {
    [HQQ_SHAPE] = "shape",
    [HQQ_NBITS] = "nbits",
    [HQQ_GROUP_SIZE] = "group_size",
    [HQQ_AXIS] = "axis",
    [HQQ_PACKING] = "packing",
    [HQQ_UNPACK_VIEW_DTYPE] = "unpack_view_dtype",
    [HQQ_VIEW_AS_FLOAT] = "view_as_float",
    [HQQ_COMPUTE_DTYPE] = "compute_dtype",
    [HQQ_QUANT_SCALE] = "quant_scale",
    [HQQ_QUANT_ZERO] = "quant_zero",
    [HQQ_CHANNEL_WISE] = "channel_wise",
    [HQQ_OPTIMIZE] = "optimize",
    [HQQ_ROUND_ZERO] = "round_zero",
    [HQQ_OFFLOAD_META] = "offload_meta",
    [HQQ_ENCODED_STATE_DICT] = "encoded_state_dict",
    [HQQ_STORES_QUANT_CONFIG] = "stores_quant_config",
};

static const struct width {
    float nbits;
    int top;
    const char *packing;
} widths[] = {
    {8, 255, "8bit_u8"}, {6, 63, "8bit_u8"}, {5, 31, "8bit_u8"},    {4, 15, "4bit_u8"},
    {3, 7, "3bit_32"},   {2, 3, "2bit_u8"},  {1.58f, 2, "2bit_u8"}, {1, 1, "1bit_u8"},
};

static const struct width *width_of(float nbits)
{
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        if (widths[i].nbits == nbits)
            return &widths[i];
    return NULL;
}

int hqq_meta_top(const struct hqq_meta *m)
{
    return width_of(m->nbits)->top;
}

int hqq_meta_bits(const struct hqq_meta *m)
{
    return (int)ceilf(m->nbits);
}

void hqq_complain(const struct module_spec *spec, struct findings *findings, enum status code,
                  const char *what, const char *expected, const char *got)
{
    const char *file = spec->n_tensors ? spec->tensors[0].file : "";
    findings_add(findings, SEVERITY_ERROR, code, spec->name, what, expected, got,
                 "%s: module %s: HQQ's \"%s\" is %s, expected %s", file, spec->name, what, got,
                 expected);
}

/* ---- reading ---- */

struct reader {
    const struct module_spec *spec;
    struct hqq_meta *m;
    struct findings *findings;
};

static void complain(const struct reader *r, enum hqq_field f, const char *expected,
                     const char *got)
{
    hqq_complain(r->spec, r->findings, ST_CHECKPOINT_INVALID, hqq_field_names[f], expected, got);
}

static const struct tensor *want(const struct reader *r, enum hqq_field f, unsigned dtypes,
                                 int rank, int64_t length, bool optional)
{
    struct spec_want w = {hqq_field_names[f], dtypes, rank, {length}, optional};
    const struct tensor *t = spec_want(r->spec, &w, r->findings);
    if (t)
        r->m->present |= 1u << f;
    return t;
}

static void read_flag(const struct reader *r, enum hqq_field f, bool missing)
{
    char got[16];
    const struct tensor *t = want(r, f, SPEC_DTYPE(U8), 0, 0, true);
    uint8_t v = t ? *(const uint8_t *)t->data : missing;
    r->m->flags[f] = v;
    snprintf(got, sizeof got, "%d", v);
    if (v > 1)
        complain(r, f, "0 or 1", got);
}

/* An I32 (or, for nbits, also an F32); NaN with a finding. */
static double read_number(const struct reader *r, enum hqq_field f, unsigned dtypes)
{
    const struct tensor *t = want(r, f, dtypes, 0, 0, false);
    if (!t)
        return NAN;
    return t->dtype == DT_F32 ? (double)load_f32(t->data) : (double)(int32_t)load_u32(t->data);
}

/* A text's bytes, cut at TEXT_MAX; NULL if it is not there. */
static const char *read_text(const struct reader *r, enum hqq_field f, bool optional,
                             char text[TEXT_MAX])
{
    const struct tensor *t = spec_tensor(r->spec, hqq_field_names[f]);
    int64_t length = t && t->rank == 1 ? t->shape[0] : 1;
    t = want(r, f, SPEC_DTYPE(U8), 1, length, optional);
    if (!t)
        return NULL;
    size_t n = t->bytes < TEXT_MAX ? t->bytes : TEXT_MAX - 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = ((const uint8_t *)t->data)[i];
        text[i] = c > 0x20 && c < 0x7f ? (char)c : '?';
    }
    text[n] = 0;
    return text;
}

static void read_shape(const struct reader *r)
{
    const struct tensor *t = want(r, HQQ_SHAPE, SPEC_DTYPE(I64), 1, 2, false);
    int64_t v[2];
    char expected[64], got[64];
    r->m->n = r->spec->n;
    r->m->k = r->spec->k;
    if (!t)
        return;
    memcpy(v, t->data, sizeof v);
    snprintf(expected, sizeof expected, "[%lld, %lld]", (long long)r->m->n, (long long)r->m->k);
    snprintf(got, sizeof got, "[%lld, %lld]", (long long)v[0], (long long)v[1]);
    if (v[0] != r->m->n || v[1] != r->m->k)
        hqq_complain(r->spec, r->findings, ST_TENSOR_SHAPE_MISMATCH, "shape", expected, got);
}

static void read_bits(const struct reader *r)
{
    char text[TEXT_MAX], got[32];
    double nbits = read_number(r, HQQ_NBITS, SPEC_DTYPE(I32) | SPEC_DTYPE(F32));
    r->m->nbits = (float)nbits;
    const struct width *width = width_of(r->m->nbits);
    if (!isnan(nbits) && !width) {
        snprintf(got, sizeof got, "%g", nbits);
        complain(r, HQQ_NBITS, "8, 6, 5, 4, 3, 2, 1.58 or 1", got);
    }
    const char *packing = read_text(r, HQQ_PACKING, false, text);
    if (packing && width && strcmp(packing, width->packing) != 0)
        complain(r, HQQ_PACKING, width->packing, packing);
    if (!width)
        return;
    r->m->packing = hqq_packing_find(width->packing);
    const char *view = read_text(r, HQQ_UNPACK_VIEW_DTYPE, true, text);
    if (view && strcmp(view, r->m->packing->view) != 0)
        complain(r, HQQ_UNPACK_VIEW_DTYPE, r->m->packing->view, view);
}

static void read_groups(const struct reader *r)
{
    char got[32];
    double axis = read_number(r, HQQ_AXIS, SPEC_DTYPE(I32));
    double group = read_number(r, HQQ_GROUP_SIZE, SPEC_DTYPE(I32));
    snprintf(got, sizeof got, "%g", axis);
    if (axis != 0 && axis != 1 && !isnan(axis))
        complain(r, HQQ_AXIS, "0 or 1", got);
    snprintf(got, sizeof got, "%.0f", group);
    if (!isnan(group) && (group < 1 || r->m->n * r->m->k % (int64_t)group))
        complain(r, HQQ_GROUP_SIZE, "a divisor of the number of weights", got);
    r->m->axis = axis == 1;
    r->m->group = group >= 1 ? (int64_t)group : 1;
}

static void read_compute_dtype(const struct reader *r)
{
    char text[TEXT_MAX];
    const char *name = read_text(r, HQQ_COMPUTE_DTYPE, true, text);
    r->m->compute = DT_F16;
    if (name && (strncmp(name, "torch.", 6) != 0 || !dtype_parse_torch(name, &r->m->compute) ||
                 !dtype_is_float(r->m->compute)))
        hqq_complain(r->spec, r->findings, ST_DTYPE_UNSUPPORTED, "compute_dtype",
                     "torch.float16, torch.bfloat16 or torch.float32", name);
}

static void refuse_flag(const struct reader *r, enum hqq_field f, bool value, const char *expected,
                        const char *got)
{
    if (r->m->flags[f] == value)
        hqq_complain(r->spec, r->findings, ST_QUANT_METHOD_UNSUPPORTED, hqq_field_names[f],
                     expected, got);
}

bool hqq_meta_read(const struct module_spec *spec, struct hqq_meta *m, struct findings *findings)
{
    struct reader r = {spec, m, findings};
    size_t errors = findings->errors;
    memset(m, 0, sizeof *m);
    read_shape(&r);
    read_bits(&r);
    read_groups(&r);
    read_compute_dtype(&r);
    for (enum hqq_field f = 0; f < HQQ_FIELDS; f++)
        if (f == HQQ_VIEW_AS_FLOAT || f >= HQQ_QUANT_SCALE)
            read_flag(&r, f, f == HQQ_CHANNEL_WISE || f == HQQ_OPTIMIZE);
    if (!hqq_meta_has(m, HQQ_ROUND_ZERO))
        m->flags[HQQ_ROUND_ZERO] = m->nbits == 4;
    if (findings->errors == errors)
        hqq_config_check(spec, m, findings);
    refuse_flag(&r, HQQ_QUANT_SCALE, true, "0", "1 (quantized scales are not supported)");
    refuse_flag(&r, HQQ_QUANT_ZERO, true, "0", "1 (quantized zeros are not supported)");
    refuse_flag(&r, HQQ_CHANNEL_WISE, false, "1", "0 (one group for all is not supported)");
    return findings->errors == errors;
}

void hqq_meta_plan(struct hqq_meta *m, int64_t n, int64_t k, int bits, int64_t group,
                   enum dtype compute)
{
    *m = (struct hqq_meta){.present = (1u << HQQ_FIELDS) - 1,
                           .n = n,
                           .k = k,
                           .group = group,
                           .axis = 1,
                           .nbits = (float)bits,
                           .packing = hqq_packing_find(width_of((float)bits)->packing),
                           .compute = compute};
    m->flags[HQQ_CHANNEL_WISE] = m->flags[HQQ_OPTIMIZE] = true;
    m->flags[HQQ_ENCODED_STATE_DICT] = m->flags[HQQ_STORES_QUANT_CONFIG] = true;
    m->flags[HQQ_ROUND_ZERO] = bits == 4;
}

/* ---- storing ---- */

static enum status put_scalar(struct tensor_sink *sink, enum hqq_field f, enum dtype dtype,
                              const void *data, struct error *err)
{
    const int64_t none = 0; // no dimensions, but a pointer that may be copied from
    return sink->put(sink, hqq_field_names[f], dtype, 0, &none, data, err);
}

static enum status put_int(struct tensor_sink *sink, enum hqq_field f, int64_t value,
                           struct error *err)
{
    int32_t v = (int32_t)value;
    return put_scalar(sink, f, DT_I32, &v, err);
}

static enum status put_text(struct tensor_sink *sink, enum hqq_field f, const char *prefix,
                            const char *text, struct error *err)
{
    char whole[TEXT_MAX];
    int64_t n = snprintf(whole, sizeof whole, "%s%s", prefix, text);
    return sink->put(sink, hqq_field_names[f], DT_U8, 1, &n, whole, err);
}

static enum status put_field(const struct hqq_meta *m, enum hqq_field f, struct tensor_sink *sink,
                             struct error *err)
{
    const int64_t shape[2] = {m->n, m->k}, two = 2;
    uint8_t flag = m->flags[f];
    switch (f) {
    case HQQ_SHAPE:
        return sink->put(sink, "shape", DT_I64, 1, &two, shape, err);
    case HQQ_NBITS:
        if (m->nbits != floorf(m->nbits))
            return put_scalar(sink, f, DT_F32, &m->nbits, err);
        return put_int(sink, f, (int64_t)m->nbits, err);
    case HQQ_GROUP_SIZE:
        return put_int(sink, f, m->group, err);
    case HQQ_AXIS:
        return put_int(sink, f, m->axis, err);
    case HQQ_PACKING:
        return put_text(sink, f, "", m->packing->name, err);
    case HQQ_UNPACK_VIEW_DTYPE:
        return put_text(sink, f, "", m->packing->view, err);
    case HQQ_COMPUTE_DTYPE:
        return put_text(sink, f, "torch.", dtype_torch(m->compute), err);
    default:
        return put_scalar(sink, f, DT_U8, &flag, err);
    }
}

enum status hqq_meta_store(const struct hqq_meta *m, struct tensor_sink *sink, struct error *err)
{
    for (enum hqq_field f = 0; f < HQQ_FIELDS; f++) {
        enum status st = hqq_meta_has(m, f) ? put_field(m, f, sink, err) : ST_OK;
        if (st)
            return st;
    }
    return ST_OK;
}
