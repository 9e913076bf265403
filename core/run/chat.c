/*
 * Owns where templates are found and what they are given, both exactly as transformers has it:
 *
 *   chat_template.jinja (the default) and additional_chat_templates/tool_use.jinja; with either of
 *   them tokenizer_config.json's chat_template is not looked at, which is a text or a list of
 *   {"name", "template"}. A conversation with tools takes `tool_use` where there is one, any other
 *   the default.
 *
 *   Variables: the tokens that tokenizer_config.json names (bos_token, eos_token and every other
 *   *_token, a text or {"content"}; a config without added_tokens_decoder leaves the word to
 *   special_tokens_map.json), under those of the conversation.
 *
 *   A final message is continued by rendering it with a mark behind its content; the prompt ends
 *   where the mark stands.
 *
 * A template is parsed once, here; one that we cannot run is kept with the reason, since the base
 * serves everything but conversations without it. Only memory that ran out stops a load.
 */
#include "core/run/chat.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/template/template.h"

#define TEMPLATE_BYTES_MAX ((size_t)1 << 20)
#define CONFIG_BYTES_MAX   ((size_t)64 << 20)

enum { DEFAULT_TEMPLATE, TOOL_TEMPLATE, N_TEMPLATES };

struct chat_template {
    char *text; /* malloc'ed, NULL: there is none */
    size_t len;
    struct template *parsed;
    struct error why; /* not parsed: the reason */
};

struct chat_templates {
    struct chat_template v[N_TEMPLATES];
    json_t *tokens;   /* bos_token and so on */
    struct error why; /* tokenizer_config.json could not be read */
};

/* ---- what the folder holds ---- */

/* Anything but memory is kept as the reason. */
static enum status keep(struct error *why, enum status s, struct error *err)
{
    if (s == ST_OUT_OF_MEMORY)
        return s;
    if (s)
        error_move(why, err);
    return ST_OK;
}

/* Parses what t holds; name is for messages. */
static enum status parse(struct chat_template *t, const char *name, struct error *err)
{
    enum status s = template_parse(t->text, t->len, &t->parsed, err);
    if (s && s != ST_OUT_OF_MEMORY) {
        struct error named = ERROR_INIT;
        error_set(&named, err->code, "%s: %.600s", name, err->text);
        error_move(err, &named);
    }
    return keep(&t->why, s, err);
}

static enum status take_text(struct chat_template *t, const json_t *text, const char *name,
                             struct error *err)
{
    if (t->text) /* named twice: the last counts */
        free(t->text);
    template_free(t->parsed);
    error_clear(&t->why);
    t->parsed = NULL;
    t->len = json_string_length(text);
    t->text = malloc(t->len + 1);
    if (!t->text)
        return error_memory(err, "a chat template");
    memcpy(t->text, json_string_value(text), t->len + 1);
    return parse(t, name, err);
}

/* dir/name, if it is there. */
static enum status take_file(struct chat_template *t, const char *dir, const char *name,
                             struct error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path || access(path, F_OK))
        return ST_OK;
    enum status s = json_read_text(path, TEMPLATE_BYTES_MAX, &t->text, &t->len, err);
    return s ? keep(&t->why, s, err) : parse(t, name, err);
}

static bool found(const struct chat_template *t)
{
    return t->text || t->why.code;
}

/* chat_template of tokenizer_config.json. */
static enum status take_config(struct chat_templates *c, const json_t *value, struct error *err)
{
    static const char file[] = "tokenizer_config.json: chat_template";
    enum status s = ST_OK;
    if (json_is_string(value))
        return take_text(&c->v[DEFAULT_TEMPLATE], value, file, err);
    for (size_t i = 0; !s && i < json_array_size(value); i++) {
        const json_t *row = json_array_get(value, i), *text = json_object_get(row, "template");
        const char *name = json_string_value(json_object_get(row, "name"));
        if (!name || !json_is_string(text))
            continue;
        if (!strcmp(name, "default"))
            s = take_text(&c->v[DEFAULT_TEMPLATE], text, file, err);
        else if (!strcmp(name, "tool_use"))
            s = take_text(&c->v[TOOL_TEMPLATE], text, file, err);
    }
    return s;
}

