/*
 * What a model says, cut anywhere: the first byte chooses the format, the second where it is cut.
 * Content and calls are the same as of the whole text, and what is no call is not lost: a text
 * without calls is its own content.
 */
#include "core/utf8.h"
#include "server/tool_calls.h"
#include "tests/fuzz/fuzz.h"

static const json_t *tools;

static void open_once(void)
{
    if (tools)
        return;
    tools =
        json_loads("[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"n\":{\"type\":"
                   "\"number\"},\"l\":{\"type\":[\"array\",\"null\",\"boolean\"]}}}}}]",
                   0, NULL);
    fuzz_check(tools != NULL);
}

/* What is written here, not by the model, is JSON. */
static void check_arguments(const struct tool_call *c)
{
    json_error_t e;
    json_t *v = json_loadb(c->arguments.v, c->arguments.len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    fuzz_check(v || json_error_code(&e) == json_error_numeric_overflow || /* what jansson lacks */
               json_error_code(&e) == json_error_null_byte_in_key);
    json_decref(v);
}

static struct tool_parser *read_text(enum tool_format f, const char *text, size_t len, size_t step,
                                     struct buffer *content)
{
    struct tool_parser *p = tool_parser_new(f, tools);
    for (size_t at = 0; p && at < len; at += step)
        tool_parser_push(p, text + at, len - at < step ? len - at : step, false, content);
    if (p)
        tool_parser_push(p, "", 0, true, content);
    return p;
}

static bool same(const struct buffer *a, const struct buffer *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->v, b->v, a->len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    size_t len = size - 2, n_whole, n_cut;
    enum tool_format f = (enum tool_format)(TOOLS_NONE + 1 + data[0] % (TOOLS_LIST - TOOLS_NONE));
    const struct tool_row *row = tool_format_row(f);
    open_once();
    struct buffer content = {0}, cut_content = {0};
    struct tool_parser *whole = read_text(f, text, len, len + 1, &content);
    struct tool_parser *cut = read_text(f, text, len, 1 + data[1] % 16, &cut_content);
    struct tool_call *a = tool_parser_calls(whole, &n_whole);
    struct tool_call *b = tool_parser_calls(cut, &n_cut);
    fuzz_check(whole && cut && !tool_parser_failed(whole) && !tool_parser_failed(cut));
    fuzz_check(same(&content, &cut_content) && n_whole == n_cut);
    for (size_t i = 0; i < n_whole; i++) {
        fuzz_check(a[i].told && b[i].told && a[i].name.len);
        fuzz_check(same(&a[i].name, &b[i].name) && same(&a[i].arguments, &b[i].arguments));
        fuzz_check(a[i].whole == b[i].whole && a[i].before == b[i].before);
        if (a[i].whole && (row->tags || (row->python && !row->bare)) && utf8_valid(text, len))
            check_arguments(&a[i]);
    }
    fuzz_check(n_whole || row->drop[0] ||
               (content.len == len && (!len || !memcmp(content.v, text, len))));
    tool_parser_free(whole);
    tool_parser_free(cut);
    buffer_free(&content);
    buffer_free(&cut_content);
    return 0;
}
