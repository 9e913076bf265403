/* Commands of the contract that this version does not have: they answer by their name. */
#include <stdio.h>

#include "server/cmd_common.h"

static int not_yet(const char *command, int argc, char **argv, char **envp)
{
    struct config c;
    int code;
    if (!cmd_config(command, argc, argv, envp, &c, &code))
        return code;
    config_clear(&c);
    fprintf(stderr, "oftd: '%s' is not in this version (" OFTD_VERSION ")\n", command);
    return EXIT_REFUSED;
}

int cmd_quantize(int argc, char **argv, char **envp)
{
    return not_yet("quantize", argc, argv, envp);
}

int cmd_import_gguf(int argc, char **argv, char **envp)
{
    return not_yet("import-gguf", argc, argv, envp);
}
