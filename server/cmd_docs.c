/*
 * `oftd docs WHAT`: documentation that is generated from the tables, so that it cannot disagree
 * with the program. The build writes docs/ and the manual page with it.
 */
#include <stdio.h>
#include <string.h>

#include "server/cmd_common.h"
#include "server/openapi.h"

static void print_config(void)
{
    config_print_markdown(stdout);
}

static void print_man(void)
{
    config_print_man(stdout);
}

static void family_row(void *ctx, const char *model_type, const char *text)
{
    (void)ctx;
    printf("| `%s` | %s |\n", model_type, text);
}

static void print_families(void)
{
    puts("| `model_type` | what it is |\n| --- | --- |");
    model_families(family_row, NULL);
}

static void print_errors(void)
{
    puts("| code | meaning |\n| --- | --- |");
    for (int i = ST_OK + 1; i < ST_COUNT_; i++)
        printf("| `%s` | %s |\n", status_code((enum status)i), status_text((enum status)i));
}

static void print_openapi(void)
{
    cmd_print_json(openapi_json(true));
}

static const struct {
    const char *name;
    void (*print)(void);
} documents[] = {{"config", print_config},
                 {"man", print_man},
                 {"families", print_families},
                 {"errors", print_errors},
                 {"openapi", print_openapi}};

int cmd_docs(int argc, char **argv, char **envp)
{
    (void)envp;
    for (size_t i = 0; argc == 1 && i < sizeof documents / sizeof documents[0]; i++)
        if (!strcmp(argv[0], documents[i].name)) {
            documents[i].print();
            return EXIT_DONE;
        }
    fputs("oftd docs: one of config, man, families, errors, openapi is expected\n", stderr);
    return EXIT_USAGE;
}
