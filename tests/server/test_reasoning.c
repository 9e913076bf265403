/*
 * Thoughts in what models say: told apart from content and calls by the formats that their vendors
 * document, the same however the text is cut; earlier turns as their templates write them
 * (tests/vectors/reasoning) are read again; memory that runs out is said.
 */
#include "server/reasoning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/grammar/grammar.h"
#include "core/json.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

#define T REASONING_THINK
#define H REASONING_HARMONY
#define B REASONING_BRACKETS
#define C REASONING_COMMAND
#define CALL(name, args)                                                                           \
    "<|channel|>commentary to=functions." name " <|constrain|>json<|message|>" args "<|call|>"
#define NEXT "<|start|>assistant"

struct row {
    enum reasoning_format format;
    bool open;               /* the prompt has begun a thought */
    const char *text, *want; /* thought/content, then |name(arguments) for each call */
};

static const struct row rows[] = {
    {T, false, "", "/"},
    {T, false, "Hello.", "/Hello."},
    {T, false, " <b> ", "/ <b> "},
    {T, false, "<think>\nWell,\n\nso.\n</think>\n\nHello.\n", "Well,\n\nso./Hello.\n"},
    {T, false, "\n<think>a</think>b", "a/b"},
    {T, false, "<think>a</thin</think>b</think>", "a</thin/b</think>"},
    {T, false, "<think>\n\n</think>\n\n", "/"},
    {T, false, "<think>cut\n\n", "cut/"},
    {T, false, "<think>cut</thi", "cut</thi/"},
    {T, false, "<thi", "/<thi"},
    {T, false, "A <think>tag</think>", "/A <think>tag</think>"},
    {T, true, "So.\n</think>\nYes", "So./Yes"},
    {T, true, "<think>\nSo.</think>Yes", "So./Yes"},
    {T, true, "\n<b</think>", "<b/"},
    {T, true, "no end", "no end/"},
    {T, false,
     "<think>f? <tool_call>{\"name\": \"g\"}</think>\n<tool_call>\n"
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
     "f? <tool_call>{\"name\": \"g\"}/|f({\"a\": 1})"},
    {B, false, "[THINK]a[/THINK]b", "a/b"},
    {B, false, "[THINK]a[/THINK]b [THINK]c[/THINK]d[TH", "a\nc/b d[TH"},
    {C, false, "<|START_RESPONSE|>Hi <|STA<|END_RESPONSE|>", "/Hi <|STA"},
    {C, false, "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>Hi", "/Hi"},
    {C, true, "a\n<|END_THINKING|><|START_TEXT|>b<|END_TEXT|>", "a/b"},
    {C, false, "No tags", "/No tags"},
    {C, false,
     "<|START_THINKING|>So.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", "
     "\"tool_name\": \"f\", \"parameters\": {\"a\": 1}},\n    {\"tool_call_id\": \"1\", "
     "\"tool_name\": \"g\", \"parameters\": {}}\n]<|END_ACTION|>",
     "So./|f({\"a\": 1})|g({})"},
    {C, false,
     "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|><|START_THINKING|>c"
     "<|END_THINKING|><|START_ACTION|>[{\"tool_name\": \"f\", \"parameters\": {}}]",
     "a\nc/b|f({})"},
    {H, false, "<|channel|>analysis<|message|>Hm.<|end|>" NEXT "<|channel|>final<|message|>Yes <|x",
     "Hm./Yes <|x"},
    {H, false, "<|channel|>final<|message|>Yes<|return|>", "/Yes"},
    {H, false,
     "<|channel|>analysis<|message|>a<|end|>" NEXT "<|channel|>analysis<|message|>b<|end|>",
     "a\nb/"},
    {H, false, "<|channel|>analysis<|message|>a<|end|>" NEXT CALL("f", "{\"a\": 1}"),
     "a/|f({\"a\": 1})"},
    {H, false, CALL("f", "{}") NEXT CALL("g.h", " {\"s\": \"<|x\"}"),
     "/|f({})|g.h({\"s\": \"<|x\"})"},
    {H, false, " to=functions.f<|channel|>commentary json<|message|>{\"a\": []}<|call|>",
     "/|f({\"a\": []})"},
    {H, false, "<|channel|>commentary<|message|>I look.<|end|>" NEXT CALL("f", "{}"),
     "/I look.|f({})"},
    {H, false, "<|channel|>final<|message|>Call to=functions.f {} now",
     "/Call to=functions.f {} now"},
    {H, false, CALL("f", "{\"a\": tr"), "/|f({\"a\": tr"},
    {H, false, CALL("f", "{\"a\": tr") NEXT CALL("g", "{}"), "/|f({\"a\": tr|g({})"},
    {H, false, "<|channel|>commentary to=functions.f <|message|> ", "/"},
    {H, false, "<|channel|>analysis to=functions.f code<|message|>{}", "/|f({})"},
    {H, false, CALL("f", "") NEXT "<|channel|>final<|message|>Yes", "/Yes"},
    {H, false, CALL("f", "no") NEXT CALL("g", "{}"), "/to=functions.f no|g({})"},
    {H, false, "<|channel|>analysis<|message|>a<|end|>" NEXT "<|chan", "a/"},
    {H, false, "<|channel|>analysis<|message|>cut", "cut/"},
    {H, false, "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b",
     "a/b"},
    {H, false, "Plain text", "/Plain text"},
    {H, false, "<|channel|>final<|message|>a<|end|>\nb", "/a\nb"},
    {H, false, "", "/"},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

static struct tool_parser *calls_of(enum reasoning_format f)
{
    return tool_parser_new(f == H   ? TOOLS_HARMONY
                           : f == C ? TOOLS_COMMAND_R7B
                                    : TOOLS_HERMES,
                           NULL);
}

/* The outcome of a text that comes in three pieces. */
static void read_cut(enum reasoning_format f, bool open, const char *text, size_t len, size_t first,
                     size_t second, struct buffer *out)
{
    struct buffer thought = {0}, content = {0};
    struct tool_parser *calls = calls_of(f);
    struct reasoner *r = reasoner_new(f, open);
    struct reasoning_sink to = {&thought, &content, calls};
    size_t n;
    reasoner_push(r, text, first, false, &to);
    reasoner_push(r, text + first, second - first, false, &to);
    reasoner_push(r, text + second, len - second, true, &to);
    ck_assert(!reasoner_failed(r) && !tool_parser_failed(calls));
    buffer_format(out, "%.*s/%.*s", (int)thought.len, thought.len ? thought.v : "",
                  (int)content.len, content.len ? content.v : "");
    const struct tool_call *v = tool_parser_calls(calls, &n);
    for (size_t i = 0; i < n && v[i].told; i++)
        buffer_format(out, "|%.*s(%.*s%s", (int)v[i].name.len, v[i].name.v, (int)v[i].arguments.len,
                      v[i].arguments.v, v[i].whole ? ")" : "");
    buffer_add(out, "", 1);
    reasoner_free(r);
    tool_parser_free(calls);
    buffer_free(&thought);
    buffer_free(&content);
}

START_TEST(test_all_cuts)
{
    const struct row *row = &rows[_i];
    size_t len = strlen(row->text);
    for (size_t first = 0; first <= len; first++)
        for (size_t second = first; second <= len; second++) {
            struct buffer got = {0};
            read_cut(row->format, row->open, row->text, len, first, second, &got);
            ck_assert_msg(!strcmp(got.v, row->want), "[%s] cut at %zu, %zu:\n%s\n%s", row->text,
                          first, second, got.v, row->want);
            buffer_free(&got);
        }
}
END_TEST

/* What is sure goes on at once, a byte at a time. */
START_TEST(test_prompt)
{
    struct buffer thought = {0}, content = {0};
    struct reasoner *r = reasoner_new(T, false);
    struct reasoning_sink to = {&thought, &content, NULL};
    const char *text = "<think>ab</think>cd";
    for (size_t i = 0; text[i]; i++) {
        reasoner_push(r, text + i, 1, false, &to);
        ck_assert_uint_eq(thought.len, i < 7 ? 0 : i == 7 ? 1 : 2);
        ck_assert_uint_eq(content.len, i < 17 ? 0 : i - 16);
        ck_assert_int_eq(reasoner_thinking(r), i >= 6 && i < 16);
    }
    reasoner_free(r);
    buffer_free(&thought);
    buffer_free(&content);
}
END_TEST

/* Where thoughts stand among what is said and called, however the text is cut. */
START_TEST(test_order)
{
    static const char text[] =
        "<|channel|>analysis<|message|>a<|end|>" NEXT "<|channel|>analysis<|message|>b<|end|>" NEXT
        "<|channel|>commentary<|message|>So.<|end|>" NEXT
        "<|channel|>analysis<|message|>c<|end|>" NEXT
        "<|channel|>final<|message|>d<|end|>" NEXT CALL("f", "{}") NEXT
        "<|channel|>analysis<|message|>e<|end|>" NEXT "<|channel|>final<|message|>x<|return|>";
    /* "a\nb\nc\ne" and "So.\nd\nx" */
    static const struct thought want[] = {{0, 3, 0, 0, 0}, {4, 5, 3, 0, 4}, {6, 7, 5, 1, 6}};
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct buffer thought = {0}, content = {0};
        struct tool_parser *calls = calls_of(H);
        struct reasoner *r = reasoner_new(H, false);
        struct reasoning_sink to = {&thought, &content, calls};
        size_t n;
        reasoner_push(r, text, cut, false, &to);
        reasoner_push(r, text + cut, sizeof text - 1 - cut, true, &to);
        const struct thought *got = reasoner_thoughts(r, &n);
        ck_assert_uint_eq(n, 3);
        for (size_t i = 0; i < n; i++) {
            const struct thought *g = &got[i], *w = &want[i];
            ck_assert_msg(g->from == w->from && g->to == w->to && g->before == w->before &&
                              g->calls == w->calls && g->behind == w->behind,
                          "cut at %zu: thought %zu", cut, i);
        }
        ck_assert_msg(content.len == 7 && !memcmp(content.v, "So.\nd\nx", 7), "cut at %zu", cut);
        reasoner_free(r);
        tool_parser_free(calls);
        buffer_free(&thought);
        buffer_free(&content);
    }
}
END_TEST

