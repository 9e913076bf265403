#include "core/adapters/adapter.h"

#include "tests/check_main.h"
#include "tests/core/adapters/toy.h"
#include "tests/faults/fault.h"

static struct toy toy;
static struct findings found;
static const struct adapter_options strict;

static void setup(void)
{
    toy_open(&toy, false);
    toy_dir();
}

static void teardown(void)
{
    findings_clear(&found);
    toy_close(&toy);
    toy_remove_dir();
}

#define Q(layer) "model.layers." #layer ".self_attn.q_proj.oft_R.weight"
#define QV       "\"oft_block_size\":4,\"target_modules\":[\"q_proj\"]"

static const struct toy_tensor good[] = {{Q(0), DT_F32, 3, 6, 0.2f}, {Q(1), DT_F16, 3, 6, 0.2f}};

static void write_adapter(const char *more, const struct toy_tensor *v, size_t n)
{
    toy_adapter(toy_path("a"), toy_config(more), v, n);
}

/* What validation finds in an adapter with these tensors. */
static void validate(const char *more, const struct toy_tensor *v, size_t n)
{
    write_adapter(more, v, n);
    findings_clear(&found);
    ck_assert_int_eq(adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL),
                     ST_OK);
    for (size_t i = 0; i < found.n; i++)
        ck_assert_msg(strstr(found.v[i].message, toy_dir()) != NULL, "%s", found.v[i].message);
}

static void only(enum status code, const char *module, const char *field)
{
    ck_assert_msg(found.n == 1, "%zu findings, the last: %s", found.n,
                  found.n ? found.v[found.n - 1].message : "");
    ck_assert_str_eq(status_code(found.v[0].code), status_code(code));
    if (module)
        ck_assert_str_eq(found.v[0].module, module);
    if (field)
        ck_assert_str_eq(found.v[0].field, field);
}

/* Is there a finding with this code? */
static bool has(enum status code)
{
    for (size_t i = 0; i < found.n; i++)
        if (found.v[i].code == code)
            return true;
    return false;
}

START_TEST(loads)
{
    write_adapter(QV, good, 2);
    struct adapter *a;
    struct error err = ERROR_INIT;
    ck_assert_msg(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "name", &strict, &a, &err) ==
                      ST_OK,
                  "%s", err.text);
    ck_assert_str_eq(a->name, "name");
    ck_assert_int_eq(a->n_matched, 2);
    ck_assert_int_eq(a->n_total, TOY_MODULES);
    ck_assert_int_eq(a->n_block_sizes, 1);
    ck_assert_int_eq(a->block_sizes[0], 4);
    ck_assert(a->neumann && a->terms == 5 && a->strength == 100 && !a->has_bias);
    ck_assert(a->orthogonality_defect > 0 && a->orthogonality_defect < 0.1);
    ck_assert(a->packed_bytes >= 18 * 6 && a->rotation_bytes == 2 * 48 * sizeof(float));
    ck_assert_ptr_null(a->adapted.bias);
    for (int i = 0; i < TOY_MODULES; i++) {
        const struct rotation *r = a->adapted.rotation[i];
        ck_assert_int_eq(r != NULL, i == TOY_Q0 || i == TOY_Q1);
        if (!r)
            continue;
        ck_assert(r->dim == TOY_HIDDEN && r->block == 4 && r->blocks == 3 && !r->shared);
        ck_assert(r->dtype == DT_F32 && (uintptr_t)r->data % 64 == 0);
    }
    adapter_unref(adapter_ref(a));
    adapter_unref(a);
    adapter_unref(NULL);
}
END_TEST

