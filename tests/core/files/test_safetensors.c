/* The container: the worked example of the format, every check with a file crafted to break it, all
 * findings at once, bounds of time, and memory running out at every allocation. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/files/safetensors.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

/* n, header, data_size zero bytes of data; returns the size. */
static size_t file_of(unsigned char *out, const char *header, size_t data_size)
{
    size_t len = strlen(header);
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)len >> (8 * i));
    memcpy(out + 8, header, len);
    memset(out + 8 + len, 0, data_size);
    return 8 + len + data_size;
}

static const char example[] = "{\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ";

START_TEST(worked_example)
{
    unsigned char bytes[256];
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0, size = file_of(bytes, example, 8);
    ck_assert_uint_eq(size, 72);
    ck_assert_uint_eq(bytes[0], 0x38);
    memcpy(bytes + 64, "\1\0\0\0\2\0\0\0", 8);
    ck_assert_int_eq(safetensors_parse(bytes, size, "x", &st, &err), ST_OK);
    const struct tensor *t = safetensors_tensors(st, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_ptr_eq(t, safetensors_find(st, "a"));
    ck_assert_ptr_null(safetensors_find(st, "b"));
    ck_assert_str_eq(t->name, "a");
    ck_assert_str_eq(t->file, "x");
    ck_assert_int_eq(t->dtype, DT_I32);
    ck_assert_int_eq(t->rank, 1);
    ck_assert_int_eq(t->shape[0], 2);
    ck_assert_ptr_eq(t->data, bytes + 64); // borrowed, not copied
    ck_assert_uint_eq(t->bytes, 8);
    ck_assert_uint_eq(load_u32((const char *)t->data + 4), 2);
    ck_assert_uint_eq(safetensors_size(st), 72);
    ck_assert_str_eq(safetensors_path(st), "x");
    const char *header = safetensors_header(st, &n);
    ck_assert_uint_eq(n, 56);
    ck_assert_int_eq(memcmp(header, example, 56), 0);
    safetensors_close(st);
}
END_TEST

/* What a reader may rely on though writers differ: scalars, empty tensors, any order, metadata,
 * escapes in names, an odd alignment. */
START_TEST(legal_shapes)
{
    unsigned char bytes[1024];
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0;
    size_t size = file_of(bytes,
                          "{\"z\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                          "\"__metadata__\":{\"format\":\"pt\"},"
                          "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[5,5]},"
                          "\"\\u00e9\":{\"data_offsets\":[5,13],\"shape\":[1,2,2],\"dtype\":"
                          "\"BF16\"},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
                          13);
    ck_assert_int_eq(safetensors_parse(bytes, size, "x", &st, &err), ST_OK);
    const struct tensor *t = safetensors_tensors(st, &n);
    ck_assert_uint_eq(n, 4);
    ck_assert_str_eq(t[0].name, "b");
    ck_assert_str_eq(t[1].name, "e");
    ck_assert_str_eq(t[2].name, "z");
    ck_assert_str_eq(t[3].name, "\xc3\xa9");
    ck_assert_int_eq(t[2].rank, 0);
    ck_assert_int_eq(tensor_elements(&t[2]), 1);
    ck_assert_uint_eq(t[1].bytes, 0);
    ck_assert_int_eq(t[3].shape[2], 2);
    safetensors_close(st);
    size = file_of(bytes, "{}", 0); // a file without tensors
    ck_assert_int_eq(safetensors_parse(bytes, size, "x", &st, &err), ST_OK);
    safetensors_tensors(st, &n);
    ck_assert_uint_eq(n, 0);
    safetensors_close(st);
}
END_TEST

/* One header, what must be said about it, and how many findings (0: the header itself is wrong). */
static const struct {
    const char *header;
    size_t data;
    enum status code;
    const char *says;
    size_t findings;
} bad[] = {
    {"", 0, ST_CHECKPOINT_INVALID, "does not start with '{'", 0},
    {" {}", 0, ST_CHECKPOINT_INVALID, "does not start with '{'", 0},
    {"[1]", 0, ST_CHECKPOINT_INVALID, "does not start with '{'", 0},
    {"{\"a\":", 0, ST_CHECKPOINT_INVALID, "header: line 1", 0},
    {"{\"a\xff\":1}", 0, ST_CHECKPOINT_INVALID, "unable to decode byte", 0},
    {"{} x", 0, ST_CHECKPOINT_INVALID, "header: line 1", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
     1, ST_CHECKPOINT_INVALID, "duplicate", 0},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     ST_CHECKPOINT_INVALID, "NUL", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID,
     "deeper than 3", 0},
    {"{\"a\":1}", 0, ST_CHECKPOINT_INVALID, "tensor a: value", 1},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID,
     "tensor a: dtype: expected a string, got nothing", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID, "shape", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, ST_CHECKPOINT_INVALID, "data_offsets", 1},
    {"{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, ST_DTYPE_UNSUPPORTED,
     "dtype C64 is not supported", 1},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, ST_DTYPE_UNSUPPORTED,
     "dtype F4", 1},
    {"{\"a\":{\"dtype\":\"U8\\u0000\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     ST_DTYPE_UNSUPPORTED, "dtype U8", 1},
    {"{\"a\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ST_DTYPE_UNSUPPORTED,
     "dtype u8", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID,
     "shape", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID,
     "shape", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, ST_CHECKPOINT_INVALID,
     "negative", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,1]}}", 1,
     ST_CHECKPOINT_INVALID, "header: line 1", 0},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
     ST_CHECKPOINT_INVALID, "got 9", 1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,1]}}", 1,
     ST_CHECKPOINT_INVALID, "2^63", 1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
     ST_CHECKPOINT_INVALID, "2^63", 1},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, ST_CHECKPOINT_INVALID,
     "F32 [2] takes 8 bytes, data_offsets give 4 bytes", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, ST_CHECKPOINT_INVALID,
     "[begin, end]", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, ST_CHECKPOINT_INVALID,
     "data_offsets", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, ST_CHECKPOINT_INVALID,
     "begin <= end", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, ST_CHECKPOINT_INVALID,
     "a hole before it", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
     3, ST_CHECKPOINT_INVALID, "tensor b: data_offsets: expected begin 2, got 1 (an overlap)", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     2, ST_CHECKPOINT_INVALID, "an overlap", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, ST_CHECKPOINT_INVALID,
     "trailing bytes", 1},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, ST_CHECKPOINT_INVALID,
     "truncated?", 1},
    {"{\"__metadata__\":[]}", 0, ST_CHECKPOINT_INVALID, "__metadata__", 1},
    {"{\"__metadata__\":{\"format\":1}}", 0, ST_CHECKPOINT_INVALID, "format: expected a string", 1},
    // everything at once, in the order of the file
    {"{\"a\":{\"dtype\":\"I4\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,5]},"
     "\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}",
     9, ST_DTYPE_UNSUPPORTED, "(and 3 more)", 4},
};

