/*
 * `oftd validate`: everything that is wrong with an adapter, nothing loaded (the base is only
 * looked at); with --output the rotations of one that loads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/adapters/adapter.h"
#include "core/files/writer.h"
#include "server/cmd_common.h"
#include "server/reply.h"

static struct adapter_options options_of(const struct config *c)
{
    return (struct adapter_options){.mode = COMPUTE_EXACT,
                                    .permissive = c->adapter_checks == CONFIG_CHECKS_PERMISSIVE,
                                    .neumann_peft = c->neumann_series == CONFIG_NEUMANN_PEFT};
}

/* R as F32 [rows, B, B], which stays where it is. */
static struct tensor rotation_tensor(const struct rotation *r, const char *name, const char *path)
{
    int64_t rows = r->shared ? 1 : r->blocks, square = (int64_t)r->block * r->block;
    return (struct tensor){.name = name,
                           .file = path,
                           .dtype = DT_F32,
                           .rank = 3,
                           .shape = {rows, r->block, r->block},
                           .data = r->data,
                           .bytes = (size_t)(rows * square) * sizeof(float)};
}

static enum status write_rotations(const struct model *m, const struct adapter *a, const char *path,
                                   struct error *err)
{
    struct tensor *t = calloc(m->n_modules + 1, sizeof *t);
    size_t n = 0;
    if (!t)
        return error_memory(err, "writing rotations");
    for (size_t i = 0; i < m->n_modules; i++)
        if (a->host.rotation[i])
            t[n++] = rotation_tensor(a->host.rotation[i], m->modules[i].name, path);
    enum status s = writer_file(path, t, n, err);
    free(t);
    return s;
}

static enum status save(const struct config *c, const struct cmd_base *base, const char *dir,
                        struct error *err)
{
    struct adapter *a = NULL;
    const struct adapter_options options = options_of(c);
    enum status s = adapter_load(base->model, base->kernels, dir, "adapter", &options, &a, err);
    s = s ? s : write_rotations(base->model, a, c->output, err);
    adapter_unref(a);
    return s;
}

static void print_findings(const struct findings *f, const char *dir, bool json)
{
    if (json) {
        cmd_print_json(
            json_pack("{s:b, s:o}", "ok", f->errors == 0, "findings", reply_findings_json(f)));
        return;
    }
    for (size_t i = 0; i < f->n; i++)
        printf("%s: %s: %s\n", f->v[i].severity == SEVERITY_ERROR ? "error" : "warning",
               status_code(f->v[i].code), f->v[i].message);
    printf("%s: %s\n", dir, f->errors ? "does not load" : "loads");
}

int cmd_validate(int argc, char **argv, char **envp)
{
    struct config c;
    struct cmd_base base = {0};
    struct findings findings = {0};
    struct error err = ERROR_INIT;
    char *dir = NULL;
    int code;
    if (!cmd_config("validate", argc, argv, envp, &c, &code))
        return code;
    const struct adapter_options options = options_of(&c);
    enum status s = cmd_base_open(&c, true, &base, &err);
    s = s ? s : checkpoint_locate(c.candidate, &dir, &err);
    s = s ? s : adapter_validate(base.model, base.kernels, dir, &options, &findings, &err);
    if (!s)
        print_findings(&findings, dir, c.json);
    if (!s && findings.errors == 0 && c.output)
        s = save(&c, &base, dir, &err);
    if (s && c.json)
        cmd_print_json(cmd_refusal_json(&err));
    code = s ? cmd_refuse(&err) : findings.errors ? EXIT_REFUSED : EXIT_DONE;
    findings_clear(&findings);
    free(dir);
    cmd_base_close(&base);
    config_clear(&c);
    return code;
}
