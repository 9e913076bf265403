/*
 * The adapted module: rotations, their order, several adapters in one batch, biases of adapters,
 * what is shared and what is not. Against the definition, and against PEFT's adapters on the family
 * fixtures.
 */
#include "tests/core/model/fixture.h"

#include "core/memory.h"

/* A small generator, the same everywhere. */
static float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 23) - 1;
}

static struct rotation *rotation_new(int64_t dim, int32_t block, bool shared)
{
    struct rotation *r = calloc(1, sizeof *r);
    int32_t n = shared ? 1 : (int32_t)(dim / block);
    *r = (struct rotation){dim, block, (int32_t)(dim / block), shared, DT_F32, NULL};
    r->data = memory_alloc((size_t)n * (size_t)block * (size_t)block * sizeof(float));
    return r;
}

static void rotation_free(const struct rotation *r)
{
    if (r)
        memory_free(r->data);
    free((void *)r);
}

static struct rotation *rotation_random(int64_t dim, int32_t block, bool shared, uint32_t seed)
{
    struct rotation *r = rotation_new(dim, block, shared);
    int64_t n = (int64_t)(shared ? 1 : r->blocks) * block * block;
    for (int64_t i = 0; i < n; i++)
        ((float *)r->data)[i] = noise(&seed);
    return r;
}

/* An adapter under construction: rotations and biases per module. */
struct made {
    struct adapted adapted;
    const struct rotation **rotation;
    const float **bias;
    size_t n;
};

static void made_new(struct made *a, const struct model *m)
{
    a->n = m->n_modules;
    a->rotation = calloc(a->n, sizeof *a->rotation);
    a->bias = calloc(a->n, sizeof *a->bias);
    a->adapted = (struct adapted){.rotation = a->rotation};
}

static void made_free(struct made *a)
{
    for (size_t i = 0; i < a->n; i++)
        rotation_free(a->rotation[i]);
    free(a->rotation);
    free(a->bias);
}

/* y = x R.. W^T + bias by definition. */
static void definition(const struct fixture *f, int32_t module, const float *x, int64_t ldx,
                       const struct row_group *groups, int32_t n_groups, float *out)
{
    const struct module *u = &f->m->modules[module];
    const struct weight *w = f->m->base->weights[module];
    double row[256];
    for (int32_t g = 0; g < n_groups; g++)
        for (int32_t r = groups[g].first; r < groups[g].first + groups[g].count; r++) {
            const float *bias = u->bias;
            for (int64_t k = 0; k < u->k; k++)
                row[k] = x[r * ldx + k];
            for (int32_t a = 0; a < groups[g].n; a++) {
                const struct adapted *ad = groups[g].adapted[a];
                if (ad->rotation[module])
                    rotate_by_definition(ad->rotation[module], row);
                if (ad->bias && ad->bias[module])
                    bias = ad->bias[module];
            }
            if (u->kind == MODULE_EMBEDDING) {
                for (int64_t k = 0; k < u->k; k++)
                    out[r * u->k + k] = (float)row[k];
                continue;
            }
            for (int64_t o = 0; o < u->n; o++) {
                double sum = bias ? bias[o] : 0;
                for (int64_t k = 0; k < u->k; k++)
                    sum += row[k] * tile_dense(w->data, w->k_padded, w->dtype, o, k);
                out[r * u->n + o] = (float)sum;
            }
        }
}

