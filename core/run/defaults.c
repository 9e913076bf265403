#include "core/run/defaults.h"

static void number(const json_t *g, const char *key, double min, double max, float *out)
{
    const json_t *v = json_object_get(g, key);
    if (json_is_number(v) && json_number_value(v) >= min && json_number_value(v) <= max)
        *out = (float)json_number_value(v);
}

static void integer(const json_t *g, const char *key, json_int_t min, int32_t *out)
{
    const json_t *v = json_object_get(g, key);
    if (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= INT32_MAX)
        *out = (int32_t)json_integer_value(v);
}

void defaults_read(const json_t *generation, struct sampling *out)
{
    *out = (struct sampling){.temperature = 1, .top_p = 1, .repetition = 1, .logprobs = -1};
    number(generation, "temperature", 0, 1e6, &out->temperature);
    number(generation, "top_p", 0, 1, &out->top_p);
    number(generation, "min_p", 0, 1, &out->min_p);
    number(generation, "repetition_penalty", 1e-6, 1e6, &out->repetition);
    integer(generation, "top_k", 0, &out->top_k);
    integer(generation, "max_new_tokens", 1, &out->max_tokens);
}
