/* From names to a network: modules, names, replication, leftovers, memory, loading, views. */
#include "tests/core/model/memory_checkpoint.h"

#include "core/model/view.h"
#include "tests/faults/fault.h"

static enum status open_memory(struct memory_checkpoint *mc, const struct model_options *options,
                               struct model **m, struct error *err)
{
    return model_open(&mc->cp, options, &chain_default, &plain_kernels, NULL, NULL, m, err);
}

START_TEST(modules_in_order)
{
    static const char *const layer[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                        "mlp.down_proj"};
    struct memory_checkpoint mc;
    struct model *m;
    char name[96];
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    ck_assert_int_eq(m->n_modules, 1 + 2 * 7 + 1);
    ck_assert_str_eq(m->modules[0].name, "model.embed_tokens");
    ck_assert(m->modules[0].kind == MODULE_EMBEDDING && m->modules[0].input_embedding);
    ck_assert(m->modules[0].n == 40 && m->modules[0].k == 128 && m->modules[0].rotate_dim == 128);
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 7; i++) {
            const struct module *u = &m->modules[1 + 7 * l + i];
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[i]);
            ck_assert_str_eq(u->name, name);
            ck_assert_str_eq(u->file, name);
            ck_assert_int_eq(model_module(m, name), u - m->modules);
            ck_assert(u->layer == l && u->base == u - m->modules && u->kind == MODULE_LINEAR);
            ck_assert_str_eq(u->backend->name, "default");
        }
    const struct module *head = &m->modules[15];
    ck_assert(head->output_embedding && head->layer == -1 && !strcmp(head->name, "lm_head"));
    ck_assert_int_eq(model_module(m, "lm_hea"), -1);
    ck_assert(m->base->id == 0 && m->weight_bytes == m->base->bytes);
    ck_assert_int_gt(m->weight_bytes, 0);
    struct module_spec spec;
    ck_assert(model_spec(m, &mc.cp, 3, &spec) == ST_OK);
    ck_assert(spec.n_tensors == 1 && spec.n == 64 && spec.k == 128 && spec.quant == NULL);
    ck_assert_str_eq(spec.tensors[0].name, "model.layers.0.self_attn.v_proj.weight");
    ck_assert(model_spec(m, &mc.cp, 16, &spec) != ST_OK);
    ck_assert(model_spec(m, &mc.cp, -1, &spec) != ST_OK);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

static bool listed(const struct model *m, const char *name)
{
    int n = 0;
    for (size_t i = 0; i < m->n_other_names; i++)
        n += !strcmp(m->other_names[i], name);
    ck_assert_int_le(n, 1);
    return n == 1;
}

/* named_modules of transformers' LlamaForCausalLM, less the modules above. */
START_TEST(other_names)
{
    static const char *const names[] = {"model",
                                        "model.layers",
                                        "model.layers.0",
                                        "model.layers.1",
                                        "model.layers.0.self_attn",
                                        "model.layers.1.mlp",
                                        "model.layers.1.mlp.act_fn",
                                        "model.layers.0.input_layernorm",
                                        "model.layers.0.post_attention_layernorm",
                                        "model.norm",
                                        "model.rotary_emb"};
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &(struct model_options){.claim_only = true}, &m, NULL) == ST_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(listed(m, names[i]), "%s", names[i]);
    ck_assert_int_eq(m->n_other_names, 2 + 2 * 6 + 2);
    for (size_t i = 0; i < m->n_modules; i++)
        ck_assert(!listed(m, m->modules[i].name));
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(replication)
{
    const struct layer_range ranges[] = {{0, 2}, {0, 1}, {1, 2}};
    const struct model_options options = {.replication = ranges, .n_replication = 3};
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &options, &m, NULL) == ST_OK);
    ck_assert(m->replicated && m->n_replication == 3 && m->replication != ranges);
    ck_assert_int_eq(m->layers, 4);
    ck_assert_int_eq(m->n_modules, 1 + 4 * 7 + 1);
    for (int l = 2; l < 4; l++)
        for (int i = 0; i < 7; i++) {
            int32_t copy = 1 + 7 * l + i, owner = 1 + 7 * (l - 2) + i;
            ck_assert_int_eq(m->modules[copy].base, owner);
            ck_assert_str_eq(m->modules[copy].file, m->modules[owner].file);
            ck_assert(strstr(m->modules[copy].name, l == 2 ? ".layers.2." : ".layers.3."));
            ck_assert_ptr_eq(m->base->weights[copy], m->base->weights[owner]);
            ck_assert_ptr_eq(m->modules[copy].backend, m->modules[owner].backend);
        }
    ck_assert_ptr_eq(m->config->layers[2].norm[0].weight, m->config->layers[0].norm[0].weight);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

