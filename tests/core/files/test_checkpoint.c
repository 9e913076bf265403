/* Folders: which file wins, what an index may say, quantization configs from every place, pickles,
 * the cache of Hugging Face, identity; golden folders; memory running out at every allocation. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files/checkpoint.h"
#include "core/files/writer.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static char dir[64]; /* of the running test */

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/oftd-checkpoint-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const char *at(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "wb");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* A safetensors file of U8 scalars with these one-letter names. */
static void put_tensors(const char *file, const char *letters)
{
    static const char names[] = "a\0b\0c\0d\0e\0f";
    struct tensor t[6];
    size_t n = strlen(letters);
    for (size_t i = 0; i < n; i++)
        t[i] = (struct tensor){.name = names + 2 * (letters[i] - 'a'),
                               .dtype = DT_U8,
                               .data = letters + i,
                               .bytes = 1};
    ck_assert_int_eq(writer_file(at(file), t, n, NULL), ST_OK);
}

START_TEST(one_file)
{
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    put("config.json", "{\"model_type\": \"llama\"}");
    put_tensors("model.safetensors", "cab");
    put("model.safetensors.index.json", "not read: the single file wins");
    ck_assert_msg(checkpoint_open(dir, &cp, &err) == ST_OK, "%s", err.text);
    ck_assert_str_eq(cp->dir, dir);
    ck_assert_uint_eq(cp->n_tensors, 3);
    ck_assert_uint_eq(cp->n_shards, 1);
    ck_assert_uint_eq(cp->bytes, 3);
    ck_assert_str_eq(cp->tensors[0].name, "a");
    ck_assert_int_eq(*(const char *)checkpoint_find(cp, "b")->data, 'b');
    ck_assert_ptr_null(checkpoint_find(cp, "x"));
    ck_assert_ptr_null(cp->quant);
    ck_assert_ptr_null(cp->generation);
    checkpoint_close(cp);
    checkpoint_close(NULL);
    remove_dir();
}
END_TEST

START_TEST(two_shards)
{
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    put("config.json", "{}");
    put("generation_config.json", "{\"eos_token_id\": 2}");
    put_tensors("x-1.safetensors", "ca");
    put_tensors("x-2.safetensors", "bd");
    put("model.safetensors.index.json",
        "{\"metadata\": {\"total_size\": 9}, \"weight_map\": {\"a\": \"x-1.safetensors\","
        "\"b\": \"x-2.safetensors\", \"c\": \"x-1.safetensors\"}}");
    ck_assert_msg(checkpoint_open(dir, &cp, &err) == ST_OK, "%s", err.text);
    ck_assert_uint_eq(cp->n_shards, 2);
    ck_assert_uint_eq(cp->n_tensors, 4); // one that the index forgot is there all the same
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(cp->tensors[i].name[0], 'a' + (int)i);
    ck_assert_str_eq(cp->tensors[3].file, at("x-2.safetensors"));
    ck_assert_int_eq(json_integer_value(json_object_get(cp->generation, "eos_token_id")), 2);
    checkpoint_close(cp);
    remove_dir();
}
END_TEST

static const struct {
    const char *index;
    enum status code;
    const char *says;
    size_t findings;
} bad_index[] = {
    {"[1]", ST_CHECKPOINT_INVALID, "an object", 1},
    {"{\"a\":", ST_CHECKPOINT_INVALID, "line 1", 1},
    {"{}", ST_CHECKPOINT_INVALID, "weight_map: expected an object, got nothing", 1},
    {"{\"weight_map\": []}", ST_CHECKPOINT_INVALID, "weight_map", 1},
    {"{\"weight_map\": {\"a\": 1}}", ST_CHECKPOINT_INVALID, "a: shard", 1},
    {"{\"weight_map\": {\"a\": \"../x-1.safetensors\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"sub/x\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"sub\\\\x\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"x\\u0000y\"}}", ST_CHECKPOINT_INVALID, "bare name", 1},
    {"{\"weight_map\": {\"a\": \"none.safetensors\"}}", ST_FILE_UNREADABLE, "none.safetensors: No",
     1},
    {"{\"weight_map\": {\"b\": \"x-1.safetensors\"}}", ST_TENSOR_MISSING,
     "b: listed shard: expected x-1.safetensors, got", 1},
    {"{\"weight_map\": {\"a\": \"x-1.safetensors\", \"b\": \"twice.safetensors\"}}",
     ST_CHECKPOINT_INVALID, "tensor a is in two shards", 1},
    {"{\"weight_map\": {\"a\": \"bad.safetensors\"}}", ST_CHECKPOINT_INVALID, "too small", 1},
    // all at once
    {"{\"weight_map\": {\"a\": \"bad.safetensors\", \"b\": \"../b\", \"d\": \"x-1.safetensors\","
     "\"c\": \"none\"}}",
     ST_CHECKPOINT_INVALID, "(and 3 more)", 4},
};