static void *read_whole(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *data = malloc(1 << 20);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

START_TEST(digests)
{
    write_adapter(QV, good, 2);
    char path[600];
    size_t n[2];
    void *file[2];
    const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", toy_path("a"), names[i]);
        file[i] = read_whole(path, &n[i]);
    }
    char *whole = malloc(16 + n[0] + n[1]);
    for (int i = 0; i < 16; i++)
        whole[i] = (char)((uint64_t)n[i / 8] >> 8 * (i % 8));
    memcpy(whole + 16, file[0], n[0]);
    memcpy(whole + 16 + n[0], file[1], n[1]);
    uint8_t want[DIGEST_SIZE], got[DIGEST_SIZE];
    digest_bytes(whole, 16 + n[0] + n[1], want);
    ck_assert_int_eq(adapter_digest(toy_path("a"), got, NULL), ST_OK);
    ck_assert_mem_eq(got, want, DIGEST_SIZE);
    struct adapter *a;
    ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &strict, &a, NULL), 0);
    ck_assert_mem_eq(a->digest, want, DIGEST_SIZE);
    ck_assert(!strncmp(a->digest_text, "sha256:", 7) && strlen(a->digest_text) == 71);
    adapter_unref(a);
    free(whole);
    free(file[0]);
    free(file[1]);
}
END_TEST

START_TEST(unprefixed_alias_and_embedding)
{
    validate(
        "\"oft_block_size\":4,\"target_modules\":[\"query\",\"embed_tokens\"]",
        (struct toy_tensor[]){{"/old.layer.0.query.oft_R.weight", DT_F32, 3, 6, 0.1f},
                              {"old.layer.1.query.oft_R.weight", DT_F32, 3, 6, 0.1f},
                              {"model.embed_tokens.oft_embedding_R.weight", DT_F32, 3, 6, .1f}},
        3);
    ck_assert_int_eq(found.n, 0);
}
END_TEST

START_TEST(selection_and_file_must_agree)
{
    validate(QV, good, 1);
    only(ST_TENSOR_MISSING, "model.layers.1.self_attn.q_proj", "base_model.model." Q(1));
    validate("\"oft_block_size\":4,\"target_modules\":[\"layers.0.self_attn.q_proj\"]", good, 2);
    only(ST_TENSOR_UNEXPECTED, "model.layers.1.self_attn.q_proj", NULL);
    validate(
        QV,
        (struct toy_tensor[]){
            good[0], good[1], {"model.layers.7.self_attn.q_proj.oft_R.weight", DT_F32, 3, 6, 0}},
        3);
    only(ST_MODULE_NOT_FOUND, "model.layers.7.self_attn.q_proj", NULL);
    validate(QV, NULL, 0);
    ck_assert_int_eq(found.v[0].code, ST_NO_EFFECTIVE_MODULES);
    ck_assert(has(ST_TENSOR_MISSING));
    validate("\"oft_block_size\":4,\"target_modules\":[\"nothing\"]", good, 2);
    ck_assert_int_eq(found.v[0].code, ST_NO_EFFECTIVE_MODULES);
    validate(QV, (struct toy_tensor[]){good[0], good[1], {"x.lora_A.weight", DT_F32, 1, 1, 0}}, 3);
    only(ST_TENSOR_UNEXPECTED, NULL, "base_model.model.x.lora_A.weight");
    validate(QV, (struct toy_tensor[]){good[0], good[1], {"/" Q(0), DT_F32, 3, 6, 0}}, 3);
    ck_assert(has(ST_TENSOR_UNEXPECTED)); // twice, with the prefix and without
    validate(
        QV,
        (struct toy_tensor[]){
            good[0], {"model.layers.1.self_attn.q_proj.oft_embedding_R.weight", DT_F32, 3, 6, 0}},
        2);
    ck_assert(has(ST_TENSOR_UNEXPECTED) && has(ST_TENSOR_MISSING));
}
END_TEST

