/*
 * Owns the text that bitsandbytes puts beside each 4-bit weight, one byte an element:
 *
 *   {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [256, 512],
 *    "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.19510963559150696}
 *
 * the last three only with double quantization. It is written again in this order and spacing, the
 * offset as the shortest decimal that reads back to the same double (Python's repr). Refuses what
 * the library would refuse (unknown keys) and what it would silently misread (a nested dtype that
 * rounds, sizes that are no sizes).
 */
#include "backends/bnb_4bit_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

const char *const bnb_4bit_type_names[BNB_4BIT_TYPES] = {"nf4", "fp4"};
const char *const bnb_4bit_state_suffixes[BNB_4BIT_TYPES] = {
    BNB_4BIT_STATE_PREFIX "bitsandbytes__nf4",
    BNB_4BIT_STATE_PREFIX "bitsandbytes__fp4",
};

// nf4: quantiles of the normal distribution, symmetric in number but with a zero, scaled to [-1,
// 1]. fp4: sign, then {0, 1/16, 8, 12, 4, 6, 2, 3} / 12 in the order of a 2-bit exponent and a
// 1-bit mantissa.
const float bnb_4bit_tables[BNB_4BIT_TYPES][16] = {
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
     -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
     0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f},
    {0.0f, 0.0625f / 12, 8.0f / 12, 12.0f / 12, 4.0f / 12, 6.0f / 12, 2.0f / 12, 3.0f / 12, 0.0f,
     -0.0625f / 12, -8.0f / 12, -12.0f / 12, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12},
};

#define STATE_TEXT_MAX 4096 /* a quant state is about 170 bytes */

/* One parse: where findings go, and whether any came. */
struct reader {
    const struct module_spec *spec;
    const struct tensor *t;
    const json_t *root;
    struct findings *findings;
    bool bad;
};

static void complain(struct reader *r, enum status code, const char *key, const char *expected)
{
    const json_t *v = json_object_get(r->root, key);
    char *got = v ? json_text(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char shown[64];
    snprintf(shown, sizeof shown, "%s", got ? got : "nothing");
    findings_add(r->findings, SEVERITY_ERROR, code, r->spec->name, r->t->name, expected, shown,
                 "%s: %s: \"%s\" is %s, expected %s", r->t->file, r->t->name, key, shown, expected);
    free(got);
    r->bad = true;
}

/* The value of a key, or NULL with a finding. */
static const json_t *need(struct reader *r, const char *key)
{
    const json_t *v = json_object_get(r->root, key);
    if (!v)
        complain(r, ST_CONFIG_MISSING_FIELD, key, "a value");
    return v;
}

/* A block size that bitsandbytes has: a power of two from 32 to 4096. */
static int64_t block_size(struct reader *r, const char *key)
{
    const json_t *v = need(r, key);
    int64_t n = json_integer_value(v);
    if (v && (!json_is_integer(v) || n < 32 || n > 4096 || (n & (n - 1))))
        complain(r, ST_CONFIG_INVALID_VALUE, key, "a power of two from 32 to 4096");
    return n;
}

static void shape(struct reader *r, struct bnb_4bit_state *out)
{
    const json_t *v = need(r, "shape"), *n = json_array_get(v, 0), *k = json_array_get(v, 1);
    char expected[64];
    snprintf(expected, sizeof expected, "[%lld, %lld]", (long long)r->spec->n,
             (long long)r->spec->k);
    out->n = json_integer_value(n);
    out->k = json_integer_value(k);
    if (v && (json_array_size(v) != 2 || !json_is_integer(n) || !json_is_integer(k) ||
              out->n != r->spec->n || out->k != r->spec->k))
        complain(r, ST_TENSOR_SHAPE_MISMATCH, "shape", expected);
}

static void nested(struct reader *r, struct bnb_4bit_state *out)
{
    out->nested_block = block_size(r, "nested_blocksize");
    const json_t *dtype = need(r, "nested_dtype"), *offset = need(r, "nested_offset");
    if (dtype && (!json_is_string(dtype) || strcmp(json_string_value(dtype), "float32") != 0))
        complain(r, ST_CONFIG_UNSUPPORTED, "nested_dtype", "\"float32\"");
    out->nested_offset = (float)json_number_value(offset);
    if (offset && (!json_is_number(offset) || !isfinite(out->nested_offset)))
        complain(r, ST_CONFIG_INVALID_VALUE, "nested_offset", "a finite number");
}

static void unknown_keys(struct reader *r)
{
    static const char *const keys[] = {"quant_type",       "blocksize",    "dtype",        "shape",
                                       "nested_blocksize", "nested_dtype", "nested_offset"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)r->root, key, v)
    {
        size_t i = 0;
        while (i < sizeof keys / sizeof keys[0] && strcmp(keys[i], key) != 0)
            i++;
        if (i == sizeof keys / sizeof keys[0])
            complain(r, ST_CONFIG_UNKNOWN_FIELD, key, "no such key");
    }
}