static enum status take_tokens(struct chat_templates *c, const json_t *config, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value)
    {
        size_t len = strlen(key);
        json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
        if (len < 6 || strcmp(key + len - 6, "_token") || !json_is_string(text))
            continue;
        if (json_object_set(c->tokens, key, text))
            return error_memory(err, "the special tokens");
    }
    return ST_OK;
}

/* One of the folder's JSON files; *out NULL: it is not there, or why says what is wrong. */
static enum status read_json(struct chat_templates *c, const char *dir, const char *name,
                             json_t **out, struct error *err)
{
    char path[PATH_MAX];
    *out = NULL;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path || access(path, F_OK))
        return ST_OK;
    return keep(&c->why, json_read(path, CONFIG_BYTES_MAX, out, err), err);
}

static enum status read_folder(struct chat_templates *c, const char *dir, struct error *err)
{
    json_t *config = NULL, *map = NULL;
    enum status s = take_file(&c->v[DEFAULT_TEMPLATE], dir, "chat_template.jinja", err);
    if (!s)
        s = take_file(&c->v[TOOL_TEMPLATE], dir, "additional_chat_templates/tool_use.jinja", err);
    bool files = found(&c->v[DEFAULT_TEMPLATE]) || found(&c->v[TOOL_TEMPLATE]);
    s = s ? s : read_json(c, dir, "tokenizer_config.json", &config, err);
    if (!s && !files)
        s = take_config(c, json_object_get(config, "chat_template"), err);
    s = s ? s : take_tokens(c, config, err);
    if (!s && !json_object_get(config, "added_tokens_decoder"))
        s = read_json(c, dir, "special_tokens_map.json", &map, err);
    s = s ? s : take_tokens(c, map, err);
    json_decref(config);
    json_decref(map);
    return s;
}

enum status chat_templates_load(const char *dir, struct chat_templates **out, struct error *err)
{
    struct chat_templates *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c || !(c->tokens = json_object())) {
        free(c);
        return error_memory(err, "the chat templates");
    }
    enum status s = read_folder(c, dir, err);
    if (s)
        chat_templates_free(c);
    else
        *out = c;
    return s;
}

void chat_templates_free(struct chat_templates *c)
{
    if (!c)
        return;
    for (int i = 0; i < N_TEMPLATES; i++) {
        template_free(c->v[i].parsed);
        error_clear(&c->v[i].why);
        free(c->v[i].text);
    }
    error_clear(&c->why);
    json_decref(c->tokens);
    free(c);
}

static const struct chat_template *choose(const struct chat_templates *c, bool tools)
{
    return &c->v[tools && found(&c->v[TOOL_TEMPLATE]) ? TOOL_TEMPLATE : DEFAULT_TEMPLATE];
}

enum status chat_templates_find(const struct chat_templates *c, bool tools, struct text *text,
                                struct error *err)
{
    const struct chat_template *t = choose(c, tools);
    if (text)
        *text = (struct text){t->text, t->len};
    if (t->parsed)
        return ST_OK;
    const struct error *why = t->why.code ? &t->why : &c->why;
    if (why->code)
        return error_param(err, why->code, "messages", "%s", why->text);
    return error_param(err, ST_CHAT_TEMPLATE_MISSING, "messages", NULL);
}

/* ---- a conversation ---- */

static const char mark[] = "CONTINUE_FINAL_MESSAGE_TAG ";
#define MARK (sizeof mark - 1)

