/*
 * Text in, plain values out: struct config from defaults < file < environment < flags, all by the
 * one table keys.def. It knows what a key may hold, not what it is for; nothing here opens a model,
 * a socket or a key file.
 */
#ifndef OFTD_CONFIG_CONFIG_H
#define OFTD_CONFIG_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

struct config_list {
    char **v;
    size_t n;
};
struct config_pair {
    char *name, *value;
};
struct config_pairs {
    struct config_pair *v;
    size_t n;
};
struct config_range {
    int32_t first, end; /* half-open */
};
struct config_ranges {
    struct config_range *v;
    size_t n;
};

/* enum config_compute { CONFIG_COMPUTE_AUTO, ... } and so on, in the order of the words. */
#define KEY(id, kind, ...)            CONFIG_ENUM_##kind(id)
#define CONFIG_ENUM_WORD(id)          enum config_##id{WORDS_##id(CONFIG_ENUMERATOR)};
#define CONFIG_ENUMERATOR(name, word) CONFIG_##name,
#define CONFIG_ENUM_TEXT(id)
#define CONFIG_ENUM_ADDRESS(id)
#define CONFIG_ENUM_LIST(id)
#define CONFIG_ENUM_PATHS(id)
#define CONFIG_ENUM_PAIRS(id)
#define CONFIG_ENUM_INT(id)
#define CONFIG_ENUM_BYTES(id)
#define CONFIG_ENUM_SECONDS(id)
#define CONFIG_ENUM_FLOAT(id)
#define CONFIG_ENUM_BOOL(id)
#define CONFIG_ENUM_RANGES(id)
#include "config/keys.def"

/* One member a key, named by its id; texts that were not given are NULL. */
struct config {
#define KEY(id, kind, ...)       CONFIG_FIELD_##kind(id)
#define CONFIG_FIELD_TEXT(id)    char *id;
#define CONFIG_FIELD_ADDRESS(id) char *id;
#define CONFIG_FIELD_LIST(id)    struct config_list id;
#define CONFIG_FIELD_PATHS(id)   struct config_list id;
#define CONFIG_FIELD_PAIRS(id)   struct config_pairs id;
#define CONFIG_FIELD_INT(id)     int64_t id;
#define CONFIG_FIELD_BYTES(id)   uint64_t id;
#define CONFIG_FIELD_SECONDS(id) int64_t id;
#define CONFIG_FIELD_FLOAT(id)   double id;
#define CONFIG_FIELD_WORD(id)    int id; /* an enum config_<id> */
#define CONFIG_FIELD_BOOL(id)    bool id;
#define CONFIG_FIELD_RANGES(id)  struct config_ranges id;
#include "config/keys.def"
    bool help; /* --help was given: nothing else was read */
};

/* Reads everything that `command` takes. argv are the argc arguments after the command's name; envp
 * is the environment (NULL-terminated), of which the OFTD_ variables count. On success *out is the
 * caller's (config_clear); on failure it is clear.
 *
 * Errors: UNKNOWN_FIELD (a flag, variable or member that is no key, naming the nearest; a known key
 * of another command is refused as a flag and passed over elsewhere), INVALID_VALUE (naming key,
 * source, value and range), MISSING_FIELD, FILE_UNREADABLE and INVALID_JSON (the file),
 * OUT_OF_MEMORY. err->param is the key as it was spelled: "--kv-memory", "OFTD_KV_MEMORY",
 * "kv_memory". */
enum status config_parse(const char *command, int argc, char **argv, char **envp,
                         struct config *out, struct error *err);
void config_clear(struct config *c); /* of a zeroed one, too */

/* Whether a failed config_parse is a usage error (of the command line: exit 2) rather than a
 * configuration that was refused (exit 1). */
bool config_is_usage(const struct error *err);

/* The word of a WORD key's value, such as config_word("isa", CONFIG_ISA_AVX2); NULL if there is
 * none. */
const char *config_word(const char *flag, int value);

/* --help of a command, or of all (NULL or unknown: the commands and the common form). */
void config_help(const char *command, FILE *f);
/* The table as documentation: Markdown sections, and a manual page in man(7) macros. */
void config_print_markdown(FILE *f);
void config_print_man(FILE *f);

#endif