/* Rows of base, a, b, a then b, b then a, and base again, in one product. */
START_TEST(every_row_has_its_own_adapters)
{
    static const char *const names[] = {"model.embed_tokens", "model.layers.1.self_attn.k_proj",
                                        "model.layers.0.mlp.down_proj", "lm_head"};
    struct fixture f;
    struct made a, b;
    fixture_open(&f, "families/qwen2"); // k_proj has a bias, the head is tied
    int32_t module = model_module(f.m, names[_i]);
    ck_assert_int_ge(module, 0);
    const struct module *u = &f.m->modules[module];
    made_new(&a, f.m);
    made_new(&b, f.m);
    a.rotation[module] = rotation_random(u->rotate_dim, 16, false, 1);
    b.rotation[module] = rotation_random(u->rotate_dim, 32, true, 2);
    uint32_t seed = 3;
    float *bias = malloc((size_t)u->n * sizeof *bias);
    for (int64_t i = 0; i < u->n; i++)
        bias[i] = noise(&seed);
    if (u->bias) {
        b.bias[module] = bias;
        b.adapted.bias = b.bias;
    }
    const struct adapted *const pa[] = {&a.adapted}, *const pb[] = {&b.adapted},
                                *const pab[] = {&a.adapted, &b.adapted},
                                *const pba[] = {&b.adapted, &a.adapted};
    const struct row_group groups[] = {{0, 2, 0, NULL}, {2, 1, 1, pa},  {3, 2, 1, pb},
                                       {5, 2, 2, pab},  {7, 1, 2, pba}, {8, 1, 0, NULL}};
    int64_t n = u->kind == MODULE_EMBEDDING ? u->k : u->n;
    float *x = malloc((size_t)(9 * u->k) * sizeof *x);
    float *got = malloc((size_t)(9 * n) * sizeof *got), *want = malloc((size_t)(9 * n) * sizeof *x);
    int32_t ids[9];
    for (int32_t r = 0; r < 9; r++)
        ids[r] = (37 * r + 11) % f.m->vocab;
    for (int64_t i = 0; i < 9 * u->k; i++)
        x[i] = noise(&seed);
    if (u->kind == MODULE_EMBEDDING)
        plain_gather(&plain_kernels, f.m->base->weights[module], ids, 9, x, u->k);
    model_module_forward(f.m, module, f.m->base, fixture_kernels, groups, 6, 9, x, ids, got,
                         f.scratch);
    definition(&f, module, x, u->k, groups, 6, want);
    for (int32_t r = 0; r < 9; r++)
        ck_assert_msg(relative(got + r * n, want + r * n, n) < 2e-6, "%s, row %d: off by %g",
                      u->name, (int)r, relative(got + r * n, want + r * n, n));
    // Each row alone gives the same bits.
    for (int32_t g = 0; g < 6; g++) {
        const struct row_group one = {0, 1, groups[g].n, groups[g].adapted};
        int32_t r = groups[g].first;
        model_module_forward(f.m, module, f.m->base, fixture_kernels, &one, 1, 1, x + r * u->k,
                             ids + r, want, f.scratch);
        ck_assert(!memcmp(want, got + r * n, (size_t)n * sizeof *got));
    }
    free(x);
    free(got);
    free(want);
    free(bias);
    made_free(&a);
    made_free(&b);
    fixture_close(&f);
}
END_TEST

START_TEST(identity_changes_nothing)
{
    struct fixture f;
    struct made a;
    fixture_open(&f, "families/mistral");
    made_new(&a, f.m);
    for (size_t i = 0; i < f.m->n_modules; i++) {
        struct rotation *r = rotation_new(f.m->modules[i].rotate_dim, 16, true);
        for (int32_t k = 0; k < 16; k++)
            ((float *)r->data)[k * 17] = 1;
        a.rotation[i] = r;
    }
    const struct adapted *const list[] = {&a.adapted};
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *base = malloc(n * sizeof *base), *got = malloc(n * sizeof *got);
    fixture_prefill(&f, 0, f.len, NULL, 0, base);
    fixture_prefill(&f, 0, 5, list, 1, got);
    for (size_t i = 0; i < n; i++)
        ck_assert(got[i] == base[i]);
    free(base);
    free(got);
    made_free(&a);
    fixture_close(&f);
}
END_TEST

/* R = I + 2S + 2S^2 + 2S^3 + S^4 of PEFT's packed vectors, in double. */
static struct rotation *neumann5(const struct tensor *t, int64_t dim)
{
    int32_t b = (int32_t)(dim / t->shape[0]);
    struct rotation *r = rotation_new(dim, b, false);
    ck_assert_int_eq(t->shape[1], b * (b - 1) / 2);
    double s[32][32], power[32][32], next[32][32];
    static const double coefficient[] = {2, 2, 2, 1};
    for (int64_t block = 0; block < t->shape[0]; block++) {
        float *out = (float *)r->data + block * b * b;
        double sum[32][32] = {{0}};
        int64_t at = block * t->shape[1];
        memset(s, 0, sizeof s);
        for (int32_t p = 0; p < b; p++)
            for (int32_t q = p + 1; q < b; q++, at++) {
                s[p][q] = tensor_f32(t, at);
                s[q][p] = -s[p][q];
            }
        memcpy(power, s, sizeof s);
        for (int term = 0; term < 4; term++) {
            for (int32_t p = 0; p < b; p++)
                for (int32_t q = 0; q < b; q++) {
                    sum[p][q] += coefficient[term] * power[p][q];
                    next[p][q] = 0;
                    for (int32_t k = 0; k < b; k++)
                        next[p][q] += power[p][k] * s[k][q];
                }
            memcpy(power, next, sizeof power);
        }
        for (int32_t p = 0; p < b; p++)
            for (int32_t q = 0; q < b; q++)
                out[p * b + q] = (float)(sum[p][q] + (p == q));
    }
    return r;
}

static void made_load(struct made *a, const struct fixture *f, const char *family, const char *who)
{
    char file[256], name[256];
    struct error err = ERROR_INIT;
    struct safetensors *st;
    size_t n, found = 0;
    snprintf(file, sizeof file, "adapters/%s/adapter_model.safetensors", who);
    ck_assert_msg(safetensors_open(fixture_path(family, file), &st, &err) == ST_OK, "%s", err.text);
    safetensors_tensors(st, &n);
    made_new(a, f->m);
    for (size_t i = 0; i < f->m->n_modules; i++) {
        const struct module *u = &f->m->modules[i];
        snprintf(name, sizeof name, "base_model.model.%s.oft_%sR.weight", u->name,
                 u->input_embedding ? "embedding_" : "");
        const struct tensor *t = safetensors_find(st, name);
        if (!t)
            continue;
        a->rotation[i] = neumann5(t, u->rotate_dim);
        found++;
    }
    ck_assert_int_gt(found, 0);
    safetensors_close(st);
}