/* A replicated network is the network that has the layers twice. */
START_TEST(replication_as_copied)
{
    const struct layer_range ranges[] = {{0, 2}, {1, 2}};
    const struct model_options options = {.replication = ranges, .n_replication = 2};
    struct fixture f, deep;
    fixture_open_with(&f, "families/mistral", &options);
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
    fixture_prefill(&f, 0, f.len, NULL, 0, got);
    fixture_open(&deep, "families/mistral");
    const struct model_config *c = deep.m->config;
    struct layer layers[3] = {c->layers[0], c->layers[1], c->layers[1]};
    struct model_config copied = *c;
    struct model m = *deep.m;
    copied.layers = layers;
    m.config = &copied;
    m.layers = 3;
    struct model *real = f.m;
    f.m = &m;
    fixture_prefill(&f, 0, f.len, NULL, 0, want);
    f.m = real;
    ck_assert(!memcmp(got, want, n * sizeof *got));
    free(got);
    free(want);
    fixture_close(&deep);
    fixture_close(&f);
}
END_TEST

START_TEST(replication_that_skips_a_layer)
{
    const struct layer_range ranges[] = {{1, 2}};
    const struct model_options options = {.replication = ranges, .n_replication = 1};
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &options, &m, NULL) == ST_OK);
    ck_assert_int_eq(m->layers, 1);
    ck_assert_str_eq(m->modules[1].name, "model.layers.0.self_attn.q_proj");
    ck_assert_str_eq(m->modules[1].file, "model.layers.1.self_attn.q_proj");
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

static const struct layer_range bad_ranges[] = {
    {0, 3}, {-1, 1}, {1, 1}, {2, 1}, {INT32_MIN, INT32_MAX}};

START_TEST(bad_replication)
{
    const struct model_options options = {.replication = &bad_ranges[_i], .n_replication = 1};
    struct memory_checkpoint mc;
    struct model *m;
    struct error err = ERROR_INIT;
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &options, &m, &err) == ST_INVALID_VALUE);
    ck_assert(strstr(err.text, "layer_replication"));
    memory_checkpoint_free(&mc);
}
END_TEST

/* ---- what the file holds ---- */

START_TEST(tied_head)
{
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    json_object_set_new(mc.cp.config, "tie_word_embeddings", json_true());
    memory_checkpoint_refused(&mc, "a head of its own", ST_TENSOR_UNEXPECTED, "lm_head.weight");
    // The same bytes again are fine, and so is nothing.
    memory_checkpoint_remove(&mc, "lm_head.weight");
    struct tensor *t = memory_checkpoint_add(&mc, "lm_head.weight", 40, 128);
    memcpy((void *)t->data, checkpoint_find(&mc.cp, "model.embed_tokens.weight")->data, t->bytes);
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    model_close(m);
    memory_checkpoint_remove(&mc, "lm_head.weight");
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    const struct module *head = &m->modules[m->n_modules - 1];
    ck_assert(m->tied && head->base == 0 && head->output_embedding);
    ck_assert_str_eq(head->name, "lm_head");
    ck_assert_str_eq(head->file, "model.embed_tokens");
    ck_assert_ptr_eq(m->base->weights[m->n_modules - 1], m->base->weights[0]);
    model_close(m);
    json_object_set_new(mc.cp.config, "tie_word_embeddings", json_false());
    memory_checkpoint_refused(&mc, "no head", ST_TENSOR_MISSING, NULL);
    memory_checkpoint_free(&mc);
}
END_TEST