START_TEST(shapes)
{
    validate(QV, (struct toy_tensor[]){good[0], {Q(1), DT_F32, 2, 6, 0}}, 2);
    only(ST_TENSOR_SHAPE_MISMATCH, "model.layers.1.self_attn.q_proj", "base_model.model." Q(1));
    ck_assert_str_eq(found.v[0].expected, "[3, 6]");
    ck_assert_str_eq(found.v[0].got, "[2, 6]");
    validate(QV, (struct toy_tensor[]){{Q(0), DT_F32, 4, 6, 0}, {Q(1), DT_F32, 4, 6, 0}}, 2);
    ck_assert_int_eq(found.n, 2);
    ck_assert_int_eq(found.v[0].code, ST_BASE_SHAPE_MISMATCH); // made for 16 inputs
    validate("\"oft_block_size\":5,\"target_modules\":[\"q_proj\"]",
             (struct toy_tensor[]){{Q(0), DT_F32, 2, 10, 0}, {Q(1), DT_F32, 2, 10, 0}}, 2);
    ck_assert_int_eq(found.v[0].code, ST_BLOCK_SIZE_NOT_DIVISOR);
    validate("\"oft_block_size\":5,\"target_modules\":[\"q_proj\"]", good, 2); // adjusted to 4
    ck_assert_int_eq(found.n, 0);
    validate("\"oft_block_size\":2147483647,\"target_modules\":[\"q_proj\"]",
             (struct toy_tensor[]){{Q(0), DT_F32, 1, 66, .1f}, {Q(1), DT_BF16, 1, 66, .1f}}, 2);
    ck_assert_int_eq(found.n, 0);
    validate("\"oft_block_size\":1,\"target_modules\":[\"q_proj\"]",
             (struct toy_tensor[]){{Q(0), DT_F32, 12, 0, 0}, {Q(1), DT_F32, 12, 0, 0}}, 2);
    ck_assert_int_eq(found.n, 0);
    validate(QV ",\"block_share\":true",
             (struct toy_tensor[]){{Q(0), DT_F32, 1, 6, .1f}, {Q(1), DT_F32, 1, 6, .1f}}, 2);
    ck_assert_int_eq(found.n, 0);
    validate(QV ",\"block_share\":true", good, 2);
    ck_assert_int_eq(found.v[0].code, ST_TENSOR_SHAPE_MISMATCH);
    validate(QV, (struct toy_tensor[]){good[0], {Q(1), DT_F32, 18, -1, 0}}, 2);
    only(ST_TENSOR_SHAPE_MISMATCH, NULL, NULL);
    validate(QV, (struct toy_tensor[]){good[0], {Q(1), DT_I32, 3, 6, 0}}, 2);
    only(ST_DTYPE_UNSUPPORTED, NULL, NULL);
}
END_TEST

START_TEST(numbers)
{
    validate(QV, (struct toy_tensor[]){good[0], {Q(1), DT_F32, 3, 6, NAN}}, 2);
    only(ST_NON_FINITE_WEIGHTS, "model.layers.1.self_attn.q_proj", NULL);
    validate(QV, (struct toy_tensor[]){good[0], {Q(1), DT_F32, 3, 6, 5}}, 2);
    ck_assert(has(ST_NEUMANN_DIVERGENT) && has(ST_ORTHOGONALITY_DEFECT_HIGH));
    ck_assert_int_eq(found.errors, 1);
    struct adapter_options permissive = {.permissive = true};
    struct adapter *a;
    ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &permissive, &a, NULL),
                     ST_OK);
    ck_assert_int_eq(a->warnings.n, 2);
    adapter_unref(a);
    validate(QV ",\"use_cayley_neumann\":false",
             (struct toy_tensor[]){good[0], {Q(1), DT_F32, 3, 6, 5}}, 2);
    ck_assert_int_eq(found.n, 0);
    validate(QV ",\"coft\":true", good, 2);
    ck_assert_int_eq(found.n, 2);
    ck_assert(found.v[0].code == ST_COFT_OUT_OF_BOUNDS && found.errors == 0);
}
END_TEST

START_TEST(other_tensors)
{
    const struct toy_tensor legacy = {"model.layers.0.self_attn.q_proj.oft_r.default", DT_F32, 3, 6,
                                      0};
    validate(QV, (struct toy_tensor[]){good[0], good[1], legacy}, 3);
    only(ST_LEGACY_OFT_FORMAT, NULL, NULL);
    validate(QV, (struct toy_tensor[]){good[0], good[1], {"lm_head.weight", DT_F32, 24, 12, 1}}, 3);
    only(ST_MODULES_TO_SAVE_UNSUPPORTED, "lm_head", NULL);
    validate(QV,
             (struct toy_tensor[]){
                 good[0], good[1], {"model.layers.0.mlp.up_proj.weight", DT_F32, 20, 12, 1}},
             3);
    only(ST_MODULES_TO_SAVE_UNSUPPORTED, "model.layers.0.mlp.up_proj", NULL);
    validate(QV ",\"modules_to_save\":[\"score\"]",
             (struct toy_tensor[]){good[0], good[1], {"score.weight", DT_F32, 2, 12, 1}}, 3);
    only(ST_MODULES_TO_SAVE_UNSUPPORTED, "score", NULL); // of which class nobody says
}
END_TEST

