/* The table of commands. */
#include "server/cmd.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"

static const struct {
    const char *name;
    cmd_main *run;
} commands[] = {
    {"serve", cmd_serve}, {"inspect", cmd_inspect},   {"validate", cmd_validate},
    {"merge", cmd_merge}, {"quantize", cmd_quantize}, {"import-gguf", cmd_import_gguf},
    {"bench", cmd_bench}, {"health", cmd_health},     {"docs", cmd_docs},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

#define LARGE (2 << 20)

static int unknown(const char *word)
{
    const char *names[N_COMMANDS + 2] = {"--help", "--version"};
    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i + 2] = commands[i].name;
    const char *near = nearest_word(word, names, N_COMMANDS + 2);
    fprintf(stderr, "oftd: unknown command '%s'", word);
    fprintf(stderr, near ? ": do you mean '%s'?\n" : "; 'oftd --help' lists them\n", near);
    return EXIT_USAGE;
}

int main(int argc, char **argv, char **envp)
{
    // large arrays come from the system, zeroed and untouched, and go back to it at once; without
    // this the first that is freed teaches malloc to keep them, and then to clear them itself
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_TRIM_THRESHOLD, LARGE);
    // a limit on file sizes is an error of write, like a full disk
    signal(SIGXFSZ, SIG_IGN);
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "--version")) {
        puts("oftd " OFTD_VERSION);
        return EXIT_DONE;
    }
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        cmd_usage();
        return EXIT_DONE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(word, commands[i].name))
            return commands[i].run(argc - 2, argv + 2, envp);
    if (*word)
        return unknown(word);
    fputs("oftd: a command is expected; 'oftd --help' lists them\n", stderr);
    return EXIT_USAGE;
}