static const struct {
    const char *name;
    int64_t n, k;
    enum status code; /* ST_OK: harmless */
} extra[] = {
    {"model.rotary_emb.inv_freq", 32, 0, ST_OK},
    {"model.layers.1.self_attn.rotary_emb.inv_freq", 32, 0, ST_OK},
    {"model.layers.1.self_attn.k_scale", 1, 0, ST_TENSOR_UNEXPECTED},
    {"model.layers.1.self_attn.q_norm.weight", 64, 0, ST_TENSOR_UNEXPECTED},
    {"model.layers.2.self_attn.q_proj.weight", 128, 128, ST_CONFIG_INVALID_VALUE},
    {"score.weight", 2, 128, ST_TENSOR_UNEXPECTED},
    {"model.norm.bias", 128, 0, ST_TENSOR_UNEXPECTED}, // an RMS norm has none
    {"model.layers.0.self_attn.q_proj.bias", 128, 0, ST_TENSOR_UNEXPECTED},
};

START_TEST(leftovers)
{
    struct memory_checkpoint mc;
    struct model *m;
    struct error err = ERROR_INIT;
    memory_checkpoint_llama(&mc);
    memory_checkpoint_add(&mc, extra[_i].name, extra[_i].n, extra[_i].k);
    enum status s = open_memory(&mc, &(struct model_options){.claim_only = true}, &m, &err);
    ck_assert_msg(s == extra[_i].code, "%s: %s", extra[_i].name, err.text);
    error_clear(&err);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

/* Some GPTQ writers give every module a bias of zeros. */
START_TEST(zero_biases)
{
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    struct tensor *t = memory_checkpoint_add(&mc, "model.layers.0.self_attn.q_proj.bias", 128, 0);
    memset((void *)t->data, 0, t->bytes);
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    ck_assert_ptr_null(m->modules[1].bias);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(biases_by_config)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.o_proj"};
    struct memory_checkpoint mc;
    struct model *m;
    char name[96];
    memory_checkpoint_llama(&mc);
    json_object_set_new(mc.cp.config, "attention_bias", json_true());
    memory_checkpoint_refused(&mc, "no biases", ST_TENSOR_MISSING, "bias");
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.bias", l, names[i]);
            memory_checkpoint_add(&mc, name, i == 1 || i == 2 ? 64 : 128, 0);
        }
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    for (int i = 1; i <= 4; i++) {
        const struct tensor *t =
            checkpoint_find(&mc.cp, strcat(strcpy(name, m->modules[i].name), ".bias"));
        ck_assert(m->modules[i].bias && m->modules[i].bias[5] == tensor_f32(t, 5));
    }
    ck_assert_ptr_null(m->modules[5].bias);
    model_close(m);
    memory_checkpoint_remove(&mc, "model.layers.1.self_attn.k_proj.bias");
    memory_checkpoint_add(&mc, "model.layers.1.self_attn.k_proj.bias", 63, 0);
    memory_checkpoint_refused(&mc, "a short bias", ST_TENSOR_SHAPE_MISMATCH, "bias");
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(norms_are_checked)
{
    struct memory_checkpoint mc;
    memory_checkpoint_llama(&mc);
    memory_checkpoint_remove(&mc, "model.norm.weight");
    memory_checkpoint_refused(&mc, "no final norm", ST_TENSOR_MISSING, "weight");
    memory_checkpoint_add(&mc, "model.norm.weight", 127, 0);
    memory_checkpoint_refused(&mc, "a short norm", ST_TENSOR_SHAPE_MISMATCH, "weight");
    memory_checkpoint_remove(&mc, "model.norm.weight");
    memory_checkpoint_add(&mc, "model.norm.weight", 128, 0)->dtype = DT_I32;
    memory_checkpoint_refused(&mc, "an integer norm", ST_DTYPE_UNSUPPORTED, "weight");
    memory_checkpoint_free(&mc);
}
END_TEST

START_TEST(everything_missing_is_told)
{
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    memory_checkpoint_llama(&mc);
    memory_checkpoint_remove(&mc, "model.embed_tokens.weight");
    memory_checkpoint_remove(&mc, "model.layers.1.mlp.up_proj.weight");
    memory_checkpoint_remove(&mc, "model.layers.0.input_layernorm.weight");
    memory_checkpoint_add(&mc, "extra.weight", 3, 3);
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, &err) == ST_TENSOR_MISSING);
    ck_assert_int_eq(err.findings.errors, 4);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