static void read_state(struct reader *r, enum bnb_4bit_type type, struct bnb_4bit_state *out)
{
    unknown_keys(r);
    char expected[32];
    snprintf(expected, sizeof expected, "\"%s\"", bnb_4bit_type_names[type]);
    const json_t *v = need(r, "quant_type");
    if (v && (!json_is_string(v) || strcmp(json_string_value(v), bnb_4bit_type_names[type]) != 0))
        complain(r, ST_CONFIG_INVALID_VALUE, "quant_type", expected);
    out->type = type;
    out->block = block_size(r, "blocksize");
    v = need(r, "dtype");
    if (v && (!json_is_string(v) || !dtype_parse_torch(json_string_value(v), &out->dtype) ||
              !dtype_is_float(out->dtype)))
        complain(r, ST_DTYPE_UNSUPPORTED, "dtype", "float16, bfloat16 or float32");
    shape(r, out);
    out->nested = json_object_get(r->root, "nested_blocksize") ||
                  json_object_get(r->root, "nested_dtype") ||
                  json_object_get(r->root, "nested_offset");
    if (out->nested)
        nested(r, out);
}

bool bnb_4bit_state_parse(const struct module_spec *spec, const struct tensor *t,
                          enum bnb_4bit_type type, struct bnb_4bit_state *out,
                          struct findings *findings)
{
    memset(out, 0, sizeof *out);
    struct error err = ERROR_INIT;
    json_t *root = NULL;
    enum status st = ST_OK;
    if (t->bytes > STATE_TEXT_MAX)
        st = error_set(&err, ST_CHECKPOINT_INVALID, "it is longer than %d bytes", STATE_TEXT_MAX);
    if (!st)
        st = json_parse(t->data, t->bytes, 4, t->name, &root, &err);
    if (!st && !json_is_object(root))
        st = error_set(&err, ST_CHECKPOINT_INVALID, "it is not a JSON object");
    if (st)
        findings_add(findings, SEVERITY_ERROR, st == ST_OUT_OF_MEMORY ? st : ST_CHECKPOINT_INVALID,
                     spec->name, t->name, "a quant state", NULL, "%s: %s: %s", t->file, t->name,
                     err.text);
    error_clear(&err);
    struct reader r = {.spec = spec, .t = t, .root = root, .findings = findings};
    if (!st)
        read_state(&r, type, out);
    json_decref(root);
    return !st && !r.bad;
}

/* v as Python's repr writes a float. */
static int print_double(double v, char *buf, size_t size)
{
    char digits[40];
    if (!isfinite(v)) // the mean of weights that are not finite either
        return snprintf(buf, size, "%s", isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity");
    for (int p = 0; p < 17; p++) { // the fewest significant digits that read back
        snprintf(digits, sizeof digits, "%.*e", p, v);
        if (strtod(digits, NULL) == v)
            break;
    }
    const char *sign = *digits == '-' ? "-" : "";
    char *mantissa = digits + strlen(sign), *e = strchr(mantissa, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10), n = 1;
    char all[32] = {mantissa[0]};
    for (char *c = mantissa + 2; c < e; c++)
        all[n++] = *c;
    if (exponent < -4 || exponent >= 16)
        return snprintf(buf, size, "%s%c%s%s%s", sign, all[0], n > 1 ? "." : "", all + 1, e);
    if (exponent < 0)
        return snprintf(buf, size, "%s0.%.*s%s", sign, -exponent - 1, "000", all);
    if (n > exponent + 1)
        return snprintf(buf, size, "%s%.*s.%s", sign, exponent + 1, all, all + exponent + 1);
    return snprintf(buf, size, "%s%s%.*s.0", sign, all, exponent + 1 - n, "0000000000000000");
}

size_t bnb_4bit_state_print(const struct bnb_4bit_state *s, char *buf)
{
    int n = snprintf(
        buf, BNB_4BIT_STATE_MAX,
        "{\"quant_type\": \"%s\", \"blocksize\": %lld, \"dtype\": \"%s\", \"shape\": [%lld, %lld]",
        bnb_4bit_type_names[s->type], (long long)s->block, dtype_torch(s->dtype), (long long)s->n,
        (long long)s->k);
    if (s->nested) {
        char offset[64];
        print_double(s->nested_offset, offset, sizeof offset);
        n += snprintf(buf + n, BNB_4BIT_STATE_MAX - (size_t)n,
                      ", \"nested_blocksize\": %lld, \"nested_dtype\": \"float32\", "
                      "\"nested_offset\": %s",
                      (long long)s->nested_block, offset);
    }
    n += snprintf(buf + n, BNB_4BIT_STATE_MAX - (size_t)n, "}");
    return (size_t)n;
}
