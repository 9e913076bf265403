/*
 * Owns rotary positions: the frequencies by rope_type, read once, and the cos and sin of a pass.
 *
 *     f_i = theta^(-2i/d), i < d/2          d = head_dim * partial_rotary_factor
 *     default   f
 *     linear    f / factor
 *     dynamic   f up to P = max_position_embeddings; in a sequence of L > P positions f of another
 *               theta' = theta * (factor * L / P - (factor - 1))^(d / (d - 2))
 *     llama3    long waves (l = 2 pi/f > o/low) f / factor, short ones (l < o/high) f, between
 *               them (1-s) f/factor + s f with s = (o/l - low) / (high - low)
 *     longrope  f / long_factor[i] where the whole sequence is longer than o, else f /
 *               short_factor[i], for all its positions; cos and sin times attention_factor
 *     yarn      ramp between the dimensions that turn beta_fast and beta_slow times in o positions:
 *               f/factor * ramp + f * (1 - ramp); cos and sin times attention_factor
 *
 * Frequencies and angles (position * f) are f32, step by step as the reference computes them: far
 * into a text another rounding would be another angle. cos and sin are taken in double and rounded
 * once. So a row's angles depend on its position and, where the rope looks at it, on one length of
 * its sequence. For longrope that is the whole length: what is stored must be turned anew when it
 * passes o. For dynamic it is the length at the moment when the reference's generate turns the
 * position (the prompt's for all of a prompt, then one more for each token), and keys stay as they
 * were turned: that is what its cache holds.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/hfconfig.h"
#include "core/model/keys.h"
#include "core/model/pass.h"

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONGROPE };

static const struct {
    const char *name;
    enum rope_type type;
} type_names[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},
    {"llama3", ROPE_LLAMA3},   {"yarn", ROPE_YARN},     {"longrope", ROPE_LONGROPE},
    {"su", ROPE_LONGROPE},
};

/* Members of rope_parameters or rope_scaling. `finetuned` is a note of the first yarn files. */
static const char *const member_names[] = {"rope_type",
                                           "type",
                                           "rope_theta",
                                           "factor",
                                           "beta_fast",
                                           "beta_slow",
                                           "partial_rotary_factor",
                                           "attention_factor",
                                           "mscale",
                                           "truncate",
                                           "mscale_all_dim",
                                           "low_freq_factor",
                                           "finetuned",
                                           "high_freq_factor",
                                           "original_max_position_embeddings",
                                           "short_factor",
                                           "long_factor"};

/* One rope while it is read. */
struct rope_values {
    enum rope_type type;
    const json_t *short_factor, *long_factor; /* longrope */
    double theta, factor, original;           /* original_max_position_embeddings */
    double low, high;                         /* llama3 */
    double fast, slow, attention;             /* yarn */
    bool truncate;
};

static void check_members(const struct keys *r)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->object, key, value)
    {
        size_t i = 0, n = sizeof member_names / sizeof *member_names;
        while (i < n && strcmp(key, member_names[i]))
            i++;
        if (i == n && !json_is_null(value))
            keys_refuse(r, ST_CONFIG_UNSUPPORTED, key, "no such member (it might change the math)");
    }
}

static bool read_type(const struct keys *r, const struct family *family, enum rope_type *out)
{
    const char *key = keys_get(r, "rope_type") || !keys_get(r, "type") ? "rope_type" : "type";
    const char *name = keys_text(r, key, "default");
    *out = ROPE_DEFAULT;
    if (!name)
        return false;
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
        if (!strcmp(name, type_names[i].name)) {
            *out = type_names[i].type;
            if (*out == ROPE_YARN && family->yarn_is_longrope)
                *out = ROPE_LONGROPE;
            return true;
        }
    keys_refuse(r, ST_CONFIG_UNSUPPORTED, key,
                "default, linear, dynamic, llama3, yarn or longrope");
    return false;
}

/* cos and sin grow with the logarithm of the stretch. */
static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static void read_yarn(const struct keys *r, struct rope_values *v)
{
    double mscale = 0, all = 0;
    keys_positive(r, "beta_fast", 32, &v->fast);
    keys_positive(r, "beta_slow", 1, &v->slow);
    keys_bool(r, "truncate", true, &v->truncate);
    if (keys_get(r, "mscale"))
        keys_positive(r, "mscale", NAN, &mscale);
    if (keys_get(r, "mscale_all_dim"))
        keys_positive(r, "mscale_all_dim", NAN, &all);
    double fallback = mscale > 0 && all > 0 && v->factor > 0
                          ? yarn_scale(v->factor, mscale) / yarn_scale(v->factor, all)
                          : yarn_scale(v->factor, 1);
    keys_positive(r, "attention_factor", fallback, &v->attention);
}

