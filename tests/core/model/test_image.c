/*
 * Images: the networks against the real library's logits, the convolution against its definition
 * for windows that no family has, PEFT's own forward, and that neighbours do not show.
 */
#include "tests/core/model/fixture.h"

#include "backends/kernels/cpu.h"
#include "core/adapters/adapter.h"
#include "core/memory.h"
#include "core/model/image_pass.h"
#include "tests/faults/fault.h"

static const char *const networks[] = {"resnet", "resnet-basic", "resnet-strided", "vit",
                                       "vit-wide"};
#define N_NETWORKS ((int)(sizeof networks / sizeof *networks))

#define ADAPTERS 5
static const char *const adapter_names[ADAPTERS] = {"a", "all", "k1", "patch", "head"};

static struct kernels *cpu; /* the best table of this machine, with two threads */

static void open_cpu(void)
{
    struct error err = ERROR_INIT;
    ck_assert_msg(cpu_kernels_open("auto", COMPUTE_EXACT, 2, &cpu, &err) == ST_OK, "%s", err.text);
}

static void use_cpu(void)
{
    open_cpu();
    fixture_kernels = cpu;
}

static void close_cpu(void)
{
    fixture_kernels = &plain_kernels;
    cpu->close(cpu);
}

/* A network with its adapters and the golden images. */
struct images_fixture {
    struct checkpoint *cp;
    struct model *m;
    struct safetensors *expected;
    struct scratch *scratch;
    struct adapter *adapters[ADAPTERS]; /* NULL: there is none */
    struct image_plan plan;
    float *pixels;
    int32_t n;
};

static const struct tensor *golden(const struct images_fixture *f, const char *what,
                                   const char *who)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", what, who);
    return safetensors_find(f->expected, name);
}

