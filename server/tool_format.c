/*
 * Owns the ways in which families write calls, one row each, and how they are known: by what the
 * chat template contains, since it writes the calls of earlier turns that way.
 *
 *   harmony     to=functions.f in the header of a message, {...} behind it: gpt-oss, whose messages
 *               reasoning.c tells apart
 *   tags        <tool_call><function=f><parameter=k>v</parameter></function></tool_call>: Qwen's
 *   glm         <tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>
 *   hermes      <tool_call>{"name": f, "arguments": {...}}</tool_call>, once a call
 *   dsml        DeepSeek V4: <｜DSML｜tool_calls>, then each call <｜DSML｜invoke name="f">,
 *               its arguments <｜DSML｜parameter name="k" string="true">v</｜DSML｜parameter>,
 *               "false" for what is no string, </｜DSML｜invoke>; V3.2: function_calls for
 *               tool_calls
 *   deepseek    <｜tool▁calls▁begin｜>, then each call <｜tool▁call▁begin｜>function
 *               <｜tool▁sep｜>f, the arguments in a fence of ```json, <｜tool▁call▁end｜>;
 *               3.1: f<｜tool▁sep｜>{...}
 *   kimi        <|tool_calls_section_begin|>, then each call <|tool_call_begin|>functions.f:N
 *               <|tool_call_argument_begin|>{...}<|tool_call_end|>
 *   command_r   Action: ```json [{"tool_name": f, "parameters": {...}}, ...] ```;
 *               r7b: the list between <|START_ACTION|> and <|END_ACTION|>; what else it has for
 *               tags, reasoning.c knows
 *   lfm         <|tool_call_start|>[f(k=v), ...]<|tool_call_end|>
 *   recipient   >>>f, a line feed, {...}; >>>all, a line feed, text; the prompt has the first >>>:
 *               Functionary 3.2
 *   function    <function=f>{...}</function>: Functionary 3.1
 *   llama       {"name": f, "parameters": {...}} as the whole message, "; " between several, or
 *               [f(k=v), ...]; a <|python_tag|> before it perhaps
 *   mistral     [TOOL_CALLS][{"name": f, "arguments": {...}}, ...]; named: for each call
 *               [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}
 *   bar         <|tool_call|>[{"name": f, "arguments": {...}}], a <|/tool_call|> behind it perhaps
 *   list        [{"name": f, "parameters": {...}}, ...], which a grammar holds the text to: no
 *               family's
 *
 * What reads them is tool_calls.c; what can bind them, core/grammar/calls.h.
 */
#include "server/tool_format.h"

#include <string.h>

#define OBJECT(name, arguments)                                                                    \
    .head = "{ \"" name "\": ", .middle = ", \"" arguments "\": ", .tail = " }", .quoted = true
#define IN_LIST .begin = " [ ", .between = ", ", .end = " ]"
#define DSML(block)                                                                                \
    .evidence = {"｜DSML｜"}, .also = block ">", .open = "<｜DSML｜" block ">",                    \
    .close = "</｜DSML｜" block ">", .tags = &dsml, .special = true,                               \
    .writing = {.begin = "\n",                                                                     \
                .head = "<｜DSML｜invoke~name=\"",                                                 \
                .middle = "\">\n^",                                                                \
                .tail = "</｜DSML｜invoke>\n",                                                     \
                .between = "",                                                                     \
                .end = "</｜DSML｜" block ">",                                                     \
                .key = "<｜DSML｜parameter~name=\"",                                               \
                .value = "\"~string=\"true\">",                                                    \
                .other = "\"~string=\"false\">",                                                   \
                .close = "</｜DSML｜parameter>\n",                                                 \
                .stop = "</｜DSML｜parameter>"}
#define DEEPSEEK                                                                                   \
    .evidence = {"<｜tool▁calls▁begin｜>"}, .open = "<｜tool▁calls▁begin｜>",                      \
    .close = "<｜tool▁calls▁end｜>", .inner = "<｜tool▁call▁begin｜>",                             \
    .skip = {"<｜tool▁call▁end｜>", "```"}, .named = true, .special = true

static const struct tool_tags qwen = {.name = "<function=",
                                      .name_end = ">",
                                      .key = "<parameter=",
                                      .key_end = ">",
                                      .value = "",
                                      .stop = "</parameter>",
                                      .close = "</function>",
                                      .lines = true};

