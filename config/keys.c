/*
 * Owns keys.def as data: the rows as arrays, and the ways to find one. The only file that expands
 * the table's policy columns.
 */
#include "config/keys.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

enum { /* the letters of the COMMAND rows */
       S = 1,
       I = 2,
       V = 4,
       M = 8,
       Q = 16,
       G = 32,
       B = 64,
       H = 128
};

#define WORD_TEXT(name, text) text,
#define KEY(id, kind, ...)    WORDS_ARRAY_##kind(id)
#define WORDS_ARRAY_WORD(id)  static const char *const words_##id[] = {WORDS_##id(WORD_TEXT) NULL};
#define WORDS_ARRAY_TEXT(id)
#define WORDS_ARRAY_ADDRESS(id)
#define WORDS_ARRAY_LIST(id)
#define WORDS_ARRAY_PATHS(id)
#define WORDS_ARRAY_PAIRS(id)
#define WORDS_ARRAY_INT(id)
#define WORDS_ARRAY_BYTES(id)
#define WORDS_ARRAY_SECONDS(id)
#define WORDS_ARRAY_FLOAT(id)
#define WORDS_ARRAY_BOOL(id)
#define WORDS_ARRAY_RANGES(id)
#include "config/keys.def"

#define WORDS_OF_WORD(id) words_##id
#define WORDS_OF_TEXT(id) NULL
#define WORDS_OF_ADDRESS  WORDS_OF_TEXT
#define WORDS_OF_LIST     WORDS_OF_TEXT
#define WORDS_OF_PATHS    WORDS_OF_TEXT
#define WORDS_OF_PAIRS    WORDS_OF_TEXT
#define WORDS_OF_INT      WORDS_OF_TEXT
#define WORDS_OF_BYTES    WORDS_OF_TEXT
#define WORDS_OF_SECONDS  WORDS_OF_TEXT
#define WORDS_OF_FLOAT    WORDS_OF_TEXT
#define WORDS_OF_BOOL     WORDS_OF_TEXT
#define WORDS_OF_RANGES   WORDS_OF_TEXT

const struct key config_keys[] = {
#define GROUP(title) {.group = title},
#define KEY(id_, kind_, flag_, commands_, needed_, preset_, min_, max_, value_, help_)             \
    {.id = #id_,                                                                                   \
     .flag = flag_,                                                                                \
     .preset = preset_,                                                                            \
     .value = value_,                                                                              \
     .help = help_,                                                                                \
     .words = WORDS_OF_##kind_(id_),                                                               \
     .kind = KIND_##kind_,                                                                         \
     .commands = commands_,                                                                        \
     .needed = needed_,                                                                            \
     .min = (double)(min_),                                                                        \
     .max = (double)(max_),                                                                        \
     .offset = offsetof(struct config, id_)},
#include "config/keys.def"
};
const size_t config_n_keys = sizeof config_keys / sizeof config_keys[0];

const struct command config_commands[] = {
#define COMMAND(letter, name_, positional_, usage_, help_)                                         \
    {.name = name_, .usage = usage_, .help = help_, .bit = letter, .positional = positional_},
#include "config/keys.def"
};
const size_t config_n_commands = sizeof config_commands / sizeof config_commands[0];

const struct command *config_command(const char *name)
{
    for (size_t i = 0; name && i < config_n_commands; i++)
        if (!strcmp(config_commands[i].name, name))
            return &config_commands[i];
    return NULL;
}

/* The same flag, whichever of '-' and '_' it is written with. */
static bool same_flag(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && (*a != '-' || *b != '_'))
            return false;
    return *a == *b;
}

const struct key *config_key(const char *flag, unsigned commands)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct key *k = &config_keys[i];
        if (k->flag && (k->commands & commands) && same_flag(k->flag, flag))
            return k;
    }
    return NULL;
}

const struct key *config_key_by_id(const char *id)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (config_keys[i].id && !strcmp(config_keys[i].id, id))
            return &config_keys[i];
    return NULL;
}

const char *config_variable(const struct key *k, char buf[CONFIG_VARIABLE_MAX])
{
    size_t n = 5;
    memcpy(buf, "OFTD_", n);
    for (const char *c = k->flag; *c && n < CONFIG_VARIABLE_MAX - 1; c++)
        buf[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    buf[n] = 0;
    return buf;
}

bool config_is_repeatable(const struct key *k)
{
    return k->kind == KIND_LIST || k->kind == KIND_PATHS || k->kind == KIND_PAIRS;
}

const char *config_word(const char *flag, int value)
{
    const struct key *k = config_key(flag, ~0u);
    if (!k || !k->words)
        return NULL;
    int n = 0;
    while (k->words[n])
        n++;
    return value >= 0 && value < n ? k->words[value] : NULL;
}