static void open_fixture(struct images_fixture *f, const char *network, bool peft, int32_t rows)
{
    struct error err = ERROR_INIT;
    char name[64], path[600];
    const struct model_options options = {.conv2d_peft = peft};
    const struct adapter_options adapter = {0};
    memset(f, 0, sizeof *f);
    snprintf(name, sizeof name, "families/%s", network);
    ck_assert_msg(checkpoint_open(fixture_path(name, ""), &f->cp, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(model_open(f->cp, &options, &chain_default, fixture_kernels, NULL, NULL, &f->m,
                             &err) == ST_OK,
                  "%s", err.text);
    ck_assert(safetensors_open(fixture_path(name, "expected.safetensors"), &f->expected, &err) ==
              ST_OK);
    ck_assert(scratch_open(f->m, fixture_kernels, rows, MAX_GROUPS, &f->scratch, &err) == ST_OK);
    const struct tensor *t = safetensors_find(f->expected, "pixel_values");
    f->n = (int32_t)t->shape[0];
    f->pixels = malloc((size_t)tensor_elements(t) * sizeof *f->pixels);
    tensor_to_f32(t, 0, tensor_elements(t), f->pixels);
    const struct image_size size = {(int32_t)t->shape[1], (int32_t)t->shape[2],
                                    (int32_t)t->shape[3]};
    ck_assert(image_plan(f->m, -1, size, "pixel_values", &f->plan, &err) == ST_OK);
    for (int i = 0; i < ADAPTERS; i++) {
        snprintf(path, sizeof path, "%s/adapters/%s", fixture_path(name, ""), adapter_names[i]);
        if (golden(f, "logits", adapter_names[i]))
            ck_assert_msg(adapter_load(f->m, cpu, path, "x", &adapter, &f->adapters[i], &err) ==
                              ST_OK,
                          "%s: %s", path, err.text);
    }
}

static void close_fixture(struct images_fixture *f)
{
    for (int i = 0; i < ADAPTERS; i++)
        adapter_unref(f->adapters[i]);
    free(f->pixels);
    scratch_close(f->scratch);
    safetensors_close(f->expected);
    model_close(f->m);
    checkpoint_close(f->cp);
}

/* Images [first, first + n) through groups; out[i] is image first + i. */
static enum status run(const struct images_fixture *f, int32_t first, int32_t n,
                       const struct row_group *groups, int32_t n_groups,
                       const struct image_output *out)
{
    int64_t each = (int64_t)f->plan.size.channels * f->plan.size.height * f->plan.size.width;
    const struct image_batch b = {.plan = &f->plan,
                                  .view = f->m->base,
                                  .kernels = fixture_kernels,
                                  .pixels = f->pixels + first * each,
                                  .n = n,
                                  .groups = groups,
                                  .n_groups = n_groups,
                                  .outputs = out};
    size_t bytes = image_bytes(f->m, &f->plan, n);
    struct error err = ERROR_INIT;
    void *work = memory_alloc(bytes);
    memset(work, 0xff, bytes); // NaN: nobody may read what was not written
    enum status s = image_forward(f->m, &b, work, f->scratch, &err);
    ck_assert_int_eq(s != ST_OK, err.text[0] != 0);
    error_clear(&err);
    memory_free(work);
    return s;
}

/* All images through one chain, logits [n, vocab]. */
static enum status logits_of(const struct images_fixture *f, const struct adapted *const *chain,
                             int32_t n_chain, float *logits)
{
    struct image_output out[4] = {0};
    const struct row_group all = {0, f->n, n_chain, chain};
    for (int32_t i = 0; i < f->n; i++)
        out[i].logits = logits + i * f->m->vocab;
    return run(f, 0, f->n, &all, 1, out);
}

static void expect(const struct images_fixture *f, const char *network, const char *what,
                   const char *who, const float *got)
{
    const struct tensor *t = golden(f, what, who);
    int64_t n = tensor_elements(t);
    float *want = malloc((size_t)n * sizeof *want);
    tensor_to_f32(t, 0, n, want);
    double error = relative(got, want, n);
    ck_assert_msg(error < 2e-5, "%s, %s of %s: off by %g", network, what, who, error);
    free(want);
}

/* ---- the networks ---- */

/* Base and every adapter, by itself and in a chain, merged as it is served; with few rows a pass,
 * so that windows of several images meet in one product and one image's in several. */
static void check_logits(const char *network, bool peft, int32_t rows)
{
    struct images_fixture f;
    open_fixture(&f, network, peft, rows);
    float *got = malloc((size_t)(f.n * f.m->vocab) * sizeof *got);
    const char *what = peft ? "peft_forward" : "logits";
    const struct adapted *chain[2];
    ck_assert(logits_of(&f, NULL, 0, got) == ST_OK);
    expect(&f, network, "logits", "base", got);
    for (int i = 0; i < ADAPTERS; i++) {
        if (!f.adapters[i] || !golden(&f, what, adapter_names[i]))
            continue;
        chain[0] = &f.adapters[i]->adapted;
        ck_assert(logits_of(&f, chain, 1, got) == ST_OK);
        expect(&f, network, what, adapter_names[i], got);
    }
    if (golden(&f, what, "a+all")) {
        chain[0] = &f.adapters[0]->adapted;
        chain[1] = &f.adapters[1]->adapted;
        ck_assert(logits_of(&f, chain, 2, got) == ST_OK);
        expect(&f, network, what, "a+all", got);
    }
    free(got);
    close_fixture(&f);
}

START_TEST(logits_as_the_reference)
{
    check_logits(networks[_i], false, 96);
    check_logits(networks[_i], false, 53);
}
END_TEST

START_TEST(peft_forward_as_the_reference)
{
    check_logits(networks[_i], true, 96);
    check_logits(networks[_i], true, 53);
}
END_TEST

/* A map that is smaller than the windows: PEFT's forward fails, and so does the request. */
START_TEST(peft_forward_that_fails)
{
    struct images_fixture f;
    open_fixture(&f, "resnet-basic", true, 96);
    float got[2 * 5];
    const struct adapted *const chain[] = {&f.adapters[1]->adapted};
    ck_assert_ptr_null(golden(&f, "peft_forward", "all"));
    ck_assert_int_eq(logits_of(&f, chain, 1, got), ST_INVALID_VALUE);
    ck_assert_int_eq(logits_of(&f, NULL, 0, got), ST_OK);
    close_fixture(&f);
}
END_TEST

START_TEST(states_as_the_reference)
{
    struct images_fixture f;
    open_fixture(&f, networks[_i], false, 96);
    if (golden(&f, "hidden", "base")) {
        int64_t each = image_numbers(&f.plan), hidden = f.m->hidden;
        float *states = malloc((size_t)(f.n * each) * sizeof *states);
        float *pooled = malloc((size_t)(f.n * hidden) * sizeof *pooled);
        bool pools = golden(&f, "pooled", "base");
        struct image_output out[4] = {0};
        const struct row_group all = {0, f.n, 0, NULL};
        for (int32_t i = 0; i < f.n; i++)
            out[i] =
                (struct image_output){NULL, states + i * each, pools ? pooled + i * hidden : NULL};
        ck_assert(run(&f, 0, f.n, &all, 1, out) == ST_OK);
        expect(&f, networks[_i], "hidden", "base", states);
        if (pools)
            expect(&f, networks[_i], "pooled", "base", pooled);
        free(states);
        free(pooled);
    }
    close_fixture(&f);
}
END_TEST

/* The same image among others of other adapters, and alone: the same bits, and nothing allocated.
 */
static void check_neighbours(const char *network, bool peft)
{
    struct images_fixture f;
    open_fixture(&f, network, peft, 96);
    size_t bytes = (size_t)f.m->vocab * sizeof(float);
    float together[2][16], alone[16];
    const struct adapted *const chain[] = {&f.adapters[1]->adapted};
    const struct row_group groups[] = {{0, 1, 1, chain}, {1, 1, 0, NULL}};
    const struct image_output out[] = {{.logits = together[0]}, {.logits = together[1]}};
    ck_assert(run(&f, 0, 2, groups, 2, out) == ST_OK);
    for (int32_t i = 0; i < 2; i++) {
        const struct row_group group = {0, 1, groups[i].n, groups[i].adapted};
        const struct image_output one = {.logits = alone};
        ck_assert(run(&f, i, 1, &group, 1, &one) == ST_OK);
        ck_assert_msg(!memcmp(alone, together[i], bytes), "%s, image %d", network, (int)i);
    }
    close_fixture(&f);
}

START_TEST(neighbours_do_not_show)
{
    check_neighbours(networks[_i], false);
    if (strcmp(networks[_i], "resnet-basic") != 0)
        check_neighbours(networks[_i], true);
}
END_TEST

START_TEST(a_pass_takes_no_memory)
{
    struct images_fixture f;
    open_fixture(&f, networks[_i], true, 96);
    float logits[2][16];
    const struct adapted *const chain[] = {
        &f.adapters[strcmp(networks[_i], "vit") ? 1 : 3]->adapted};
    const struct row_group all = {0, 2, strcmp(networks[_i], "resnet-basic") ? 1 : 0, chain};
    const struct image_output out[] = {{.logits = logits[0]}, {.logits = logits[1]}};
    const struct image_batch b = {.plan = &f.plan,
                                  .view = f.m->base,
                                  .kernels = fixture_kernels,
                                  .pixels = f.pixels,
                                  .n = 2,
                                  .groups = &all,
                                  .n_groups = 1,
                                  .outputs = out};
    struct error err = ERROR_INIT;
    void *work = memory_alloc(image_bytes(f.m, &f.plan, 2));
    fault_arm(1);
    enum status s = image_forward(f.m, &b, work, f.scratch, &err);
    bool fired = fault_disarm();
    ck_assert(s == ST_OK && !fired);
    memory_free(work);
    close_fixture(&f);
}
END_TEST

START_TEST(sizes_that_do_not_fit)
{
    static const struct {
        const char *network;
        int32_t module;
        struct image_size size;
    } cases[] = {
        {"resnet", -1, {1, 40, 40}},
        {"resnet", -1, {3, 0, 40}},
        {"resnet", -1, {3, 40, -1}},
        {"resnet", -1, {3, 70000, 1}},
        {"resnet", -1, {3, 65536, 65536}},
        {"vit", -1, {3, 32, 40}},
        {"vit", -1, {1, 32, 32}},
        {"vit", 0, {3, 7, 8}},
        {"vit", 0, {4, 8, 8}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct images_fixture f;
        struct image_plan p;
        struct error err = ERROR_INIT;
        open_fixture(&f, cases[i].network, false, 96);
        ck_assert_msg(image_plan(f.m, cases[i].module, cases[i].size, "it", &p, &err) ==
                          ST_INVALID_VALUE,
                      "case %zu", i);
        ck_assert_str_eq(err.param, "it");
        error_clear(&err);
        close_fixture(&f);
    }
}
END_TEST

/* One pixel is enough for a convnet: every window reaches over the edge. */
START_TEST(any_size_that_fits)
{
    struct images_fixture f;
    open_fixture(&f, "resnet", false, 96);
    const struct image_size sizes[] = {{3, 1, 1}, {3, 1, 19}, {3, 40, 3}};
    for (size_t i = 0; i < 3; i++) {
        float logits[16];
        const struct row_group one = {0, 1, 0, NULL};
        const struct image_output out = {.logits = logits};
        ck_assert(image_plan(f.m, -1, sizes[i], "it", &f.plan, NULL) == ST_OK);
        ck_assert(run(&f, 0, 1, &one, 1, &out) == ST_OK);
        for (int32_t v = 0; v < f.m->vocab; v++)
            ck_assert(isfinite(logits[v]));
    }
    ck_assert_int_ge(image_at_once(f.m, &f.plan, 96, MAX_GROUPS, 0), 1);
    ck_assert_int_eq(image_at_once(f.m, &f.plan, 96, 5, SIZE_MAX), 5);
    close_fixture(&f);
}
END_TEST

/* ---- one convolution ---- */

/* One number of a convolution's output by definition. */
static double definition(const struct images_fixture *f, int32_t module, const float *image,
                         struct image_size size, const struct row_group *g, int64_t o, int64_t y,
                         int64_t x)
{
    const struct module *u = &f->m->modules[module];
    const struct weight *w = f->m->base->weights[module];
    const struct conv2d *c = &u->conv;
    double window[256], sum = u->bias ? u->bias[o] : 0;
    int64_t k = 0;
    for (int32_t channel = 0; channel < c->channels; channel++)
        for (int32_t i = 0; i < c->kernel[0]; i++)
            for (int32_t j = 0; j < c->kernel[1]; j++) {
                int64_t row = y * c->stride[0] - c->padding[0] + (int64_t)i * c->dilation[0];
                int64_t column = x * c->stride[1] - c->padding[1] + (int64_t)j * c->dilation[1];
                bool in = row >= 0 && row < size.height && column >= 0 && column < size.width;
                window[k++] =
                    in ? image[((int64_t)channel * size.height + row) * size.width + column] : 0;
            }
    for (int32_t a = 0; a < g->n; a++)
        rotate_by_definition(g->adapted[a]->rotation[module], window);
    for (k = 0; k < u->k; k++)
        sum += window[k] * tile_dense(w->data, w->k_padded, w->dtype, o, k);
    return sum;
}

/* The 3x3 convolution of 8 channels as every window of 72 inputs: images of base, of an adapter and
 * of a chain in one product. */
START_TEST(windows_by_definition)
{
    static const struct conv2d windows[] = {
        {8, {3, 3}, {1, 1}, {1, 1}, {1, 1}},  {8, {3, 3}, {2, 3}, {0, 2}, {1, 1}},
        {8, {3, 3}, {1, 2}, {2, 1}, {2, 3}},  {8, {1, 9}, {1, 1}, {0, 4}, {1, 1}},
        {8, {9, 1}, {3, 1}, {5, 0}, {1, 1}},  {2, {6, 6}, {4, 4}, {0, 0}, {1, 1}},
        {72, {1, 1}, {1, 1}, {0, 0}, {1, 1}}, {72, {1, 1}, {2, 1}, {1, 1}, {1, 1}},
    };
    struct images_fixture f;
    struct error err = ERROR_INIT;
    open_fixture(&f, "resnet", false, 53);
    int32_t module = model_module(f.m, "resnet.encoder.stages.0.layers.0.layer.1.convolution");
    f.m->modules[module].conv = windows[_i];
    const struct image_size size = {windows[_i].channels, 11, 13};
    ck_assert_msg(image_plan(f.m, module, size, "it", &f.plan, &err) == ST_OK, "%s", err.text);
    int64_t each = (int64_t)size.channels * size.height * size.width, n = image_numbers(&f.plan);
    free(f.pixels);
    f.pixels = malloc((size_t)(4 * each) * sizeof *f.pixels);
    uint32_t state = 7;
    for (int64_t i = 0; i < 4 * each; i++) {
        state = state * 1664525u + 1013904223u;
        f.pixels[i] = (float)(state >> 8) / (float)(1 << 23) - 1;
    }
    const struct adapted *const a[] = {&f.adapters[0]->adapted, &f.adapters[1]->adapted};
    const struct row_group groups[] = {{0, 1, 0, NULL}, {1, 2, 1, a}, {3, 1, 2, a}};
    float *got = malloc((size_t)(4 * n) * sizeof *got), *want = malloc((size_t)(4 * n) * 4);
    const struct image_output out[] = {
        {.hidden = got}, {.hidden = got + n}, {.hidden = got + 2 * n}, {.hidden = got + 3 * n}};
    ck_assert(run(&f, 0, 4, groups, 3, out) == ST_OK);
    const int64_t *shape = f.plan.shape;
    for (int32_t i = 0, g = 0; i < 4; i++) {
        g += i == groups[g].first + groups[g].count;
        for (int64_t o = 0; o < shape[0]; o++)
            for (int64_t y = 0; y < shape[1]; y++)
                for (int64_t x = 0; x < shape[2]; x++)
                    want[i * n + (o * shape[1] + y) * shape[2] + x] = (float)definition(
                        &f, module, f.pixels + i * each, size, &groups[g], o, y, x);
    }
    double error = relative(got, want, 4 * n);
    ck_assert_msg(error < 2e-6, "off by %g", error);
    free(got);
    free(want);
    close_fixture(&f);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *network, *json, *field;
    enum status code;
} refused[] = {
    {"resnet", "{\"layer_type\": \"wide\"}", "layer_type", ST_CONFIG_UNSUPPORTED},
    {"resnet", "{\"layer_type\": 1}", "layer_type", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"depths\": null}", "depths", ST_CONFIG_MISSING_FIELD},
    {"resnet", "{\"depths\": [2]}", "depths", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"depths\": [2, 0]}", "depths", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"depths\": [2, 1000000]}", "depths", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"hidden_sizes\": []}", "hidden_sizes", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"hidden_sizes\": [32, \"x\"]}", "hidden_sizes", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"hidden_sizes\": [3, 64]}", "hidden_sizes", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"embedding_size\": 0}", "embedding_size", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"num_channels\": -3}", "num_channels", ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"downsample_in_bottleneck\": 1}", "downsample_in_bottleneck",
     ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"downsample_in_first_stage\": 1}", "downsample_in_first_stage",
     ST_CONFIG_INVALID_VALUE},
    {"resnet", "{\"hidden_act\": \"mish\"}", "hidden_act", ST_CONFIG_UNSUPPORTED},
    {"resnet", "{\"stem_pool\": \"avg\"}", "stem_pool", ST_CONFIG_UNKNOWN_FIELD},
    {"resnet", "{\"architectures\": [\"ResNetModel\"]}", "architectures", ST_CONFIG_UNSUPPORTED},
    {"vit", "{\"image_size\": [32]}", "image_size", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"image_size\": 0}", "image_size", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"patch_size\": [8, \"8\"]}", "patch_size", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"patch_size\": 64}", "patch_size", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"qkv_bias\": \"no\"}", "qkv_bias", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"num_attention_heads\": 7}", "num_attention_heads", ST_CONFIG_INVALID_VALUE},
    {"vit", "{\"mask_ratio\": 0.5}", "mask_ratio", ST_CONFIG_UNKNOWN_FIELD},
    {"vit", "{\"architectures\": [\"ViTForMaskedImageModeling\"]}", "architectures",
     ST_CONFIG_UNSUPPORTED},
};

static enum status open_with(const char *network, const char *json, struct error *err)
{
    char name[64];
    struct checkpoint *cp;
    struct model *m = NULL;
    const struct model_options options = {.claim_only = true};
    snprintf(name, sizeof name, "families/%s", network);
    ck_assert(checkpoint_open(fixture_path(name, ""), &cp, err) == ST_OK);
    json_t *keys = json_loads(json, 0, NULL);
    ck_assert_msg(keys && !json_object_update(cp->config, keys), "%s", json);
    json_decref(keys);
    enum status s = model_open(cp, &options, &chain_default, fixture_kernels, NULL, NULL, &m, err);
    model_close(m);
    checkpoint_close(cp);
    return s;
}

START_TEST(options_refused_by_name)
{
    struct error err = ERROR_INIT;
    enum status s = open_with(refused[_i].network, refused[_i].json, &err);
    ck_assert_msg(s == refused[_i].code && strstr(err.text, refused[_i].field), "%s: %s: %s",
                  refused[_i].json, status_code(s), err.text);
    error_clear(&err);
}
END_TEST

/* The tensors decide too: a class that the file has not, another number of anything. */
START_TEST(checkpoints_refused)
{
    static const struct {
        const char *network, *json, *says;
        enum status code;
    } cases[] = {
        {"resnet", "{\"depths\": [2, 2]}", "layers.1.layer.0.convolution", ST_TENSOR_MISSING},
        {"resnet", "{\"depths\": [1, 1]}", "belongs to no module", ST_TENSOR_UNEXPECTED},
        {"resnet", "{\"layer_type\": \"basic\"}", "[32, 16, 3, 3]", ST_TENSOR_SHAPE_MISMATCH},
        {"resnet", "{\"embedding_size\": 8}", "[8, 3, 7, 7]", ST_TENSOR_SHAPE_MISMATCH},
        {"resnet", "{\"id2label\": {\"0\": \"a\"}}", "id2label", ST_CONFIG_INVALID_VALUE},
        {"vit", "{\"image_size\": 40}", "vit.embeddings.position_embeddings",
         ST_TENSOR_SHAPE_MISMATCH},
        {"vit", "{\"qkv_bias\": false}", "has no bias", ST_TENSOR_UNEXPECTED},
        {"vit", "{\"num_hidden_layers\": 3}", "num_hidden_layers", ST_CONFIG_INVALID_VALUE},
        {"vit", "{\"id2label\": null, \"num_labels\": 3}", "id2label", ST_CONFIG_INVALID_VALUE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        enum status s = open_with(cases[i].network, cases[i].json, &err);
        ck_assert_msg(s == cases[i].code && strstr(err.text, cases[i].says), "%s: %s: %s",
                      cases[i].json, status_code(s), err.text);
        error_clear(&err);
    }
}
END_TEST

START_TEST(not_repeated)
{
    struct checkpoint *cp;
    struct model *m = NULL;
    struct error err = ERROR_INIT;
    const struct layer_range twice[] = {{0, 1}, {0, 1}};
    const struct model_options options = {
        .claim_only = true, .replication = twice, .n_replication = 2};
    ck_assert(checkpoint_open(fixture_path("families/resnet", ""), &cp, &err) == ST_OK);
    ck_assert_int_eq(
        model_open(cp, &options, &chain_default, fixture_kernels, NULL, NULL, &m, &err),
        ST_NOT_SUPPORTED);
    ck_assert(strstr(err.text, "layer_replication"));
    error_clear(&err);
    checkpoint_close(cp);
}
END_TEST

/* The nth allocation fails while a network of images is built and loaded. (Sorting falls back to a
 * way without memory, so that some rounds succeed.) */
START_TEST(out_of_memory)
{
    const char *network = _i ? "vit-wide" : "resnet-basic";
    char name[64];
    struct checkpoint *cp;
    struct error err = ERROR_INIT;
    snprintf(name, sizeof name, "families/%s", network);
    ck_assert(checkpoint_open(fixture_path(name, ""), &cp, &err) == ST_OK);
    FAULT_EACH(n)
    {
        struct model *m = NULL;
        struct scratch *scratch = NULL;
        const struct model_options options = {0};
        long before = fault_live();
        enum status st =
            model_open(cp, &options, &chain_default, fixture_kernels, NULL, NULL, &m, &err);
        if (st == ST_OK)
            st = scratch_open(m, fixture_kernels, 96, 4, &scratch, &err);
        bool fired = fault_disarm();
        ck_assert_msg(st == ST_OK || (fired && st == ST_OUT_OF_MEMORY), "allocation %ld: %s", n,
                      err.text);
        scratch_close(scratch);
        model_close(m);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    checkpoint_close(cp);
}
END_TEST

static void add_passes(TCase *c)
{
    tcase_add_loop_test(c, logits_as_the_reference, 0, N_NETWORKS);
    tcase_add_loop_test(c, peft_forward_as_the_reference, 0, N_NETWORKS);
    tcase_add_loop_test(c, states_as_the_reference, 0, N_NETWORKS);
    tcase_add_loop_test(c, neighbours_do_not_show, 0, N_NETWORKS);
    tcase_add_loop_test(c, windows_by_definition, 0, 8);
    tcase_set_timeout(c, 120);
}

static Suite *suite(void)
{
    Suite *s = suite_create("core/model/image");
    TCase *plain = tcase_create("plain kernels"), *fast = tcase_create("cpu kernels");
    TCase *c = tcase_create("images");
    add_passes(plain);
    add_passes(fast);
    tcase_add_checked_fixture(plain, open_cpu, close_cpu);
    tcase_add_checked_fixture(fast, use_cpu, close_cpu);
    tcase_add_checked_fixture(c, open_cpu, close_cpu);
    tcase_add_test(c, peft_forward_that_fails);
    tcase_add_loop_test(c, a_pass_takes_no_memory, 0, N_NETWORKS);
    tcase_add_test(c, sizes_that_do_not_fit);
    tcase_add_test(c, any_size_that_fits);
    tcase_add_loop_test(c, options_refused_by_name, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(c, checkpoints_refused);
    tcase_add_test(c, not_repeated);
    tcase_add_loop_test(c, out_of_memory, 0, 2);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, plain);
    suite_add_tcase(s, fast);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