static const struct {
    const char *family, *who;
} adapters[] = {{"families/llama", "a"},          {"families/llama", "emb"},
                {"families/mistral", "a"},        {"families/qwen2", "a"},
                {"families/qwen2", "emb"},        {"families/gemma2", "a"},
                {"families/phi3", "a"},           {"families/gpt_neox", "a"},
                {"families/falcon", "a"},         {"families/opt", "a"},
                {"families/gpt2", "a"},           {"families/mixtral", "experts"},
                {"families/qwen3_moe", "experts"}};

/* PEFT's adapters: the reference's logits, alone and beside rows of the base. */
START_TEST(adapters_as_the_reference)
{
    struct fixture f;
    struct made a;
    char name[64];
    fixture_open(&f, adapters[_i].family);
    made_load(&a, &f, adapters[_i].family, adapters[_i].who);
    const struct adapted *const list[] = {&a.adapted};
    size_t n = (size_t)f.len * (size_t)f.m->vocab;
    float *base = malloc(n * sizeof *base), *got = malloc(n * sizeof *got);
    float *want = malloc(n * sizeof *want), *beside = malloc(n * sizeof *beside);
    float *mixed = malloc(n * sizeof *mixed);
    fixture_prefill(&f, 0, f.len, NULL, 0, base);
    fixture_prefill(&f, 1, f.len, list, 1, got);
    snprintf(name, sizeof name, "logits.%s", adapters[_i].who);
    tensor_to_f32(fixture_tensor(&f, name), (int64_t)n, (int64_t)n, want);
    double error = relative(got, want, (int64_t)n);
    ck_assert_msg(error < 2e-5, "off by %g", error);
    struct rows b;
    rows_start(&b, &f);
    rows_add(&b, &f, 0, 0, f.len, NULL, 0, beside);
    rows_add(&b, &f, 1, 0, f.len, list, 1, mixed);
    rows_run(&b, &f);
    ck_assert(!memcmp(beside, base, n * sizeof *base));
    ck_assert(!memcmp(mixed, got, n * sizeof *got));
    free(base);
    free(got);
    free(want);
    free(beside);
    free(mixed);
    made_free(&a);
    fixture_close(&f);
}
END_TEST

/* q, k and v share one input unless an adapter tells them apart. */
START_TEST(inputs_are_shared)
{
    struct fixture f;
    struct made a;
    struct rows b;
    fixture_open(&f, "families/llama");
    made_new(&a, f.m);
    const struct layer *l = &f.m->config->layers[0];
    const struct adapted *const list[] = {&a.adapted};
    float *logits = malloc((size_t)f.len * (size_t)f.m->vocab * sizeof *logits);
    int base = 0;
    for (int round = 0; round < 4; round++) {
        struct rotation *q = round > 0 ? rotation_random(f.m->hidden, 16, false, 5) : NULL;
        struct rotation *v = round > 1 ? rotation_random(f.m->hidden, 16, false, 6) : NULL;
        a.rotation[l->module[ROLE_Q]] = q;
        a.rotation[l->module[ROLE_K]] = round == 3 ? q : NULL; // one object: shared
        a.rotation[l->module[ROLE_V]] = v;
        rows_start(&b, &f);
        rows_add(&b, &f, 0, 0, 3, NULL, 0, NULL);
        rows_add(&b, &f, 1, 0, 3, list, 1, logits);
        plain_state.prepared = 0;
        rows_run(&b, &f);
        static const int more[] = {0, 1, 2, 1};
        if (round == 0)
            base = plain_state.prepared;
        ck_assert_int_eq(plain_state.prepared, base + more[round]);
        a.rotation[l->module[ROLE_K]] = NULL;
        rotation_free(q);
        rotation_free(v);
        a.rotation[l->module[ROLE_Q]] = a.rotation[l->module[ROLE_V]] = NULL;
    }
    // two layers: qkv, o, gate and up, down; and the head
    ck_assert_int_eq(base, 2 * 4 + 1);
    free(logits);
    made_free(&a);
    fixture_close(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/module");
    TCase *t = tcase_create("adapted");
    tcase_add_loop_test(t, every_row_has_its_own_adapters, 0, 4);
    tcase_add_test(t, identity_changes_nothing);
    tcase_add_loop_test(t, adapters_as_the_reference, 0, (int)(sizeof adapters / sizeof *adapters));
    tcase_add_test(t, inputs_are_shared);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