/* PEFT's copy of the embedding: the base's own values pass, in the file's dtype. */
START_TEST(copy_of_the_embedding)
{
    for (int change = 0; change < 2; change++) {
        struct toy_tensor v[] = {
            {"model.embed_tokens.base_layer.weight", DT_F16, TOY_VOCAB, TOY_HIDDEN, 1},
            {"model.embed_tokens.oft_embedding_R.weight", DT_F32, 3, 6, .1f}};
        write_adapter("\"oft_block_size\":4,\"target_modules\":[\"embed_tokens\"]", v, 2);
        char path[600];
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", toy_path("a"));
        size_t size;
        char *file = read_whole(path, &size);
        uint64_t header;
        memcpy(&header, file, 8);
        for (int64_t i = 0; i < TOY_VOCAB * TOY_HIDDEN; i++) {
            float f = *toy_element(toy.m.base->weights[TOY_EMBED], i / TOY_HIDDEN, i % TOY_HIDDEN);
            uint16_t h = f32_to_f16(f);
            h ^= (uint16_t)(change && i == 287);
            memcpy(file + 8 + header + 2 * i, &h, 2);
        }
        toy_write_file(toy_path("a"), "adapter_model.safetensors", file, size);
        free(file);
        findings_clear(&found);
        ck_assert_int_eq(
            adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL), ST_OK);
        ck_assert_int_eq(found.n, change);
        if (change)
            only(ST_MODULES_TO_SAVE_UNSUPPORTED, "model.embed_tokens", NULL);
    }
}
END_TEST

#define BIAS_ONLY                                                                                  \
    "{\"peft_type\":\"OFT\",\"oft_block_size\":4,\"target_modules\":[\"v_proj\"],"                 \
    "\"peft_version\":\"1\",\"bias\":\"%s\"}"

static void validate_bias(const char *bias, const struct toy_tensor *v, size_t n)
{
    char text[256];
    snprintf(text, sizeof text, BIAS_ONLY, bias);
    toy_adapter(toy_path("a"), text, v, n);
    findings_clear(&found);
    ck_assert_int_eq(adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL),
                     ST_OK);
}

START_TEST(biases)
{
    struct toy_tensor v[] = {
        {"model.layers.0.self_attn.v_proj.oft_R.weight", DT_F32, 3, 6, .1f},
        {"model.layers.1.self_attn.v_proj.oft_R.weight", DT_F32, 3, 6, .1f},
        {"model.layers.0.self_attn.v_proj.base_layer.bias", DT_F32, TOY_HIDDEN, -1, .1f},
        {"model.layers.1.self_attn.v_proj.base_layer.bias", DT_BF16, TOY_HIDDEN, -1, .1f},
        {"", DT_F32, TOY_HIDDEN, -1, .1f},
    };
    validate_bias("oft_only", v, 4);
    ck_assert_int_eq(found.n, 0);
    struct adapter *a;
    ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &strict, &a, NULL), 0);
    ck_assert(a->has_bias && a->adapted.bias[TOY_V0] && !a->adapted.bias[TOY_Q0]);
    adapter_unref(a);
    validate_bias("none", v, 4);
    ck_assert_int_eq(found.n, 2);
    ck_assert_int_eq(found.v[0].code, ST_TENSOR_UNEXPECTED);
    validate_bias("all", v, 3);
    only(ST_TENSOR_MISSING, "model.layers.1.self_attn.v_proj", NULL);
    v[4].name = "model.norm.bias";
    validate_bias("all", v, 5);
    only(ST_BIAS_CONFLICT, "model.norm", NULL);
    v[4].name = "model.layers.0.self_attn.q_proj.bias";
    validate_bias("all", v, 5);
    only(ST_BIAS_CONFLICT, "model.layers.0.self_attn.q_proj", NULL);
    v[3].rows = 5;
    validate_bias("all", v, 4);
    only(ST_TENSOR_SHAPE_MISMATCH, "model.layers.1.self_attn.v_proj", NULL);
    v[3].rows = TOY_HIDDEN;
    v[3].scale = NAN;
    validate_bias("all", v, 4);
    only(ST_NON_FINITE_WEIGHTS, "model.layers.1.self_attn.v_proj", NULL);
}
END_TEST