static void read_llama3(const struct keys *r, struct rope_values *v)
{
    bool low = keys_positive(r, "low_freq_factor", NAN, &v->low);
    bool high = keys_positive(r, "high_freq_factor", NAN, &v->high);
    if (low && high && v->low >= v->high)
        keys_refuse(r, ST_CONFIG_INVALID_VALUE, "high_freq_factor", "more than low_freq_factor");
}

/* One positive factor for each pair of dimensions. */
static const json_t *read_factors(const struct keys *r, const char *key, int32_t pairs)
{
    const json_t *list = keys_get(r, key);
    bool ok = json_is_array(list) && json_array_size(list) == (size_t)pairs;
    for (int32_t i = 0; ok && i < pairs; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        float f = (float)json_number_value(v);
        ok = json_is_number(v) && isfinite(f) && f > 0;
    }
    if (ok)
        return list;
    char expected[64];
    snprintf(expected, sizeof expected, "a list of %d numbers above 0", (int)pairs);
    keys_refuse(r, list ? ST_CONFIG_INVALID_VALUE : ST_CONFIG_MISSING_FIELD, key, expected);
    return NULL;
}

static void read_longrope(const struct keys *r, const struct model_config *c, int32_t pairs,
                          struct rope_values *v)
{
    double stretch = (double)c->max_positions / v->original;
    v->short_factor = read_factors(r, "short_factor", pairs);
    v->long_factor = read_factors(r, "long_factor", pairs);
    if (keys_get(r, "factor"))
        keys_positive(r, "factor", NAN, &stretch);
    keys_positive(r, "attention_factor",
                  stretch <= 1 || v->original <= 1 ? 1 : sqrt(1 + log(stretch) / log(v->original)),
                  &v->attention);
}

/* The members of the object that scales; k is the whole config. */
static void read_scaling(const struct keys *k, const struct keys *r, const struct model_config *c,
                         int32_t dim, struct rope_values *v)
{
    int32_t original;
    check_members(r);
    if (!read_type(r, c->family, &v->type))
        return;
    keys_int(r, "original_max_position_embeddings", 1, INT32_MAX, c->max_positions, &original);
    keys_int(k, "original_max_position_embeddings", 1, INT32_MAX, original, &original);
    v->original = original;
    if (v->type == ROPE_LONGROPE)
        read_longrope(r, c, dim / 2, v);
    if (v->type == ROPE_DEFAULT || v->type == ROPE_LONGROPE)
        return;
    bool derived = v->type == ROPE_YARN && original != c->max_positions;
    keys_positive(r, "factor", derived ? (double)c->max_positions / original : NAN, &v->factor);
    if (v->type == ROPE_YARN)
        read_yarn(r, v);
    if (v->type == ROPE_LLAMA3)
        read_llama3(r, v);
}

/* rope_parameters (transformers 5) holds all; before, rope_theta stands at top level beside
 * rope_scaling. Where a file carries both they must agree. */
static bool find_object(const struct keys *k, struct keys *r)
{
    const json_t *scaling = keys_get(k, "rope_scaling"), *all = keys_get(k, "rope_parameters");
    *r = *k;
    r->object = all ? all : scaling;
    r->prefix = all ? "rope_parameters." : "rope_scaling.";
    if (scaling && !json_is_object(scaling))
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_scaling", "an object or null");
    if (all && !json_is_object(all))
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_parameters", "an object or null");
    if (r->object && !json_is_object(r->object))
        return false;
    if (all && json_is_object(scaling) && !json_equal(all, scaling)) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_scaling", "the same as rope_parameters");
        return false;
    }
    return true;
}

static bool read_theta(const struct keys *k, const struct keys *r, const struct family *f,
                       double *theta)
{
    const char *key = FAMILY_KEY(f, rope_theta, "rope_theta");
    double inner;
    if (!keys_positive(k, key, f->rope_theta > 0 ? f->rope_theta : 10000, theta))
        return false;
    if (!r->object || !keys_get(r, "rope_theta"))
        return true;
    if (!keys_positive(r, "rope_theta", NAN, &inner))
        return false;
    if (keys_get(k, key) && inner != *theta) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, key, "the value in the rope object");
        return false;
    }
    *theta = inner;
    return true;
}

