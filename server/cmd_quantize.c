/*
 * `oftd quantize`: a plain checkpoint, quantized while it is loaded, written as its library would
 * have saved it. What is written is what `serve --quantize` serves.
 */
#include <stdio.h>

#include "backends/chain.h"
#include "core/merge/merge.h"
#include "core/model/view.h"
#include "server/cmd_common.h"

static enum status run(const struct config *c, struct cmd_base *base, struct error *err)
{
    enum status s = cmd_base_open(c, false, base, err);
    if (s)
        return s;
    const struct merge_target target = {
        .path = c->output, .progress = cmd_progress, .progress_ctx = "writing"};
    s = merge_write(base->model, base->checkpoint, base->kernels, &target, err);
    cmd_progress_end();
    return s;
}

static void print_summary(const struct config *c, const struct cmd_base *base)
{
    const struct model *m = base->model;
    size_t quantized = 0, plain = 0;
    for (size_t i = 0; i < m->n_modules; i++) {
        bool owns = m->modules[i].base == (int32_t)i;
        quantized += owns && m->modules[i].quantized;
        plain += owns && !m->modules[i].quantized;
    }
    printf("%s: %zu modules quantized (%s), %zu left as they were; %.1f MB, %.1f MB before\n",
           c->output, quantized, base->scheme.word, plain, (double)m->weight_bytes / 1e6,
           (double)m->file_bytes / 1e6);
}

int cmd_quantize(int argc, char **argv, char **envp)
{
    struct config c;
    struct cmd_base base = {0};
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("quantize", argc, argv, envp, &c, &code))
        return code;
    enum status s = run(&c, &base, &err);
    code = s ? cmd_refuse(&err) : EXIT_DONE;
    if (!s)
        print_summary(&c, &base);
    cmd_base_close(&base);
    config_clear(&c);
    return code;
}
