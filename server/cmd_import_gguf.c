/* `oftd import-gguf`: a GGUF file written as a folder that `oftd serve` loads. */
#include <stdio.h>

#include "core/files/gguf_import.h"
#include "server/cmd_common.h"

static void print_report(const struct config *c, const struct gguf_report *r)
{
    printf("%s: %lld modules as HQQ, %lld plain tensors, %.1f MB%s\n", c->output,
           (long long)r->steps, (long long)r->plain, (double)r->bytes / 1e6,
           r->tokenizer ? "" : "; the file has no tokenizer");
}

int cmd_import_gguf(int argc, char **argv, char **envp)
{
    struct config c;
    struct gguf_report report;
    struct error err = ERROR_INIT;
    int code;
    if (!cmd_config("import-gguf", argc, argv, envp, &c, &code))
        return code;
    enum status s = gguf_import(c.file, c.output, cmd_progress, "importing", &report, &err);
    cmd_progress_end();
    if (s)
        code = cmd_refuse(&err);
    else
        print_report(&c, &report);
    config_clear(&c);
    return s ? code : EXIT_DONE;
}
