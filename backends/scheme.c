/*
 * Owns the words of --quantize: what each means to its back end, and the quantization_config that
 * its library writes (transformers 5.23 for bitsandbytes; HQQ's files are transformers 4's).
 *
 *   bnb-nf4, bnb-fp4      block 64; -dq: absmax are quantized again, in blocks of 256
 *   bnb-int8              a scale a row
 *   hqq-BITS[-gGROUP]     BITS 8, 6, 5, 4, 3, 2, 1; GROUP a multiple of 8, 64 if not given; axis 1
 */
#include "backends/scheme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_MAX (1 << 20)

static const struct scheme bitsandbytes[] = {
    {.word = "bnb-nf4", .backend = "bnb_4bit", .bits = 4, .group = 64},
    {.word = "bnb-nf4-dq", .backend = "bnb_4bit", .bits = 4, .group = 64, .nested = true},
    {.word = "bnb-fp4", .backend = "bnb_4bit", .bits = 4, .group = 64, .fp4 = true},
    {.word = "bnb-fp4-dq",
     .backend = "bnb_4bit",
     .bits = 4,
     .group = 64,
     .fp4 = true,
     .nested = true},
    {.word = "bnb-int8", .backend = "bnb_8bit", .bits = 8},
};

const struct scheme scheme_head8[] = {
    {.word = "head 8", .backend = "hqq", .bits = 8, .group = 128},
    {.word = "head 8", .backend = "hqq", .bits = 8, .group = 64},
    {.word = "head 8", .backend = "bnb_8bit", .bits = 8},
};

static json_t *bitsandbytes_config(const struct scheme *s)
{
    int four = s->bits == 4;
    return json_pack("{s:b, s:b, s:s, s:s, s:s, s:b, s:b, s:b, s:n, s:f, s:b, s:b, s:s}",
                     "_load_in_4bit", four, "_load_in_8bit", !four, "bnb_4bit_compute_dtype",
                     "float32", "bnb_4bit_quant_storage", "uint8", "bnb_4bit_quant_type",
                     four && !s->fp4 ? "nf4" : "fp4", "bnb_4bit_use_double_quant", s->nested,
                     "llm_int8_enable_fp32_cpu_offload", 0, "llm_int8_has_fp16_weight", 0,
                     "llm_int8_skip_modules", "llm_int8_threshold", 6.0, "load_in_4bit", four,
                     "load_in_8bit", !four, "quant_method", "bitsandbytes");
}

static json_t *hqq_config(const struct scheme *s)
{
    json_t *weights = json_pack("{s:i, s:b, s:I, s:b, s:b, s:i, s:b}", "nbits", s->bits,
                                "channel_wise", 1, "group_size", (json_int_t)s->group, "optimize",
                                1, "round_zero", s->bits == 4, "axis", 1, "view_as_float", 0);
    return weights ? json_pack("{s:{s:o, s:n, s:n, s:b}, s:s, s:[s]}", "quant_config",
                               "weight_quant_params", weights, "scale_quant_params",
                               "zero_quant_params", "offload_meta", 0, "quant_method", "hqq",
                               "skip_modules", "lm_head")
                   : NULL;
}

/* A number of decimal digits at *text, which moves behind it; -1: none, or above most. */
static int64_t read_digits(const char **text, int64_t most)
{
    int64_t v = **text >= '1' && **text <= '9' ? 0 : -1;
    for (; v >= 0 && **text >= '0' && **text <= '9'; (*text)++) {
        v = 10 * v + (**text - '0');
        if (v > most)
            v = -1;
    }
    return v;
}

static bool parse_hqq(const char *word, struct scheme *out)
{
    if (strncmp(word, "hqq-", 4) != 0)
        return false;
    *out = (struct scheme){.backend = "hqq", .group = 64, .experts = true};
    word += 4;
    out->bits = (int)read_digits(&word, 8);
    if (!strncmp(word, "-g", 2)) {
        word += 2;
        out->group = read_digits(&word, GROUP_MAX);
    }
    return out->bits > 0 && out->bits != 7 && out->group > 0 && out->group % 8 == 0 && !*word;
}

enum status scheme_parse(const char *word, struct scheme *out, struct error *err)
{
    bool known = parse_hqq(word, out);
    for (size_t i = 0; !known && i < sizeof bitsandbytes / sizeof bitsandbytes[0]; i++)
        if (!strcmp(bitsandbytes[i].word, word)) {
            *out = bitsandbytes[i];
            out->conv1d = known = true;
        }
    if (!known || strlen(word) >= sizeof out->word) {
        *out = (struct scheme){0};
        return error_param(err, ST_INVALID_VALUE, "--quantize",
                           "--quantize: '%.64s' is no scheme: bnb-nf4, bnb-nf4-dq, bnb-fp4, "
                           "bnb-fp4-dq, bnb-int8 or hqq-BITS[-gGROUP] (BITS 8, 6, 5, 4, 3, 2 or 1, "
                           "GROUP a multiple of 8) is expected",
                           word);
    }
    snprintf(out->word, sizeof out->word, "%s", word);
    out->config = strcmp(out->backend, "hqq") != 0 ? bitsandbytes_config(out) : hqq_config(out);
    return out->config ? ST_OK : error_memory(err, "reading --quantize");
}

void scheme_clear(struct scheme *s)
{
    json_decref(s->config);
    *s = (struct scheme){0};
}