/* The number of a head's dimensions that turn; 0 with a finding. */
static int32_t read_dim(const struct keys *k, const struct keys *r, const struct model_config *c)
{
    static const char inner[] = "partial_rotary_factor";
    const struct family *f = c->family;
    bool inside = r->object && keys_get(r, inner);
    const struct keys *where = inside ? r : k;
    const char *key = inside ? inner : FAMILY_KEY(f, rope_part, inner);
    double part;
    if (!keys_positive(where, key, f->rope_part > 0 ? f->rope_part : 1, &part))
        return 0;
    int32_t dim = part <= 1 ? (int32_t)(c->head_dim * part) : 0;
    if (dim >= 2 && dim % 2 == 0)
        return dim;
    keys_refuse(where, ST_CONFIG_INVALID_VALUE, keys_get(where, key) ? key : "head_dim",
                "an even number of rotated dimensions within the head");
    return 0;
}

/* ---- frequencies: in f32, operation by operation as the reference's tensors are ---- */

/* theta^(2i/d) */
static float power_of(float theta, int32_t d, int32_t i)
{
    float exponent = (float)(2 * i) / (float)d;
    return (float)pow(theta, exponent);
}

static float wave_power(const struct rope_values *v, int32_t d, int32_t i)
{
    return power_of((float)v->theta, d, i);
}

/* A scalar over a tensor is the tensor's reciprocal times the scalar there. */
static float llama3_frequency(const struct rope_values *v, float f)
{
    float factor = (float)v->factor, wave = 1 / f * (float)(2 * M_PI);
    if (wave > (float)(v->original / v->low))
        return f / factor;
    if (wave < (float)(v->original / v->high))
        return f;
    float s = (1 / wave * (float)v->original - (float)v->low) / (float)(v->high - v->low);
    return (1 - s) * f / factor + s * f;
}

/* The dimension whose wave turns n times within the original length. */
static double yarn_dim(const struct rope_values *v, int32_t d, double n)
{
    return d * log(v->original / (2 * M_PI * n)) / (2 * log(v->theta));
}

static float yarn_frequency(const struct rope_values *v, int32_t d, int32_t i, float power)
{
    double lo = yarn_dim(v, d, v->fast), hi = yarn_dim(v, d, v->slow);
    if (v->truncate) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0);
    hi = fmin(hi, d - 1);
    if (lo == hi)
        hi += 0.001;
    float ramp = fminf(fmaxf(((float)i - (float)lo) / (float)(hi - lo), 0), 1), keep = 1 - ramp;
    return 1 / ((float)v->factor * power) * (1 - keep) + 1 / power * keep;
}

static float listed(const json_t *list, int32_t i)
{
    return (float)json_number_value(json_array_get(list, (size_t)i));
}

static float frequency(const struct rope_values *v, int32_t d, int32_t i)
{
    float power = wave_power(v, d, i), f = 1 / power;
    switch (v->type) {
    case ROPE_DEFAULT:
    case ROPE_DYNAMIC:
        return f;
    case ROPE_LONGROPE:
        return 1 / (listed(v->short_factor, i) * power);
    case ROPE_LINEAR:
        return f / (float)v->factor;
    case ROPE_LLAMA3:
        return llama3_frequency(v, f);
    case ROPE_YARN:
        return yarn_frequency(v, d, i, power);
    }
    return f;
}

/* Angles must stay finite at every position. */
static bool all_finite(const struct keys *k, const float *inverse, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (!isfinite(inverse[i] * (float)INT32_MAX)) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_theta", "a base with finite angles");
            return false;
        }
    return true;
}

static enum status fill(const struct keys *k, struct model_config *c, const struct rope_values *v,
                        int32_t dim, struct rope *out)
{
    int32_t half = dim / 2;
    *out = (struct rope){.dim = dim, .factor = (float)v->attention};
    if (v->type == ROPE_DYNAMIC) {
        out->growth = (float)v->factor;
        out->theta = (float)v->theta;
        out->original = c->max_positions;
    }
    out->inverse = arena_alloc(&c->arena, (size_t)half * sizeof *out->inverse);
    if (!out->inverse)
        return ST_OUT_OF_MEMORY;
    for (int32_t i = 0; i < half; i++)
        out->inverse[i] = frequency(v, dim, i);
    if (!all_finite(k, out->inverse, half) || v->type != ROPE_LONGROPE)
        return ST_OK;
    out->original = (int32_t)v->original;
    out->stretched = arena_alloc(&c->arena, (size_t)half * sizeof *out->stretched);
    if (!out->stretched)
        return ST_OUT_OF_MEMORY;
    for (int32_t i = 0; i < half; i++)
        out->stretched[i] = 1 / (listed(v->long_factor, i) * wave_power(v, dim, i));
    all_finite(k, out->stretched, half);
    return ST_OK;
}

