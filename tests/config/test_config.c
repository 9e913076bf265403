/* Every key by every source, who wins, what is refused and how the refusal reads, and memory
 * running out at every allocation. The rows of keys.def are expanded here once more, so that a new
 * key is tested by being there. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})

static int count(char **v)
{
    int n = 0;
    while (v[n])
        n++;
    return n;
}

static enum status parse(const char *command, char **argv, char **envp, struct config *c,
                         struct error *err)
{
    return config_parse(command, count(argv), argv, envp, c, err);
}

/* A configuration file that removes itself. */
static const char *file_of(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/oftd-config-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

START_TEST(defaults)
{
    struct config c;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(parse("serve", ARGS("--model", "m"), NULL, &c, &err), ST_OK);
    ck_assert_str_eq(c.model, "m");
    ck_assert_str_eq(c.listen, "127.0.0.1:8080");
    ck_assert_ptr_null(c.admin_listen);
    ck_assert_int_eq(c.compute, CONFIG_COMPUTE_AUTO);
    ck_assert_int_eq(c.conv2d, CONFIG_CONV2D_MERGED);
    ck_assert_int_eq(c.head, CONFIG_HEAD_16);
    ck_assert_int_eq(c.neumann_series, CONFIG_NEUMANN_TRAINED);
    ck_assert_uint_eq(c.max_reply_bytes, 256u << 20);
    ck_assert_int_eq(c.max_batch_rows, 512);
    ck_assert_int_eq(c.prefill_chunk, 128);
    ck_assert(c.prefill_stretch == 2.1);
    ck_assert_int_eq(c.max_sequences, 64);
    ck_assert_int_eq(c.max_connections, 4096);
    ck_assert(c.autoload);
    ck_assert(!c.help);
    ck_assert_uint_eq(c.adapter.n, 0);
    config_clear(&c);
    config_clear(&c); // twice is fine
}
END_TEST

START_TEST(spellings)
{
    struct config c;
    struct error err = ERROR_INIT;
    char **argv =
        ARGS("--model=m", "--adapter", "a=x/y", "--adapter=b=z=1", "--adapter-dir", "r1",
             "--adapter-dir", "r2", "--kv-memory", "1.5G", "--adapter-memory=512MiB", "--threads",
             "3", "--layer-replication", "[[0,4],[2,6]]", "--compute=exact", "--no-autoload",
             "--idle-timeout", "2m", "--listen", "[::1]:0", "--admin-listen", "unix:/run/x",
             "--allowed-origin", "https://a:1", "--threads", "4");
    ck_assert_int_eq(parse("serve", argv, NULL, &c, &err), ST_OK);
    ck_assert_uint_eq(c.adapter.n, 2);
    ck_assert_str_eq(c.adapter.v[0].name, "a");
    ck_assert_str_eq(c.adapter.v[0].value, "x/y");
    ck_assert_str_eq(c.adapter.v[1].value, "z=1");
    ck_assert_uint_eq(c.adapter_dir.n, 2);
    ck_assert_str_eq(c.adapter_dir.v[1], "r2");
    ck_assert_uint_eq(c.kv_memory, 3ull << 29);
    ck_assert_uint_eq(c.adapter_memory, 512u << 20);
    ck_assert_int_eq(c.threads, 4); // of a plain key the last one counts
    ck_assert_uint_eq(c.layer_replication.n, 2);
    ck_assert_int_eq(c.layer_replication.v[1].first, 2);
    ck_assert_int_eq(c.layer_replication.v[1].end, 6);
    ck_assert_int_eq(c.compute, CONFIG_COMPUTE_EXACT);
    ck_assert(!c.autoload);
    ck_assert_int_eq(c.idle_timeout, 120);
    ck_assert_str_eq(c.listen, "[::1]:0");
    ck_assert_str_eq(c.admin_listen, "unix:/run/x");
    ck_assert_str_eq(c.allowed_origin.v[0], "https://a:1");
    config_clear(&c);
}
END_TEST

START_TEST(precedence)
{
    struct config c;
    struct error err = ERROR_INIT;
    const char *path = file_of("{\"threads\": 1, \"max_queue\": 2, \"kv-memory\": \"3M\","
                               "\"adapter_dir\": [\"f1\", \"f2\"], \"adapter\": {\"a\": \"f\"},"
                               "\"autoload\": false, \"max-error\": 0.5,"
                               "\"layer_replication\": [[0, 2], [1, 3]]}");
    char variable[96];
    snprintf(variable, sizeof variable, "OFTD_CONFIG=%s", path);
    char **envp =
        ARGS(variable, "OFTD_THREADS=5", "OFTD_ADAPTER_DIR=e1:e2:e3", "PATH=x", "OFTD_MODEL=m",
             "OFTD_MAX_N=", "OFTD_ADAPTER=p=1,q=2", "OFTD_ALLOWED_ORIGIN=https://a,https://b");
    ck_assert_int_eq(parse("serve", ARGS("--threads", "9"), envp, &c, &err), ST_OK);
    ck_assert_int_eq(c.threads, 9);           // flag
    ck_assert_uint_eq(c.adapter_dir.n, 3);    // variable, whole
    ck_assert_uint_eq(c.adapter.n, 2);        // variable
    ck_assert_uint_eq(c.allowed_origin.n, 2); // variable, its own separator
    ck_assert_str_eq(c.allowed_origin.v[1], "https://b");
    ck_assert_int_eq(c.max_queue, 2); // file
    ck_assert_uint_eq(c.kv_memory, 3u << 20);
    ck_assert(!c.autoload);
    ck_assert_uint_eq(c.layer_replication.n, 2);
    ck_assert_int_eq(c.max_n, 16); // empty variable: default
    config_clear(&c);
    ck_assert_int_eq(parse("serve", ARGS("--autoload"), ARGS(variable, "OFTD_MODEL=m"), &c, &err),
                     ST_OK);
    ck_assert(c.autoload);
    ck_assert_str_eq(c.adapter_dir.v[1], "f2");
    ck_assert_str_eq(c.adapter.v[0].value, "f");
    config_clear(&c);
    // the same file serves another command: what that does not take is passed over
    ck_assert_int_eq(parse("inspect", ARGS("dir"), envp, &c, &err), ST_OK);
    ck_assert_str_eq(c.model, "dir");
    config_clear(&c);
    unlink(path);
}
END_TEST

START_TEST(commands)
{
    struct config c;
    struct error err = ERROR_INIT;
    ck_assert_int_eq(parse("merge", ARGS("--model", "m", "--adapter", "a", "b", "--output", "o"),
                           NULL, &c, &err),
                     ST_OK);
    ck_assert_uint_eq(c.merge_adapter.n, 2);
    ck_assert_str_eq(c.merge_adapter.v[1], "b");
    ck_assert_int_eq(c.dtype, CONFIG_DTYPE_STORED);
    config_clear(&c);
    ck_assert_int_eq(
        parse("validate", ARGS("--json", "--model", "m", "--", "-odd"), NULL, &c, &err), ST_OK);
    ck_assert_str_eq(c.candidate, "-odd");
    ck_assert(c.json);
    config_clear(&c);
    ck_assert_int_eq(parse("import-gguf", ARGS("f", "--output", "o"), NULL, &c, &err), ST_OK);
    ck_assert_str_eq(c.file, "f");
    config_clear(&c);
    ck_assert_int_eq(parse("bench", ARGS("--model", "m", "--repeat", "7"), NULL, &c, &err), ST_OK);
    ck_assert_int_eq(c.repeat, 7);
    config_clear(&c);
    ck_assert_int_eq(parse("serve", ARGS("--nonsense", "-h"), NULL, &c, &err), ST_OK);
    ck_assert(c.help);
    config_clear(&c);
}
END_TEST

/* Kubernetes gives every container in a namespace the addresses of its services. */
START_TEST(service_links)
{
    struct config c;
    struct error err = ERROR_INIT;
    char **envp = ARGS("OFTD_MODEL=m", "OFTD_SERVICE_HOST=10.0.0.1", "OFTD_SERVICE_PORT=80",
                       "OFTD_SERVICE_PORT_HTTP=80", "OFTD_PORT=tcp://10.0.0.1:80",
                       "OFTD_PORT_80_TCP=tcp://10.0.0.1:80", "OFTD_PORT_80_TCP_PROTO=tcp",
                       "OFTD_ADMIN_SERVICE_HOST=10.0.0.2", "OFTD_ADMIN_PORT_81_TCP_ADDR=10.0.0.2");
    ck_assert_msg(parse("serve", ARGS("--threads", "1"), envp, &c, &err) == ST_OK, "%s", err.text);
    config_clear(&c);
    ck_assert_int_eq(parse("serve", ARGS("--model", "m"), ARGS("OFTD_PORT=80"), &c, &err),
                     ST_UNKNOWN_FIELD);
    error_clear(&err);
}
END_TEST

static const struct {
    const char *command;
    char *arg[4]; /* flags */
    char *variable;
    enum status code;
    const char *param, *says;
    bool usage;
} bad[] = {
    {"srve", {NULL}, NULL, ST_UNKNOWN_FIELD, "argument", "did you mean serve?", true},
    {"serve", {"--modle", "x"}, NULL, ST_UNKNOWN_FIELD, "--modle", "did you mean --model?", true},
    {"serve", {"-m", "x"}, NULL, ST_UNKNOWN_FIELD, "-m", "no such flag", true},
    {"serve", {"--model"}, NULL, ST_INVALID_VALUE, "--model", "a value is missing", true},
    {"serve", {"--model", ""}, NULL, ST_INVALID_VALUE, "--model", "got \"\"", true},
    {"serve", {NULL}, NULL, ST_MISSING_FIELD, "model", "needs --model", true},
    {"serve", {"--model", "m", "x"}, NULL, ST_INVALID_VALUE, "argument", "\"x\"", true},
    {"inspect", {"a", "b"}, NULL, ST_INVALID_VALUE, "argument", "\"b\"", true},
    {"inspect", {"a", "--listen=1:2"}, NULL, ST_UNKNOWN_FIELD, "--listen", "`oftd serve`", true},
    {"inspect", {NULL}, NULL, ST_MISSING_FIELD, "model", "needs DIR", true},
    {"inspect", {"a", "--module", "x"}, NULL, ST_MISSING_FIELD, "output", "needs --output", true},
    {"merge", {"--model=m", "--output=o"}, NULL, ST_MISSING_FIELD, "adapter", "--adapter", true},
    {"serve", {"--model=m", "--tls-key=k"}, NULL, ST_MISSING_FIELD, "tls-cert", "needs", true},
    {"serve", {"--threads=-1"}, NULL, ST_INVALID_VALUE, "--threads", "from 0 to 4096", true},
    {"serve", {"--threads=4097"}, NULL, ST_INVALID_VALUE, "--threads", "\"4097\"", true},
    {"serve", {"--threads=1.5"}, NULL, ST_INVALID_VALUE, "--threads", "an integer", true},
    {"serve", {"--threads=0x4"}, NULL, ST_INVALID_VALUE, "--threads", "an integer", true},
    {"serve", {"--threads= 4"}, NULL, ST_INVALID_VALUE, "--threads", "an integer", true},
    {"serve", {"--threads=4K"}, NULL, ST_INVALID_VALUE, "--threads", "an integer", true},
    {"serve", {"--threads=nan"}, NULL, ST_INVALID_VALUE, "--threads", "an integer", true},
    {"serve", {"--kv-memory=12X"}, NULL, ST_INVALID_VALUE, "--kv-memory", "512M or 4G", true},
    {"serve", {"--kv-memory=-1M"}, NULL, ST_INVALID_VALUE, "--kv-memory", "1024T", true},
    {"serve", {"--kv-memory=0.3"}, NULL, ST_INVALID_VALUE, "--kv-memory", "bytes", true},
    {"serve", {"--kv-memory=1e999"}, NULL, ST_INVALID_VALUE, "--kv-memory", "bytes", true},
    {"serve", {"--compute=slow"}, NULL, ST_INVALID_VALUE, "--compute", "auto, exact or fast", true},
    {"serve", {"--autoload=maybe"}, NULL, ST_INVALID_VALUE, "--autoload", "true or false", true},
    {"serve", {"--no-model"}, NULL, ST_UNKNOWN_FIELD, "--no-model", "no such flag", true},
    {"serve", {"--adapter=x"}, NULL, ST_INVALID_VALUE, "--adapter", "NAME=DIR", true},
    {"serve", {"--adapter==x"}, NULL, ST_INVALID_VALUE, "--adapter", "NAME=DIR", true},
    {"serve",
     {"--adapter=a=x", "--adapter=a=y"},
     NULL,
     ST_INVALID_VALUE,
     "--adapter",
     "twice",
     true},
    {"serve", {"--listen=8080"}, NULL, ST_INVALID_VALUE, "--listen", "HOST:PORT", true},
    {"serve", {"--listen=:8080"}, NULL, ST_INVALID_VALUE, "--listen", "HOST:PORT", true},
    {"serve", {"--listen=::1:80"}, NULL, ST_INVALID_VALUE, "--listen", "HOST:PORT", true},
    {"serve", {"--listen=h:65536"}, NULL, ST_INVALID_VALUE, "--listen", "65535", true},
    {"serve", {"--listen=unix:"}, NULL, ST_INVALID_VALUE, "--listen", "unix:PATH", true},
    {"serve",
     {"--layer-replication=[]"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "[[0,4],[2,6]]",
     true},
    {"serve",
     {"--layer-replication=[[2,2]]"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "[[2,2]]",
     true},
    {"serve",
     {"--layer-replication=[[0,1],[0]]"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "half-open",
     true},
    {"serve",
     {"--layer-replication=[[0,1"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "half-open",
     true},
    {"serve",
     {"--layer-replication=[[-1,1]]"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "half-open",
     true},
    {"serve",
     {"--layer-replication=[[0,4294967297]]"},
     NULL,
     ST_INVALID_VALUE,
     "--layer-replication",
     "half-open",
     true},
    {"serve",
     {"--model=m"},
     "OFTD_KV_MEMROY=1",
     ST_UNKNOWN_FIELD,
     "OFTD_KV_MEMROY",
     "did you mean OFTD_KV_MEMORY?",
     false},
    {"serve",
     {"--model=m"},
     "OFTD_Threads=1",
     ST_UNKNOWN_FIELD,
     "OFTD_Threads",
     "did you mean OFTD_THREADS?",
     false},
    {"serve",
     {"--model=m"},
     "OFTD_THREADS=x",
     ST_INVALID_VALUE,
     "OFTD_THREADS",
     "(environment)",
     false},
};

START_TEST(refused)
{
    struct config c;
    struct error err = ERROR_INIT;
    char *argv[5] = {0};
    memcpy(argv, bad[_i].arg, sizeof bad[_i].arg);
    enum status s = parse(bad[_i].command, argv, ARGS(bad[_i].variable), &c, &err);
    ck_assert_msg(s == bad[_i].code, "%s: %d", err.text, s);
    ck_assert_str_eq(err.param, bad[_i].param);
    ck_assert_msg(strstr(err.text, bad[_i].says), "says %s", err.text);
    ck_assert(config_is_usage(&err) == bad[_i].usage);
    ck_assert_ptr_null(c.model);
    error_clear(&err);
}
END_TEST

static const struct {
    const char *text;
    enum status code;
    const char *says;
} bad_files[] = {
    {"[]", ST_INVALID_JSON, "an object"},
    {"{", ST_INVALID_JSON, "line 1"},
    {"{\"threads\":1,\"threads\":2}", ST_CONFIG_DUPLICATE_KEY, "threads"},
    {"{\"max-queue\":1,\"max_queue\":2}", ST_CONFIG_DUPLICATE_KEY, "two spellings"},
    {"{\"kv_memroy\":1}", ST_UNKNOWN_FIELD, "did you mean kv-memory?"},
    {"{\"config\":\"x\"}", ST_UNKNOWN_FIELD, "config"},
    {"{\"threads\":\"x\"}", ST_INVALID_VALUE, "from 0 to 4096"},
    {"{\"threads\":1.5}", ST_INVALID_VALUE, "an integer"},
    {"{\"threads\":null}", ST_INVALID_VALUE, "another JSON type"},
    {"{\"threads\":true}", ST_INVALID_VALUE, "another JSON type"},
    {"{\"autoload\":1.5}", ST_INVALID_VALUE, "another JSON type"},
    {"{\"export_dir\":\"a\\u0000b\"}", ST_INVALID_VALUE, "another JSON type"},
    {"{\"adapter_dir\":[1]}", ST_INVALID_VALUE, "array of strings"},
    {"{\"adapter_dir\":{\"a\":\"b\"}}", ST_INVALID_VALUE, "another JSON type"},
    {"{\"adapter\":{\"a\":1}}", ST_INVALID_VALUE, "object of strings"},
    {"{\"layer_replication\":[[1]]}", ST_INVALID_VALUE, "half-open"},
};

START_TEST(refused_files)
{
    struct config c;
    struct error err = ERROR_INIT;
    char *path = (char *)file_of(bad_files[_i].text);
    enum status s = parse("serve", ARGS("--model", "m", "--config", path), NULL, &c, &err);
    ck_assert_msg(s == bad_files[_i].code, "%s: %s", bad_files[_i].text, err.text);
    ck_assert_msg(strstr(err.text, bad_files[_i].says), "says %s", err.text);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert(!config_is_usage(&err));
    unlink(path);
    error_clear(&err);
    ck_assert_int_eq(parse("serve", ARGS("--model=m", "--config", path), NULL, &c, &err),
                     ST_FILE_UNREADABLE);
    error_clear(&err);
}
END_TEST

/* Each row by flag, variable and file with its own default (or a value of its kind) gives the same.
 */
static const struct {
    const char *flag, *preset, *kind;
    bool serve;
} rows[] = {
#define KEY(id, kind, flag, commands, needed, preset, ...) {flag, preset, #kind, (commands)&1},
#define S                                                  1
#define I                                                  2
#define V                                                  2
#define M                                                  2
#define Q                                                  2
#define G                                                  2
#define B                                                  2
#define H                                                  0
#include "config/keys.def"
#undef S
#undef I
#undef V
#undef M
#undef Q
#undef G
#undef B
#undef H
};

static const char *sample(size_t i)
{
    if (rows[i].preset)
        return rows[i].preset;
    return !strcmp(rows[i].kind, "ADDRESS")  ? "h:1"
           : !strcmp(rows[i].kind, "RANGES") ? "[[0,1]]"
           : !strcmp(rows[i].kind, "PAIRS")  ? "n=d"
                                             : "x";
}

START_TEST(every_row)
{
    struct config c;
    struct error err = ERROR_INIT;
    const char *flag = rows[_i].flag;
    char arg[128], variable[128], text[128];
    if (!flag || !rows[_i].serve || !strcmp(flag, "config") || !strncmp(flag, "tls-", 4))
        return;
    snprintf(arg, sizeof arg, "--%s=%s", flag, sample((size_t)_i));
    snprintf(variable, sizeof variable, "OFTD_%s=%s", flag, sample((size_t)_i));
    for (char *p = variable; *p != '='; p++)
        *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
    snprintf(text, sizeof text, "{\"%s\": \"%s\"}", flag, sample((size_t)_i));
    char *path = (char *)file_of(text);
    char **plain = strcmp(flag, "model") ? ARGS("--model=m") : ARGS("--threads=1");
    enum status s = parse("serve", ARGS(plain[0], arg), NULL, &c, &err);
    ck_assert_msg(!s, "%s", err.text);
    config_clear(&c);
    s = parse("serve", plain, ARGS(variable), &c, &err);
    ck_assert_msg(!s, "%s", err.text);
    config_clear(&c);
    s = parse("serve", ARGS(plain[0], "--config", path), NULL, &c, &err);
    ck_assert_msg(!s, "%s", err.text);
    config_clear(&c);
    unlink(path);
}
END_TEST

static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(f);
    print(f);
    fclose(f);
    return text;
}

static void serve_help(FILE *f)
{
    config_help("serve", f);
}

static void all_help(FILE *f)
{
    config_help(NULL, f);
}

START_TEST(prints)
{
    char flag[128];
    char *help = printed(serve_help), *all = printed(all_help),
         *md = printed(config_print_markdown), *man = printed(config_print_man);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!rows[i].flag)
            continue;
        snprintf(flag, sizeof flag, "\n  --%s", rows[i].flag);
        if (rows[i].serve)
            ck_assert_msg(strstr(help, flag), "%s", flag);
        snprintf(flag, sizeof flag, "| `--%s` |", rows[i].flag);
        ck_assert_msg(strstr(md, flag), "%s", flag);
    }
    ck_assert_ptr_null(strstr(help, "--repeat"));
    ck_assert_ptr_nonnull(strstr(help, "[127.0.0.1:8080]"));
    ck_assert_ptr_nonnull(strstr(all, "import-gguf"));
    ck_assert_ptr_nonnull(strstr(man, ".B \\-\\-kv\\-memory BYTES"));
    ck_assert_ptr_nonnull(strstr(man, "OFTD_KV_MEMORY"));
    for (char *line = strtok(help, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_uint_le(strlen(line), 100);
    ck_assert_str_eq(config_word("isa", CONFIG_ISA_AVX512), "avx512");
    ck_assert_ptr_null(config_word("isa", 99));
    ck_assert_ptr_null(config_word("threads", 0));
    free(help);
    free(all);
    free(md);
    free(man);
}
END_TEST

START_TEST(out_of_memory)
{
    char *path = (char *)file_of("{\"adapter_dir\": [\"f1\"], \"layer_replication\": [[0, 2]],"
                                 "\"allowed_origin\": \"https://x\", \"max_n\": 3}");
    char **argv = ARGS("--model", "m", "--adapter", "a=b", "--adapter", "c=d", "--config", path);
    char **envp = ARGS("OFTD_API_KEY_FILE=x", "OFTD_KV_MEMORY=1G");
    FAULT_EACH(n)
    {
        struct config c;
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = parse("serve", argv, envp, &c, &err);
        bool fired = fault_disarm();
        if (s)
            ck_assert_msg(fired && (s == ST_OUT_OF_MEMORY || s == ST_FILE_UNREADABLE), "%ld: %d %s",
                          n, s, err.text);
        else
            config_clear(&c);
        error_clear(&err);
        ck_assert_int_eq(fault_live(), before);
    }
    unlink(path);
}
END_TEST

static Suite *config_suite(void)
{
    Suite *suite = suite_create("config/config");
    TCase *tc = tcase_create("config");
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, spellings);
    tcase_add_test(tc, precedence);
    tcase_add_test(tc, commands);
    tcase_add_test(tc, service_links);
    tcase_add_loop_test(tc, refused, 0, (int)(sizeof bad / sizeof bad[0]));
    tcase_add_loop_test(tc, refused_files, 0, (int)(sizeof bad_files / sizeof bad_files[0]));
    tcase_add_loop_test(tc, every_row, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tc, prints);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return suite;
}

CHECK_MAIN(config_suite)