START_TEST(bad_header)
{
    unsigned char bytes[1024];
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    size_t size = file_of(bytes, bad[_i].header, bad[_i].data);
    enum status s = safetensors_parse(bytes, size, "dir/x.safetensors", &st, &err);
    ck_assert_msg(s == bad[_i].code, "%s: %d, %s", bad[_i].header, s, err.text);
    ck_assert_ptr_null(st);
    ck_assert_msg(strstr(err.text, bad[_i].says), "%s: says %s", bad[_i].header, err.text);
    ck_assert_ptr_nonnull(strstr(err.text, "dir/x.safetensors"));
    ck_assert_uint_eq(err.findings.n, bad[_i].findings);
    error_clear(&err);
}
END_TEST

START_TEST(bad_lengths)
{
    unsigned char bytes[64] = {0};
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(safetensors_parse(bytes, 0, "x", &st, &err), ST_CHECKPOINT_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "too small"));
    ck_assert_int_eq(safetensors_parse(bytes, 7, "x", &st, &err), ST_CHECKPOINT_INVALID);
    ck_assert_int_eq(safetensors_parse(bytes, 8, "x", &st, &err), ST_CHECKPOINT_INVALID);
    memset(bytes, 0xff, 8); // the largest length there is
    ck_assert_int_eq(safetensors_parse(bytes, 64, "x", &st, &err), ST_CHECKPOINT_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "too large"));
    memcpy(bytes, "\x39\0\0\0\0\0\0\0{", 9); // 57 bytes of header where 56 are left
    ck_assert_int_eq(safetensors_parse(bytes, 64, "x", &st, &err), ST_CHECKPOINT_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "does not fit"));
    error_clear(&err);
}
END_TEST

START_TEST(long_names)
{
    char header[2 * SAFETENSORS_NAME_MAX];
    unsigned char bytes[2 * SAFETENSORS_NAME_MAX + 16];
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    for (int extra = 0; extra < 2; extra++) {
        char name[SAFETENSORS_NAME_MAX + 2];
        memset(name, 'n', sizeof name);
        name[SAFETENSORS_NAME_MAX + extra] = 0;
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
        size_t size = file_of(bytes, header, 0);
        enum status s = safetensors_parse(bytes, size, "x", &st, &err);
        ck_assert_int_eq(s, extra ? ST_CHECKPOINT_INVALID : ST_OK);
        safetensors_close(st);
    }
    ck_assert_ptr_nonnull(strstr(err.text, "a name of 1025 bytes"));
    error_clear(&err);
}
END_TEST

