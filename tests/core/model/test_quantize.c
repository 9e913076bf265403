/* A plain base quantized while it loads: which modules, what they become, what is refused. */
#include <math.h>

#include "tests/core/model/memory_checkpoint.h"

#include "backends/bnb_4bit_quantize.h"
#include "backends/kernels/cpu.h"
#include "backends/scheme.h"
#include "core/model/view.h"
#include "tests/faults/fault.h"

static enum status open_as(struct memory_checkpoint *mc, const char *word, int threads,
                           struct model **m, struct error *err)
{
    struct scheme scheme;
    enum status s = scheme_parse(word, &scheme, err);
    const struct model_options options = {
        .quantize = &scheme, .quantize_threads = threads, .memory_limit = 1 << 30};
    s = s ? s : model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, m, err);
    scheme_clear(&scheme);
    return s;
}

static void open_well(struct memory_checkpoint *mc, const char *word, int threads, struct model **m)
{
    struct error err = ERROR_INIT;
    ck_assert_msg(open_as(mc, word, threads, m, &err) == ST_OK, "%s: %s", word, err.text);
}

/* The refusal's sentence names `near`. */
static void refused(struct memory_checkpoint *mc, const char *word, enum status code,
                    const char *near)
{
    struct error err = ERROR_INIT;
    struct model *m = NULL;
    enum status s = open_as(mc, word, 2, &m, &err);
    ck_assert_msg(s == code && strstr(err.text, near), "%s: %d, %s", word, (int)s, err.text);
    ck_assert(!m);
    error_clear(&err);
}

START_TEST(words)
{
    static const char *const good[] = {"bnb-nf4", "bnb-nf4-dq", "bnb-fp4",    "bnb-fp4-dq",
                                       "hqq-8",   "hqq-1",      "hqq-3-g128", "bnb-int8"};
    static const char *const bad[] = {"",
                                      "nf4",
                                      "bnb-nf4 ",
                                      "bnb-int8-dq",
                                      "hqq",
                                      "hqq-",
                                      "hqq-0",
                                      "hqq-7",
                                      "hqq-9",
                                      "hqq-04",
                                      "hqq-+4",
                                      "hqq-4-g",
                                      "hqq-4-g0",
                                      "hqq-4-g12",
                                      "hqq-4-g-8",
                                      "hqq-4-g64x",
                                      "hqq-4-g99999999999999999999999999"};
    struct scheme s;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert(scheme_parse(good[i], &s, NULL) == ST_OK);
        ck_assert_str_eq(s.word, good[i]);
        ck_assert(json_is_string(json_object_get(s.config, "quant_method")));
        scheme_clear(&s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(scheme_parse(bad[i], &s, NULL) == ST_INVALID_VALUE, "%s", bad[i]);
        scheme_clear(&s);
    }
}
END_TEST

