/*
 * Owns the table in print: --help, Markdown, the manual page. No sentence about a key is written
 * here; a row that changes changes all three.
 */
#include "config/keys.h"

#include <string.h>

#define WIDTH  100
#define INDENT 30

/* "--kv-memory BYTES" */
static void flag_text(const struct key *k, char *buf, size_t size)
{
    if (k->kind == KIND_BOOL)
        snprintf(buf, size, "--%s, --no-%s", k->flag, k->flag);
    else
        snprintf(buf, size, "--%s %s", k->flag, k->value ? k->value : "WORD");
}

/* Help, then what the key takes where its help cannot know, then the default. */
static void help_text(const struct key *k, char *buf, size_t size)
{
    char range[CONFIG_RANGE_MAX];
    size_t at = (size_t)snprintf(buf, size, "%s", k->help);
    if (k->kind != KIND_BOOL && k->kind != KIND_TEXT && !config_is_repeatable(k) &&
        k->kind != KIND_ADDRESS && at < size)
        at += (size_t)snprintf(buf + at, size - at, " (%s)", config_range_text(k, range));
    if (k->preset && at < size)
        snprintf(buf + at, size - at, " [%s]", k->preset);
}

/* text from column INDENT on, broken at spaces. */
static void print_wrapped(FILE *f, const char *text)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > WIDTH - INDENT) {
            len = WIDTH - INDENT;
            while (len && text[len] != ' ')
                len--;
            if (!len)
                len = strcspn(text, " ");
        }
        fprintf(f, "%.*s\n", (int)len, text);
        text += len;
        text += strspn(text, " ");
        if (*text)
            fprintf(f, "%*s", INDENT, "");
    }
}

static void print_key(FILE *f, const struct key *k)
{
    char flag[128], help[600];
    flag_text(k, flag, sizeof flag);
    help_text(k, help, sizeof help);
    if (strlen(flag) > INDENT - 4)
        fprintf(f, "  %s\n%*s", flag, INDENT, "");
    else
        fprintf(f, "  %-*s", INDENT - 2, flag);
    print_wrapped(f, help);
}

/* Calls print for each flag of the commands, and title before the first of each group. */
static void each_key(unsigned commands, FILE *f, void (*title)(FILE *, const char *),
                     void (*print)(FILE *, const struct key *))
{
    const char *group = NULL;
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct key *k = &config_keys[i];
        if (k->group)
            group = k->group;
        if (!k->flag || !(k->commands & commands))
            continue;
        if (group)
            title(f, group);
        group = NULL;
        print(f, k);
    }
}

static void help_title(FILE *f, const char *title)
{
    fprintf(f, "\n%s\n", title);
}

void config_help(const char *command, FILE *f)
{
    const struct command *c = config_command(command);
    if (c) {
        fprintf(f, "Usage: oftd %s [FLAGS]%s%s\n%s.\n", c->name, *c->usage ? " " : "", c->usage,
                c->help);
        each_key(c->bit, f, help_title, print_key);
        fprintf(f, "\nEvery flag is also a variable (--kv-memory: OFTD_KV_MEMORY) and a key of the "
                   "JSON file\nthat --config names; flags win over variables, variables over the "
                   "file.\n");
        return;
    }
    fprintf(f, "Usage: oftd COMMAND [FLAGS]\n\nCommands\n");
    for (size_t i = 0; i < config_n_commands; i++)
        fprintf(f, "  %-*s%s\n", INDENT - 2, config_commands[i].name, config_commands[i].help);
    fprintf(f, "\n`oftd COMMAND --help` lists the flags of a command, `oftd --version` prints the "
               "version.\n");
}

/* ---- Markdown ---------------------------------------------------------------------------------
 */

static void markdown_title(FILE *f, const char *title)
{
    fprintf(f,
            "\n## %s\n\n| flag | variable | takes | default | commands | meaning |\n"
            "|---|---|---|---|---|---|\n",
            title);
}

