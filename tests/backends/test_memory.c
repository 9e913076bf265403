/*
 * Weights stay packed: for every golden checkpoint that is here, whatever back end claims its
 * modules, a module takes at most a tenth more in memory than its tensors take in the file, and
 * what it says of the file is what is there.
 */
#include <dirent.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "core/model/model.h"
#include "core/model/view.h"
#include "tests/check_main.h"

static struct kernels *cpu;
static int n_checked;

/* Bytes of the module's own tensors, its bias aside. */
static size_t bytes_on_disk(const struct model *m, const struct checkpoint *cp, int32_t module)
{
    struct module_spec spec;
    size_t bytes = 0;
    ck_assert_int_eq(model_spec(m, cp, module, &spec), ST_OK);
    const struct tensor *bias = spec_tensor(&spec, "bias");
    for (size_t i = 0; i < spec.n_tensors; i++)
        if (&spec.tensors[i] != bias)
            bytes += spec.tensors[i].bytes;
    return bytes;
}

static void check_checkpoint(const char *dir)
{
    struct error err = ERROR_INIT;
    struct checkpoint *cp = NULL;
    struct model *m = NULL;
    struct model_options options = {0};
    ck_assert_msg(!checkpoint_open(dir, &cp, &err), "%s: %s", dir, err.text);
    ck_assert_msg(!model_open(cp, &options, &chain_default, cpu, NULL, NULL, &m, &err), "%s: %s",
                  dir, err.text);
    for (size_t i = 0; i < m->n_modules; i++) {
        if (m->modules[i].base != (int32_t)i)
            continue;
        const struct weight *w = m->base->weights[i];
        size_t disk = bytes_on_disk(m, cp, (int32_t)i);
        ck_assert_msg(w->file_bytes == disk, "%s: %s: %zu bytes in the file, not %zu", dir,
                      m->modules[i].name, disk, w->file_bytes);
        if (disk < 8 * 1024) // of a toy's the header alone is more than a tenth
            continue;
        n_checked++;
        ck_assert_msg(weight_bytes(w) <= disk + disk / 10,
                      "%s: %s (%s): %zu bytes in the file, %zu in memory", dir, m->modules[i].name,
                      m->modules[i].backend->name, disk, weight_bytes(w));
    }
    model_close(m);
    checkpoint_close(cp);
}

static void check_folder(const char *kind)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_vectors(), kind);
    DIR *d = opendir(path);
    ck_assert_msg(d != NULL, "%s", path);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (*e->d_name == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", test_vectors(), kind, e->d_name);
        check_checkpoint(path);
    }
    closedir(d);
}

START_TEST(a_tenth_more_than_the_file)
{
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &cpu, NULL), ST_OK);
    check_folder("fixtures");
    ck_assert_int_gt(n_checked, 100);
    cpu->close(cpu);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backends/memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_tenth_more_than_the_file);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
