/*
 * The table as data, for the files of this folder only: config.c (sources and precedence), value.c
 * (texts to values) and help.c (the table printed).
 */
#ifndef OFTD_CONFIG_KEYS_H
#define OFTD_CONFIG_KEYS_H

#include "config/config.h"

enum kind {
    KIND_TEXT,
    KIND_LIST,
    KIND_PATHS,
    KIND_PAIRS,
    KIND_ADDRESS,
    KIND_INT,
    KIND_BYTES,
    KIND_SECONDS,
    KIND_FLOAT,
    KIND_WORD,
    KIND_BOOL,
    KIND_RANGES
};

struct key {
    const char *group; /* a row that is a title: all else is NULL and 0 */
    const char *id, *flag, *preset, *value, *help;
    const char *const *words; /* of a WORD, NULL-terminated */
    enum kind kind;
    unsigned commands, needed; /* bits of struct command */
    double min, max;
    size_t offset; /* in struct config */
};

struct command {
    const char *name, *usage, *help;
    unsigned bit;
    const char *positional; /* id of the key that takes positional arguments, or NULL */
};

extern const struct key config_keys[];
extern const size_t config_n_keys;
extern const struct command config_commands[];
extern const size_t config_n_commands;

const struct command *config_command(const char *name); /* NULL: none */
/* The key of that flag (in any spelling with '-' or '_') which a command of `commands` takes. */
const struct key *config_key(const char *flag, unsigned commands);
const struct key *config_key_by_id(const char *id);
/* "OFTD_KV_MEMORY" into buf. */
#define CONFIG_VARIABLE_MAX 64
const char *config_variable(const struct key *k, char buf[CONFIG_VARIABLE_MAX]);

/* What the key takes, in words: "512M, 4G, ...: 0 to 1024T". */
#define CONFIG_RANGE_MAX 160
const char *config_range_text(const struct key *k, char buf[CONFIG_RANGE_MAX]);

/* Sets the key's member of c to what text says; a list gets one element more. `spelled` is the key
 * as the source spells it, `where` the source in words ("environment", a path), NULL for flags. */
struct config_source {
    const char *spelled, *where;
};
enum status config_value_set(const struct key *k, struct config *c, const char *text,
                             const struct config_source *from, struct error *err);
/* Adds NAME and VALUE to a PAIRS key. */
enum status config_value_pair(const struct key *k, struct config *c, const char *name,
                              const char *value, const struct config_source *from,
                              struct error *err);
/* Frees what the member holds and makes it empty. */
void config_value_clear(const struct key *k, struct config *c);
bool config_is_repeatable(const struct key *k);

#endif