/* The map that bitsandbytes 0.50.2 makes on torch 2.15 has this CRC-32. */
START_TEST(nested_map)
{
    float map[256];
    uint8_t bytes[sizeof map];
    uint32_t crc = ~0u;
    bnb_4bit_map_init(map);
    memcpy(bytes, map, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        crc ^= bytes[i];
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    ck_assert_uint_eq(~crc, 0x1b137aebu);
}
END_TEST

static const char *backend_of(const struct model *m, const char *name)
{
    return m->modules[model_module(m, name)].backend->name;
}

START_TEST(linears_only)
{
    struct memory_checkpoint mc;
    struct model *plain, *m;
    memory_checkpoint_llama(&mc);
    ck_assert(model_open(&mc.cp, &(struct model_options){0}, &chain_default, &plain_kernels, NULL,
                         NULL, &plain, NULL) == ST_OK);
    open_well(&mc, "bnb-nf4-dq", 1, &m);
    ck_assert_str_eq(backend_of(m, "model.embed_tokens"), "default");
    ck_assert_str_eq(backend_of(m, "lm_head"), "default");
    for (size_t i = 1; i + 1 < m->n_modules; i++)
        ck_assert(m->modules[i].quantized && !strcmp(m->modules[i].backend->name, "bnb_4bit"));
    ck_assert_str_eq(m->modules[1].why, "weight F32 [128, 128]; --quantize bnb-nf4-dq");
    ck_assert_str_eq(plain->modules[1].why, "weight F32 [128, 128]");
    ck_assert_str_eq(m->quant_method, "bitsandbytes");
    ck_assert_str_eq(plain->quant_method, "");
    ck_assert_uint_eq(strlen(m->identity), 64);
    ck_assert_str_ne(m->identity, plain->identity);
    ck_assert_int_lt((int64_t)m->weight_bytes, (int64_t)plain->weight_bytes / 2);
    ck_assert(m->base->weights[1]->nested && m->base->weights[1]->dtype == DT_F32);
    ck_assert_uint_eq(m->base->weights[1]->file_bytes, 128 * 128 * sizeof(float));
    model_close(m);
    model_close(plain);
    memory_checkpoint_free(&mc);
}
END_TEST

/* Decoded, a weight is near what it was, and the same whoever loaded it. */
START_TEST(threads_do_not_show)
{
    static const char *const schemes[] = {"bnb-fp4", "bnb-int8", "hqq-4", "hqq-3-g32"};
    struct memory_checkpoint mc;
    struct model *one, *many;
    struct kernels *k;
    float a[128], b[128], w[128];
    memory_checkpoint_llama(&mc);
    ck_assert(cpu_kernels_open("portable", COMPUTE_EXACT, 1, &k, NULL) == ST_OK);
    for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++) {
        open_well(&mc, schemes[s], 1, &one);
        open_well(&mc, schemes[s], 5, &many);
        ck_assert_str_eq(one->identity, many->identity);
        for (size_t i = 0; i < one->n_modules; i++) {
            const struct weight *x = one->base->weights[i], *y = many->base->weights[i];
            const struct tensor *t = checkpoint_below(&mc.cp, one->modules[i].file, &(size_t){0});
            ck_assert_uint_eq(x->data_bytes, y->data_bytes);
            ck_assert(!memcmp(x->data, y->data, x->data_bytes));
            for (int64_t r = 0; r < x->n; r++) {
                k->dequantize(k, x, r, 1, a);
                k->dequantize(k, y, r, 1, b);
                ck_assert(!memcmp(a, b, (size_t)x->k * sizeof *a));
                tensor_to_f32(t, r * x->k, x->k, w);
                for (int64_t c = 0; c < x->k; c++)
                    ck_assert_float_le(a[c] > w[c] ? a[c] - w[c] : w[c] - a[c], 0.05f);
            }
        }
        model_close(one);
        model_close(many);
    }
    k->close(k);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(one_module)
{
    struct memory_checkpoint mc;
    struct model *whole, *m;
    struct scheme scheme;
    struct weight w;
    memory_checkpoint_llama(&mc);
    open_well(&mc, "bnb-nf4", 1, &whole);
    ck_assert(scheme_parse("bnb-nf4", &scheme, NULL) == ST_OK);
    const struct model_options options = {.quantize = &scheme, .claim_only = true};
    ck_assert(model_open(&mc.cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, NULL) ==
              ST_OK);
    for (int32_t i = 0; i < 2; i++) {
        ck_assert(model_load_weight(m, &mc.cp, &options, i, &w, NULL) == ST_OK);
        ck_assert_uint_eq(w.data_bytes, whole->base->weights[i]->data_bytes);
        ck_assert(!memcmp(w.data, whole->base->weights[i]->data, w.data_bytes));
        weight_clear(&w);
    }
    ck_assert(model_load_weight(m, &mc.cp, &options, 999, &w, NULL) != ST_OK);
    model_close(m);
    model_close(whole);
    scheme_clear(&scheme);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(refusals)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    refused(&mc, "hqq-4-g24", ST_NOT_SUPPORTED, "self_attn.q_proj");
    refused(&mc, "hqq-1-g16384", ST_NOT_SUPPORTED, "fields of a packed byte");
    mc.cp.quant = json_pack("{ss sb}", "quant_method", "bitsandbytes", "load_in_8bit", 1);
    refused(&mc, "bnb-nf4", ST_NOT_SUPPORTED, "bitsandbytes");
    json_decref(mc.cp.quant);
    mc.cp.quant = NULL;
    const struct tensor *t = checkpoint_find(&mc.cp, "model.layers.1.mlp.up_proj.weight");
    float *v = (float *)(uintptr_t)t->data;
    v[77] = NAN;
    refused(&mc, "bnb-nf4", ST_NON_FINITE_WEIGHTS, "model.layers.1.mlp.up_proj.weight");
    v[77] = 1e6f; // no F16
    refused(&mc, "bnb-int8", ST_NON_FINITE_WEIGHTS, "model.layers.1.mlp.up_proj.weight");
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(memory_limit)
{
    struct memory_checkpoint mc;
    struct scheme scheme;
    struct model *m;
    memory_checkpoint_llama(&mc);
    ck_assert(scheme_parse("bnb-nf4", &scheme, NULL) == ST_OK);
    struct model_options options = {.quantize = &scheme, .memory_limit = 200000};
    ck_assert(model_open(&mc.cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, NULL) ==
              ST_OK); // 0.7 MB as it is
    model_close(m);
    options.memory_limit = 120000;
    ck_assert(model_open(&mc.cp, &options, &chain_default, &plain_kernels, NULL, NULL, &m, NULL) ==
              ST_CAPACITY_EXCEEDED);
    scheme_clear(&scheme);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(out_of_memory)
{
    static const char *const schemes[] = {"bnb-nf4-dq", "bnb-int8", "hqq-4"};
    struct memory_checkpoint mc;
    struct model *m = NULL;
    memory_checkpoint_llama(&mc);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        FAULT_EACH(n)
        {
            struct error err = ERROR_INIT;
            long before = fault_live();
            enum status s = open_as(&mc, schemes[i], 1, &m, &err);
            bool fired = fault_disarm();
            ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "%s, call %ld: %s",
                          schemes[i], n, err.text);
            model_close(m);
            m = NULL;
            error_clear(&err);
            ck_assert_int_eq(fault_live(), before);
        }
    memory_checkpoint_free(&mc);
}
END_TEST

static enum status open_head(struct memory_checkpoint *mc, const char *word, uint64_t limit,
                             struct model **m, struct error *err)
{
    struct scheme scheme = {0};
    enum status s = word ? scheme_parse(word, &scheme, err) : ST_OK;
    const struct model_options options = {
        .quantize = word ? &scheme : NULL, .head = scheme_head8, .memory_limit = limit};
    *m = NULL;
    s = s ? s : model_open(&mc->cp, &options, &chain_default, &plain_kernels, NULL, NULL, m, err);
    scheme_clear(&scheme);
    return s;
}

/* --head 8: bytes beside the layer itself, whatever the rest of the base is. */
START_TEST(second_head)
{
    static const char *const schemes[] = {NULL, "bnb-nf4"};
    struct memory_checkpoint mc;
    struct kernels *k = NULL;
    ck_assert(cpu_kernels_open("portable", COMPUTE_EXACT, 1, &k, NULL) == ST_OK);
    memory_checkpoint_llama(&mc);
    for (size_t i = 0; i < 2; i++) {
        struct model *m;
        ck_assert(open_head(&mc, schemes[i], 1 << 30, &m, NULL) == ST_OK);
        int32_t head = model_module(m, "lm_head");
        ck_assert(head >= 0 && m->head8);
        const struct weight *plain = m->base->weights[head], *w = m->head8;
        ck_assert(plain->encoding == ENC_DENSE && w->encoding == ENC_GROUP && w->bits == 8);
        ck_assert(w->n == m->vocab && w->k == m->hidden && w->n_groups == 1);
        ck_assert_int_eq(m->weight_bytes, m->base->bytes + weight_bytes(w));
        for (int64_t row = 0; row < w->n; row++) {
            float a[1024], b[1024], peak = 0;
            k->dequantize(k, plain, row, 1, a);
            k->dequantize(k, w, row, 1, b);
            for (int64_t c = 0; c < w->k; c++)
                peak = fmaxf(peak, fabsf(a[c]));
            for (int64_t c = 0; c < w->k; c++) // a step
                ck_assert(fabsf(a[c] - b[c]) <= peak / 127);
        }
        model_close(m);
        enum status s = open_head(&mc, schemes[i], 4096, &m, NULL);
        ck_assert(s == ST_CAPACITY_EXCEEDED && !m);
    }
    memory_checkpoint_free(&mc);
    k->close(k);
}
END_TEST

START_TEST(second_head_out_of_memory)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        struct model *m = NULL;
        long before = fault_live();
        enum status s = open_head(&mc, NULL, 1 << 30, &m, &err);
        bool fired = fault_disarm();
        ck_assert_msg(s == ST_OK || (fired && s == ST_OUT_OF_MEMORY), "call %ld: %s", n, err.text);
        model_close(m);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("quantize");
    TCase *t = tcase_create("quantize");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, words);
    tcase_add_test(t, nested_map);
    tcase_add_test(t, linears_only);
    tcase_add_test(t, threads_do_not_show);
    tcase_add_test(t, one_module);
    tcase_add_test(t, refusals);
    tcase_add_test(t, memory_limit);
    tcase_add_test(t, out_of_memory);
    tcase_add_test(t, second_head);
    tcase_add_test(t, second_head_out_of_memory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