START_TEST(test_formats)
{
    static const struct {
        const char *name;
        enum reasoning_format format;
        bool special;
    } v[] = {{"trl-gptoss", H, true},
             {"trl-qwen3", T, false},
             {"trl-glm4moe", T, false},
             {"trl-deepseek-r1-distill", T, false},
             {"axolotl-command-a-tool-use", C, true},
             {"hf-ministral-3-reasoning", B, true},
             {"hf-smollm3", T, false},
             {"trl-cohere2", REASONING_NONE, false},
             {"trl-llama3-1", REASONING_NONE, false},
             {"trl-gemma3", REASONING_NONE, false},
             {"axolotl-chatml", REASONING_NONE, false}};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        char path[256], *text;
        size_t len;
        snprintf(path, sizeof path, "%s/chat/templates/%s.jinja", test_vectors(), v[i].name);
        ck_assert_int_eq(json_read_text(path, 1 << 20, &text, &len, NULL), ST_OK);
        enum reasoning_format f = reasoning_format_of(text, len);
        ck_assert_msg(f == v[i].format && reasoning_special(f) == v[i].special, "%s", v[i].name);
        free(text);
    }
    ck_assert_int_eq(reasoning_format_of("[THINK] [/THINK]", 16), B);
    ck_assert_str_eq(reasoning_open(T), "<think>");
    ck_assert_str_eq(reasoning_open(B), "[THINK]");
    ck_assert_str_eq(reasoning_open(C), "<|START_THINKING|>");
    ck_assert_ptr_null(reasoning_open(H));
    ck_assert_ptr_null(reasoning_open(REASONING_NONE));
}
END_TEST

