/* The container: every value type, tensors where they lie, blocks by hand, and hostile files. */
#include <math.h>

#include "core/files/gguf.h"
#include "core/files/gguf_blocks.h"
#include "tests/check_main.h"
#include "tests/core/files/gguf_bytes.h"
#include "tests/faults/fault.h"

static struct gguf_bytes b;

/* Parses what is in b; expects that status, and those words in its sentence. */
static struct gguf *parse(enum status expected, const char *words)
{
    struct gguf *g = NULL;
    struct error err = ERROR_INIT;
    enum status s = gguf_parse(b.v, b.n, "x.gguf", &g, &err);
    ck_assert_msg(s == expected, "%s: %s", status_code(s), err.text);
    ck_assert(!s == !!g);
    ck_assert_msg(!words || strstr(err.text, words), "%s", err.text);
    error_clear(&err);
    return g;
}

static void scalar(const char *key, uint32_t type, const void *v, size_t n)
{
    put_text(&b, key);
    put_u32(&b, type);
    put_bytes(&b, v, n);
}

START_TEST(values)
{
    int64_t i;
    float f;
    bool flag;
    struct gguf_text text;
    put_head(&b, 0, 15);
    scalar("u8", 0, "\xff", 1);
    scalar("i8", 1, "\xff", 1);
    scalar("u16", 2, "\xfe\xff", 2);
    scalar("i16", 3, "\xfe\xff", 2);
    scalar("u32", 4, "\xff\xff\xff\xff", 4);
    scalar("i32", 5, "\xff\xff\xff\xff", 4);
    put_key_f32(&b, "f32", 1.5f);
    scalar("bool", 7, "\1", 1);
    scalar("bad_bool", 7, "\2", 1);
    put_key_text(&b, "text", "hi");
    scalar("u64", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    scalar("i64", 11, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    scalar("f64", 12, &(double){-2.25}, 8);
    put_key_array(&b, "texts", 8, 2);
    put_text(&b, "a");
    put_text(&b, "");
    put_key_array(&b, "nested", 9, 1);
    put_u32(&b, 3);
    put_u64(&b, 1);
    put_bytes(&b, "\1\2", 2);
    struct gguf *g = parse(ST_OK, NULL);
    static const struct {
        const char *key;
        int64_t v;
    } integers[] = {{"u8", 255},         {"i8", -1},  {"u16", 65534}, {"i16", -2},
                    {"u32", 4294967295}, {"i32", -1}, {"i64", -1}};
    for (size_t k = 0; k < sizeof integers / sizeof integers[0]; k++) {
        ck_assert(gguf_integer(gguf_find(g, integers[k].key), &i));
        ck_assert_int_eq(i, integers[k].v);
    }
    ck_assert(!gguf_integer(gguf_find(g, "u64"), &i)); // above INT64_MAX
    ck_assert(!gguf_integer(gguf_find(g, "f32"), &i) && !gguf_integer(gguf_find(g, "none"), &i));
    ck_assert(gguf_float(gguf_find(g, "f32"), &f) && f == 1.5f);
    ck_assert(gguf_float(gguf_find(g, "f64"), &f) && f == -2.25f);
    ck_assert(gguf_bool(gguf_find(g, "bool"), &flag) && flag);
    ck_assert(!gguf_bool(gguf_find(g, "bad_bool"), &flag));
    ck_assert(gguf_string(gguf_find(g, "text"), &text) && text.n == 2 && !memcmp(text.v, "hi", 2));
    ck_assert(gguf_is_array(gguf_find(g, "texts"), true));
    ck_assert(!gguf_is_array(gguf_find(g, "nested"), false));
    struct gguf_value rest = *gguf_find(g, "texts");
    ck_assert(gguf_next_string(&rest, &text) && text.n == 1 && *text.v == 'a');
    ck_assert(gguf_next_string(&rest, &text) && text.n == 0);
    ck_assert(!gguf_next_string(&rest, &text));
    gguf_close(g);
}
END_TEST

START_TEST(tensors)
{
    put_head(&b, 2, 1);
    put_key_u32(&b, "general.alignment", 64);
    put_tensor(&b, "m", 2, 32, GGUF_Q4_0, 64);
    put_tensor(&b, "a", 0, 3, GGUF_F32, 0);
    put_padding(&b, 64);
    size_t data = b.n;
    memset(b.v + b.n, 7, 64 + 36);
    b.n += 64 + 36;
    struct gguf *g = parse(ST_OK, NULL);
    const struct gguf_tensor *t = gguf_tensor_find(g, "m");
    ck_assert(t && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 32 && t->bytes == 36);
    ck_assert_ptr_eq(t->data, b.v + data + 64);
    t = gguf_tensor_find(g, "a");
    ck_assert(t && t->rank == 1 && t->shape[0] == 3 && t->bytes == 12 && t->data == b.v + data);
    gguf_close(g);
    b.n--;
    parse(ST_CHECKPOINT_INVALID, "ends before tensor m");
}
END_TEST

START_TEST(blocks)
{
    // d = 0.5 (0x3800), m = -3 (0xc200); byte 0 holds 1 and 15, the others 0
    uint8_t q4_1[20] = {0x00, 0x38, 0x00, 0xc2, 0xf1}, codes[32];
    uint8_t q4_0[18] = {0x00, 0x38, 0xf1}, q8_0[34] = {0x00, 0x38, 0x80, 0x7f};
    float w[32], scale, zero;
    ck_assert(gguf_block_floats(GGUF_Q4_1, q4_1, w));
    ck_assert(w[0] == -2.5f && w[16] == 4.5f && w[1] == -3 && w[31] == -3);
    ck_assert(gguf_block_floats(GGUF_Q4_0, q4_0, w));
    ck_assert(w[0] == -3.5f && w[16] == 3.5f && w[1] == -4);
    ck_assert(gguf_block_floats(GGUF_Q8_0, q8_0, w));
    ck_assert(w[0] == -64 && w[1] == 63.5f && w[2] == 0);
    gguf_block_codes(GGUF_Q4_1, q4_1, codes);
    ck_assert(gguf_block_steps(GGUF_Q4_1, q4_1, &scale, &zero) && scale == 0.5f && zero == 6);
    ck_assert(codes[0] == 1 && codes[16] == 15 && codes[1] == 0);
    gguf_block_codes(GGUF_Q8_0, q8_0, codes);
    ck_assert(gguf_block_steps(GGUF_Q8_0, q8_0, &scale, &zero) && scale == 0.5f && zero == 128);
    ck_assert(codes[0] == 0 && codes[1] == 255 && codes[2] == 128);
    q4_1[1] = 0; // d = 0: all weights are m
    gguf_block_codes(GGUF_Q4_1, q4_1, codes);
    ck_assert(gguf_block_steps(GGUF_Q4_1, q4_1, &scale, &zero) && scale == -3 && zero == -1);
    ck_assert(codes[0] == 0 && codes[16] == 0);
    q4_1[3] = 0; // m = 0, too
    ck_assert(gguf_block_steps(GGUF_Q4_1, q4_1, &scale, &zero) && scale == 1 && zero == 0);
    q4_0[1] = 0;
    gguf_block_codes(GGUF_Q4_0, q4_0, codes);
    ck_assert(gguf_block_steps(GGUF_Q4_0, q4_0, &scale, &zero) && scale == 1 && zero == 8);
    ck_assert(codes[0] == 8 && codes[31] == 8);
    q8_0[1] = 0x7c; // infinite
    ck_assert(!gguf_block_steps(GGUF_Q8_0, q8_0, &scale, &zero));
    ck_assert(!gguf_block_floats(GGUF_Q8_0, q8_0, w));
}
END_TEST

START_TEST(hostile_heads)
{
    put_head(&b, 0, 0);
    gguf_close(parse(ST_OK, NULL));
    b.n--;
    parse(ST_CHECKPOINT_INVALID, "ends within its head");
    put_head(&b, 0, 0);
    b.v[0] = 'g';
    parse(ST_CHECKPOINT_INVALID, "not a GGUF file");
    put_head(&b, 0, 0);
    b.v[4] = 1;
    parse(ST_CONFIG_UNSUPPORTED, "GGUF version 1");
    memcpy(b.v + 4, "\0\0\0\3", 4);
    parse(ST_CONFIG_UNSUPPORTED, "big-endian");
    put_head(&b, UINT64_MAX, 0);
    parse(ST_CHECKPOINT_INVALID, "18446744073709551615 tensors");
    put_head(&b, 0, UINT64_MAX / 8);
    parse(ST_CHECKPOINT_INVALID, "keys");
    put_head(&b, 0, 1);
    put_text(&b, "split.count");
    put_u32(&b, 2);
    put_bytes(&b, "\3\0", 2);
    parse(ST_CONFIG_UNSUPPORTED, "one of 3 parts");
    put_head(&b, 0, 1);
    put_key_u32(&b, "general.alignment", 48);
    parse(ST_CHECKPOINT_INVALID, "power of two");
}
END_TEST

START_TEST(hostile_values)
{
    put_head(&b, 0, 1);
    put_key_array(&b, "k", 0, UINT64_MAX);
    parse(ST_CHECKPOINT_INVALID, "ends within k");
    put_head(&b, 0, 1);
    put_key_array(&b, "k", 12, UINT64_MAX / 8 + 2); // * 8 overflows to a small number
    parse(ST_CHECKPOINT_INVALID, "ends within k");
    put_head(&b, 0, 1);
    put_key_array(&b, "k", 8, 1);
    put_u64(&b, UINT64_MAX);
    parse(ST_CHECKPOINT_INVALID, "ends within k");
    put_head(&b, 0, 1);
    put_key_array(&b, "k", 13, 1);
    parse(ST_CHECKPOINT_INVALID, "a value of type 13");
    put_head(&b, 0, 1);
    put_key_array(&b, "k", 9, 1);
    for (int i = 0; i < 64; i++) {
        put_u32(&b, 9);
        put_u64(&b, 1);
    }
    parse(ST_CHECKPOINT_INVALID, "nests arrays");
    put_head(&b, 0, 2);
    put_key_u32(&b, "k", 1);
    put_key_u32(&b, "k", 1);
    parse(ST_CHECKPOINT_INVALID, "k occurs twice");
    put_head(&b, 0, 1);
    put_key_u32(&b, "a\nb", 1);
    parse(ST_CHECKPOINT_INVALID, "printable");
}
END_TEST

static void one_tensor(uint64_t rows, uint64_t columns, uint32_t type, uint64_t offset)
{
    put_head(&b, 1, 0);
    put_tensor(&b, "t", rows, columns, type, offset);
    put_padding(&b, 32);
    b.n += 64;
}

START_TEST(hostile_tensors)
{
    one_tensor(2, 32, GGUF_Q4_1, 0);
    gguf_close(parse(ST_OK, NULL));
    one_tensor(2, 16, GGUF_Q4_1, 0);
    parse(ST_CHECKPOINT_INVALID, "rows of 16");
    one_tensor(2, 32, 14, 0);
    parse(ST_DTYPE_UNSUPPORTED, "tensor t is of type Q6_K");
    one_tensor(2, 32, 77, 0);
    parse(ST_DTYPE_UNSUPPORTED, "type 77");
    one_tensor(2, 32, GGUF_F32, 16);
    parse(ST_CHECKPOINT_INVALID, "begins at 16");
    one_tensor(2, 32, GGUF_F32, UINT64_MAX - 31);
    parse(ST_CHECKPOINT_INVALID, "ends before tensor t");
    one_tensor(1ull << 40, 1ull << 40, GGUF_F32, 0);
    parse(ST_CHECKPOINT_INVALID, "too large");
    one_tensor(1ull << 40, 1ull << 22, GGUF_F32, 0); // 2^62 elements fit, their bytes do not
    parse(ST_CHECKPOINT_INVALID, "too large");
    one_tensor(UINT64_MAX, 32, GGUF_F32, 0);
    parse(ST_CHECKPOINT_INVALID, "dimension");
    put_head(&b, 2, 0);
    put_tensor(&b, "t", 0, 8, GGUF_F32, 0);
    put_tensor(&b, "u", 0, 16, GGUF_F32, 0);
    put_padding(&b, 32);
    b.n += 64;
    parse(ST_CHECKPOINT_INVALID, "share bytes");
    put_head(&b, 2, 0);
    put_tensor(&b, "t", 0, 8, GGUF_F32, 0);
    put_tensor(&b, "t", 0, 8, GGUF_F32, 32);
    put_padding(&b, 32);
    b.n += 64;
    parse(ST_CHECKPOINT_INVALID, "t occurs twice");
}
END_TEST

START_TEST(memory)
{
    put_head(&b, 1, 1);
    put_key_u32(&b, "k", 1);
    put_tensor(&b, "t", 0, 8, GGUF_F32, 0);
    put_padding(&b, 32);
    b.n += 32;
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct gguf *g = NULL;
        enum status s = gguf_parse(b.v, b.n, "x", &g, NULL);
        bool fired = fault_disarm();
        ck_assert_int_eq(s, fired ? ST_OUT_OF_MEMORY : ST_OK);
        gguf_close(g);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/files/gguf");
    TCase *c = tcase_create("gguf");
    tcase_add_test(c, values);
    tcase_add_test(c, tensors);
    tcase_add_test(c, blocks);
    tcase_add_test(c, hostile_heads);
    tcase_add_test(c, hostile_values);
    tcase_add_test(c, hostile_tensors);
    tcase_add_test(c, memory);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
