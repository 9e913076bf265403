/*
 * The commands of the program, one cmd_NAME.c each (what they share: cmd_common.h).
 * A command gets the arguments after its name and returns the exit code: 0 done, 1 refused, 2
 * usage.
 */
#ifndef OFTD_SERVER_CMD_H
#define OFTD_SERVER_CMD_H

#define EXIT_DONE    0
#define EXIT_REFUSED 1
#define EXIT_USAGE   2

typedef int cmd_main(int argc, char **argv, char **envp);

cmd_main cmd_serve, cmd_inspect, cmd_validate, cmd_merge, cmd_quantize, cmd_import_gguf, cmd_bench,
    cmd_health, cmd_docs;
/* --help of all commands, on standard output. */
void cmd_usage(void);

#endif
