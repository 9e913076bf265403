/* See cmd_common.h. */
#include "server/cmd_common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/chain.h"
#include "backends/kernels/cpu.h"
#include "backends/scheme.h"
#include "server/reply.h"

void cmd_usage(void)
{
    config_help(NULL, stdout);
}

bool cmd_config(const char *command, int argc, char **argv, char **envp, struct config *out,
                int *code)
{
    struct error err = ERROR_INIT;
    if (config_parse(command, argc, argv, envp, out, &err)) {
        bool usage = config_is_usage(&err);
        cmd_refuse(&err);
        *code = usage ? EXIT_USAGE : EXIT_REFUSED;
        return false;
    }
    if (!out->help)
        return true;
    config_help(command, stdout);
    config_clear(out);
    *code = EXIT_DONE;
    return false;
}

int cmd_refuse(struct error *err)
{
    fprintf(stderr, "oftd: %s\n", err->text[0] ? err->text : status_text(err->code));
    for (size_t i = 0; err->findings.n > 1 && i < err->findings.n; i++) {
        const struct finding *f = &err->findings.v[i];
        fprintf(stderr, "  %s: %s: %s\n", f->severity == SEVERITY_ERROR ? "error" : "warning",
                status_code(f->code), f->message);
    }
    error_clear(err);
    return EXIT_REFUSED;
}

enum status cmd_check_supported(const struct config *c, struct error *err)
{
    if (c->device && strcmp(c->device, "auto") && strcmp(c->device, "cpu"))
        return error_param(err, ST_NOT_SUPPORTED, "--device",
                           "--device %s: this command computes on the CPU", c->device);
    return ST_OK;
}

enum dtype cmd_kv_dtype(const struct config *c)
{
    switch (c->kv_dtype) {
    case CONFIG_KV_FLOAT32:
        return DT_F32;
    case CONFIG_KV_INT8:
        return DT_I8;
    default:
        return DT_F16;
    }
}

const char *cmd_isa(const struct config *c)
{
    return config_word("isa", c->isa);
}

/* ---- JSON ---- */

json_t *cmd_refusal_json(const struct error *err)
{
    json_t *body = reply_error_json(err);
    json_t *findings = reply_findings_json(&err->findings);
    json_t *value = body && findings ? json_pack("{s:b, s:O, s:O}", "ok", 0, "findings", findings,
                                                 "error", json_object_get(body, "error"))
                                     : NULL;
    json_decref(body);
    json_decref(findings);
    return value;
}

bool cmd_print_json(json_t *value)
{
    bool printed = value && !json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(value);
    if (printed)
        putchar('\n');
    else
        fputs("oftd: out of memory\n", stderr);
    return printed && !fflush(stdout);
}

/* ---- progress ---- */

bool cmd_progress(void *title, double done)
{
    static const char bar[] = "########################################";
    if (!isatty(STDERR_FILENO))
        return true;
    int n = done <= 0 ? 0 : done >= 1 ? 40 : (int)(done * 40);
    fprintf(stderr, "\r%s [%-40.*s] %3.0f %%", (const char *)title, n, bar, 100 * done);
    return true;
}

void cmd_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ---- a base ---- */

enum status cmd_replication(const struct config *c, struct layer_range **out, struct error *err)
{
    size_t n = c->layer_replication.n;
    *out = NULL;
    if (!n)
        return ST_OK;
    struct layer_range *v = calloc(n, sizeof *v);
    if (!v)
        return error_memory(err, "reading the layer replication");
    for (size_t i = 0; i < n; i++)
        v[i] = (struct layer_range){.first = c->layer_replication.v[i].first,
                                    .end = c->layer_replication.v[i].end};
    *out = v;
    return ST_OK;
}

enum status cmd_base_open(const struct config *c, bool claim_only, struct cmd_base *base,
                          struct error *err)
{
    *base = (struct cmd_base){0};
    enum status s = cmd_check_supported(c, err);
    s = s ? s : checkpoint_locate(c->model, &base->dir, err);
    s = s ? s : checkpoint_open(base->dir, &base->checkpoint, err);
    s = s ? s : cpu_kernels_open(cmd_isa(c), COMPUTE_EXACT, (int)c->threads, &base->kernels, err);
    s = s ? s : cmd_replication(c, &base->replication, err);
    s = s || !c->quantize ? s : scheme_parse(c->quantize, &base->scheme, err);
    if (s) {
        cmd_base_close(base);
        return s;
    }
    base->options = (struct model_options){.replication = base->replication,
                                           .n_replication = c->layer_replication.n,
                                           .max_len = c->max_model_len,
                                           .conv2d_peft = c->conv2d == CONFIG_CONV2D_PEFT,
                                           .claim_only = claim_only,
                                           .quantize = c->quantize ? &base->scheme : NULL,
                                           .quantize_threads = base->kernels->threads};
    s = model_open(base->checkpoint, &base->options, &chain_default, base->kernels, cmd_progress,
                   c->quantize ? "quantizing" : "loading", &base->model, err);
    cmd_progress_end();
    if (s)
        cmd_base_close(base);
    return s;
}

void cmd_base_close(struct cmd_base *base)
{
    model_close(base->model);
    if (base->kernels)
        base->kernels->close(base->kernels);
    checkpoint_close(base->checkpoint);
    free(base->replication);
    scheme_clear(&base->scheme);
    free(base->dir);
    *base = (struct cmd_base){0};
}
