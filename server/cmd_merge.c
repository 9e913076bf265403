/*
 * `oftd merge`: adapters folded into a copy of the base, by the daemon's rules and with its report.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/chain.h"
#include "core/merge/merge.h"
#include "core/model/view.h"
#include "server/cmd_common.h"

struct merging {
    struct cmd_base base;
    struct adapter **adapters;
    size_t n;
    struct merge_options options;
    struct merge_report report;
    struct view *view;
};

static enum status load_adapters(const struct config *c, struct merging *m, struct error *err)
{
    const struct adapter_options options = {
        .mode = COMPUTE_EXACT,
        .permissive = c->adapter_checks == CONFIG_CHECKS_PERMISSIVE,
        .neumann_peft = c->neumann_series == CONFIG_NEUMANN_PEFT};
    m->adapters = calloc(c->merge_adapter.n + 1, sizeof *m->adapters);
    if (!m->adapters)
        return error_memory(err, "loading adapters");
    for (size_t i = 0; i < c->merge_adapter.n; i++) {
        char *dir = NULL;
        enum status s = checkpoint_locate(c->merge_adapter.v[i], &dir, err);
        s = s ? s
              : adapter_load(m->base.model, m->base.kernels, dir, c->merge_adapter.v[i], &options,
                             &m->adapters[i], err);
        free(dir);
        if (s)
            return s;
        m->n++;
    }
    return ST_OK;
}

static void read_options(const struct config *c, struct merge_options *o)
{
    *o = (struct merge_options){.safe = true,
                                .max_rel_fro = c->max_error > 0 ? c->max_error : -1,
                                .memory = UINT64_MAX,
                                .dense = c->dtype != CONFIG_DTYPE_STORED};
    if (o->dense)
        dtype_parse_torch(config_word("dtype", c->dtype), &o->dtype);
}

static enum status run(const struct config *c, struct merging *m, struct error *err)
{
    read_options(c, &m->options);
    enum status s = cmd_base_open(c, false, &m->base, err);
    s = s ? s : merge_check_base(m->base.model, err);
    s = s ? s : load_adapters(c, m, err);
    s = s ? s : merge_check(m->base.model, m->adapters, m->n, &m->options, &m->report, err);
    s = s ? s
          : merge_build(m->base.model, &chain_default, m->base.kernels, m->adapters, m->n,
                        &m->options, NULL, NULL, &m->view, &m->report, err);
    const struct merge_target target = {.view = m->view,
                                        .adapters = m->adapters,
                                        .n_adapters = m->n,
                                        .plain = m->options.dense,
                                        .dtype = m->options.dtype,
                                        .path = c->output,
                                        .progress = cmd_progress,
                                        .progress_ctx = "writing"};
    s = s ? s : merge_write(m->base.model, m->base.checkpoint, m->base.kernels, &target, err);
    cmd_progress_end();
    return s;
}

static json_t *report_json(const struct config *c, const struct merging *m)
{
    const struct merge_report *r = &m->report;
    json_t *modules = json_array(), *warnings = json_array();
    bool whole = modules && warnings;
    for (size_t i = 0; i < r->n && whole; i++) {
        const struct merge_module_report *x = &r->modules[i];
        whole = !json_array_append_new(
            modules, json_pack("{s:s, s:s, s:f}", "name", m->base.model->modules[x->module].name,
                               "backend", x->backend, "rel_fro", x->rel_fro));
    }
    for (size_t i = 0; i < r->n_warnings && whole; i++)
        whole = !json_array_append_new(warnings, json_string(r->warnings[i]));
    json_t *value =
        whole ? json_pack("{s:b, s:s, s:I, s:I, s:{s:{s:f, s:f}, s:f, s:O}, s:O}", "ok", 1,
                          "output", c->output, "modules", (json_int_t)r->n, "bytes",
                          (json_int_t)r->bytes, "report", "rel_fro", "max", r->rel_fro_max, "mean",
                          r->rel_fro_mean, "orthogonality_defect", r->orthogonality_defect,
                          "modules", modules, "warnings", warnings)
              : NULL;
    json_decref(modules);
    json_decref(warnings);
    return value;
}

static void print_report(const struct config *c, const struct merge_report *r)
{
    for (size_t i = 0; i < r->n_warnings; i++)
        fprintf(stderr, "oftd: warning: %s\n", r->warnings[i]);
    printf("%s: %zu modules merged, relative error %.3g at most, %.3g on average, orthogonality "
           "defect %.3g\n",
           c->output, r->n, r->rel_fro_max, r->rel_fro_mean, r->orthogonality_defect);
}

int cmd_merge(int argc, char **argv, char **envp)
{
    struct config c;
    struct merging m = {0};
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("merge", argc, argv, envp, &c, &code))
        return code;
    enum status s = run(&c, &m, &err);
    code = EXIT_DONE;
    if (s && c.json)
        cmd_print_json(cmd_refusal_json(&err));
    if (s)
        code = cmd_refuse(&err);
    else if (c.json)
        code = cmd_print_json(report_json(&c, &m)) ? EXIT_DONE : EXIT_REFUSED;
    else
        print_report(&c, &m.report);
    view_unref(m.view);
    merge_report_clear(&m.report);
    for (size_t i = 0; i < m.n; i++)
        adapter_unref(m.adapters[i]);
    free(m.adapters);
    cmd_base_close(&m.base);
    config_clear(&c);
    return code;
}
