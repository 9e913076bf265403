/*
 * Which chat template a folder's files give, what it is given, and where a prompt is cut that
 * continues a message: text and ids as transformers makes them (tests/vectors/chat/folders.json).
 * Folders that hold something else serve no conversations and say why.
 */
#include "core/run/chat.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/json.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"
#include "tests/faults/fault.h"

static char dir[64]; /* of the running test */

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/oftd-chat-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *slash = strrchr(path + strlen(dir) + 1, '/');
    if (slash) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void put_files(json_t *files)
{
    const char *name;
    json_t *content;
    json_object_foreach(files, name, content)
    {
        char *text =
            json_is_string(content) ? strdup(json_string_value(content)) : json_dumps(content, 0);
        put(name, text);
        free(text);
    }
}

/* A template of the golden ones, as the folder's. */
static void put_template(const char *name)
{
    char path[256], *text;
    size_t len;
    snprintf(path, sizeof path, "%s/chat/templates/%s.jinja", test_vectors(), name);
    ck_assert_int_eq(json_read_text(path, 1 << 20, &text, &len, NULL), ST_OK);
    put("chat_template.jinja", text);
    free(text);
}

static struct chat_templates *load(void)
{
    struct chat_templates *c = NULL;
    struct error err = ERROR_INIT;
    ck_assert_msg(!chat_templates_load(dir, &c, &err), "%s", err.text);
    return c;
}

/* ---- the library's outcomes ---- */

/* tokenizer: one of the golden ones; NULL: the demo's. */
static bool ids_are(const char *tokenizer, const struct buffer *text, const json_t *want)
{
    struct token_ids ids = {0};
    struct tokenizer *t;
    char path[256] = "demo/base";
    if (tokenizer)
        snprintf(path, sizeof path, "%s/tokenizers/%s", test_vectors(), tokenizer);
    ck_assert_int_eq(tokenizer_load(path, &t, NULL), ST_OK);
    ck_assert_int_eq(tokenizer_encode(t, text->v, text->len, false, &ids, NULL), ST_OK);
    bool same = ids.n == json_array_size(want);
    for (size_t i = 0; same && i < ids.n; i++)
        same = ids.v[i] == json_integer_value(json_array_get(want, i));
    token_ids_free(&ids);
    tokenizer_free(t);
    return same;
}

static void check_case(json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *want = json_object_get(c, "text");
    json_t *tools = json_object_get(c, "tools");
    struct buffer out = {0};
    struct error err = ERROR_INIT;
    make_dir();
    put_files(json_object_get(c, "files"));
    if (json_object_get(c, "template"))
        put_template(json_string_value(json_object_get(c, "template")));
    struct chat_templates *templates = load();
    const struct chat chat = {
        .variables = json_pack("{s:O, s:O?, s:b}", "messages", json_object_get(c, "messages"),
                               "tools", tools, "add_generation_prompt",
                               json_is_true(json_object_get(c, "add_generation_prompt"))),
        .continue_final = json_is_true(json_object_get(c, "continue_final_message"))};
    enum status s = chat_render(templates, &chat, 0, &out, &err);
    if (want) {
        ck_assert_msg(!s, "%s: %s", name, err.text);
        ck_assert_msg(
            out.len == json_string_length(want) && !memcmp(out.v, json_string_value(want), out.len),
            "%s: got [%.*s], want [%s]", name, (int)out.len, out.v, json_string_value(want));
        ck_assert_msg(ids_are(json_string_value(json_object_get(c, "tokenizer")), &out,
                              json_object_get(c, "ids")),
                      "%s: other ids", name);
    } else {
        ck_assert_msg(s == ST_CHAT_TEMPLATE_MISSING || s == ST_INVALID_VALUE, "%s: %s", name,
                      status_code(s));
    }
    error_clear(&err);
    buffer_free(&out);
    json_decref(chat.variables);
    chat_templates_free(templates);
    remove_dir();
}

START_TEST(folders)
{
    char path[256], *text;
    size_t len;
    json_t *cases;
    snprintf(path, sizeof path, "%s/chat/folders.json", test_vectors());
    ck_assert_int_eq(json_read_text(path, 1 << 20, &text, &len, NULL), ST_OK);
    ck_assert_int_eq(json_parse(text, len, JSON_DEPTH_MAX, path, &cases, NULL), ST_OK);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(cases);
    free(text);
}
END_TEST

/* ---- what is not served, and why ---- */

