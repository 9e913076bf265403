/* What a writer leaves: a whole folder or nothing, files that read back and that the reference
 * would have laid out the same, clean errors from full disks and wrong calls, and no leak when
 * memory runs out at any allocation. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/files/safetensors.h"
#include "core/files/writer.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static char dir[64]; /* of the running test */

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/oftd-writer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

/* dir/name; two at once may be used. */
static const char *at(const char *name)
{
    static char paths[2][PATH_MAX];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", dir, name);
    return paths[turn];
}

/* Entries of a folder, hidden ones too. */
static int entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static const unsigned char bytes[24] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                        12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
/* Announced in an order that the file must not have. */
static const struct tensor mixed[] = {
    {.name = "odd", .dtype = DT_U8, .rank = 1, .shape = {3}, .data = bytes, .bytes = 3},
    {.name = "none", .dtype = DT_F32, .rank = 2, .shape = {0, 4}, .data = bytes, .bytes = 0},
    {.name = "z", .dtype = DT_F16, .rank = 2, .shape = {1, 2}, .data = bytes + 3, .bytes = 4},
    {.name = "scalar", .dtype = DT_F64, .rank = 0, .data = bytes + 7, .bytes = 8},
    {.name = "a\"\xc3\xa9",
     .dtype = DT_BF16,
     .rank = 1,
     .shape = {1},
     .data = bytes + 15,
     .bytes = 2},
};
#define N_MIXED (sizeof mixed / sizeof mixed[0])

static void check_mixed(const char *path)
{
    struct safetensors *st = NULL;
    struct error err = ERROR_INIT;
    size_t n = 0;
    ck_assert_msg(safetensors_open(path, &st, &err) == ST_OK, "%s", err.text);
    const char *header = safetensors_header(st, &n);
    ck_assert_uint_eq((n + 8) % 8, 0);
    static const char start[] = "{\"__metadata__\":{\"format\":\"pt\"},\"scalar\":{";
    ck_assert_int_eq(strncmp(header, start, sizeof start - 1), 0);
    safetensors_tensors(st, &n);
    ck_assert_uint_eq(n, N_MIXED);
    const char *data = safetensors_find(st, "scalar")->data; // widest first: data starts here
    for (size_t i = 0; i < N_MIXED; i++) {
        const struct tensor *t = safetensors_find(st, mixed[i].name);
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->dtype, mixed[i].dtype);
        ck_assert(tensor_shape_is(t, mixed[i].rank, mixed[i].shape));
        ck_assert_int_eq(memcmp(t->data, mixed[i].data, t->bytes), 0);
        ck_assert_uint_eq((size_t)((const char *)t->data - data) % dtype_size(t->dtype), 0);
    }
    safetensors_close(st);
}

START_TEST(one_file)
{
    make_dir();
    struct error err = ERROR_INIT;
    for (int round = 0; round < 2; round++) { // the second replaces the first
        ck_assert_int_eq(writer_file(at("x.safetensors"), mixed, N_MIXED, &err), ST_OK);
        ck_assert_int_eq(entries(dir), 1);
        check_mixed(at("x.safetensors"));
    }
    ck_assert_int_eq(writer_file(at("x.safetensors"), NULL, 0, &err), ST_OK);
    ck_assert_int_eq(writer_file(at("no/x"), mixed, N_MIXED, &err), ST_IO_ERROR);
    ck_assert_ptr_nonnull(strstr(err.text, at("no/x")));
    const struct tensor twice[] = {mixed[0], mixed[0]};
    ck_assert_int_eq(writer_file(at("x.safetensors"), twice, 2, &err), ST_INVALID_VALUE);
    ck_assert_ptr_nonnull(strstr(err.text, "odd: announced twice"));
    const struct tensor huge = {
        .name = "h", .dtype = DT_F32, .rank = 2, .shape = {INT64_MAX, INT64_MAX}};
    ck_assert_int_eq(writer_file(at("x.safetensors"), &huge, 1, &err), ST_INVALID_VALUE);
    ck_assert_int_eq(entries(dir), 1); // what was refused left nothing behind
    error_clear(&err);
    remove_dir();
}
END_TEST