START_TEST(index_refused)
{
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    put("config.json", "{}");
    put_tensors("x-1.safetensors", "a");
    put_tensors("twice.safetensors", "ab");
    put("bad.safetensors", "");
    put("model.safetensors.index.json", bad_index[_i].index);
    enum status s = checkpoint_open(dir, &cp, &err);
    ck_assert_msg(s == bad_index[_i].code, "%s: %d %s", bad_index[_i].index, s, err.text);
    ck_assert_msg(strstr(err.text, bad_index[_i].says), "%s: says %s", bad_index[_i].index,
                  err.text);
    ck_assert_ptr_nonnull(strstr(err.text, dir));
    ck_assert_uint_eq(err.findings.n, bad_index[_i].findings);
    ck_assert_ptr_null(cp);
    error_clear(&err);
    remove_dir();
}
END_TEST

/* Text of each file ("" for none), the key that must come out, and its value. */
static const struct {
    const char *config, *quantize, *quant, *quantization, *key, *value;
} quants[] = {
    {"{}", "", "", "", NULL, NULL},
    {"{\"quantization_config\": null}", "", "", "", NULL, NULL},
    {"{\"quantization_config\": {\"a\": \"own\"}}", "{\"a\": \"file\", \"b\": \"file\"}", "", "",
     "a", "own"},
    {"{\"quantization_config\": {\"a\": \"own\"}}", "{\"a\": \"file\", \"b\": \"file\"}", "", "",
     "b", "file"},
    {"{\"quantization_config\": {\"a\": \"own\"}}", "", "{\"b\": \"awq\"}", "{\"b\": \"inc\"}", "b",
     NULL},
    {"{}", "{\"bits\": \"4\"}", "{\"bits\": \"awq\"}", "", "bits", "4"},
    {"{}", "{\"bits\": \"4\"}", "", "", "quant_method", "gptq"},
    {"{}", "{\"quant_method\": \"awq\"}", "", "", "quant_method", "awq"},
    {"{}", "", "{\"w_bit\": \"4\"}", "{\"w_bit\": \"inc\"}", "w_bit", "4"},
    {"{}", "", "{\"w_bit\": \"4\"}", "", "quant_method", "awq"},
    {"{}", "", "", "{\"mode\": \"LOAD\"}", "mode", "LOAD"},
    {"{}", "", "", "{\"mode\": \"LOAD\"}", "quant_method", NULL},
};

START_TEST(quantization_places)
{
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    put("config.json", quants[_i].config);
    put_tensors("model.safetensors", "a");
    if (*quants[_i].quantize)
        put("quantize_config.json", quants[_i].quantize);
    if (*quants[_i].quant)
        put("quant_config.json", quants[_i].quant);
    if (*quants[_i].quantization)
        put("quantization_config.json", quants[_i].quantization);
    ck_assert_msg(checkpoint_open(dir, &cp, &err) == ST_OK, "%s", err.text);
    ck_assert(!cp->quant == !quants[_i].key);
    const char *value =
        quants[_i].key ? json_string_value(json_object_get(cp->quant, quants[_i].key)) : NULL;
    ck_assert_pstr_eq(value, quants[_i].value);
    checkpoint_close(cp);
    remove_dir();
}
END_TEST