static const struct bad {
    const char *name, *content;
    enum status status;
    const char *says;
} bad[] = {
    {"nothing", "", ST_CHAT_TEMPLATE_MISSING, "no chat template"},
    {"tokenizer_config.json", "{}", ST_CHAT_TEMPLATE_MISSING, "no chat template"},
    {"tokenizer_config.json", "{\"chat_template\": 7}", ST_CHAT_TEMPLATE_MISSING,
     "no chat template"},
    {"tokenizer_config.json", "{\"chat_template\": [1, {}, {\"name\": \"default\"}]}",
     ST_CHAT_TEMPLATE_MISSING, "no chat template"},
    {"tokenizer_config.json", "{", ST_INVALID_JSON, "tokenizer_config.json"},
    {"tokenizer_config.json", "{\"chat_template\": \"{% if %}\"}", ST_TEMPLATE_INVALID,
     "tokenizer_config.json: chat_template: "},
    {"chat_template.jinja", "{% for m in messages %}", ST_TEMPLATE_INVALID,
     "chat_template.jinja: "},
    {"chat_template.jinja", "{{ messages | pprint }}", ST_TEMPLATE_UNSUPPORTED, "pprint"},
    {"chat_template.jinja/x", "", ST_FILE_UNREADABLE, "not a regular file"},
};

START_TEST(not_served)
{
    const struct bad *b = &bad[_i];
    struct error err = ERROR_INIT;
    struct text text;
    make_dir();
    put(b->name, b->content);
    struct chat_templates *c = load();
    for (int tools = 0; tools < 2; tools++) {
        ck_assert_int_eq(chat_templates_find(c, tools, &text, &err), b->status);
        ck_assert_msg(strstr(err.text, b->says) != NULL, "%s", err.text);
        error_clear(&err);
    }
    chat_templates_free(c);
    remove_dir();
}
END_TEST

START_TEST(sizes)
{
    json_t *v = json_pack("{s:[{s:s, s:s}], s:n, s:i}", "messages", "role", "user", "content",
                          "hello", "tools", "x", 3);
    ck_assert_int_eq(chat_bytes(v), 9);
    ck_assert_int_eq(chat_bytes(NULL), 0);
    json_decref(v);
}
END_TEST

/* ---- memory that runs out ---- */

static bool thinks(const char *prompt, const char *thought)
{
    const struct chat chat = {.thought = thought};
    return chat_thinks(&chat, prompt, strlen(prompt));
}

START_TEST(thoughts)
{
    ck_assert(thinks("<|assistant|><think>", "<think>"));
    ck_assert(thinks("<think>\n \t", "<think>"));
    ck_assert(thinks("[THINK]", "[THINK]"));
    ck_assert(!thinks("<think></think>", "<think>"));
    ck_assert(!thinks("[THINK]", "<think>"));
    ck_assert(!thinks("hink>", "<think>"));
    ck_assert(!thinks("<think>", NULL));
    ck_assert(!thinks("", NULL));
    ck_assert(!thinks(" ", "<think>"));
}
END_TEST

START_TEST(faults)
{
    make_dir();
    put("tokenizer_config.json",
        "{\"bos_token\": \"<s>\", \"chat_template\": [{\"name\": \"tool_use\", \"template\": "
        "\"t\"}, "
        "{\"name\": \"default\", \"template\": \"{{ bos_token }}{{ messages[0].content }}\"}]}");
    put("special_tokens_map.json", "{\"eos_token\": {\"content\": \"</s>\"}}");
    json_t *variables = json_pack("{s:[{s:s}]}", "messages", "content", "hello");
    const struct chat chat = {.variables = variables, .continue_final = true};
    FAULT_EACH(n)
    {
        struct chat_templates *c = NULL;
        struct buffer out = {0};
        struct error err = ERROR_INIT;
        long before = fault_live();
        enum status s = chat_templates_load(dir, &c, &err);
        if (!s)
            s = chat_render(c, &chat, 0, &out, &err);
        bool fired = fault_disarm();
        // stdio does without its buffer
        ck_assert_msg(!s || (fired && s == ST_OUT_OF_MEMORY), "%ld: %s", n, err.text);
        ck_assert_msg(s || (out.len == 8 && !memcmp(out.v, "<s>hello", 8)), "%ld: %.*s", n,
                      (int)out.len, out.v);
        error_clear(&err);
        buffer_free(&out);
        chat_templates_free(c);
        ck_assert_int_eq(fault_live(), before);
    }
    json_decref(variables);
    remove_dir();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core/run/chat");
    TCase *c = tcase_create("all");
    tcase_add_test(c, folders);
    tcase_add_loop_test(c, not_served, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(c, sizes);
    tcase_add_test(c, thoughts);
    tcase_add_test(c, faults);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