START_TEST(whole_folder)
{
    struct writer *w = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    json_t *config = json_pack("{s:i}", "x", 1);
    ck_assert_int_eq(mkdir(at("from"), 0777), 0);
    FILE *f = fopen(at("from/tokenizer.json"), "wb");
    for (int i = 0; i < 100000; i++)
        fputc(i & 127, f);
    fclose(f);
    ck_assert_int_eq(writer_open(at("out/"), &w, &err), ST_OK); // the slash does not matter
    ck_assert_int_eq(access(at("out"), F_OK), -1);              // nothing is visible yet
    ck_assert_int_eq(writer_json(w, "config.json", config, &err), ST_OK);
    ck_assert_int_eq(writer_copy(w, at("from"), "tokenizer.json", &err), ST_OK);
    ck_assert_int_eq(writer_copy(w, at("from"), "merges.txt", &err), ST_OK); // not there: fine
    ck_assert_int_eq(writer_tensors(w, "model.safetensors", mixed, N_MIXED, &err), ST_OK);
    for (size_t i = 0; i < 17; i++) // byte for byte, across tensors
        ck_assert_int_eq(writer_data(w, bytes + i, 1, &err), ST_OK);
    ck_assert_int_eq(writer_end(w, &err), ST_OK);
    ck_assert_int_eq(writer_commit(w, &err), ST_OK);
    ck_assert_int_eq(entries(dir), 2);
    ck_assert_int_eq(entries(at("out")), 3);
    check_mixed(at("out/model.safetensors"));
    struct stat info;
    ck_assert_int_eq(stat(at("out/tokenizer.json"), &info), 0);
    ck_assert_int_eq(info.st_size, 100000);
    json_t *back = json_load_file(at("out/config.json"), 0, NULL);
    ck_assert(json_equal(back, config));
    json_decref(back);
    ck_assert_int_eq(writer_open(at("out"), &w, &err), ST_PATH_EXISTS);
    ck_assert_ptr_null(w);
    json_decref(config);
    error_clear(&err);
    remove_dir();
}
END_TEST

START_TEST(wrong_calls)
{
    struct writer *w = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    ck_assert_int_eq(writer_open(at("none/out"), &w, &err), ST_IO_ERROR);
    ck_assert_int_eq(writer_open("/", &w, &err), ST_INVALID_VALUE);
    ck_assert_int_eq(writer_open("", &w, &err), ST_INVALID_VALUE);
    ck_assert_int_eq(writer_open(at(".."), &w, &err), ST_INVALID_VALUE);
    ck_assert_int_eq(symlink("nowhere", at("link")), 0);
    ck_assert_int_eq(writer_open(at("link"), &w, &err), ST_PATH_EXISTS);
    unlink(at("link"));
    ck_assert_int_eq(writer_open(at("out"), &w, &err), ST_OK);
    json_t *value = json_true();
    ck_assert_int_eq(writer_json(w, "../x", value, &err), ST_INVALID_VALUE);
    ck_assert_int_eq(writer_json(w, "x", value, &err), ST_OK);
    ck_assert_int_eq(writer_json(w, "x", value, &err), ST_IO_ERROR); // twice
    ck_assert_int_eq(mkdir(at("from"), 0777), 0);
    ck_assert_int_eq(mkfifo(at("from/f"), 0600), 0);
    ck_assert_int_eq(writer_copy(w, at("from"), "f", &err), ST_IO_ERROR); // and does not hang
    ck_assert_int_eq(writer_tensors(w, "a", mixed, 1, &err), ST_OK);
    ck_assert_int_eq(writer_tensors(w, "b", mixed, 1, &err), ST_INTERNAL); // a is not finished
    ck_assert_int_eq(writer_data(w, bytes, 2, &err), ST_OK);
    ck_assert_int_eq(writer_end(w, &err), ST_INTERNAL);
    ck_assert_ptr_nonnull(strstr(err.text, "odd: expected 3 bytes, got 2"));
    ck_assert_int_eq(writer_tensors(w, "c", mixed, 1, &err), ST_OK);
    ck_assert_int_eq(writer_data(w, bytes, 4, &err), ST_INTERNAL); // one too many
    ck_assert_int_eq(writer_commit(w, &err), ST_INTERNAL);         // c is not finished
    ck_assert_int_eq(entries(dir), 1);
    writer_abort(NULL);
    error_clear(&err);
    remove_dir();
}
END_TEST

START_TEST(nothing_replaced)
{
    struct writer *w = NULL, *other = NULL;
    struct error err = ERROR_INIT;
    make_dir();
    ck_assert_int_eq(writer_open(at("out"), &w, &err), ST_OK);
    ck_assert_int_eq(writer_open(at("out"), &other, &err), ST_PATH_EXISTS); // in use
    ck_assert_ptr_nonnull(strstr(err.text, "being written already"));
    ck_assert_int_eq(writer_json(w, "x", json_true(), &err), ST_OK); // and still whole
    ck_assert_int_eq(mkdir(at("out"), 0777), 0);                     // somebody was faster
    ck_assert_int_eq(writer_commit(w, &err), ST_PATH_EXISTS);
    ck_assert_int_eq(entries(dir), 1);
    ck_assert_int_eq(entries(at("out")), 0);
    rmdir(at("out"));
    ck_assert_int_eq(writer_open(at("out"), &w, &err), ST_OK);
    writer_abort(w);
    ck_assert_int_eq(entries(dir), 0);
    error_clear(&err);
    remove_dir();
}
END_TEST