START_TEST(files)
{
    findings_clear(&found);
    adapter_validate(&toy.m, &toy_kernels, toy_path("nowhere"), &strict, &found, NULL);
    ck_assert_int_eq(found.n, 2);
    ck_assert(found.v[0].code == ST_FILE_UNREADABLE && found.v[1].code == ST_FILE_UNREADABLE);
    write_adapter(QV, good, 2);
    toy_write_file(toy_path("a"), "adapter_model.safetensors", "nonsense", 8);
    findings_clear(&found);
    adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL);
    only(ST_FILE_UNREADABLE, NULL, "adapter_model.safetensors");
    write_adapter(QV, good, 2);
    struct adapter_options small = {.max_bytes = 500};
    findings_clear(&found);
    adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &small, &found, NULL);
    only(ST_CAPACITY_EXCEEDED, NULL, NULL);
    char path[600];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", toy_path("a"));
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0); // must neither block nor be read
    findings_clear(&found);
    adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL);
    only(ST_FILE_UNREADABLE, NULL, "adapter_model.safetensors");
    unlink(path);
    toy_write_file(toy_path("a"), "adapter_model.bin", "x", 1);
    findings_clear(&found);
    adapter_validate(&toy.m, &toy_kernels, toy_path("a"), &strict, &found, NULL);
    ck_assert_int_eq(found.n, 2);
    ck_assert(strstr(found.v[1].message, "pickle"));
}
END_TEST

START_TEST(convolutions)
{
    toy.modules[TOY_Q1].kind = MODULE_CONV2D;
    toy.modules[TOY_Q1].conv = (struct conv2d){.kernel = {1, 1}};
    validate(QV, good, 2);
    ck_assert_int_eq(found.n, 0); // both readings agree
    toy.modules[TOY_Q1].conv.kernel[0] = 2;
    validate(QV, good, 2);
    only(ST_CONV2D_FORWARD_DIFFERS, "model.layers.1.self_attn.q_proj", NULL);
    ck_assert_int_eq(found.errors, 0);
    toy.m.conv2d_peft = true;
    validate(QV, good, 2);
    ck_assert_int_eq(found.n, 0);
}
END_TEST

START_TEST(strengths)
{
    write_adapter(QV, good, 2);
    struct adapter *a, *d;
    ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &strict, &a, NULL), 0);
    ck_assert_int_eq(adapter_derive(&toy.m, &toy_kernels, a, 0, COMPUTE_EXACT, &d, NULL), ST_OK);
    const float *r = d->adapted.rotation[TOY_Q1]->data;
    for (int i = 0; i < 48; i++)
        ck_assert(r[i] == (i % 16 % 5 == 0));
    ck_assert(memcmp(d->identity, a->identity, DIGEST_SIZE) != 0);
    ck_assert_mem_eq(d->digest, a->digest, DIGEST_SIZE);
    adapter_unref(d);
    ck_assert_int_eq(adapter_derive(&toy.m, &toy_kernels, a, 50, COMPUTE_EXACT, &d, NULL), ST_OK);
    adapter_unref(a); // the derived one keeps what it needs
    ck_assert_int_eq(d->strength, 50);
    const float *half = d->adapted.rotation[TOY_Q0]->data;
    ck_assert(half[1] != 0 && fabsf(half[1]) < 0.25f);
    adapter_unref(d);
}
END_TEST