/* One rope: its scaling object r (NULL object: none) and theta. */
static enum status read_one(const struct keys *k, const struct keys *r, double theta,
                            struct model_config *c, struct rope *out)
{
    struct rope_values v = {.attention = 1, .theta = theta};
    size_t before = k->findings->errors;
    int32_t dim = c->head_dim > 0 ? read_dim(k, r, c) : 0;
    if (r->object)
        read_scaling(k, r, c, dim, &v);
    if (v.type == ROPE_YARN && v.theta == 1) // its logarithm divides
        keys_refuse(r, ST_CONFIG_INVALID_VALUE, "rope_theta", "another base than 1 for yarn");
    if (k->findings->errors > before || dim == 0)
        return ST_OK;
    return fill(k, c, &v, dim, out);
}

/* rope_parameters of transformers 5 with a member for each type of layer. */
static bool by_layer_type(const struct keys *r)
{
    return json_is_object(json_object_get(r->object, "full_attention")) ||
           json_is_object(json_object_get(r->object, "sliding_attention"));
}

static enum status read_member(const struct keys *k, const struct keys *all, const char *member,
                               const char *prefix, double fallback, struct model_config *c,
                               struct rope *out)
{
    struct keys r = {keys_get(all, member), all->file, prefix, all->findings};
    double theta = fallback;
    if (!json_is_object(r.object)) {
        keys_refuse(all, ST_CONFIG_MISSING_FIELD, member, "an object");
        return ST_OK;
    }
    return keys_positive(&r, "rope_theta", fallback, &theta) ? read_one(k, &r, theta, c, out)
                                                             : ST_OK;
}

/* The rope of local layers of files that have none by layer type: never scaled. */
static enum status read_local(const struct keys *k, struct model_config *c)
{
    const struct family *f = c->family;
    const struct keys none = {NULL, k->file, k->prefix, k->findings};
    double theta;
    if (!keys_positive(k, FAMILY_KEY(f, rope_local_theta, "rope_local_base_freq"),
                       f->rope_local_theta, &theta))
        return ST_OK;
    return read_one(k, &none, theta, c, &c->rope[1]);
}

enum status rope_read(const struct keys *k, struct model_config *c)
{
    const struct family *f = c->family;
    struct keys r;
    double theta;
    if (!find_object(k, &r))
        return ST_OK;
    if (f->rope_local_theta > 0 && by_layer_type(&r)) {
        enum status s = read_member(k, &r, "full_attention", "rope_parameters.full_attention.",
                                    f->rope_theta, c, &c->rope[0]);
        return s ? s
                 : read_member(k, &r, "sliding_attention", "rope_parameters.sliding_attention.",
                               f->rope_local_theta, c, &c->rope[1]);
    }
    if (!read_theta(k, &r, f, &theta))
        return ST_OK;
    enum status s = read_one(k, &r, theta, c, &c->rope[0]);
    return s || f->rope_local_theta <= 0 ? s : read_local(k, c);
}

/* The frequencies of a sequence of that length, to inverse. */
static void fill_dynamic(const struct rope *rope, int32_t length, float *inverse)
{
    double exponent = (double)rope->dim / (rope->dim - 2);
    float stretch = rope->growth * (float)length / (float)rope->original - (rope->growth - 1);
    float theta = rope->theta * (float)pow(stretch, exponent);
    for (int32_t i = 0; i < rope->dim / 2; i++)
        inverse[i] = 1 / power_of(theta, rope->dim, i);
}

/* Those by which positions turn in a sequence of `length`; *made: the one that scratch holds. */
static const float *frequencies(const struct rope *rope, int32_t length, int32_t *made,
                                float *scratch)
{
    if (length <= rope->original || rope->original == 0)
        return rope->inverse;
    if (rope->stretched)
        return rope->stretched;
    if (*made != length)
        fill_dynamic(rope, length, scratch);
    *made = length;
    return scratch;
}

void rope_fill(const struct rope *rope, const int32_t *positions, const int32_t *lengths,
               int32_t rows, float *scratch, float *cosines, float *sines)
{
    int32_t half = rope->dim / 2, made = 0;
    for (int32_t r = 0; r < rows; r++) {
        const float *inverse = frequencies(rope, lengths ? lengths[r] : 0, &made, scratch);
        for (int32_t i = 0; i < half; i++) {
            float angle = (float)positions[r] * inverse[i];
            cosines[(size_t)r * half + i] = (float)cos(angle) * rope->factor;
            sines[(size_t)r * half + i] = (float)sin(angle) * rope->factor;
        }
    }
}
