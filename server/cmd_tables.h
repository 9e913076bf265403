/* The tables of kernels that an engine computes with, as the configuration names the device. */
#ifndef OFTD_SERVER_CMD_TABLES_H
#define OFTD_SERVER_CMD_TABLES_H

#include "config/config.h"
#include "core/engine.h"

struct cmd_tables {
    struct kernels *exact, *fast, *loader; /* as in struct engine_kernels */
    struct kernels *host;                  /* of a GPU; NULL: exact is the CPU's */
    int threads;                           /* of the CPU, for loading */
};

/* --device cpu; cuda or cuda:N; auto: the GPU 0 where there is one, else the CPU. NOT_SUPPORTED
 * says why there is no such GPU. gpu_allowed: a command that computes on the CPU has none. On
 * failure the tables are as good as closed. */
enum status cmd_tables_open(const struct config *c, bool gpu_allowed, struct cmd_tables *out,
                            struct error *err);
struct engine_kernels cmd_tables_engine(const struct cmd_tables *t);
void cmd_tables_close(struct cmd_tables *t);

#endif