/* In a table's cell a bar would end it. */
static void print_cell(FILE *f, const char *text)
{
    for (; *text; text++)
        fprintf(f, *text == '|' ? "\\%c" : "%c", *text);
}

static void markdown_key(FILE *f, const struct key *k)
{
    char variable[CONFIG_VARIABLE_MAX], range[CONFIG_RANGE_MAX];
    fprintf(f, "| `--%s` | `%s` | ", k->flag, config_variable(k, variable));
    print_cell(f, config_range_text(k, range));
    fprintf(f, k->preset ? " | `%s` |" : " | |", k->preset);
    for (size_t i = 0; i < config_n_commands; i++)
        if (k->commands & config_commands[i].bit)
            fprintf(f, " %s", config_commands[i].name);
    fprintf(f, " | ");
    print_cell(f, k->help);
    fprintf(f, " |\n");
}

void config_print_markdown(FILE *f)
{
    fprintf(f, "# Configuration\n\nEvery key is a flag, an environment variable and a member of "
               "the JSON file that `--config` names\n(with `-` or `_`). Flags win over variables, "
               "variables over the file. Lists: repeat the flag, an\narray in the file, `:` "
               "between paths in a variable, `,` between other entries.\n");
    each_key(~0u, f, markdown_title, markdown_key);
}

/* ---- the manual page --------------------------------------------------------------------------
 */

/* Hyphens and backslashes as roff wants them; a line must not begin with a dot or an apostrophe. */
static void print_roff(FILE *f, const char *text)
{
    if (*text == '.' || *text == '\'')
        fprintf(f, "\\&");
    for (; *text; text++) {
        if (*text == '-')
            fprintf(f, "\\-");
        else if (*text == '\\')
            fprintf(f, "\\e");
        else
            fputc(*text, f);
    }
}

static void man_title(FILE *f, const char *title)
{
    fprintf(f, ".SS %s\n", title);
}

static void man_key(FILE *f, const struct key *k)
{
    char flag[128], help[600], variable[CONFIG_VARIABLE_MAX];
    flag_text(k, flag, sizeof flag);
    help_text(k, help, sizeof help);
    fprintf(f, ".TP\n.B ");
    print_roff(f, flag);
    fprintf(f, "\n");
    print_roff(f, help);
    fprintf(f, ".\n.br\n%s;", config_variable(k, variable));
    for (size_t i = 0; i < config_n_commands; i++)
        if (k->commands & config_commands[i].bit) {
            fprintf(f, " ");
            print_roff(f, config_commands[i].name);
        }
    fprintf(f, "\n");
}

void config_print_man(FILE *f)
{
    fprintf(f, ".TH OFTD 1\n.SH NAME\noftd \\- serve one quantized base model with many orthogonal "
               "fine\\-tuning adapters\n.SH SYNOPSIS\n");
    for (size_t i = 0; i < config_n_commands; i++) {
        fprintf(f, ".B oftd ");
        print_roff(f, config_commands[i].name);
        fprintf(f,
                *config_commands[i].usage ? "\n.RI [ FLAGS \"] %s\"\n.br\n"
                                          : "\n.RI [ FLAGS ]\n.br\n",
                config_commands[i].usage);
    }
    fprintf(f, ".SH COMMANDS\n");
    for (size_t i = 0; i < config_n_commands; i++) {
        fprintf(f, ".TP\n.B ");
        print_roff(f, config_commands[i].name);
        fprintf(f, "\n");
        print_roff(f, config_commands[i].help);
        fprintf(f, ".\n");
    }
    fprintf(f, ".SH OPTIONS\nEach is also the environment variable named with it and a member of "
               "the JSON file that\n.B \\-\\-config\nnames. Flags win over variables, variables "
               "over the file.\n");
    each_key(~0u, f, man_title, man_key);
    fprintf(f,
            ".SH EXIT STATUS\n0 when it did what was asked, 1 when it was refused, 2 for a wrong "
            "command line.\n");
}