static const struct tool_tags glm = {.name = "",
                                     .name_end = "\n",
                                     .key = "<arg_key>",
                                     .key_end = "</arg_key>",
                                     .value = "<arg_value>",
                                     .stop = "</arg_value>",
                                     .close = "</tool_call>"};

static const struct tool_tags dsml = {.name = "<｜DSML｜invoke name=\"",
                                      .name_end = "\"",
                                      .key = "<｜DSML｜parameter name=\"",
                                      .key_end = "\" string=\"",
                                      .value = "\">",
                                      .stop = "</｜DSML｜parameter>",
                                      .close = "</｜DSML｜invoke>",
                                      .tells = true};

static const struct tool_row rows[] = {
    [TOOLS_HARMONY] = {.evidence = {"<|channel|>"},
                       .also = "<|call|>",
                       .open = "to=functions.",
                       .close = "<|call|>",
                       .named = true,
                       .special = true,
                       .writing = {.begin = "",
                                   .head = "",
                                   .middle = " <|constrain|>json<|message|>",
                                   .tail = "",
                                   .end = ""}},
    [TOOLS_TAGS] = {.evidence = {"<tool_call>"},
                    .also = "<parameter=",
                    .open = "<tool_call>",
                    .close = "</tool_call>",
                    .tags = &qwen,
                    .writing = {.begin = " ",
                                .head = "<function=",
                                .middle = "> ",
                                .tail = "</function>",
                                .end = " </tool_call>",
                                .key = "<parameter=",
                                .value = ">\n",
                                .close = "\n</parameter>\n",
                                .stop = "</parameter>"}},
    [TOOLS_GLM] = {.evidence = {"<tool_call>"},
                   .also = "<arg_key>",
                   .open = "<tool_call>",
                   .close = "</tool_call>",
                   .named = true,
                   .tags = &glm,
                   .writing = {.begin = "",
                               .head = "",
                               .middle = " ",
                               .tail = "",
                               .end = "</tool_call>",
                               .key = "<arg_key>",
                               .value = "</arg_key> <arg_value>",
                               .close = "</arg_value> ",
                               .stop = "</arg_value>"}},
    [TOOLS_HERMES] = {.evidence = {"<tool_call>"},
                      .others = {"<function=", "<arg_key>"},
                      .open = "<tool_call>",
                      .close = "</tool_call>",
                      .writing = {OBJECT("name", "arguments"), .begin = " ",
                                  .end = " </tool_call>"}},
    [TOOLS_DSML_32] = {DSML("function_calls")},
    [TOOLS_DSML] = {DSML("tool_calls")},
    [TOOLS_DEEPSEEK] = {DEEPSEEK, .also = "```json",
                        .writing = {.begin = "",
                                    .head = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                                    .middle = " ```json ",
                                    .tail = " ```<｜tool▁call▁end｜>",
                                    .between = " ",
                                    .end = "<｜tool▁calls▁end｜>"}},
    [TOOLS_DEEPSEEK_31] = {DEEPSEEK, .writing = {.begin = "",
                                                 .head = "<｜tool▁call▁begin｜>",
                                                 .middle = "<｜tool▁sep｜>",
                                                 .tail = "<｜tool▁call▁end｜>",
                                                 .between = "",
                                                 .end = "<｜tool▁calls▁end｜>"}},
    [TOOLS_KIMI] = {.evidence = {"<|tool_calls_section_begin|>"},
                    .open = "<|tool_calls_section_begin|>",
                    .close = "<|tool_calls_section_end|>",
                    .inner = "<|tool_call_begin|>",
                    .skip = {"<|tool_call_end|>"},
                    .named = true,
                    .special = true,
                    .numbered = true,
                    .writing = {.begin = "",
                                .head = "<|tool_call_begin|>functions.",
                                .middle = ":#<|tool_call_argument_begin|>",
                                .tail = "<|tool_call_end|>",
                                .between = "",
                                .end = "<|tool_calls_section_end|>"}},
    [TOOLS_COMMAND_R7B] = {.evidence = {"<|START_ACTION|>"},
                           .open = "<|START_ACTION|>",
                           .close = "<|END_ACTION|>",
                           .special = true,
                           .writing = {.begin = " [ ",
                                       .head = "{ \"tool_call_id\": \"#\", \"tool_name\": ",
                                       .middle = ", \"parameters\": ",
                                       .tail = " }",
                                       .between = ", ",
                                       .end = " ]<|END_ACTION|>",
                                       .quoted = true}},
    [TOOLS_COMMAND_R] = {.evidence = {"Action:"},
                         .also = "\"tool_name\"",
                         .open = "Action:",
                         .close = "",
                         .skip = {"```json", "```"},
                         .writing = {OBJECT("tool_name", "parameters"), .begin = " ```json [ ",
                                     .between = ", ", .end = " ] ```"}},
    [TOOLS_LFM] = {.evidence = {"<|tool_call_start|>"},
                   .open = "<|tool_call_start|>",
                   .close = "<|tool_call_end|>",
                   .python = true,
                   .special = true,
                   .writing = {.begin = "[ ",
                               .head = "",
                               .middle = "",
                               .tail = "",
                               .between = ", ",
                               .end = " ]<|tool_call_end|>",
                               .python = true}},
    [TOOLS_RECIPIENT] = {.evidence = {">>>all"},
                         .open = ">>>",
                         .close = "",
                         .drop = {">>>all\n"},
                         .begun = true,
                         .named = true,
                         .writing = {.begin = "",
                                     .head = "",
                                     .middle = "\n",
                                     .tail = "",
                                     .end = "",
                                     .plain = "all\n"}},
    [TOOLS_FUNCTION] =
        {.evidence = {"<function="},
         .others = {"<tool_call>", "<parameter="},
         .open = "<function=",
         .close = "</function>",
         .named = true,
         .writing = {.begin = "", .head = "", .middle = ">", .tail = "", .end = "</function>"}},
    [TOOLS_LLAMA] = {.evidence = {"<|python_tag|>", "\"parameters\": dictionary of argument name",
                                  "<|python_start|>", "func_name1(params_name1="},
                     .others = {"<function="},
                     .open = "<|python_tag|>",
                     .close = "",
                     .drop = {"<|python_start|>", "<|python_end|>"},
                     .bare = true,
                     .python = true,
                     .special = true,
                     .writing = {OBJECT("name", "parameters"), .begin = "", .between = "; ",
                                 .end = ""}},
    [TOOLS_MISTRAL_NAMED] =
        {.evidence = {"[TOOL_CALLS]"},
         .also = "[ARGS]",
         .open = "[TOOL_CALLS]",
         .close = "",
         .named = true,
         .special = true,
         .short_ids = true,
         .writing = {.begin = "", .head = "", .middle = "[ARGS]", .tail = "", .end = ""}},
    [TOOLS_MISTRAL] = {.evidence = {"[TOOL_CALLS]"},
                       .open = "[TOOL_CALLS]",
                       .close = "",
                       .named = true,
                       .special = true,
                       .short_ids = true,
                       .writing = {OBJECT("name", "arguments"), IN_LIST}},
    [TOOLS_BAR] = {.evidence = {"<|tool_call|>"},
                   .open = "<|tool_call|>",
                   .close = "<|/tool_call|>",
                   .special = true,
                   .writing = {OBJECT("name", "arguments"), IN_LIST}},
    [TOOLS_LIST] = {.open = "[",
                    .close = "",
                    .writing = {OBJECT("name", "parameters"), .begin = "[ ", .between = ", ",
                                .end = " ]"}},
};
#define N(array) (sizeof(array) / sizeof(array)[0])

static bool contains(const char *text, size_t len, const char *word)
{
    return word && memmem(text, len, word, strlen(word));
}

enum tool_format tool_format_of(const char *template, size_t len)
{
    for (size_t i = TOOLS_NONE + 1; i < N(rows); i++) {
        const struct tool_row *r = &rows[i];
        bool there = false;
        for (size_t k = 0; k < N(r->evidence); k++)
            there |= contains(template, len, r->evidence[k]);
        there &= !r->also || contains(template, len, r->also);
        for (size_t k = 0; k < N(r->others); k++)
            there &= !contains(template, len, r->others[k]);
        if (there)
            return (enum tool_format)i;
    }
    return TOOLS_NONE;
}

const struct tool_row *tool_format_row(enum tool_format f)
{
    return &rows[f];
}
