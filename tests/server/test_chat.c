/*
 * /v1/chat/completions, /v1/responses, /apply-template over a fake engine: what the template is
 * given, the wording of messages and of frames, tool calls whole and in fragments, and refusals by
 * name.
 */
#include "tests/check_main.h"
#include "tests/server/served.h"

#define CHAT    "/v1/chat/completions"
#define RESPOND "/v1/responses"

struct row {
    const char *path, *body;
    int status;
    const char *holds;
};

#define SAY(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASK(rest) "{\"messages\":[" SAY("abcdefgh") "]" rest "}"
#define TOOL                                                                                       \
    "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}"
#define CALL(args)             "<tool_call>{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": " args "}</tool_call>"
#define LISTED                 "{\\\"name\\\":\\\"f\\\",\\\"parameters\\\":{\\\"a\\\":1}}"
#define NAMED(name)            "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define WITH_TOOLS(text, rest) "{\"messages\":[" SAY(text) "],\"tools\":[" TOOL "]" rest "}"

#define STRICT                                                                                     \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,"              \
    "\"parameters\":{}}}," TOOL "]"
#define CALLING(text, rest)                                                                        \
    "{\"input\":\"" text                                                                           \
    "\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}]" rest "}"

static const struct row rows[] = {
    /* the template's variables */
    {"/apply-template", "{\"messages\":[" SAY("hi") "]}", 200,
     "{\"prompt\":\"{\\\"add_generation_prompt\\\":true,\\\"tools\\\":null,\\\"documents\\\":null,"
     "\\\"messages\\\":[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"hi\\\"}]}\"}"},
    {"/apply-template",
     "{\"model\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
     "\"a\"},"
     "{\"type\":\"text\",\"text\":\"b\"}]}],\"add_generation_prompt\":false,"
     "\"chat_template_kwargs\":{\"enable_thinking\":false},\"reasoning_effort\":\"low\"}",
     200,
     "\\\"reasoning_effort\\\":\\\"low\\\",\\\"add_generation_prompt\\\":false,\\\"tools\\\":null,"
     "\\\"documents\\\":null,\\\"enable_thinking\\\":false,\\\"messages\\\":[{\\\"role\\\":"
     "\\\"user\\\","
     "\\\"content\\\":\\\"a\\\\nb\\\"}]"},
    {"/apply-template",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"audio\":null,"
     "\"annotations\":[],\"tool_calls\":[{\"id\":\"i\",\"type\":\"function\",\"function\":{"
     "\"name\":"
     "\"f\",\"arguments\":\"{\\\"a\\\": [1]}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"i\","
     "\"content\":\"r\"}]}",
     200,
     "\\\"messages\\\":[{\\\"role\\\":\\\"assistant\\\",\\\"tool_calls\\\":[{\\\"id\\\":\\\"i\\\","
     "\\\"type\\\":\\\"function\\\",\\\"function\\\":{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{"
     "\\\"a\\\":"
     "[1]}}}]},{\\\"role\\\":\\\"tool\\\",\\\"content\\\":\\\"r\\\",\\\"tool_call_id\\\":\\\"i\\\"}"
     "]"},
    {"/apply-template",
     "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"assistant\","
     "\"content\":"
     "\"\",\"reasoning\":\"r\"}]}",
     200,
     "[{\\\"role\\\":\\\"system\\\",\\\"content\\\":\\\"s\\\"},{\\\"role\\\":\\\"assistant\\\","
     "\\\"content\\\":\\\"\\\",\\\"reasoning\\\":\\\"r\\\",\\\"reasoning_content\\\":\\\"r\\\","
     "\\\"thinking\\\":\\\"r\\\"}]"},
    {"/apply-template", "{\"messages\":[" SAY("a") "],\"tools\":[" TOOL "]}", 200,
     "\\\"tools\\\":[{\\\"type\\\":\\\"function\\\",\\\"function\\\":{\\\"name\\\":\\\"f\\\","},
    {"/apply-template",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{"
     "\"name\":"
     "\"f\",\"arguments\":\"[1]\"}}]}]}",
     400, "messages: the arguments of a call of 'f' are not the text of a JSON object"},
    {"/apply-template", "{\"messages\":[" SAY("a") "],\"chat_template_kwargs\":{\"tools\":[]}}",
     400, "'tools' is a field of its own"},
    {"/apply-template",
     "{\"messages\":[" SAY("a") "],\"continue_final_message\":true,\"add_generation_prompt\":true}",
     400, "exclude each other"},
    {"/apply-template", "{\"messages\":[{\"role\":\"assistant\"}],\"continue_final_message\":true}",
     400, "no content to continue"},
    {"/apply-template", "{\"messages\":[]}", 400, "messages: a list of 1 to 65536 objects"},
    {"/apply-template", "{\"messages\":[" SAY("a") "],\"documents\":[{\"text\":\"d\"}]}", 200,
     "\\\"documents\\\":[{\\\"text\\\":\\\"d\\\"}]"},
    {"/apply-template", "{}", 400, "missing_field"},
    {"/apply-template", "{\"messages\":[{\"role\":\"user\",\"contents\":\"a\"}]}", 400,
     "do you mean 'content'?"},
    {"/apply-template",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
     400, "type: one of text is expected"},
    {"/apply-template", "{\"messages\":[" SAY("a") "],\"chat_template\":\"x\"}", 501,
     "not_supported"},

    /* a message */
    {CHAT, ASK(""), 200,
     "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"abcdefgh\","
     "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_"
     "tokens\":1,"
     "\"completion_tokens\":3,\"total_tokens\":4,"},
    {CHAT, ASK(",\"n\":2,\"model\":\"alpha\""), 200,
     "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"abcdefgh\""},
    {CHAT, ASK(",\"adapter\":\"alpha\""), 200, "x-adapter-id: alpha"},
    {CHAT, ASK(""), 200, "{\"id\":\"chatcmpl-"},
    {CHAT, ASK(""), 200, "\"object\":\"chat.completion\",\"created\":"},
    {CHAT, ASK(",\"max_tokens\":9,\"max_completion_tokens\":2"), 200,
     "\"content\":\"t0 t1 \",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"length\""},
    {CHAT, ASK(",\"max_tokens\":1,\"logprobs\":true,\"top_logprobs\":2,\"return_token_ids\":true"),
     200,
     "\"logprobs\":{\"content\":[{\"token\":\"t0 \",\"logprob\":-0.25,\"bytes\":[116,48,32],"
     "\"top_logprobs\":[{\"token\":\"t0 "
     "\",\"logprob\":-0.25,\"bytes\":[116,48,32]},{\"token\":\"b\","
     "\"logprob\":-1.5,\"bytes\":[98]}]}],\"refusal\":null},\"finish_reason\":\"length\",\"token_"
     "ids\":"
     "[0]}"},
    {CHAT, ASK(",\"user\":\"u\",\"metadata\":{},\"modalities\":[\"text\"],\"functions\":[]"), 200,
     "abcdefgh"},
    {CHAT, "{\"messages\":[" SAY("fail") "]}", 500, "internal_error"},
    {CHAT, "{\"messages\":[" SAY("fail") "],\"stream\":true}", 500, "internal_error"},
    {CHAT, "{\"messages\":[" SAY("broken") "],\"stream\":true}", 200, "event: error\ndata: {"},
    {CHAT, ASK(",\"model\":\"nobody\""), 404, "model_not_found"},
    {CHAT, ASK(",\"top_logprobs\":2"), 400, "logprobs must be true"},
    {CHAT, ASK(",\"logprobs\":2"), 400, "logprobs: true or false is expected"},
    {CHAT, ASK(",\"echo\":true"), 501, "not_supported"},
    {CHAT, ASK(",\"guided_json\":{\"type\":\"object\"}"), 501, "not_supported"},
    {CHAT, ASK(",\"response_format\":{\"type\":\"xml\"}"), 400, "invalid_value"},
    {CHAT, ASK(",\"structured_outputs\":{\"regex\":\"a\",\"choice\":[\"a\"]}"), 400, "got 2"},
    {CHAT, ASK(",\"structured_outputs\":{\"xml\":1}"), 400, "unknown_field"},
    {CHAT, ASK(",\"temprature\":1"), 400, "do you mean 'temperature'?"},
    {CHAT, ASK(",\"prompt\":\"a\""), 400, "unknown_field"},
    {CHAT, "{\"prompt\":\"a\"}", 400, "unknown_field"},

    /* the same as a response */
    {RESPOND, "{\"input\":\"abcdefgh\"}", 200, "\"output\":[{\"type\":\"message\",\"id\":\"msg_"},
    {RESPOND, "{\"input\":[" SAY("abcdefgh") "]}", 200,
     "\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
     "\"text\":"
     "\"abcdefgh\",\"annotations\":[],\"logprobs\":[]}]}],\"usage\":{\"input_tokens\":1,"},
    {RESPOND, "{\"input\":\"abcdefgh\",\"max_output_tokens\":2,\"instructions\":\"i\"}", 200,
     "\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"model\":\"base\","
     "\"instructions\":\"i\""},
    {RESPOND,
     "{\"input\":\"a\",\"max_output_tokens\":1,\"include\":[\"message.output_text.logprobs\"],"
     "\"top_logprobs\":1}",
     200, "\"annotations\":[],\"logprobs\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97],"},
    {RESPOND, "{\"input\":\"abcdefgh\",\"stream\":true}", 200,
     "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":"},
    {RESPOND, "{\"input\":\"broken\",\"stream\":true}", 200, "event: error\ndata: {"},
    {RESPOND, "{\"input\":\"fail\",\"stream\":true}", 500, "internal_error"},
    {RESPOND, "{\"input\":\"a\",\"adapter\":\"nobody\"}", 404, "adapter_not_found"},
    {RESPOND, "{\"input\":\"a\",\"store\":true}", 501, "not_supported"},
    {RESPOND, CALLING("Well. " CALL("{\\\"a\\\": 1}") " So " CALL("{}"), ""), 200,
     "\"content\":[{\"type\":\"output_text\",\"text\":\"Well.\",\"annotations\":[],\"logprobs\":[]}"
     "]},{\"type\":\"function_call\",\"id\":\"fc_"},
    {RESPOND, CALLING("Well. " CALL("{\\\"a\\\": 1}") " So " CALL("{}"), ""), 200,
     "\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"},{\"type\":\"message\","},
    {RESPOND, CALLING(CALL("{}"), ",\"tool_choice\":\"none\""), 200, "\"text\":\"<tool_call>{"},
    {RESPOND, CALLING("[" LISTED "," LISTED "]", ",\"tool_choice\":\"required\""), 200,
     "\"output\":[{\"type\":\"function_call\",\"id\":\"fc_"},
    {RESPOND, CALLING("[" LISTED "]", ",\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}"),
     200, "\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}],\"usage\""},
    {RESPOND, CALLING("a", ",\"tool_choice\":{\"type\":\"function\",\"name\":\"g\"}"), 400,
     "tools has no function g"},
    {RESPOND, CALLING("a", ",\"tool_choice\":{\"type\":\"file_search\"}"), 501,
     "tool_choice: type 'file_search' is not supported"},
    {RESPOND, "{\"input\":\"a\",\"tools\":[{\"type\":\"mcp\"}]}", 501,
     "tools: type 'mcp' is not supported"},
    {RESPOND, "{\"input\":\"a\",\"tools\":[{\"type\":\"odd\"}]}", 400,
     "type: one of function is expected in tools"},
    {RESPOND, "{\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]}", 501,
     "input: type 'item_reference' is not supported"},
    {RESPOND, "{\"input\":[{\"type\":3}]}", 400,
     "one of message|function_call|function_call_output|reasoning is expected in input"},
    {RESPOND, "{\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\"}]}", 400,
     "arguments is required"},
    {RESPOND,
     "{\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{\"}"
     "]}",
     400, "input: the arguments of a call of 'f' are not the text of a JSON object"},
    {RESPOND, "{\"input\":[{\"type\":\"reasoning\"}," SAY("a") "]}", 400,
     "a reasoning item stands before"},
    {RESPOND, "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_object\"}}}", 200,
     "\"text\":{\"format\":{\"type\":\"json_object\"}}"},

    /* tool calls */
    {CHAT, WITH_TOOLS("Well. " CALL("{\\\"a\\\": 1}") CALL("{}"), ""), 200,
     "\"message\":{\"role\":\"assistant\",\"content\":\"Well.\",\"refusal\":null,\"tool_calls\":[{"
     "\"id\":"
     "\"call_"},
    {CHAT, WITH_TOOLS(CALL("{\\\"a\\\": 1}"), ""), 200,
     "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}}]},"
     "\"logprobs\":null,\"finish_reason\":\"tool_calls\"}"},
    {CHAT, WITH_TOOLS(CALL("{}"), ""), 200, "\"content\":null,\"refusal\":null,\"tool_calls\":[{"},
    {CHAT, WITH_TOOLS(CALL("{}"), ",\"tool_choice\":\"none\""), 200,
     "\"content\":\"<tool_call>{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {}}</tool_call>\","
     "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\""},
    {CHAT, "{\"messages\":[" SAY(CALL("{}")) "]}", 200, "\"content\":\"<tool_call>{"},
    {CHAT, WITH_TOOLS("no calls", ",\"tool_choice\":\"auto\""), 200, "\"content\":\"no calls\""},
    {CHAT, WITH_TOOLS("[" LISTED "," LISTED "]", ",\"tool_choice\":\"required\""), 200,
     "\"arguments\":\"{\\\"a\\\":1}\"}}]},\"logprobs\":null,\"finish_reason\":\"tool_calls\""},
    {CHAT, WITH_TOOLS("[" LISTED "]", "," NAMED("f")), 200,
     "\"arguments\":\"{\\\"a\\\":1}\"}}]},\"logprobs\":null,\"finish_reason\":\"stop\""},
    {CHAT, WITH_TOOLS("a", "," NAMED("g")), 400, "tools has no function g"},
    {CHAT, ASK(",\"tool_choice\":\"required\""), 400, "tools has no function"},
    {CHAT,
     WITH_TOOLS("a",
                ",\"tool_choice\":\"required\",\"response_format\":{\"type\":\"json_object\"}"),
     400, "exclude each other"},
    {CHAT, WITH_TOOLS("a", ",\"tool_choice\":{\"type\":\"function\"}"), 400, "missing_field"},
    {CHAT, "{\"messages\":[" SAY(CALL("{\\\"a\\\": 1}")) "]," STRICT "}", 200,
     "\"arguments\":\"{\\\"a\\\": 1}\"}}]},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}"},
    {CHAT, "{\"messages\":[" SAY("a") "]," STRICT ",\"structured_outputs\":{\"regex\":\"a\"}}", 400,
     "'f' is strict: its calls and another form of the text exclude each other"},
    {CHAT, "{\"messages\":[" SAY("a") "]," STRICT ",\"response_format\":{\"type\":\"text\"}}", 200,
     "\"content\":\"a\""},
    /* thoughts; a prompt that ends within one is the fake's "Hm, " */
    {CHAT, "{\"messages\":[" SAY("<think>\\nHm.\\n</think>\\n\\nYes") "]}", 200,
     "\"content\":\"Yes\",\"refusal\":null,\"reasoning\":\"Hm.\",\"reasoning_content\":\"Hm.\"}"},
    {CHAT, "{\"messages\":[" SAY("Hm, so</think>Yes") "]}", 200,
     "\"content\":\"Yes\",\"refusal\":null,\"reasoning\":\"Hm, so\""},
    {CHAT, "{\"messages\":[" SAY("Hm, so") "]}", 200,
     "\"content\":null,\"refusal\":null,\"reasoning\":\"Hm, so\""},
    {CHAT, WITH_TOOLS("<think>Hm.</think>" CALL("{}"), ""), 200,
     "\"content\":null,\"refusal\":null,\"reasoning\":\"Hm.\",\"reasoning_content\":\"Hm.\","
     "\"tool_calls\":[{"},
    {CHAT, "{\"messages\":[" SAY("Hm, </think>Yes") "],\"structured_outputs\":{\"regex\":\"a\"}}",
     200, "\"content\":\"Hm, </think>Yes\",\"refusal\":null}"},
    {RESPOND, "{\"input\":\"<think>Hm.</think>Yes\"}", 200,
     "\"output\":[{\"type\":\"reasoning\",\"id\":\"rs_"},
    {RESPOND, "{\"input\":\"<think>Hm.</think>Yes\"}", 200,
     "\"status\":\"completed\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":"
     "\"Hm.\"}]},{\"type\":\"message\""},
    {RESPOND, "{\"input\":\"<think>Hm.</think>Yes\"}", 200,
     "\"output_tokens_details\":{\"reasoning_tokens\":3}"},
    {CHAT, "{\"messages\":[" SAY("a") "],\"tools\":[{\"type\":\"custom\"}]}", 501,
     "tools: type 'custom' is not supported"},
    {CHAT, WITH_TOOLS("a", ",\"tool_choice\":\"perhaps\""), 400, "one of auto|none|required"},
    {CHAT, "{\"messages\":[" SAY("a") "],\"tools\":[{\"type\":\"function\"}]}", 400,
     "missing_field"},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

START_TEST(test_rows)
{
    for (size_t i = 0; i < N_ROWS; i++)
        ck_assert_int_eq(post(rows[i].path, rows[i].body, rows[i].holds), rows[i].status);
    wait_for(live_tickets, 0);
}
END_TEST

/* The frames' choices of one stream, each with its line feed. */
static void choices_of(const char *body, struct buffer *out)
{
    int status;
    char *reply = client_call(port, "POST", CHAT, NULL, body, &status);
    ck_assert_int_eq(status, 200);
    ck_assert_ptr_nonnull(strstr(reply, "\"object\":\"chat.completion.chunk\""));
    ck_assert_ptr_nonnull(strstr(reply, "data: [DONE]\n\n"));
    for (const char *p = reply; (p = strstr(p, "\"choices\":["));) {
        p += strlen("\"choices\":[");
        const char *end = strstr(p, "}\n\n");
        buffer_add(out, p, (size_t)(end - p));
        buffer_text(out, "\n");
    }
    buffer_add(out, "", 1);
    free(reply);
}

struct frame {
    const char *delta, *finish;
};

/* The stream's choices are these, each with `rest` behind it, but for ids of calls; then `end`. */
static void check_stream(const char *body, const struct frame *frames, size_t n, const char *rest,
                         const char *end)
{
    struct buffer got = {0}, want = {0};
    choices_of(body, &got);
    for (char *id = got.v; (id = strstr(id, "\"call_"));)
        for (id += strlen("\"call_"); *id != '"'; id++)
            *id = 'x';
    for (size_t i = 0; i < n; i++)
        buffer_format(&want,
                      "{\"index\":0,\"delta\":%s,\"logprobs\":null,\"finish_reason\":%s}]%s\n",
                      frames[i].delta, frames[i].finish, rest);
    buffer_text(&want, end);
    buffer_add(&want, "", 1);
    ck_assert_str_eq(got.v, want.v);
    buffer_free(&got);
    buffer_free(&want);
}
#define N(array) (sizeof(array) / sizeof(array)[0])

START_TEST(test_frames)
{
    static const char role[] = "{\"role\":\"assistant\",\"content\":\"\"}";
    const struct frame whole[] = {{role, "null"},
                                  {"{\"content\":\"abc\"}", "null"},
                                  {"{\"content\":\"def\"}", "null"},
                                  {"{\"content\":\"gh\"}", "null"},
                                  {"{}", "\"stop\""}};
    const struct frame cut[] = {
        {role, "null"}, {"{\"content\":\"t0 \"}", "null"}, {"{}", "\"length\""}};
    check_stream(ASK(",\"stream\":true"), whole, N(whole), "", "");
    check_stream(
        ASK(",\"stream\":true,\"max_tokens\":1,\"stream_options\":{\"include_usage\":true}"), cut,
        N(cut), ",\"usage\":null",
        "],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2,"
        "\"prompt_tokens_details\":{\"cached_tokens\":0}}\n");
}
END_TEST

START_TEST(test_thought_frames)
{
#define THINKS(text) "{\"reasoning\":\"" text "\",\"reasoning_content\":\"" text "\"}"
    const struct frame whole[] = {{"{\"role\":\"assistant\",\"content\":\"\"}", "null"},
                                  {THINKS("Hm"), "null"},
                                  {THINKS("."), "null"},
                                  {"{\"content\":\"Yes\"}", "null"},
                                  {"{}", "\"stop\""}};
    check_stream("{\"messages\":[" SAY("<think>Hm.</think>Yes") "],\"stream\":true}", whole,
                 N(whole), "", "");
}
END_TEST

/* Tags and arguments are cut into pieces of three bytes. */
START_TEST(test_call_frames)
{
#define BEGIN(index)                                                                               \
    "{\"tool_calls\":[{\"index\":" index ",\"id\":\"call_xxxxxxxxxxxxxxxxxxxxxxxx\",\"type\":"     \
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}"
#define MORE(index, text)                                                                          \
    "{\"tool_calls\":[{\"index\":" index ",\"function\":{\"arguments\":\"" text "\"}}]}"
    static const char role[] = "{\"role\":\"assistant\",\"content\":\"\"}";
    const struct frame one[] = {
        {role, "null"},           {"{\"content\":\"Ok\"}", "null"}, {BEGIN("0"), "null"},
        {MORE("0", "{"), "null"}, {MORE("0", "\\\"a\\\""), "null"}, {MORE("0", ": 1"), "null"},
        {MORE("0", "}"), "null"}, {"{}", "\"tool_calls\""}};
    const struct frame two[] = {{role, "null"},           {BEGIN("0"), "null"},
                                {MORE("0", "{"), "null"}, {MORE("0", "}"), "null"},
                                {BEGIN("1"), "null"},     {MORE("1", "{}"), "null"},
                                {"{}", "\"tool_calls\""}};
    const struct frame first[] = {two[0], two[1], two[2], two[3], two[6]};
    check_stream(WITH_TOOLS("Ok\\n" CALL("{\\\"a\\\": 1}"), ",\"stream\":true"), one, N(one), "",
                 "");
    check_stream(WITH_TOOLS(CALL("{}") CALL("{}"), ",\"stream\":true"), two, N(two), "", "");
    check_stream(
        WITH_TOOLS(CALL("{}") CALL("{}"), ",\"stream\":true,\"parallel_tool_calls\":false"), first,
        N(first), "", "");
}
END_TEST

/* The names of a response's events, but for those of pieces; an event's data is checked where it is
 * told whole (live, clients). */
static void check_events(const char *body, const char *want)
{
    int status;
    struct buffer got = {0};
    char last[64] = "";
    char *reply = client_call(port, "POST", RESPOND, NULL, body, &status);
    ck_assert_int_eq(status, 200);
    for (const char *p = reply; (p = strstr(p, "event: response."));) {
        p += strlen("event: response.");
        size_t n = strcspn(p, "\n");
        if (n < sizeof last &&
            (strlen(last) != n || memcmp(last, p, n) != 0 || !strstr(last, "delta")))
            buffer_format(&got, "%.*s ", (int)n, p);
        snprintf(last, sizeof last, "%.*s", (int)n, p);
    }
    buffer_add(&got, "", 1);
    ck_assert_str_eq(got.v, want);
    buffer_free(&got);
    free(reply);
}

START_TEST(test_response_events)
{
    check_events(
        CALLING("Ok " CALL("{\\\"a\\\": 1}") " or " CALL("{}"), ",\"stream\":true"),
        "created in_progress "
        "output_item.added content_part.added output_text.delta output_text.done content_part.done "
        "output_item.done "
        "output_item.added function_call_arguments.delta function_call_arguments.done "
        "output_item.done "
        "output_item.added content_part.added output_text.delta output_text.done content_part.done "
        "output_item.done "
        "output_item.added function_call_arguments.delta function_call_arguments.done "
        "output_item.done completed ");
    check_events("{\"input\":\"<think>Hm, so.</think>Yes\",\"stream\":true}",
                 "created in_progress "
                 "output_item.added content_part.added reasoning_text.delta reasoning_text.done "
                 "content_part.done output_item.done "
                 "output_item.added content_part.added output_text.delta output_text.done "
                 "content_part.done output_item.done completed ");
    check_events("{\"input\":\"<think>Hm, so.\",\"stream\":true}",
                 "created in_progress "
                 "output_item.added content_part.added reasoning_text.delta reasoning_text.done "
                 "content_part.done output_item.done "
                 "output_item.added content_part.added output_text.done content_part.done "
                 "output_item.done completed ");
}
END_TEST

/* Logprobs of all tokens are told, once; here each comes with two alternatives. */
START_TEST(test_logprob_frames)
{
    struct buffer b = {0};
    int n = 0;
    choices_of(WITH_TOOLS("Ok " CALL("{\\\"a\\\": 1}"), ",\"stream\":true,\"logprobs\":true"), &b);
    for (const char *p = b.v; (p = strstr(p, "{\"token\":")); p++)
        n++;
    size_t len = strlen("Ok <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>");
    ck_assert_int_eq(n, 3 * (((int)len + 2) / 3));
    buffer_free(&b);
}
END_TEST

/* Whatever allocation fails, the answer is whole, a refusal, or a stream that ends with an error.
 */
START_TEST(test_faults)
{
    static const char *const bodies[] = {
        ASK(",\"logprobs\":true"),
        WITH_TOOLS("a " CALL("{\\\"a\\\": 1}"), ""),
        WITH_TOOLS(CALL("{}"), ",\"stream\":true"),
        WITH_TOOLS("[" LISTED "]", "," NAMED("f")),
        "{\"messages\":[" SAY(CALL("{}")) "]," STRICT "}",
        "{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}],"
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}],\"reasoning\":\"r\"}"
        "]}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        fail_each(NULL, "POST", CHAT, bodies[i], 600);
    static const char *const asked[] = {
        CALLING("a " CALL("{\\\"a\\\": 1}"),
                ",\"stream\":true,\"include\":[\"message.output_text.logprobs\"]"),
        CALLING("[" LISTED "]", ",\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}"),
        "{\"instructions\":\"i\",\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":{}}},"
        "\"reasoning\":{\"effort\":\"low\"},\"input\":[" SAY(
            "a") ",{\"type\":\"reasoning\","
                 "\"content\":[{\"type\":\"reasoning_text\",\"text\":\"r\"}]},{\"type\":\"function_"
                 "call\","
                 "\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_"
                 "output\","
                 "\"call_id\":\"c\",\"output\":\"o\",\"name\":\"f\"}]}"};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        fail_each(NULL, "POST", RESPOND, asked[i], 600);
    wait_for(live_tickets, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/chat");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, start, stop);
    tcase_add_test(c, test_rows);
    tcase_add_test(c, test_frames);
    tcase_add_test(c, test_thought_frames);
    tcase_add_test(c, test_call_frames);
    tcase_add_test(c, test_response_events);
    tcase_add_test(c, test_logprob_frames);
    tcase_add_test(c, test_faults);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