START_TEST(left_by_a_kill)
{
    struct writer *w = NULL;
    make_dir();
    pid_t child = fork();
    if (!child) {
        if (!writer_open(at("out"), &w, NULL) && !writer_json(w, "x", json_true(), NULL))
            raise(SIGKILL);
        _exit(1);
    }
    int how = 0;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    ck_assert(WIFSIGNALED(how));
    ck_assert_int_eq(entries(dir), 1);
    ck_assert_int_eq(access(at("out"), F_OK), -1);
    // names that only look alike stay
    ck_assert_int_eq(mkdir(at(".out.oftd-1.tmp2"), 0777), 0);
    ck_assert_int_eq(mkdir(at(".out2.oftd-1.tmp"), 0777), 0);
    ck_assert_int_eq(writer_open(at("out"), &w, NULL), ST_OK);
    ck_assert_int_eq(entries(dir), 3);
    ck_assert_int_eq(writer_commit(w, NULL), ST_OK);
    ck_assert_int_eq(entries(dir), 3);
    ck_assert_int_eq(entries(at("out")), 0);
    remove_dir();
}
END_TEST

/* A file-size limit gives what a full disk gives: a short write, then an error. */
START_TEST(full_disk)
{
    struct writer *w = NULL;
    struct error err = ERROR_INIT;
    struct rlimit old;
    static char data[100000];
    struct tensor t = {
        .name = "t", .dtype = DT_U8, .rank = 1, .shape = {100000}, .data = data, .bytes = 100000};
    make_dir();
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    const rlim_t limits[] = {0, 7, 50, 50000};
    for (int i = 0; i < 4; i++) {
        struct rlimit small = {.rlim_cur = limits[i], .rlim_max = old.rlim_max};
        json_t *text = json_pack("{s:s#}", "x", data + 1, 0);
        json_object_set_new(text, "y", json_stringn("0123456789", 10));
        ck_assert_int_eq(writer_open(at("out"), &w, &err), ST_OK);
        setrlimit(RLIMIT_FSIZE, &small);
        enum status json = writer_json(w, "x.json", text, &err);
        enum status s = writer_tensors(w, "t", &t, 1, &err);
        if (!s)
            s = writer_data(w, data, sizeof data, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        ck_assert_int_eq(json, limits[i] < 20 ? ST_IO_ERROR : ST_OK);
        ck_assert_int_eq(s, ST_IO_ERROR);
        ck_assert_ptr_nonnull(strstr(err.text, "File too large"));
        writer_abort(w);
        ck_assert_int_eq(entries(dir), 0);
        setrlimit(RLIMIT_FSIZE, &small);
        s = writer_file(at("x"), &t, 1, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        ck_assert_int_eq(s, ST_IO_ERROR);
        ck_assert_int_eq(entries(dir), 0);
        json_decref(text);
    }
    error_clear(&err);
    remove_dir();
}
END_TEST

static enum status write_folder(const json_t *config, struct error *err)
{
    struct writer *w = NULL;
    enum status s = writer_open(at("out"), &w, err);
    if (s)
        return s;
    s = writer_json(w, "config.json", config, err);
    if (!s)
        s = writer_copy(w, dir, "from", err);
    if (!s)
        s = writer_tensors(w, "t", mixed, N_MIXED, err);
    if (!s)
        s = writer_data(w, bytes, 17, err);
    if (!s)
        s = writer_end(w, err);
    if (!s)
        return writer_commit(w, err);
    writer_abort(w);
    return s;
}

START_TEST(out_of_memory)
{
    make_dir();
    json_t *config = json_pack("{s:{s:[i,i]}}", "x", "y", 1, 2);
    FILE *f = fopen(at("from"), "wb");
    fputs("text", f);
    fclose(f);
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = write_folder(config, &err);
        bool fired = fault_disarm();
        if (s)
            ck_assert_msg(fired && s == ST_OUT_OF_MEMORY, "%ld: %d %s", n, s, err.text);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
        ck_assert_int_eq(entries(dir), s ? 1 : 2);
        if (!s) {
            char command[128];
            check_mixed(at("out/t"));
            snprintf(command, sizeof command, "rm -r %s/out", dir);
            ck_assert_int_eq(system(command), 0);
        }
    }
    FAULT_EACH(n)
    {
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = writer_file(at("x"), mixed, N_MIXED, &err);
        bool fired = fault_disarm();
        if (s)
            ck_assert_msg(fired && s == ST_OUT_OF_MEMORY, "%ld: %d %s", n, s, err.text);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
        ck_assert_int_eq(entries(dir), s ? 1 : 2);
        if (!s)
            unlink(at("x"));
    }
    json_decref(config);
    remove_dir();
}
END_TEST

static Suite *writer_suite(void)
{
    Suite *suite = suite_create("core/files/writer");
    TCase *tc = tcase_create("writer");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, one_file);
    tcase_add_test(tc, whole_folder);
    tcase_add_test(tc, wrong_calls);
    tcase_add_test(tc, nothing_replaced);
    tcase_add_test(tc, left_by_a_kill);
    tcase_add_test(tc, full_disk);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return suite;
}

CHECK_MAIN(writer_suite)
