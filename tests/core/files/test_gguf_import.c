/* A tiny llama in GGUF, made by hand, becomes a folder: rows, codes and files are what they should
 * be; other architectures, tensors and tokenizers are refused by name; nothing is left behind. */
#include <stdio.h>
#include <unistd.h>

#include "core/files/checkpoint.h"
#include "core/files/gguf_import.h"
#include "core/files/gguf_tokenizer.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"
#include "tests/core/files/gguf_bytes.h"
#include "tests/faults/fault.h"

static struct gguf_bytes b;
static char dir[64];

/* What a test changes of the model below. */
struct variant {
    const char *architecture, *pre, *key, *tensor; /* key, tensor: one more */
    uint32_t k_type;                               /* of attn_k; 0: Q4_1 */
};

static void put_metadata(const struct variant *v)
{
    static const char *const tokens[] = {"<s>", "a", "b", "ab"};
    static const uint32_t types[] = {3, 1, 1, 1};
    put_key_text(&b, "general.architecture", v->architecture ? v->architecture : "llama");
    put_key_u32(&b, "llama.block_count", 1);
    put_key_u32(&b, "llama.embedding_length", 32);
    put_key_u32(&b, "llama.feed_forward_length", 32);
    put_key_u32(&b, "llama.context_length", 64);
    put_key_u32(&b, "llama.attention.head_count", 8);
    put_key_u32(&b, "llama.attention.head_count_kv", 2);
    put_key_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_key_text(&b, "tokenizer.ggml.model", "gpt2");
    put_key_text(&b, "tokenizer.ggml.pre", v->pre ? v->pre : "smollm");
    put_key_u32(&b, "tokenizer.ggml.bos_token_id", 0);
    put_key_u32(&b, "tokenizer.ggml.eos_token_id", 0);
    put_key_array(&b, "tokenizer.ggml.tokens", 8, 4);
    for (int i = 0; i < 4; i++)
        put_text(&b, tokens[i]);
    put_key_array(&b, "tokenizer.ggml.token_type", 5, 4);
    put_bytes(&b, types, sizeof types);
    put_key_array(&b, "tokenizer.ggml.merges", 8, 1);
    put_text(&b, "a b");
    put_key_text(&b, "tokenizer.chat_template", "{{ x }}");
    put_key_u32(&b, v->key ? v->key : "general.file_type", 3);
}

/* A row of code 4*row + i % 4 (4 bits: mod 16), d = 0.5, m = row. */
static void put_row(uint32_t type, int row)
{
    static const uint16_t halves[16] = {0,      0x3c00, 0x4000, 0x4200, 0x4400, 0x4500,
                                        0x4600, 0x4700, 0x4800, 0x4880, 0x4900, 0x4980,
                                        0x4a00, 0x4a80, 0x4b00, 0x4b80};
    uint16_t d = 0x3800;
    put_bytes(&b, &d, 2);
    if (type == 3)
        put_bytes(&b, &halves[row % 16], 2);
    for (int i = 0; i < (type == 8 ? 32 : 16); i++)
        b.v[b.n++] = (uint8_t)(type == 8 ? row * 4 + i % 4 : (row % 16) * 17);
}

static void make(const struct variant *v)
{
    const struct {
        const char *name;
        int rows, columns;
        uint32_t type;
    } all[] = {
        {"token_embd.weight", 4, 32, 8},
        {"output_norm.weight", 0, 32, 0},
        {"blk.0.attn_norm.weight", 0, 32, 0},
        {"blk.0.ffn_norm.weight", 0, 32, 0},
        {"blk.0.attn_q.weight", 32, 32, 3},
        {"blk.0.attn_k.weight", 8, 32, v->k_type ? v->k_type : 3},
        {"blk.0.attn_v.weight", 8, 32, 3},
        {"blk.0.attn_output.weight", 32, 32, 3},
        {"blk.0.ffn_gate.weight", 32, 32, 3},
        {"blk.0.ffn_up.weight", 32, 32, 3},
        {"blk.0.ffn_down.weight", 32, 32, 3},
        {v->tensor, 0, 32, 0},
    };
    static const size_t sizes[] = {4, 2, 18, 20, 0, 0, 0, 0, 34};
    size_t n = sizeof all / sizeof all[0] - !v->tensor, offset = 0;
    put_head(&b, n, 17);
    put_metadata(v);
    for (size_t i = 0; i < n; i++) {
        size_t blocks = all[i].type < 2 ? 32 : 1, rows = all[i].rows ? (size_t)all[i].rows : 1;
        put_tensor(&b, all[i].name, (uint64_t)all[i].rows, 32, all[i].type, offset);
        offset += (rows * blocks * sizes[all[i].type] + 31) / 32 * 32;
    }
    put_padding(&b, 32);
    size_t start = b.n;
    for (size_t i = 0; i < n; i++) {
        for (int r = 0; r < all[i].rows; r++)
            put_row(all[i].type, r);
        for (int k = 0; !all[i].rows && k < 32; k++)
            put_f32(&b, (float)k);
        while ((b.n - start) % 32)
            b.v[b.n++] = 0;
    }
    char path[128];
    snprintf(path, sizeof path, "%s/x.gguf", dir);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(b.v, 1, b.n, f) == b.n && !fclose(f));
}

