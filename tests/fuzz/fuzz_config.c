/* Any text as configuration. The input holds, separated by a line "---", the JSON file, the
 * variables and the arguments, one a line. */
#include <limits.h>
#include <unistd.h>

#include "config/config.h"
#include "tests/fuzz/fuzz.h"

#define LINES 32

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

/* The lines of a part, each an own string, NULL-terminated; the strings lie in *copy. */
static int lines(const uint8_t *part, size_t len, char **out, char **copy)
{
    int n = 0;
    char *rest = NULL;
    *copy = calloc(len + 1, 1);
    fuzz_check(*copy);
    memcpy(*copy, part, len);
    for (char *line = strtok_r(*copy, "\n", &rest); line && n < LINES;
         line = strtok_r(NULL, "\n", &rest))
        out[n++] = line;
    out[n] = NULL;
    return n;
}

static void check(const char *command, int argc, char **argv, char **envp)
{
    struct config c;
    struct error err = ERROR_INIT;
    enum status s = config_parse(command, argc, argv, envp, &c, &err);
    fuzz_check(!s || (*err.text && err.code == s));
    if (!s && !c.help) {
        fuzz_check(c.threads >= 0 && c.threads <= 4096);
        for (size_t i = 0; i < c.adapter.n; i++)
            fuzz_check(*c.adapter.v[i].name && *c.adapter.v[i].value);
        for (size_t i = 0; i < c.layer_replication.n; i++)
            fuzz_check(c.layer_replication.v[i].first < c.layer_replication.v[i].end);
    }
    if (!s)
        config_clear(&c);
    error_clear(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const commands[] = {"serve", "inspect", "validate", "merge", "bench"};
    const uint8_t *part = (const uint8_t *)"";
    size_t len = 0;
    char *argv[LINES + 1], *envp[LINES + 2], *args = NULL, *vars = NULL, variable[96];
    if (!*path) {
        snprintf(path, sizeof path, "/tmp/oftd-fuzz-XXXXXX");
        int fd = mkstemp(path);
        fuzz_check(fd >= 0);
        close(fd);
        atexit(remove_file);
    }
    FILE *f = fopen(path, "wb");
    fuzz_check(f);
    if (fuzz_part(&data, &size, &part, &len))
        fwrite(part, 1, len, f);
    fclose(f);
    len = fuzz_part(&data, &size, &part, &len) ? len : 0;
    int n = lines(part, len, envp, &vars);
    snprintf(variable, sizeof variable, "OFTD_CONFIG=%s", path);
    envp[n] = variable;
    envp[n + 1] = NULL;
    len = fuzz_part(&data, &size, &part, &len) ? len : 0;
    n = lines(part, len, argv, &args);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        check(commands[i], n, argv, envp);
    free(args);
    free(vars);
    return 0;
}
