/* See cmd_tables.h. */
#include "server/cmd_tables.h"

#include <stdlib.h>
#include <string.h>

#include "backends/kernels/cpu.h"
#include "backends/kernels/cuda.h"
#include "server/cmd_common.h"

#define GPUS_MAX 64

/* The GPU that is asked for, -1: none, 0 for auto. */
static enum status read_device(const char *text, int *gpu, struct error *err)
{
    char *end = NULL;
    *gpu = -1;
    if (!text || !strcmp(text, "cpu"))
        return ST_OK;
    *gpu = 0;
    if (!strcmp(text, "auto") || !strcmp(text, "cuda"))
        return ST_OK;
    bool numbered = !strncmp(text, "cuda:", 5) && text[5] >= '0' && text[5] <= '9';
    long n = numbered ? strtol(text + 5, &end, 10) : 0;
    if (!numbered || *end || n >= GPUS_MAX)
        return error_param(err, ST_INVALID_VALUE, "--device",
                           "--device: '%s' is not known, expected auto, cpu, cuda or cuda:N", text);
    *gpu = (int)n;
    return ST_OK;
}

/* The CPU's two modes; on failure what is open is the caller's to close. */
static enum status open_cpu(const struct config *c, struct cmd_tables *t, struct error *err)
{
    enum status s = cpu_kernels_open(cmd_isa(c), COMPUTE_EXACT, (int)c->threads, &t->exact, err);
    s = s ? s : cpu_kernels_share(t->exact, COMPUTE_FAST, &t->fast, err);
    return s ? s : cpu_kernels_open(cmd_isa(c), COMPUTE_EXACT, 1, &t->loader, err);
}

/* The GPU computes both modes; the CPU loads, and draws. */
static enum status open_gpu(const struct config *c, int gpu, struct cmd_tables *t,
                            struct error *err)
{
    enum status s = cuda_kernels_open(c->cuda_plugin, gpu, &t->exact, &t->fast, err);
    s = s ? s : cpu_kernels_open(cmd_isa(c), COMPUTE_EXACT, 1, &t->host, err);
    return s ? s : cpu_kernels_open(cmd_isa(c), COMPUTE_EXACT, 1, &t->loader, err);
}

enum status cmd_tables_open(const struct config *c, bool gpu_allowed, struct cmd_tables *out,
                            struct error *err)
{
    int gpu;
    bool automatic = !c->device || !strcmp(c->device, "auto");
    *out = (struct cmd_tables){.threads = c->threads > 0 ? (int)c->threads : cpu_threads()};
    enum status s = read_device(c->device, &gpu, err);
    if (s)
        return s;
    if (gpu >= 0 && gpu_allowed) {
        s = open_gpu(c, gpu, out, err);
        if (!s || !automatic) {
            if (s)
                cmd_tables_close(out);
            return s;
        }
        error_clear(err); // there is none, then
        cmd_tables_close(out);
    }
    s = open_cpu(c, out, err);
    if (s)
        cmd_tables_close(out);
    return s;
}

struct engine_kernels cmd_tables_engine(const struct cmd_tables *t)
{
    return (struct engine_kernels){t->exact, t->fast, t->loader, t->host};
}

void cmd_tables_close(struct cmd_tables *t)
{
    struct kernels *tables[] = {t->host, t->loader, t->fast, t->exact};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (tables[i])
            tables[i]->close(tables[i]);
    t->exact = t->fast = t->loader = t->host = NULL;
}
