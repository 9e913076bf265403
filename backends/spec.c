/*
 * Owns the checks that all formats share, and their sentences. Knows no format. Invariant: a tensor
 * that spec_want returns has exactly the wanted shape, so its byte count is known and no offset
 * computed from that shape can leave it.
 */
#include "backends/spec.h"

#include <stdio.h>
#include <string.h>

#include "backends/encodings/tile.h"

const char *spec_suffix(const struct module_spec *spec, const struct tensor *t)
{
    size_t n = strlen(spec->file);
    return !strncmp(t->name, spec->file, n) && t->name[n] == '.' ? t->name + n + 1 : NULL;
}

/* "F32, F16 or BF16" */
static const char *dtypes_text(unsigned dtypes, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (int d = 0; d < DT_COUNT_; d++) {
        if (!(dtypes >> d & 1) || at >= size)
            continue;
        bool last = !(dtypes >> d >> 1);
        at += (size_t)snprintf(buf + at, size - at, "%s%s",
                               !at    ? ""
                               : last ? " or "
                                      : ", ",
                               dtype_name((enum dtype)d));
    }
    return buf;
}

const struct tensor *spec_want(const struct module_spec *spec, const struct spec_want *want,
                               struct findings *findings)
{
    char expected[160], got[160], name[512];
    const struct tensor *t = spec_tensor(spec, want->suffix);
    if (!t) {
        if (want->optional)
            return NULL;
        snprintf(name, sizeof name, "%s.%s", spec->file, want->suffix);
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_MISSING, spec->name, name, name, NULL,
                     "module %s: tensor %s is missing", spec->name, name);
        return NULL;
    }
    if (!(want->dtypes >> t->dtype & 1)) {
        dtypes_text(want->dtypes, expected, sizeof expected);
        findings_add(findings, SEVERITY_ERROR, ST_DTYPE_UNSUPPORTED, spec->name, t->name, expected,
                     dtype_name(t->dtype), "%s: tensor %s is %s, expected %s", t->file, t->name,
                     dtype_name(t->dtype), expected);
        return NULL;
    }
    if (!tensor_shape_is(t, want->rank, want->shape)) {
        struct tensor like = {.rank = want->rank};
        memcpy(like.shape, want->shape, sizeof want->shape);
        tensor_shape_text(&like, expected, sizeof expected);
        tensor_shape_text(t, got, sizeof got);
        findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name, t->name,
                     expected, got, "%s: tensor %s has shape %s, expected %s", t->file, t->name,
                     got, expected);
        return NULL;
    }
    return t;
}

void spec_only(const struct module_spec *spec, const char *const *suffixes,
               struct findings *findings)
{
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const struct tensor *t = &spec->tensors[i];
        const char *suffix = spec_suffix(spec, t);
        const char *const *s = suffixes;
        while (suffix && *s && strcmp(*s, suffix) != 0)
            s++;
        if (suffix && !*s)
            findings_add(findings, SEVERITY_ERROR, ST_TENSOR_UNEXPECTED, spec->name, t->name, NULL,
                         suffix, "%s: module %s has an unexpected tensor %s", t->file, spec->name,
                         t->name);
    }
}

enum status spec_finite(const struct module_spec *spec, const struct tensor *t, struct error *err)
{
    int64_t n = tensor_elements(t), i = 0;
    const char *data = t->data;
    uint32_t exponent = t->dtype == DT_F32 ? 0x7f800000 : t->dtype == DT_F16 ? 0x7c00 : 0x7f80;
    if (t->dtype == DT_F32)
        while (i < n && (load_u32(data + 4 * i) & exponent) != exponent)
            i++;
    else
        while (i < n && (load_u16(data + 2 * i) & exponent) != exponent)
            i++;
    if (i == n)
        return ST_OK;
    return error_set(err, ST_NON_FINITE_WEIGHTS,
                     "%s: module %s: element %lld of tensor %s is not finite", t->file, spec->name,
                     (long long)i, t->name);
}

bool spec_sizes(const struct module_spec *spec, struct findings *findings)
{
    if (spec->n >= 1 && spec->k >= 1 && spec->n <= INT32_MAX && spec->k <= INT32_MAX)
        return true;
    char got[64];
    snprintf(got, sizeof got, "[%lld, %lld]", (long long)spec->n, (long long)spec->k);
    findings_add(findings, SEVERITY_ERROR, ST_TENSOR_SHAPE_MISMATCH, spec->name, NULL, NULL, got,
                 "module %s: a weight of shape %s cannot be served", spec->name, got);
    return false;
}

enum status spec_slice(const struct module_spec *spec, struct slice slice, int64_t unit,
                       struct slice *out, struct error *err)
{
    *out = slice;
    if (slice.row < 0 || slice.col < 0 || slice.row >= spec->n || slice.col >= spec->k ||
        slice.rows < 0 || slice.cols < 0 || slice.rows > spec->n - slice.row ||
        slice.cols > spec->k - slice.col)
        return error_set(err, ST_NOT_SUPPORTED, "module %s: a part outside its [%lld, %lld]",
                         spec->name, (long long)spec->n, (long long)spec->k);
    if (!out->rows)
        out->rows = spec->n - out->row;
    if (!out->cols)
        out->cols = spec->k - out->col;
    int64_t end = out->col + out->cols;
    if (out->col % unit || (end % unit && end != spec->k))
        return error_set(err, ST_NOT_SUPPORTED,
                         "module %s: columns can only be cut at multiples of %lld", spec->name,
                         (long long)unit);
    return ST_OK;
}

void spec_weight_sizes(struct weight *w, int64_t n, int64_t k)
{
    w->n = n;
    w->k = k;
    w->n_tiles = tile_count(n);
    w->k_padded = tile_pad_k(k);
}

size_t spec_file_bytes(const struct module_spec *spec, const struct slice *part)
{
    double bytes = 0;
    for (size_t i = 0; i < spec->n_tensors; i++) {
        const char *suffix = spec_suffix(spec, &spec->tensors[i]);
        if (suffix && strcmp(suffix, "bias") != 0)
            bytes += (double)spec->tensors[i].bytes;
    }
    double share = (double)part->rows / (double)spec->n * ((double)part->cols / (double)spec->k);
    return (size_t)(bytes * share);
}