START_TEST(folders_refused)
{
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    ck_assert_int_eq(checkpoint_open(at("none"), &cp, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "no such folder"));
    // nothing at all: both files that are missing, and the pickle that would not do
    ck_assert_int_eq(checkpoint_open(dir, &cp, &err), ST_FILE_UNREADABLE);
    ck_assert_uint_eq(err.findings.n, 2);
    ck_assert_ptr_nonnull(strstr(err.findings.v[1].message, "neither model.safetensors nor"));
    error_clear(&err);
    put("config.json", "[]");
    put("pytorch_model.bin", "x");
    ck_assert_int_eq(checkpoint_open(dir, &cp, &err), ST_CHECKPOINT_INVALID);
    ck_assert_uint_eq(err.findings.n, 2);
    ck_assert_ptr_nonnull(strstr(err.findings.v[1].message, "pickle (pytorch_model.bin)"));
    error_clear(&err);
    put("config.json", "{\"a\": 1, \"a\": 2, \"quantization_config\": {}}");
    put("generation_config.json", "{");
    put("quantize_config.json", "[");
    ck_assert_int_eq(checkpoint_open(dir, &cp, &err), ST_CONFIG_DUPLICATE_KEY);
    ck_assert_uint_eq(err.findings.n, 4);
    error_clear(&err);
    put("config.json", "{\"quantization_config\": 4}");
    unlink(at("generation_config.json"));
    unlink(at("quantize_config.json"));
    put_tensors("model.safetensors", "a");
    ck_assert_int_eq(checkpoint_open(dir, &cp, &err), ST_CHECKPOINT_INVALID);
    ck_assert_str_eq(err.findings.v[0].field, "quantization_config");
    error_clear(&err);
    // a download that was cut off: the link is there, the blob is not
    put("config.json", "{}");
    unlink(at("model.safetensors"));
    ck_assert_int_eq(symlink("../../blobs/0", at("model.safetensors")), 0);
    ck_assert_int_eq(checkpoint_open(dir, &cp, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "model.safetensors: No such file"));
    error_clear(&err);
    remove_dir();
}
END_TEST