/* A header of 100 MB costs seconds at most, whatever it holds. */
START_TEST(hostile_size)
{
    static const char *const units[] = {"{},", "[[],", "1,", "\"\\u0000\","};
    size_t size = SAFETENSORS_HEADER_MAX, len = strlen(units[_i]);
    unsigned char *bytes = malloc(size + 8);
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    ck_assert_ptr_nonnull(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)size >> (8 * i));
    memset(bytes + 8, ' ', size);
    memcpy(bytes + 8, "{\"a\":[", 6);
    for (size_t at = 14; at + len < size; at += len)
        memcpy(bytes + at, units[_i], len);
    clock_t start = clock();
    ck_assert_int_eq(safetensors_parse(bytes, size + 8, "x", &st, &err), ST_CHECKPOINT_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 500000 tensors"));
    ck_assert_double_lt((double)(clock() - start) / CLOCKS_PER_SEC, 10);
    error_clear(&err);
    free(bytes);
}
END_TEST

START_TEST(open_errors)
{
    char dir[] = "/tmp/oftd-safetensors-XXXXXX", path[64];
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(safetensors_open(dir, &st, &err), ST_FILE_UNREADABLE);
    ck_assert_ptr_nonnull(strstr(err.text, dir));
    snprintf(path, sizeof path, "%s/x", dir);
    ck_assert_int_eq(safetensors_open(path, &st, &err), ST_FILE_UNREADABLE);
    ck_assert_int_eq(mkfifo(path, 0600), 0); // must not block
    ck_assert_int_eq(safetensors_open(path, &st, &err), ST_FILE_UNREADABLE);
    unlink(path);
    FILE *f = fopen(path, "wb");
    ck_assert_int_eq(safetensors_open(path, &st, &err), ST_CHECKPOINT_INVALID);
    unsigned char bytes[128];
    ck_assert_uint_eq(fwrite(bytes, 1, file_of(bytes, example, 8), f), 72);
    fclose(f);
    ck_assert_int_eq(safetensors_open(path, &st, &err), ST_OK);
    ck_assert_str_eq(safetensors_find(st, "a")->file, path);
    safetensors_close(st);
    safetensors_close(NULL);
    ck_assert_int_eq(truncate(path, 71), 0);
    ck_assert_int_eq(safetensors_open(path, &st, &err), ST_CHECKPOINT_INVALID);
    unlink(path);
    rmdir(dir);
    error_clear(&err);
}
END_TEST

START_TEST(out_of_memory)
{
    char path[512];
    snprintf(path, sizeof path, "%s/families/llama/model.safetensors", test_vectors());
    FAULT_EACH(n)
    {
        struct safetensors *st = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = safetensors_open(path, &st, &err);
        bool fired = fault_disarm();
        // sorting falls back to another algorithm when its scratch cannot be had
        if (s)
            ck_assert_msg(fired && s == ST_OUT_OF_MEMORY, "%ld: %d %s", n, s, err.text);
        ck_assert(!s == !!st);
        safetensors_close(st);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

/* Memory runs out while something else is being complained about. */
START_TEST(out_of_memory_in_findings)
{
    unsigned char bytes[1024];
    size_t row = sizeof bad / sizeof bad[0] - 1,
           size = file_of(bytes, bad[row].header, bad[row].data);
    FAULT_EACH(n)
    {
        struct safetensors *st = NULL;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = safetensors_parse(bytes, size, "x", &st, &err);
        fault_disarm();
        ck_assert(s == ST_OUT_OF_MEMORY || s == ST_DTYPE_UNSUPPORTED || s == ST_CHECKPOINT_INVALID);
        ck_assert_ptr_null(st);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
}
END_TEST

static Suite *safetensors_suite(void)
{
    Suite *suite = suite_create("core/files/safetensors");
    TCase *tc = tcase_create("safetensors");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, worked_example);
    tcase_add_test(tc, legal_shapes);
    tcase_add_loop_test(tc, bad_header, 0, (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(tc, bad_lengths);
    tcase_add_test(tc, long_names);
    tcase_add_loop_test(tc, hostile_size, 0, 4);
    tcase_add_test(tc, open_errors);
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, out_of_memory_in_findings);
    suite_add_tcase(suite, tc);
    return suite;
}

CHECK_MAIN(safetensors_suite)
