/* What several commands need: configuration, words for failures, an opened base, a progress bar. */
#ifndef OFTD_SERVER_CMD_COMMON_H
#define OFTD_SERVER_CMD_COMMON_H

#include "config/config.h"
#include "core/model/model.h"
#include "server/cmd.h"

/* Reads the configuration of a command. false: *code is the exit code (help was printed, or what
 * is wrong). On true the caller clears *out. */
bool cmd_config(const char *command, int argc, char **argv, char **envp, struct config *out,
                int *code);
/* One clear message on standard error; where several things are wrong, the list of them below it.
 * Clears err. EXIT_REFUSED. */
int cmd_refuse(struct error *err);
/* Options that a command without a GPU does not serve (--device cuda). */
enum status cmd_check_supported(const struct config *c, struct error *err);
const char *cmd_isa(const struct config *c);
enum dtype cmd_kv_dtype(const struct config *c);

/* {"ok": false, "findings": [...], "error": {...}}: what a refused --json command prints. */
json_t *cmd_refusal_json(const struct error *err);
/* Prints value (consumed) with a line end; false when memory ran out. */
bool cmd_print_json(json_t *value);

/* A bar on standard error while a terminal is there. progress_report; never stops; ctx is its
 * title. */
bool cmd_progress(void *title, double done);
/* Removes the bar. */
void cmd_progress_end(void);

/* layer_replication as the model wants it, malloc'ed; NULL if there is none. */
enum status cmd_replication(const struct config *c, struct layer_range **out, struct error *err);

/* A base without an engine. */
struct cmd_base {
    char *dir;
    struct checkpoint *checkpoint;
    struct kernels *kernels; /* exact */
    struct layer_range *replication;
    struct scheme scheme;         /* --quantize; zeroed: none */
    struct model_options options; /* what the model was opened with */
    struct model *model;
};
/* claim_only: build and check, load no weight. On failure base is as good as closed. */
enum status cmd_base_open(const struct config *c, bool claim_only, struct cmd_base *base,
                          struct error *err);
void cmd_base_close(struct cmd_base *base);

#endif