START_TEST(below)
{
    static const char *const names[] = {
        "m.a", "m.a.weight", "m.a.weight.absmax", "m.a-b.weight", "m.a0.w", "m.ab.w", "n.w"};
    struct tensor t[7];
    struct checkpoint *cp = NULL;
    size_t n = 0;
    make_dir();
    for (size_t i = 0; i < 7; i++)
        t[i] = (struct tensor){.name = names[i], .dtype = DT_U8, .data = "x", .bytes = 1};
    put("config.json", "{}");
    ck_assert_int_eq(writer_file(at("model.safetensors"), t, 7, NULL), ST_OK);
    ck_assert_int_eq(checkpoint_open(dir, &cp, NULL), ST_OK);
    const struct tensor *first = checkpoint_below(cp, "m.a", &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(first[0].name, "m.a.weight");
    ck_assert_str_eq(first[1].name, "m.a.weight.absmax");
    ck_assert_str_eq(checkpoint_below(cp, "m", &n)->name, "m.a");
    ck_assert_uint_eq(n, 6);
    checkpoint_below(cp, "n", &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_ptr_null(checkpoint_below(cp, "a", &n));
    ck_assert_ptr_null(checkpoint_below(cp, "z", &n));
    ck_assert_ptr_null(checkpoint_below(cp, "m.a.weight.absmax", &n));
    ck_assert_uint_eq(n, 0);
    checkpoint_close(cp);
    remove_dir();
}
END_TEST

static void identity_of(char out[65])
{
    struct checkpoint *cp = NULL;
    ck_assert_int_eq(checkpoint_open(dir, &cp, NULL), ST_OK);
    checkpoint_identity(cp, out);
    checkpoint_close(cp);
}

START_TEST(identity)
{
    char a[65], b[65];
    make_dir();
    put("config.json", "{\"x\": 1, \"y\": 2}");
    put_tensors("model.safetensors", "ab");
    identity_of(a);
    ck_assert_uint_eq(strlen(a), 64);
    put("config.json", "{\"y\":2,\"x\":1}"); // the same in another spelling
    identity_of(b);
    ck_assert_str_eq(a, b);
    put("config.json", "{\"x\": 1, \"y\": 3}");
    identity_of(b);
    ck_assert_str_ne(a, b);
    put("config.json", "{\"x\": 1, \"y\": 2}");
    put_tensors("model.safetensors", "ac");
    identity_of(b);
    ck_assert_str_ne(a, b);
    remove_dir();
}
END_TEST

/* ORG/NAME in the cache; the variables say where that is. */
START_TEST(cache)
{
    char *found = NULL, command[512];
    struct error err = ERROR_INIT;
    make_dir();
    snprintf(command, sizeof command,
             "cd %s && mkdir -p hub/models--org--net/refs/refs/pr hub/models--org--net/snapshots/"
             "c0ffee && echo c0ffee > hub/models--org--net/refs/main && echo c0ffee > "
             "hub/models--org--net/refs/refs/pr/1 && mkdir -p hub/models--plain/snapshots/main "
             "home/.cache/huggingface/hub/models--o--h/snapshots/main",
             dir);
    ck_assert_int_eq(system(command), 0);
    setenv("HF_HOME", dir, 1);
    unsetenv("HF_HUB_CACHE");
    ck_assert_int_eq(checkpoint_locate(dir, &found, &err), ST_OK); // a folder is a folder
    ck_assert_str_eq(found, dir);
    free(found);
    static const char *const there[] = {"org/net", "org/net@main", "org/net@c0ffee",
                                        "org/net@refs/pr/1"};
    for (int i = 0; i < 4; i++) {
        ck_assert_msg(checkpoint_locate(there[i], &found, &err) == ST_OK, "%s", err.text);
        ck_assert_str_eq(found, at("hub/models--org--net/snapshots/c0ffee"));
        free(found);
    }
    ck_assert_int_eq(checkpoint_locate("plain", &found, &err), ST_OK);
    free(found);
    ck_assert_int_eq(checkpoint_locate("org/other@v1", &found, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "`hf download org/other --revision v1`"));
    ck_assert_ptr_null(found);
    ck_assert_int_eq(checkpoint_locate("org/net@other", &found, &err), ST_FILE_UNREADABLE);
    static const char *const paths[] = {"../x", "/x/y", "a/b/c", "", "a/", "org/net@../../x",
                                        "a@",   "a/.."};
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(checkpoint_locate(paths[i], &found, &err), ST_FILE_UNREADABLE);
        ck_assert_msg(!strstr(err.text, "hf download"), "%s: %s", paths[i], err.text);
    }
    put("hub/models--org--net/refs/main", "../../../../etc"); // a ref must not lead out
    ck_assert_int_eq(checkpoint_locate("org/net", &found, &err), ST_FILE_UNREADABLE);
    setenv("HF_HUB_CACHE", "/nonexistent", 1); // goes before HF_HOME
    ck_assert_int_eq(checkpoint_locate("plain", &found, &err), ST_FILE_UNREADABLE);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", at("home"), 1);
    ck_assert_msg(checkpoint_locate("o/h", &found, &err) == ST_OK, "%s", err.text);
    free(found);
    setenv("XDG_CACHE_HOME", at("home/.cache"), 1);
    ck_assert_int_eq(checkpoint_locate("o/h", &found, &err), ST_OK);
    free(found);
    error_clear(&err);
    remove_dir();
}
END_TEST

/* Figures that another reader of the container (Python's json and struct) gave. */
static const struct {
    const char *dir;
    size_t tensors, bytes;
    bool quant;
} golden[] = {
    {"families/llama", 21, 213632, false},       {"families/mistral", 21, 213632, false},
    {"families/qwen2", 26, 181376, false},       {"fixtures/bnb4-nf4-dq", 91, 1152987, true},
    {"fixtures/gptq3", 63, 1007488, true},       {"fixtures/gptq4-g32-actorder", 63, 1225216, true},
    {"fixtures/plain-bf16", 21, 2886144, false},
};

START_TEST(golden_folders)
{
    char path[PATH_MAX];
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/%s", test_vectors(), golden[_i].dir);
    ck_assert_msg(checkpoint_open(path, &cp, &err) == ST_OK, "%s", err.text);
    ck_assert_uint_eq(cp->n_tensors, golden[_i].tensors);
    ck_assert_uint_eq(cp->bytes, golden[_i].bytes);
    ck_assert(!cp->quant == !golden[_i].quant);
    checkpoint_close(cp);
}
END_TEST

START_TEST(out_of_memory)
{
    make_dir();
    put("config.json", "{\"quantization_config\": {\"bits\": 4}}");
    put("quantize_config.json", "{\"group_size\": 128}");
    put("generation_config.json", "{\"eos_token_id\": 2}");
    put_tensors("x-1.safetensors", "ca");
    put_tensors("x-2.safetensors", "bd");
    put("model.safetensors.index.json",
        "{\"weight_map\": {\"a\": \"x-1.safetensors\", \"b\": \"x-2.safetensors\"}}");
    FAULT_EACH(n)
    {
        struct checkpoint *cp = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = checkpoint_open(dir, &cp, &err);
        bool fired = fault_disarm();
        // opening a file allocates, too: then the file is what could not be read
        if (s)
            ck_assert_msg(fired && (s == ST_OUT_OF_MEMORY || s == ST_FILE_UNREADABLE), "%ld: %d %s",
                          n, s, err.text);
        ck_assert(!s == !!cp);
        if (cp)
            ck_assert_uint_eq(json_object_size(cp->quant), 2);
        checkpoint_close(cp);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    remove_dir();
}
END_TEST

START_TEST(out_of_memory_refusing)
{
    make_dir();
    put("config.json", "{");
    put("model.safetensors.index.json",
        "{\"weight_map\": {\"a\": \"none\", \"b\": \"../x\", \"c\": 1}}");
    FAULT_EACH(n)
    {
        struct checkpoint *cp = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = checkpoint_open(dir, &cp, &err);
        fault_disarm();
        ck_assert_int_ne(s, ST_OK);
        ck_assert_ptr_null(cp);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    remove_dir();
}
END_TEST

START_TEST(out_of_memory_locating)
{
    char command[256];
    make_dir();
    snprintf(command, sizeof command,
             "cd %s && mkdir -p hub/models--o--n/refs hub/models--o--n/snapshots/c0 && echo c0 > "
             "hub/models--o--n/refs/main",
             dir);
    ck_assert_int_eq(system(command), 0);
    setenv("HF_HOME", dir, 1);
    unsetenv("HF_HUB_CACHE");
    for (int i = 0; i < 3; i++) {
        FAULT_EACH(n)
        {
            char *found = NULL;
            struct error err = ERROR_INIT;
            long before = fault_live();
            enum status s = checkpoint_locate(i == 0 ? dir : i == 1 ? "o/n" : "o/m", &found, &err);
            bool fired = fault_disarm();
            ck_assert(s == ST_OK ? found != NULL : found == NULL);
            ck_assert(!s || (fired && s == ST_OUT_OF_MEMORY) ||
                      (i == 2 && s == ST_FILE_UNREADABLE));
            free(found);
            error_clear(&err);
            ck_assert_int_eq(fault_live(), before);
        }
    }
    remove_dir();
}
END_TEST

static Suite *checkpoint_suite(void)
{
    Suite *suite = suite_create("core/files/checkpoint");
    TCase *tc = tcase_create("checkpoint");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, one_file);
    tcase_add_test(tc, two_shards);
    tcase_add_loop_test(tc, index_refused, 0, (int)(sizeof bad_index / sizeof bad_index[0]));
    tcase_add_loop_test(tc, quantization_places, 0, (int)(sizeof quants / sizeof quants[0]));
    tcase_add_test(tc, folders_refused);
    tcase_add_test(tc, below);
    tcase_add_test(tc, identity);
    tcase_add_test(tc, cache);
    tcase_add_loop_test(tc, golden_folders, 0, (int)(sizeof golden / sizeof golden[0]));
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, out_of_memory_refusing);
    tcase_add_test(tc, out_of_memory_locating);
    suite_add_tcase(suite, tc);
    return suite;
}

CHECK_MAIN(checkpoint_suite)