static void expect_rotation(const struct adapter *a, int module, enum dtype d,
                            const struct adapter *exact)
{
    const struct rotation *r = a->adapted.rotation[module];
    const float *want = exact->adapted.rotation[module]->data;
    ck_assert_int_eq(r->dtype, d);
    ck_assert((uintptr_t)r->data % 64 == 0);
    for (int e = 0; e < 48; e++) {
        float near = e % 16 % 5 == 0 ? want[e] - 1 : want[e];
        const char *block = (const char *)r->data + e / 16 * rotation_block_bytes(d, 4);
        if (d == DT_F32) {
            ck_assert(((const float *)r->data)[e] == want[e]);
        } else if (d == DT_F16) {
            ck_assert(((const uint16_t *)r->data)[e] == f32_to_f16(near));
        } else {
            float step = load_f32(block + rotation_steps_at(4) + e % 4 * 4);
            ck_assert(fabsf(((const signed char *)block)[e % 16] * step - near) <= 0.501F * step);
        }
    }
}

START_TEST(modes)
{
    const struct adapter_options exact = {.permissive = true},
                                 fast = {.permissive = true, .mode = COMPUTE_FAST};
    static const struct {
        float scale; /* of the second module's vectors */
        enum dtype form;
        size_t bytes;
    } cases[] = {{0.1F, DT_I8, 128}, {0.6F, DT_F16, 128}, {500, DT_F32, 128 + 192}};
    struct adapter *e, *f, *d;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_adapter(QV, (struct toy_tensor[]){good[0], {Q(1), DT_F32, 3, 6, cases[i].scale}}, 2);
        ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &exact, &e, NULL),
                         ST_OK);
        ck_assert_int_eq(adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &fast, &f, NULL),
                         ST_OK);
        ck_assert(e->mode == COMPUTE_EXACT && f->mode == COMPUTE_FAST);
        ck_assert_mem_eq(e->identity, f->identity, DIGEST_SIZE);
        ck_assert_int_eq(e->rotation_bytes, 2 * 48 * sizeof(float));
        ck_assert_int_eq(f->rotation_bytes, 128 + cases[i].bytes);
        ck_assert(e->orthogonality_defect == f->orthogonality_defect);
        ck_assert_int_eq(e->warnings.n, f->warnings.n);
        expect_rotation(f, TOY_Q0, DT_I8, e);
        expect_rotation(f, TOY_Q1, cases[i].form, e);
        ck_assert_int_eq(adapter_derive(&toy.m, &toy_kernels, f, 100, COMPUTE_EXACT, &d, NULL),
                         ST_OK);
        expect_rotation(d, TOY_Q0, DT_F32, e);
        expect_rotation(d, TOY_Q1, DT_F32, e);
        ck_assert(d->rotation_bytes == e->rotation_bytes && d->packed_bytes == 0);
        adapter_unref(d);
        adapter_unref(e);
        adapter_unref(f);
    }
}
END_TEST

START_TEST(memory_runs_out)
{
    const struct toy_tensor far[] = {good[0], {Q(1), DT_F32, 3, 6, 500}};
    const struct adapter_options options = {.permissive = true,
                                            .mode = _i ? COMPUTE_FAST : COMPUTE_EXACT};
    write_adapter(QV ",\"unknown\":1", far, 2);
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct adapter *a, *d = NULL;
        struct error err = ERROR_INIT;
        enum status s = adapter_load(&toy.m, &toy_kernels, toy_path("a"), "x", &options, &a, &err);
        if (!s)
            s = adapter_derive(&toy.m, &toy_kernels, a, 30, options.mode, &d, &err);
        bool fired = fault_disarm();
        ck_assert_msg(fired ? s == ST_OK || s == ST_OUT_OF_MEMORY : s == ST_OK, "%ld: %s", n,
                      err.text);
        adapter_unref(d);
        adapter_unref(a);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/adapters/adapter");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, loads);
    tcase_add_test(t, digests);
    tcase_add_test(t, unprefixed_alias_and_embedding);
    tcase_add_test(t, selection_and_file_must_agree);
    tcase_add_test(t, shapes);
    tcase_add_test(t, numbers);
    tcase_add_test(t, other_tensors);
    tcase_add_test(t, copy_of_the_embedding);
    tcase_add_test(t, biases);
    tcase_add_test(t, files);
    tcase_add_test(t, convolutions);
    tcase_add_test(t, strengths);
    tcase_add_test(t, modes);
    tcase_add_loop_test(t, memory_runs_out, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
