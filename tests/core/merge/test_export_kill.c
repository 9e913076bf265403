/*
 * An export that is killed or runs out of disk, really: a child process is killed (SIGKILL) at
 * points all along its way, and its files are cut short by RLIMIT_FSIZE. Under the final name there
 * is a whole checkpoint or nothing; the next export of the same name succeeds and sweeps up.
 */
#include "core/merge/merge.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "backends/kernels/cpu.h"
#include "tests/core/model/fixture.h"

static struct kernels *cpu;
static struct fixture f;
static struct view *view;
static char dir[64], out[96];

static void run_command(const char *format, const char *path)
{
    char command[160];
    snprintf(command, sizeof command, format, path);
    ck_assert_int_eq(system(command), 0);
}

static void setup(void)
{
    struct error err = ERROR_INIT;
    const struct adapter_options none = {0};
    const struct merge_options options = {.safe = true, .max_rel_fro = -1, .memory = UINT64_MAX};
    struct merge_report report = {0};
    struct adapter *a = NULL;
    bool memory = !access("/dev/shm", W_OK); /* every file is synced: not on a slow disk */
    snprintf(dir, sizeof dir, "%s/oftd-export-XXXXXX", memory ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(out, sizeof out, "%s/out", dir);
    ck_assert_int_eq(cpu_kernels_open("auto", COMPUTE_EXACT, 1, &cpu, NULL), ST_OK);
    fixture_kernels = cpu;
    fixture_open(&f, "fixtures/bnb4-nf4-dq");
    ck_assert_msg(adapter_load(f.m, cpu, fixture_path("fixtures/bnb4-nf4-dq", "adapters/qv"), "qv",
                               &none, &a, &err) == ST_OK,
                  "%s", err.text);
    ck_assert_msg(merge_build(f.m, &chain_default, cpu, &a, 1, &options, NULL, NULL, &view, &report,
                              &err) == ST_OK,
                  "%s", err.text);
    merge_report_clear(&report);
    adapter_unref(a);
}

static void teardown(void)
{
    view_unref(view);
    fixture_close(&f);
    cpu->close(cpu);
    run_command("rm -rf %s", dir);
}

static enum status export_it(progress_report *progress, void *ctx, struct error *err)
{
    const struct merge_target target = {
        .view = view, .path = out, .progress = progress, .progress_ctx = ctx};
    return merge_write(f.m, f.cp, cpu, &target, err);
}

/* What lies in the parent folder beside `out`. */
static int others(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strcmp(e->d_name, "out");
    closedir(d);
    return n;
}

static bool visible(void)
{
    struct stat info;
    return lstat(out, &info) == 0;
}

/* What is there under the final name opens, every tensor, and the merged modules are the view's. */
static void expect_whole(void)
{
    struct error err = ERROR_INIT;
    struct checkpoint *cp = NULL;
    struct model *m = NULL;
    const struct model_options options = {0};
    ck_assert_msg(checkpoint_open(out, &cp, &err) == ST_OK, "%s", err.text);
    ck_assert_msg(model_open(cp, &options, &chain_default, cpu, NULL, NULL, &m, &err) == ST_OK,
                  "%s", err.text);
    for (size_t i = 0; i < m->n_modules; i++) {
        const struct weight *got = m->base->weights[i], *want = view->weights[i];
        ck_assert_uint_eq(got->data_bytes, want->data_bytes);
        ck_assert_mem_eq(got->data, want->data, want->data_bytes);
    }
    model_close(m);
    checkpoint_close(cp);
}

/* ---- killed ---- */

/* The child dies at the given call of a function that an export calls on its way. */
static bool die_at(void *ctx, double done)
{
    (void)done;
    if (--*(int *)ctx == 0)
        kill(getpid(), SIGKILL);
    return true;
}

static int count_calls(void)
{
    int calls = 1 << 30;
    ck_assert_int_eq(export_it(die_at, &calls, NULL), ST_OK);
    expect_whole();
    run_command("rm -r %s", out);
    return (1 << 30) - calls;
}

START_TEST(killed_while_it_writes)
{
    int calls = count_calls(), step = calls / 12 + 1;
    ck_assert_int_gt(calls, 10);
    for (int at = 1; at <= calls; at += at + step > calls && at < calls ? calls - at : step) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (!child) {
            int left = at;
            export_it(die_at, &left, NULL);
            _exit(1); /* it should be dead */
        }
        int how;
        ck_assert_int_eq(waitpid(child, &how, 0), child);
        ck_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        ck_assert_msg(!visible(), "killed at %d of %d: something is visible", at, calls);
        ck_assert_int_eq(others(), 1); /* the hidden folder, locked by nobody */
        ck_assert_int_eq(export_it(NULL, NULL, NULL), ST_OK);
        expect_whole();
        ck_assert_int_eq(others(), 0);
        run_command("rm -r %s", out);
    }
}
END_TEST

/* Killed from outside at any moment, its very end included. */
START_TEST(killed_at_any_moment)
{
    int whole = 0, nothing = 0;
    for (int i = 0; i < 24; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (!child)
            _exit(export_it(NULL, NULL, NULL) == ST_OK ? 0 : 1);
        usleep((useconds_t)(i * i * 60));
        kill(child, SIGKILL);
        int how;
        ck_assert_int_eq(waitpid(child, &how, 0), child);
        ck_assert(WIFSIGNALED(how) || WEXITSTATUS(how) == 0);
        if (visible()) {
            expect_whole();
            run_command("rm -r %s", out);
            whole++;
        } else {
            ck_assert(WIFSIGNALED(how));
            nothing++;
        }
    }
    ck_assert_int_ge(nothing, 1);
    ck_assert_int_eq(whole + nothing, 24);
    ck_assert_int_eq(export_it(NULL, NULL, NULL), ST_OK);
    expect_whole();
    ck_assert_int_eq(others(), 0);
}
END_TEST

/* ---- no room ---- */

START_TEST(the_disk_is_full)
{
    static const rlim_t sizes[] = {0, 100, 1000, 4096, 50000, 300000, 700000};
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit then fails with EFBIG */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct rlimit old, small;
        struct error err = ERROR_INIT;
        ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){.rlim_cur = sizes[i], .rlim_max = old.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        enum status st = export_it(NULL, NULL, &err);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
        ck_assert_msg(st != ST_OK && st != ST_INTERNAL, "%llu bytes: %s",
                      (unsigned long long)sizes[i], status_code(st));
        ck_assert(strstr(err.text, "cannot be written"));
        error_clear(&err);
        ck_assert(!visible());
        ck_assert_int_eq(others(), 0); /* nothing hidden is left either */
        ck_assert_int_eq(export_it(NULL, NULL, NULL), ST_OK);
        expect_whole();
        run_command("rm -r %s", out);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/merge/export_kill");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, killed_while_it_writes);
    tcase_add_test(t, killed_at_any_moment);
    tcase_add_test(t, the_disk_is_full);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