/* A copy of the messages, the last of them with the mark behind its content. */
static json_t *marked(const json_t *messages)
{
    size_t n = json_array_size(messages);
    json_t *list = json_array(), *last = json_copy_object(json_array_get(messages, n - 1));
    const json_t *content = json_object_get(last, "content");
    json_t *text = json_pack("s%+", json_string_value(content), json_string_length(content), mark);
    bool whole = list && last && text && !json_array_extend(list, (json_t *)messages) &&
                 !json_object_set_new(last, "content", json_incref(text)) &&
                 !json_array_set_new(list, n - 1, json_incref(last));
    json_decref(text);
    json_decref(last);
    if (whole)
        return list;
    json_decref(list);
    return NULL;
}

/* Special tokens, and over them what the conversation brings. */
static json_t *variables_of(const struct chat_templates *c, const struct chat *chat)
{
    json_t *v = json_copy_object(c->tokens);
    bool whole = v && !json_object_update(v, chat->variables);
    if (whole && chat->continue_final)
        whole = !json_object_set_new(v, "messages",
                                     marked(json_object_get(chat->variables, "messages")));
    if (whole)
        return v;
    json_decref(v);
    return NULL;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where the last mark begins in text (without its space, which a template may trim), or NULL. */
static const char *find_mark(const char *text, size_t len)
{
    const char *last = NULL, *p = text;
    for (; (p = memmem(p, len - (size_t)(p - text), mark, MARK - 1)); p++)
        last = p;
    return last;
}

/* Does the text hold the content, white space around it apart? */
static bool holds(const char *text, size_t len, const json_t *content)
{
    const char *s = json_string_value(content);
    size_t n = json_string_length(content);
    for (; n && is_space(*s); n--)
        s++;
    while (n && is_space(s[n - 1]))
        n--;
    return memmem(text, len, s, n);
}

/* Cuts the prompt where the mark stands; from: where it begins in out. */
static enum status cut(struct buffer *out, size_t from, const json_t *messages, struct error *err)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *at = out->len > from ? find_mark(out->v + from, out->len - from) : NULL;
    if (!at || !holds(out->v + from, out->len - from, json_object_get(last, "content")))
        return error_param(err, ST_INVALID_VALUE, "continue_final_message",
                           "the chat template leaves no place to continue the final message");
    size_t end = (size_t)(at - out->v);
    bool trimmed = out->len - end < MARK || memcmp(at, mark, MARK);
    while (trimmed && end > from && is_space(out->v[end - 1]))
        end--;
    out->len = end;
    return ST_OK;
}

enum status chat_render(const struct chat_templates *c, const struct chat *chat, int64_t now,
                        struct buffer *out, struct error *err)
{
    bool tools = json_array_size(json_object_get(chat->variables, "tools")) > 0;
    const struct chat_template *t = choose(c, tools);
    enum status s = chat_templates_find(c, tools, NULL, err);
    if (s)
        return s;
    size_t from = out->len;
    json_t *variables = variables_of(c, chat);
    if (!variables)
        return error_memory(err, "rendering a conversation");
    const struct template_limits limits = {0};
    s = template_render(t->parsed, variables, now, &limits, out, err);
    json_decref(variables);
    if (s && s != ST_OUT_OF_MEMORY)
        snprintf(err->param, sizeof err->param, "messages");
    if (!s && out->failed)
        s = error_memory(err, "rendering a conversation");
    if (!s && chat->continue_final)
        s = cut(out, from, json_object_get(chat->variables, "messages"), err);
    return s;
}

bool chat_thinks(const struct chat *chat, const char *prompt, size_t len)
{
    size_t n = chat->thought ? strlen(chat->thought) : 0;
    while (len && is_space(prompt[len - 1]))
        len--;
    return n && len >= n && !memcmp(prompt + len - n, chat->thought, n);
}

int64_t chat_bytes(const json_t *value)
{
    int64_t n = (int64_t)json_string_length(value);
    const char *key;
    json_t *member;
    for (size_t i = 0; i < json_array_size(value); i++)
        n += chat_bytes(json_array_get(value, i));
    json_object_foreach((json_t *)value, key, member)
    {
        n += chat_bytes(member);
    }
    return n;
}
