/*
 * Images through the engine: in slices, over several views, cancelled, without memory. What an
 * image gives never depends on any of it.
 */
#include "core/memory.h"
#include "tests/core/engine_fixture.h"
#include "tests/faults/fault.h"

#define LABELS 10

static float *pixels; /* of the golden images */
static struct images golden;

/* An engine on a family with all of its adapters' folders on demand. */
static void open_family(const char *family, int32_t max_rows, bool peft)
{
    static char dir[512], root[544];
    static const char *const root_of[] = {root};
    char path[560];
    struct safetensors *file;
    snprintf(dir, sizeof dir, "%s/families/%s", test_vectors(), family);
    snprintf(root, sizeof root, "%s/adapters", dir);
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    open_kernels(1);
    struct engine_options o = options();
    o.model_dir = dir;
    o.n_adapters = 0;
    o.adapter_roots = root_of;
    o.n_adapter_roots = 1;
    o.autoload = true;
    o.max_rows = max_rows;
    o.max_sequences = 8;
    o.model.conv2d_peft = peft;
    e = open_engine(&o);
    ck_assert(safetensors_open(path, &file, NULL) == ST_OK);
    const struct tensor *t = safetensors_find(file, "pixel_values");
    pixels = malloc((size_t)tensor_elements(t) * sizeof *pixels);
    tensor_to_f32(t, 0, tensor_elements(t), pixels);
    golden = (struct images){pixels,
                             (int32_t)t->shape[0],
                             {(int32_t)t->shape[1], (int32_t)t->shape[2], (int32_t)t->shape[3]}};
    safetensors_close(file);
}

static void close_family(void)
{
    free(pixels);
    teardown();
}

static enum status submit_images(const struct images *images, const char *const *adapters,
                                 struct ticket **t, struct error *err)
{
    static struct name_list chains[32];
    for (int32_t i = 0; i < images->n; i++)
        chains[i] = (struct name_list){&adapters[i], adapters[i] ? 1 : 0};
    const struct forward_request q = {.images = images,
                                      .n_rows = (size_t)images->n,
                                      .adapters = chains,
                                      .outputs = OUTPUT_LOGITS,
                                      .compute = -1};
    return engine_forward(e, &q, t, err);
}

/* Logits of each image to out [n, LABELS]. */
static void run_images(const struct images *images, const char *const *adapters,
                       float (*out)[LABELS])
{
    struct ticket *t = NULL;
    struct error err = ERROR_INIT;
    size_t n;
    ck_assert_msg(submit_images(images, adapters, &t, &err) == ST_OK, "%s", err.text);
    ticket_join(t);
    ck_assert_msg(ticket_status(t, &err) == ST_OK, "%s", err.text);
    const struct forward_row *rows = ticket_forward(t, &n);
    ck_assert_uint_eq(n, (size_t)images->n);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(rows[i].n_adapters, adapters[i] ? 1 : 0);
        memcpy(out[i], rows[i].logits, sizeof out[i]);
    }
    ticket_free(t);
}

/* The golden images over and over. */
static struct images many(int32_t n, float **own)
{
    size_t each =
        (size_t)golden.size.channels * (size_t)golden.size.height * (size_t)golden.size.width;
    *own = malloc((size_t)n * each * sizeof **own);
    for (int32_t i = 0; i < n; i++)
        memcpy(*own + (size_t)i * each, pixels + (size_t)(i % 2) * each, each * sizeof **own);
    return (struct images){*own, n, golden.size};
}

/* Thirteen images of three chains and two views in slices of any size: each as it is alone. */
START_TEST(slices_do_not_show)
{
    static const struct {
        const char *family;
        int32_t rows;
    } cases[] = {{"resnet", 16}, {"resnet", 512}, {"vit", 17}, {"vit", 64}, {"vit", 512}};
    static const char *const who[13] = {NULL,  "a",  "a",  "all", "all", NULL, "a",
                                        "all", NULL, NULL, "a",   "a",   "all"};
    open_family(cases[_i].family, cases[_i].rows, false);
    static float alone[3][2][LABELS], got[13][LABELS];
    static const char *const chains[] = {NULL, "a", "all"};
    float *own;
    const struct images all = many(13, &own);
    for (int view = 0; view < 2; view++) {
        for (int c = 0; c < 3; c++) {
            const char *const both[] = {chains[c], chains[c]};
            run_images(&golden, both, alone[c]);
        }
        run_images(&all, who, got);
        for (int i = 0; i < 13; i++) {
            int c = !who[i] ? 0 : !strcmp(who[i], "a") ? 1 : 2;
            ck_assert_msg(!memcmp(got[i], alone[c][i % 2], sizeof got[i]), "%s, image %d",
                          cases[_i].family, i);
        }
        if (view == 0) // now its images see a view of their own
            ck_assert_int_eq(merge("a", MERGE_RESIDENT), ST_OK);
    }
    free(own);
    close_family();
}
END_TEST