static bool same(const struct buffer *b, const json_t *text)
{
    return b->len == json_string_length(text) &&
           (!b->len || !memcmp(b->v, json_string_value(text), b->len));
}

/* A turn as the template writes it, of which the prompt has the beginning. */
static void check_turn(const json_t *c, const json_t *text, enum reasoning_format f)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    size_t len = json_string_length(text), n;
    for (size_t cut = 0; cut <= len; cut++) {
        struct buffer thought = {0}, content = {0};
        struct tool_parser *calls = calls_of(f);
        struct reasoner *r = reasoner_new(f, json_is_true(json_object_get(c, "open")));
        struct reasoning_sink to = {&thought, &content, calls};
        reasoner_push(r, json_string_value(text), cut, false, &to);
        reasoner_push(r, json_string_value(text) + cut, len - cut, true, &to);
        ck_assert_msg(same(&thought, json_object_get(c, "thought")), "%s cut at %zu: '%.*s'", name,
                      cut, (int)thought.len, thought.len ? thought.v : "");
        ck_assert_msg(same(&content, json_object_get(c, "content")), "%s cut at %zu: '%.*s'", name,
                      cut, (int)content.len, content.len ? content.v : "");
        const struct tool_call *v = tool_parser_calls(calls, &n);
        const json_t *want = json_object_get(c, "arguments");
        ck_assert_msg(n == (want ? 1 : 0), "%s", name);
        json_t *got = n ? json_loadb(v->arguments.v, v->arguments.len, 0, NULL) : NULL;
        ck_assert_msg(!n || (v->whole && v->name.len == 1 && *v->name.v == 'f'), "%s", name);
        ck_assert_msg(!n || json_equal(got, want), "%s", name);
        json_decref(got);
        reasoner_free(r);
        tool_parser_free(calls);
        buffer_free(&thought);
        buffer_free(&content);
    }
}

