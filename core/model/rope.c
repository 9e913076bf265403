/*
 * Owns rotary positions: the frequencies by rope_type, read once, and the cos and sin of a pass.
 *
 *     f_i = theta^(-2i/d), i < d/2          d = head_dim * partial_rotary_factor
 *     default   f
 *     linear    f / factor
 *     dynamic   f up to max_position_embeddings, where its formula is the identity; not beyond
 *     llama3    long waves (l = 2 pi/f > o/low) f / factor, short ones (l < o/high) f, between
 *               them (1-s) f/factor + s f with s = (o/l - low) / (high - low)
 *     yarn      ramp between the dimensions that turn beta_fast and beta_slow times in o positions:
 *               f/factor * ramp + f * (1 - ramp); cos and sin times attention_factor
 *
 * Frequencies are computed in double and kept as f32; an angle is the f32 product position * f, as
 * the reference's is; cos and sin are taken in double and rounded once. So a row's angles depend on
 * its position alone.
 */
#include <math.h>
#include <string.h>

#include "core/model/hfconfig.h"
#include "core/model/keys.h"
#include "core/model/pass.h"

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN };

static const char *const type_names[] = {"default", "linear", "dynamic", "llama3", "yarn"};

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
                                           "original_max_position_embeddings"};

struct rope_values {
    enum rope_type type;
    double theta, factor, original; /* original_max_position_embeddings */
    double low, high;               /* llama3 */
    double fast, slow, attention;   /* yarn */
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

static bool read_type(const struct keys *r, enum rope_type *out)
{
    const char *key = keys_get(r, "rope_type") || !keys_get(r, "type") ? "rope_type" : "type";
    const char *name = keys_text(r, key, "default");
    *out = ROPE_DEFAULT;
    if (!name)
        return false;
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
        if (!strcmp(name, type_names[i])) {
            *out = (enum rope_type)i;
            return true;
        }
    keys_refuse(r, ST_CONFIG_UNSUPPORTED, key, "default, linear, dynamic, llama3 or yarn");
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
    if (keys_positive(r, "low_freq_factor", NAN, &v->low) &
            keys_positive(r, "high_freq_factor", NAN, &v->high) &&
        v->low >= v->high)
        keys_refuse(r, ST_CONFIG_INVALID_VALUE, "high_freq_factor", "more than low_freq_factor");
}

/* The members of the object that scales; k is the whole config. */
static void read_scaling(const struct keys *k, const struct keys *r, const struct model_config *c,
                         struct rope_values *v)
{
    int32_t original;
    check_members(r);
    if (!read_type(r, &v->type))
        return;
    keys_int(r, "original_max_position_embeddings", 1, INT32_MAX, c->max_positions, &original);
    keys_int(k, "original_max_position_embeddings", 1, INT32_MAX, original, &original);
    v->original = original;
    if (v->type == ROPE_DEFAULT)
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

static bool read_theta(const struct keys *k, const struct keys *r, double *theta)
{
    double inner;
    if (!keys_positive(k, "rope_theta", 10000, theta))
        return false;
    if (!r->object || !keys_get(r, "rope_theta"))
        return true;
    if (!keys_positive(r, "rope_theta", NAN, &inner))
        return false;
    if (keys_get(k, "rope_theta") && inner != *theta) {
        keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_theta", "the value in the rope object");
        return false;
    }
    *theta = inner;
    return true;
}

static void read_dim(const struct keys *k, const struct keys *r, struct model_config *c)
{
    double part = 1;
    const struct keys *where = r->object && keys_get(r, "partial_rotary_factor") ? r : k;
    if (!keys_positive(where, "partial_rotary_factor", 1, &part))
        return;
    c->rope.dim = part <= 1 ? (int32_t)(c->head_dim * part) : 0;
    if (c->rope.dim < 2 || c->rope.dim % 2)
        keys_refuse(where, ST_CONFIG_INVALID_VALUE,
                    keys_get(where, "partial_rotary_factor") ? "partial_rotary_factor" : "head_dim",
                    "an even number of rotated dimensions within the head");
}

/* ---- frequencies ---- */

static double llama3_frequency(const struct rope_values *v, double f)
{
    double wave = 2 * M_PI / f;
    if (wave > v->original / v->low)
        return f / v->factor;
    if (wave < v->original / v->high)
        return f;
    double s = (v->original / wave - v->low) / (v->high - v->low);
    return (1 - s) * f / v->factor + s * f;
}

/* The dimension whose wave turns n times within the original length. */
static double yarn_dim(const struct rope_values *v, int32_t d, double n)
{
    return d * log(v->original / (2 * M_PI * n)) / (2 * log(v->theta));
}

static double yarn_frequency(const struct rope_values *v, int32_t d, int32_t i, double f)
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
    double ramp = fmin(fmax((i - lo) / (hi - lo), 0), 1);
    return f / v->factor * ramp + f * (1 - ramp);
}

static double frequency(const struct rope_values *v, int32_t d, int32_t i)
{
    double f = pow(v->theta, -2.0 * i / d);
    switch (v->type) {
    case ROPE_DEFAULT:
    case ROPE_DYNAMIC:
        return f;
    case ROPE_LINEAR:
        return f / v->factor;
    case ROPE_LLAMA3:
        return llama3_frequency(v, f);
    case ROPE_YARN:
        return yarn_frequency(v, d, i, f);
    }
    return f;
}

enum status rope_read(const struct keys *k, struct model_config *c)
{
    struct keys r;
    struct rope_values v = {.attention = 1};
    size_t before = k->findings->errors;
    if (find_object(k, &r) && read_theta(k, &r, &v.theta)) {
        if (r.object)
            read_scaling(k, &r, c, &v);
        if (c->head_dim > 0)
            read_dim(k, &r, c);
    }
    if (v.type == ROPE_YARN && v.theta == 1) // its logarithm divides
        keys_refuse(&r, ST_CONFIG_INVALID_VALUE, "rope_theta", "another base than 1 for yarn");
    if (k->findings->errors > before || c->head_dim <= 0)
        return ST_OK;
    c->rope.factor = (float)v.attention;
    c->rope.max_len = v.type == ROPE_DYNAMIC ? c->max_positions : 0;
    c->rope.inverse = arena_alloc(&c->arena, (size_t)(c->rope.dim / 2) * sizeof(float));
    if (!c->rope.inverse)
        return ST_OUT_OF_MEMORY;
    for (int32_t i = 0; i < c->rope.dim / 2; i++) {
        c->rope.inverse[i] = (float)frequency(&v, c->rope.dim, i);
        if (!isfinite(c->rope.inverse[i] * (float)INT32_MAX)) {
            keys_refuse(k, ST_CONFIG_INVALID_VALUE, "rope_theta", "a base with finite angles");
            break;
        }
    }
    return ST_OK;
}

void rope_fill(const struct rope *rope, const int32_t *positions, int32_t rows, float *cosines,
               float *sines)
{
    int32_t half = rope->dim / 2;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < half; i++) {
            float angle = (float)positions[r] * rope->inverse[i];
            cosines[(size_t)r * half + i] = (float)cos(angle) * rope->factor;
            sines[(size_t)r * half + i] = (float)sin(angle) * rope->factor;
        }
}