static enum claim decline(const struct module_spec *spec, struct findings *findings)
{
    (void)spec;
    (void)findings;
    return CLAIM_DECLINED;
}

START_TEST(nobody_claims)
{
    static const struct backend shy = {.name = "shy", .claim = decline};
    static const struct backend *const rows[] = {&shy, NULL};
    const struct chain chain = {rows};
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    memory_checkpoint_llama(&mc);
    memory_checkpoint_remove(&mc, "lm_head.weight");
    ck_assert(model_open(&mc.cp, &(struct model_options){0}, &chain, &plain_kernels, NULL, NULL, &m,
                         &err) == ST_CHECKPOINT_INVALID);
    ck_assert_int_eq(err.findings.errors, 16);
    ck_assert(strstr(err.findings.v[1].message, "model.layers.0.self_attn.q_proj"));
    ck_assert(strstr(err.findings.v[1].message, "weight"));
    ck_assert(err.findings.v[15].code == ST_TENSOR_MISSING);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

/* ---- loading ---- */

START_TEST(memory_limit)
{
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    memory_checkpoint_llama(&mc);
    const struct model_options tight = {.memory_limit = mc.cp.bytes / 2},
                               dry = {.memory_limit = 1, .claim_only = true};
    ck_assert(open_memory(&mc, &tight, &m, &err) == ST_CAPACITY_EXCEEDED);
    ck_assert(strstr(err.text, "GiB"));
    ck_assert(open_memory(&mc, &dry, &m, &err) == ST_OK);
    model_close(m);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

static bool watch(void *ctx, double done)
{
    double *last = ctx;
    ck_assert(done > *last && done <= 1);
    *last = done;
    return true;
}

static bool up_to_the_third(void *ctx, double done)
{
    return done < 1 && ++*(int *)ctx < 3;
}

START_TEST(progress)
{
    struct memory_checkpoint mc;
    struct model *m;
    double last = 0;
    memory_checkpoint_llama(&mc);
    ck_assert(model_open(&mc.cp, &(struct model_options){0}, &chain_default, &plain_kernels, watch,
                         &last, &m, NULL) == ST_OK);
    ck_assert(last == 1);
    model_close(m);
    int calls = 0;
    struct error err = ERROR_INIT;
    ck_assert(model_open(&mc.cp, &(struct model_options){0}, &chain_default, &plain_kernels,
                         up_to_the_third, &calls, &m, &err) == ST_CANCELLED);
    ck_assert(!m && calls == 3);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

static int loads_left;

static enum claim take_all(const struct module_spec *spec, struct findings *findings)
{
    (void)spec;
    (void)findings;
    return CLAIM_CLAIMED;
}

static enum status load_some(const struct module_spec *spec, struct slice slice, struct weight *out,
                             struct error *err)
{
    if (loads_left-- == 0)
        return error_set(err, ST_NON_FINITE_WEIGHTS, "module %s", spec->name);
    const struct backend *const *b = chain_default.backends;
    while (b[1])
        b++;
    return (*b)->load(spec, slice, out, err);
}

/* A weight that cannot be loaded, whichever it is, ends the loading and leaves nothing. */
START_TEST(broken_weight)
{
    static const struct backend breaks = {.name = "breaks", .claim = take_all, .load = load_some};
    static const struct backend *const rows[] = {&breaks, NULL};
    const struct chain chain = {rows};
    struct memory_checkpoint mc;
    struct error err = ERROR_INIT;
    struct model *m;
    memory_checkpoint_llama(&mc);
    loads_left = _i;
    ck_assert(model_open(&mc.cp, &(struct model_options){0}, &chain, &plain_kernels, NULL, NULL, &m,
                         &err) == ST_NON_FINITE_WEIGHTS);
    ck_assert_ptr_null(m);
    error_clear(&err);
    memory_checkpoint_free(&mc);
}
END_TEST

/* Memory that runs out anywhere: an honest answer and nothing left behind. (Sorting falls back to a
 * way without memory, so that some rounds succeed.) */
START_TEST(out_of_memory)
{
    const struct layer_range ranges[] = {{0, 2}, {1, 2}};
    const struct model_options options = {
        .replication = ranges, .n_replication = 2, .memory_limit = 1 << 30};
    struct memory_checkpoint mc;
    struct scratch *s = NULL;
    struct model *m;
    memory_checkpoint_llama(&mc);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status st = open_memory(&mc, &options, &m, &err);
        if (st == ST_OK)
            st = scratch_open(m, &plain_kernels, 8, 4, &s, &err);
        bool fired = fault_disarm();
        ck_assert_msg(st == ST_OK || (fired && st == ST_OUT_OF_MEMORY), "call %ld: %s", n,
                      err.text);
        scratch_close(s);
        model_close(m);
        error_clear(&err);
        s = NULL;
        ck_assert_int_eq(fault_live(), before);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

/* The same while findings are being collected: the first code stands even if they are lost. */
START_TEST(out_of_memory_in_findings)
{
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    memory_checkpoint_add(&mc, "extra.weight", 3, 3);
    json_object_set_new(mc.cp.config, "tie_word_embeddings", json_true());
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status st = open_memory(&mc, &(struct model_options){.claim_only = true}, &m, &err);
        fault_disarm();
        ck_assert(st != ST_OK && !m);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    memory_checkpoint_free(&mc);
}
END_TEST

/* ---- views ---- */

START_TEST(views)
{
    struct memory_checkpoint mc;
    struct model *m;
    memory_checkpoint_llama(&mc);
    ck_assert(open_memory(&mc, &(struct model_options){0}, &m, NULL) == ST_OK);
    struct view *v[2];
    for (int i = 0; i < 2; i++) {
        struct weight **owned = calloc(m->n_modules, sizeof *owned);
        struct module_spec spec;
        owned[3] = calloc(1, sizeof **owned);
        ck_assert(model_spec(m, &mc.cp, 3, &spec) == ST_OK);
        ck_assert(m->modules[3].backend->load(&spec, (struct slice){0}, owned[3], NULL) == ST_OK);
        v[i] = view_new(m, owned);
        ck_assert_ptr_nonnull(v[i]);
        ck_assert_ptr_eq(v[i]->weights[3], owned[3]);
        ck_assert_ptr_eq(v[i]->weights[2], m->base->weights[2]);
        ck_assert_int_eq(v[i]->bytes, weight_bytes(owned[3]));
        ck_assert_int_eq(v[i]->n_modules, m->n_modules);
    }
    ck_assert(v[0]->id != v[1]->id && v[0]->id != 0 && v[1]->id != 0);
    ck_assert_ptr_eq(view_ref(v[0]), v[0]);
    view_unref(v[0]);
    ck_assert_int_eq(v[0]->weights[3]->n, 64);
    view_unref(v[0]);
    view_unref(v[1]);
    view_unref(NULL);
    model_close(m);
    memory_checkpoint_free(&mc);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/build");
    TCase *t = tcase_create("network");
    tcase_add_test(t, modules_in_order);
    tcase_add_test(t, other_names);
    tcase_add_test(t, replication);
    tcase_add_test(t, replication_as_copied);
    tcase_add_test(t, replication_that_skips_a_layer);
    tcase_add_loop_test(t, bad_replication, 0, (int)(sizeof bad_ranges / sizeof *bad_ranges));
    tcase_add_test(t, tied_head);
    tcase_add_loop_test(t, leftovers, 0, (int)(sizeof extra / sizeof *extra));
    tcase_add_test(t, zero_biases);
    tcase_add_test(t, biases_by_config);
    tcase_add_test(t, norms_are_checked);
    tcase_add_test(t, everything_missing_is_told);
    tcase_add_test(t, nobody_claims);
    tcase_add_test(t, memory_limit);
    tcase_add_test(t, progress);
    tcase_add_loop_test(t, broken_weight, 0, 16);
    tcase_add_test(t, out_of_memory);
    tcase_add_test(t, out_of_memory_in_findings);
    tcase_add_test(t, views);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