START_TEST(test_turns)
{
    char path[256];
    json_t *file, *c;
    size_t i;
    snprintf(path, sizeof path, "%s/reasoning/cases.json", test_vectors());
    ck_assert_int_eq(json_read(path, 1 << 20, &file, NULL), ST_OK);
    json_array_foreach(json_object_get(file, "cases"), i, c)
    {
        char first = *json_string_value(json_object_get(c, "format"));
        check_turn(c, json_object_get(c, "text"), first == 'H' ? H : first == 'C' ? C : T);
    }
    ck_assert_uint_gt(i, 15);
    json_decref(file);
}
END_TEST

/* A strict tool's call is held to the way that gpt-oss writes it, by texts or by special tokens,
 * and is read again. */
START_TEST(test_strict)
{
    static const struct {
        const char *text;
        bool alive, ends;
    } v[] = {
        {"<|channel|>final<|message|>No call.", true, true},
        {"<|channel|>analysis<|message|>a<|end|>" NEXT
         "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}",
         true, true},
        {"<|channel|>commentary to=functions.f \xFF<|constrain|>json\xFF<|message|>{\"a\": 1}",
         true, true},
        {"<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\"", true, false},
        {"<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"b\"", false, false},
        {"<|channel|>commentary to=functions.g", false, false}};
    const struct tool_writing *w = &tool_format_row(TOOLS_HARMONY)->writing;
    json_t *d = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:n, s:s, s:b, s:[{s:s, s:{s:s, s:{s:{s:s}}, s:b, s:[s]}}]}",
        "open", tool_format_row(TOOLS_HARMONY)->open, "begin", w->begin, "head", w->head, "middle",
        w->middle, "tail", w->tail, "between", "end", w->end, "free", 1, "calls", "name", "f",
        "schema", "type", "object", "properties", "a", "type", "integer", "additionalProperties", 0,
        "required", "a");
    char *text = json_dumps(d, 0);
    struct tokenizer *tokenizer;
    struct grammars *grammars;
    struct grammar *g = NULL;
    ck_assert_ptr_nonnull(text);
    ck_assert_int_eq(tokenizer_load("demo/base", &tokenizer, NULL), ST_OK);
    ck_assert_int_eq(grammars_open(tokenizer, tokenizer_size(tokenizer), &grammars, NULL), ST_OK);
    ck_assert_int_eq(grammars_get(grammars, GRAMMAR_CALLS, text, strlen(text), &g, NULL), ST_OK);
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        bool alive, ends;
        ck_assert_int_eq(
            follow_text(grammar_tables(g), v[i].text, strlen(v[i].text), &alive, &ends, NULL),
            ST_OK);
        ck_assert_msg(alive == v[i].alive && ends == v[i].ends, "%s", v[i].text);
    }
    grammar_unref(g);
    grammars_close(grammars);
    tokenizer_free(tokenizer);
    free(text);
    json_decref(d);
}
END_TEST

START_TEST(test_faults)
{
    const struct row *row = &rows[_i];
    FAULT_EACH(n)
    {
        long before = fault_live();
        struct buffer thought = {0}, content = {0};
        struct tool_parser *calls = calls_of(row->format);
        struct reasoner *r = reasoner_new(row->format, row->open);
        bool failed = !r || !calls;
        if (!failed) {
            reasoner_push(r, row->text, strlen(row->text), true,
                          &(struct reasoning_sink){&thought, &content, calls});
            failed =
                reasoner_failed(r) | tool_parser_failed(calls) | thought.failed | content.failed;
        }
        ck_assert_int_eq(fault_disarm(), failed);
        reasoner_free(r);
        tool_parser_free(calls);
        buffer_free(&thought);
        buffer_free(&content);
        ck_assert_msg(fault_live() == before, "allocation %ld leaks", n);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/reasoning");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_all_cuts, 0, N_ROWS);
    tcase_add_test(t, test_prompt);
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_formats);
    tcase_add_test(t, test_turns);
    tcase_add_test(t, test_strict);
    tcase_add_loop_test(t, test_faults, 0, N_ROWS);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