START_TEST(a_request_may_be_cancelled)
{
    open_family("resnet", 16, false);
    static const char *const who[16] = {0};
    float *own;
    const struct images all = many(16, &own);
    struct ticket *t = NULL, *u = NULL;
    ck_assert(submit_images(&all, who, &t, NULL) == ST_OK);
    ck_assert(submit_images(&all, who, &u, NULL) == ST_OK);
    ticket_cancel(u);
    ticket_join(u);
    ticket_join(t);
    enum status s = ticket_status(u, NULL);
    ck_assert(s == ST_CANCELLED || s == ST_OK); // it may have been done before
    ck_assert_int_eq(ticket_status(t, NULL), ST_OK);
    ticket_free(t);
    ticket_free(u);
    free(own);
    close_family();
}
END_TEST

/* The nth allocation on any thread fails while an image, one whose adapter has to be loaded and one
 * convolution go through: each ends well or with OUT_OF_MEMORY, and then everything is as before.
 */
START_TEST(allocations_fail)
{
    open_family(_i ? "vit" : "resnet", 64, true);
    const char *module =
        _i ? "vit.embeddings.patch_embeddings.projection" : "resnet.embedder.embedder.convolution";
    const char *const base[] = {NULL, NULL}, *const on[] = {_i ? "patch" : "a", "all"};
    float before[2][LABELS], after[2][LABELS];
    run_images(&golden, on, before);
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 20) {
        struct ticket *t[3] = {0};
        enum status st[3];
        const struct module_request q = {
            .module = module, .adapters = {on, 1}, .images = golden, .compute = -1};
        fault_arm(n);
        st[0] = submit_images(&golden, base, &t[0], NULL);
        st[1] = submit_images(&golden, on, &t[1], NULL);
        st[2] = engine_module(e, &q, &t[2], NULL);
        for (int i = 0; i < 3; i++)
            if (st[i] == ST_OK)
                ticket_join(t[i]);
        fired = fault_disarm();
        for (int i = 0; i < 3; i++) {
            struct error err = ERROR_INIT;
            if (st[i] == ST_OK)
                st[i] = ticket_status(t[i], &err);
            ck_assert_msg(st[i] == ST_OK || (fired && st[i] == ST_OUT_OF_MEMORY),
                          "allocation %ld, request %d: %s: %s", n, i, status_code(st[i]), err.text);
            error_clear(&err);
            ticket_free(t[i]);
        }
    }
    run_images(&golden, on, after);
    ck_assert(!memcmp(before, after, sizeof before));
    close_family();
}
END_TEST

/* A convolution takes images of its channels, nothing else takes images. */
START_TEST(modules_know_their_kind)
{
    open_family("resnet", 64, false);
    static const float x[64] = {1};
    const char *conv = "resnet.encoder.stages.0.layers.0.layer.0.convolution";
    const struct images image = {x, 1, {16, 2, 2}}, narrow = {x, 1, {8, 2, 2}};
    const struct {
        struct module_request q;
        const char *says;
    } cases[] = {
        {{.module = conv, .x = x, .rows = 1, .width = 16, .compute = -1}, "takes images"},
        {{.module = conv, .images = narrow, .compute = -1}, "16 channels"},
        {{.module = "classifier.1", .images = image, .compute = -1}, "no images"},
    };
    struct ticket *t = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        ck_assert_int_eq(engine_module(e, &cases[i].q, &t, &err), ST_INVALID_VALUE);
        ck_assert_msg(strstr(err.text, cases[i].says) && !strcmp(err.param, "input"), "%s",
                      err.text);
        error_clear(&err);
    }
    const struct module_request good = {.module = conv, .images = image, .compute = -1};
    int64_t shape[3], n;
    int32_t rows;
    ck_assert_int_eq(engine_module(e, &good, &t, NULL), ST_OK);
    ticket_join(t);
    ck_assert_int_eq(ticket_module_shape(t, shape), 3);
    ck_assert(shape[0] == 8 && shape[1] == 2 && shape[2] == 2);
    ck_assert_ptr_nonnull(ticket_module(t, &rows, &n));
    ck_assert(rows == 1 && n == 32);
    ticket_free(t);
    close_family();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine images");
    TCase *c = tcase_create("images");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, slices_do_not_show, 0, 5);
    tcase_add_test(c, a_request_may_be_cancelled);
    tcase_add_loop_test(c, allocations_fail, 0, 2);
    tcase_add_test(c, modules_know_their_kind);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