static enum status import(struct gguf_report *report, struct error *err)
{
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/x.gguf", dir);
    snprintf(to, sizeof to, "%s/out", dir);
    return gguf_import(from, to, NULL, NULL, report, err);
}

static void remove_all(const char *what)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s%s", dir, what);
    ck_assert_int_eq(system(command), 0);
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/oftd-gguf-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    remove_all("");
}

static struct checkpoint *opened(void)
{
    char path[128];
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    snprintf(path, sizeof path, "%s/out", dir);
    ck_assert_msg(!checkpoint_open(path, &cp, &err), "%s", err.text);
    return cp;
}

START_TEST(rows_and_codes)
{
    struct gguf_report report;
    struct error err = ERROR_INIT;
    make(&(struct variant){0});
    ck_assert_msg(!import(&report, &err), "%s", err.text);
    ck_assert_int_eq(report.steps, 7);
    ck_assert_int_eq(report.plain, 4);
    struct checkpoint *cp = opened();
    // heads of 4 rows: Hugging Face's 0 1 2 3 are the file's 0 2 1 3
    const struct tensor *zero = checkpoint_find(cp, "model.layers.0.self_attn.k_proj.zero");
    const struct tensor *codes = checkpoint_find(cp, "model.layers.0.self_attn.k_proj.W_q");
    static const int rows[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    ck_assert(zero && codes && codes->shape[0] == 4 && codes->shape[1] == 32);
    for (int r = 0; r < 8; r++) {
        ck_assert(tensor_f32(zero, r) == -2.0f * (float)rows[r]);
        const uint8_t *byte = (const uint8_t *)codes->data + 32 * (r % 4) + 5;
        ck_assert_int_eq(r < 4 ? *byte >> 4 : *byte & 15, rows[r]);
    }
    zero = checkpoint_find(cp, "model.layers.0.self_attn.v_proj.zero"); // as they are
    ck_assert(zero && tensor_f32(zero, 1) == -2 && tensor_f32(zero, 2) == -4);
    const struct tensor *embedding = checkpoint_find(cp, "model.embed_tokens.weight");
    ck_assert(embedding && embedding->dtype == DT_F32 && tensor_f32(embedding, 32 + 3) == 3.5f);
    ck_assert(json_is_true(json_object_get(cp->config, "tie_word_embeddings")));
    ck_assert(json_number_value(json_object_get(cp->config, "rms_norm_eps")) == 1e-5);
    const json_t *quant = json_object_get(cp->quant, "quant_config");
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(quant, "weight_quant_params"), "nbits")),
        4);
    checkpoint_close(cp);
}
END_TEST

START_TEST(eight_bits)
{
    struct gguf_report report;
    make(&(struct variant){.k_type = 8});
    ck_assert_int_eq(import(&report, NULL), ST_OK);
    struct checkpoint *cp = opened();
    const struct tensor *codes = checkpoint_find(cp, "model.layers.0.self_attn.k_proj.W_q");
    ck_assert(codes && codes->shape[0] == 8);
    ck_assert_int_eq(((const uint8_t *)codes->data)[32 + 3], 128 + 2 * 4 + 3); // row 1 is row 2
    ck_assert_ptr_null(json_object_get(cp->quant, "quant_config"));            // two widths
    checkpoint_close(cp);
}
END_TEST

