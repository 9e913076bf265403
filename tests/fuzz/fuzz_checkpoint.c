/* Any texts as the JSON files of a folder with two good shards. The input holds them in this order,
 * separated by a line "---": index, config.json, quantize_config.json, generation_config.json,
 * quant_config.json; a file that is empty is left out. */
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files/checkpoint.h"
#include "core/files/writer.h"
#include "tests/fuzz/fuzz.h"

static char dir[64];
static const char *const files[] = {"model.safetensors.index.json", "config.json",
                                    "quantize_config.json", "generation_config.json",
                                    "quant_config.json"};
#define N_FILES (sizeof files / sizeof files[0])

static const char *at(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void remove_dir(void)
{
    for (size_t i = 0; i < N_FILES; i++)
        unlink(at(files[i]));
    unlink(at("s1"));
    unlink(at("s2"));
    rmdir(dir);
}

static void make_dir(void)
{
    static const char *const names[] = {"a", "b", "c", "m.weight"};
    struct tensor t[4];
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(dir, sizeof dir, "%s/oftd-fuzz-XXXXXX", memory);
    fuzz_check(mkdtemp(dir));
    atexit(remove_dir);
    for (int i = 0; i < 4; i++)
        t[i] = (struct tensor){.name = names[i], .dtype = DT_U8, .data = "x", .bytes = 1};
    fuzz_check(!writer_file(at("s1"), t, 2, NULL));
    fuzz_check(!writer_file(at("s2"), t + 1, 3, NULL));
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    if (!size) {
        unlink(at(name));
        return;
    }
    FILE *f = fopen(at(name), "wb");
    fuzz_check(f);
    fwrite(data, 1, size, f);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *part = NULL;
    size_t len = 0;
    if (!*dir)
        make_dir();
    for (size_t i = 0; i < N_FILES; i++) {
        bool more = fuzz_part(&data, &size, &part, &len);
        put(files[i], part, more ? len : 0);
    }
    struct checkpoint *cp = NULL;
    struct error err = ERROR_INIT;
    enum status s = checkpoint_open(dir, &cp, &err);
    fuzz_check(!s == !!cp);
    fuzz_check(!s || (*err.text && err.code == s));
    for (size_t i = 1; cp && i < cp->n_tensors; i++)
        fuzz_check(strcmp(cp->tensors[i - 1].name, cp->tensors[i].name) < 0);
    fuzz_check(!cp || (json_is_object(cp->config) && strlen(cp->identity) == 64));
    checkpoint_close(cp);
    error_clear(&err);
    return 0;
}
