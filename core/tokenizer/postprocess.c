/*
 * Owns the post-processors, all of which come down to one list: ids, and the place of the text.
 * Only the template for a single text counts here. What they say about offsets and type ids does
 * not touch ids.
 */
#include "core/tokenizer/postprocess.h"

#include <string.h>

#include "core/tokenizer/vocabulary.h"

#define ITEMS_MAX 256
#define TEXTS_MAX 4 /* times that a template may hold the text */

static enum status add(struct reader *r, struct postprocessor *p, long long id)
{
    if (p->n == ITEMS_MAX)
        return reader_refuse(r, "more than %d items", ITEMS_MAX);
    p->items[p->n++] = (int32_t)id;
    return ST_OK;
}

static enum status add_id(struct reader *r, struct postprocessor *p, const json_t *id)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= VOCABULARY_IDS_MAX)
        return reader_refuse(r, "an id is expected");
    return add(r, p, json_integer_value(id));
}

/* {"id": name, "ids": [..], "tokens": [..]} of the template's special_tokens. */
static enum status add_special(struct reader *r, const json_t *template, const char *name,
                               struct postprocessor *p)
{
    json_t *list, *id;
    size_t i;
    const json_t *token =
        name ? json_object_get(json_object_get(template, "special_tokens"), name) : NULL;
    if (!token)
        return reader_refuse(r, "special token \"%.64s\" is not defined", name ? name : "");
    enum status s = reader_keys(r, token, "id ids tokens");
    s = s ? s : reader_array(r, token, "ids", &list);
    if (s)
        return s;
    json_array_foreach(list, i, id)
    {
        if ((s = add_id(r, p, id)))
            return s;
    }
    return ST_OK;
}

static enum status read_template(struct reader *r, const json_t *c, struct postprocessor *p)
{
    json_t *list, *item;
    size_t i, texts = 0;
    enum status s = reader_keys(r, c, "type single pair special_tokens");
    if (s || (s = reader_array(r, c, "single", &list)))
        return s;
    json_array_foreach(list, i, item)
    {
        const json_t *text = json_object_get(item, "Sequence");
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *piece = text ? text : special;
        if (!piece || json_object_size(item) != 1)
            return reader_refuse(r, "an item must be a Sequence or a SpecialToken");
        if ((s = reader_keys(r, piece, "id type_id")))
            return s;
        const char *name = json_string_value(json_object_get(piece, "id"));
        if (special)
            s = add_special(r, c, name, p);
        else if (name && !strcmp(name, "A") && ++texts <= TEXTS_MAX)
            s = add(r, p, POSTPROCESS_TEXT);
        else
            s = reader_refuse(r, "sequence \"%.64s\" in the template of a single text",
                              name ? name : "");
        if (s)
            return s;
    }
    return ST_OK;
}

/* BertProcessing, RobertaProcessing: cls, the text, sep, each written ["text", id]. */
static enum status read_pair(struct reader *r, const json_t *c, struct postprocessor *p)
{
    enum status s = reader_keys(r, c, "type sep cls trim_offsets add_prefix_space");
    s = s ? s : add_id(r, p, json_array_get(json_object_get(c, "cls"), 1));
    s = s ? s : add(r, p, POSTPROCESS_TEXT);
    return s ? s : add_id(r, p, json_array_get(json_object_get(c, "sep"), 1));
}

static enum status read(struct reader *r, const json_t *c, int depth, bool *adds,
                        struct postprocessor *p)
{
    const char *type;
    json_t *list, *inner;
    size_t i;
    enum status s = reader_type(r, "post_processor", c, &type);
    if (s)
        return s;
    if (!strcmp(type, "ByteLevel"))
        return reader_keys(r, c, "type add_prefix_space trim_offsets use_regex");
    if (!strcmp(type, "Sequence")) {
        if (depth == READER_DEPTH_MAX)
            return reader_refuse(r, "nested deeper than %d", READER_DEPTH_MAX);
        s = reader_keys(r, c, "type processors");
        s = s ? s : reader_array(r, c, "processors", &list);
        if (s)
            return s;
        json_array_foreach(list, i, inner)
        {
            if ((s = read(r, inner, depth + 1, adds, p)))
                return s;
        }
        return ST_OK;
    }
    bool template = !strcmp(type, "TemplateProcessing");
    if (!template && strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return reader_refuse(r, "this post-processor is not supported");
    if (*adds)
        return reader_refuse(r, "a second post-processor that adds tokens");
    *adds = true;
    return template ? read_template(r, c, p) : read_pair(r, c, p);
}

enum status postprocess_read(struct reader *r, const json_t *component, struct postprocessor *out)
{
    bool adds = false;
    *out = (struct postprocessor){.items = arena_alloc(r->arena, ITEMS_MAX * sizeof *out->items)};
    if (!out->items)
        return reader_memory(r);
    enum status s = ST_OK;
    if (component && !json_is_null(component))
        s = read(r, component, 0, &adds, out);
    return s || adds ? s : add(r, out, POSTPROCESS_TEXT);
}

bool postprocess_run(const struct postprocessor *p, const struct token_ids *body, bool add_special,
                     struct token_ids *out)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i] != POSTPROCESS_TEXT) {
            if (add_special && !token_ids_push(out, p->items[i]))
                return false;
            continue;
        }
        for (size_t k = 0; k < body->n; k++) {
            if (!token_ids_push(out, body->v[k]))
                return false;
        }
    }
    return true;
}