START_TEST(tokenizer)
{
    char path[128];
    struct gguf_report report;
    struct tokenizer *t = NULL;
    struct token_ids ids = {0};
    struct error err = ERROR_INIT;
    make(&(struct variant){.pre = "llama-bpe"}); // adds <s> without being told
    ck_assert_int_eq(import(&report, NULL), ST_OK);
    ck_assert(report.tokenizer);
    snprintf(path, sizeof path, "%s/out", dir);
    ck_assert_msg(!tokenizer_load(path, &t, &err), "%s", err.text);
    ck_assert_int_eq(tokenizer_encode(t, "abb<s>a", 7, true, &ids, &err), ST_OK);
    static const int32_t expected[] = {0, 3, 2, 0, 1};
    ck_assert_uint_eq(ids.n, 5);
    ck_assert_int_eq(memcmp(ids.v, expected, sizeof expected), 0);
    token_ids_free(&ids);
    tokenizer_free(t);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        struct variant v;
        enum status status;
        const char *words;
    } cases[] = {
        {{.architecture = "qwen2"}, ST_MODEL_TYPE_UNSUPPORTED, "\"qwen2\""},
        {{.key = "llama.expert_count"}, ST_CONFIG_UNSUPPORTED, "expert_count"},
        {{.key = "llama.attention.clamp_kqv"}, ST_CONFIG_UNSUPPORTED, "clamp_kqv"},
        {{.key = "llama.rope.dimension_count"}, ST_CONFIG_UNSUPPORTED, "rope.dimension_count"},
        {{.key = "llama.vocab_size"}, ST_TENSOR_SHAPE_MISMATCH, "vocab_size 3"},
        {{.tensor = "rope_freqs.weight"}, ST_TENSOR_UNEXPECTED, "rope_freqs.weight"},
        {{.pre = "tekken"}, ST_TOKENIZER_UNSUPPORTED, "\"tekken\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_report report;
        struct error err = ERROR_INIT;
        char path[128];
        make(&cases[i].v);
        ck_assert_msg(import(&report, &err) == cases[i].status, "%zu: %s", i, err.text);
        ck_assert_msg(strstr(err.text, cases[i].words), "%s", err.text);
        snprintf(path, sizeof path, "%s/out", dir);
        ck_assert_int_ne(access(path, F_OK), 0);
        error_clear(&err);
    }
}
END_TEST

START_TEST(memory_of_readers)
{
    char path[128];
    struct gguf *g = NULL;
    make(&(struct variant){.pre = "llama-bpe"});
    snprintf(path, sizeof path, "%s/x.gguf", dir);
    ck_assert_int_eq(gguf_open(path, &g, NULL), ST_OK);
    struct gguf_tokenizer whole, t;
    ck_assert_int_eq(gguf_tokenizer_read(g, 4, &whole, NULL), ST_OK);
    FAULT_EACH(n)
    {
        long before = fault_live();
        enum status s = gguf_tokenizer_read(g, 4, &t, NULL);
        bool fired = fault_disarm();
        // a growing of jansson's that it can do without may fail: then everything is there
        ck_assert(s == ST_OUT_OF_MEMORY ? fired : !s);
        ck_assert(s ||
                  (json_equal(t.tokenizer, whole.tokenizer) && json_equal(t.config, whole.config) &&
                   json_equal(t.generation, whole.generation)));
        gguf_tokenizer_clear(&t);
        ck_assert_int_eq(fault_live(), before);
    }
    gguf_tokenizer_clear(&whole);
    gguf_close(g);
}
END_TEST

START_TEST(memory)
{
    make(&(struct variant){.pre = "llama-bpe"});
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct gguf_report report;
        enum status s = import(&report, NULL);
        bool fired = fault_disarm();
        // removing what an older writer left is best effort: it may fail and the import go on
        ck_assert_msg(fired ? s == ST_OUT_OF_MEMORY || !s : !s, "%ld: %s", n, status_code(s));
        ck_assert_int_eq(fault_live(), before);
        remove_all("/out");
        n += 40; // every round syncs files to the disk
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/files/gguf_import");
    TCase *c = tcase_create("import");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, rows_and_codes);
    tcase_add_test(c, eight_bits);
    tcase_add_test(c, tokenizer);
    tcase_add_test(c, refusals);
    tcase_add_test(c, memory_of_readers);
    tcase_add_test(c, memory);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
