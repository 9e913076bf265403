/*
 * Owns the post-processors, all of which come down to two lists: ids, and the places of the text or
 * of both texts. What they say about offsets does not touch ids.
 */
#include "core/tokenizer/postprocess.h"

#include <string.h>

#include "core/tokenizer/vocabulary.h"

#define ITEMS_MAX 256
#define TEXTS_MAX 4 /* times that a template may hold texts */
#define TYPE_MAX  65535

static enum status add(struct reader *r, struct postprocess_list *l, long long id, int32_t type)
{
    if (l->n == ITEMS_MAX)
        return reader_refuse(r, "more than %d items", ITEMS_MAX);
    l->items[l->n].id = (int32_t)id;
    l->items[l->n++].type = type;
    return ST_OK;
}

static enum status add_id(struct reader *r, struct postprocess_list *l, const json_t *id,
                          int32_t type)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= VOCABULARY_IDS_MAX)
        return reader_refuse(r, "an id is expected");
    return add(r, l, json_integer_value(id), type);
}

/* {"id": name, "ids": [..], "tokens": [..]} of the template's special_tokens. */
static enum status add_special(struct reader *r, const json_t *template, const char *name,
                               int32_t type, struct postprocess_list *l)
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
        if ((s = add_id(r, l, id, type)))
            return s;
    }
    return ST_OK;
}

static enum status read_type(struct reader *r, const json_t *piece, int32_t *type)
{
    const json_t *v = json_object_get(piece, "type_id");
    *type = (int32_t)json_integer_value(v);
    if (v && (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > TYPE_MAX))
        return reader_refuse(r, "type_id: a small number is expected");
    return ST_OK;
}

/* The text that a Sequence names; 0: none of these. */
static int32_t text_named(const char *name, bool pair)
{
    if (name && !strcmp(name, "A"))
        return POSTPROCESS_TEXT;
    return name && pair && !strcmp(name, "B") ? POSTPROCESS_SECOND : 0;
}

static enum status read_list(struct reader *r, const json_t *c, const char *key,
                             struct postprocess_list *l)
{
    json_t *list, *item;
    size_t i, texts = 0;
    bool pair = !strcmp(key, "pair");
    enum status s = reader_array(r, c, key, &list);
    if (s)
        return s;
    json_array_foreach(list, i, item)
    {
        const json_t *text = json_object_get(item, "Sequence");
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *piece = text ? text : special;
        int32_t type, which;
        if (!piece || json_object_size(item) != 1)
            return reader_refuse(r, "an item must be a Sequence or a SpecialToken");
        if ((s = reader_keys(r, piece, "id type_id")) || (s = read_type(r, piece, &type)))
            return s;
        const char *name = json_string_value(json_object_get(piece, "id"));
        if (special)
            s = add_special(r, c, name, type, l);
        else if ((which = text_named(name, pair)) && ++texts <= TEXTS_MAX)
            s = add(r, l, which, type);
        else
            s = reader_refuse(r, "sequence \"%.64s\" in the template of %s", name ? name : "",
                              pair ? "two texts" : "a single text");
        if (s)
            return s;
    }
    return ST_OK;
}

/* Without a template of its own a pair is one text and then the other. */
static enum status add_plain_pair(struct reader *r, struct postprocessor *p)
{
    enum status s = add(r, &p->pair, POSTPROCESS_TEXT, 0);
    return s ? s : add(r, &p->pair, POSTPROCESS_SECOND, 1);
}

static enum status read_template(struct reader *r, const json_t *c, struct postprocessor *p)
{
    enum status s = reader_keys(r, c, "type single pair special_tokens");
    s = s ? s : read_list(r, c, "single", &p->single);
    if (s)
        return s;
    return json_object_get(c, "pair") ? read_list(r, c, "pair", &p->pair) : add_plain_pair(r, p);
}

/* BertProcessing: cls a sep, and b sep of type 1. RobertaProcessing: cls a sep, and sep b sep.
 * Both tokens are written ["text", id]. */
static enum status read_fixed(struct reader *r, const json_t *c, bool bert, struct postprocessor *p)
{
    const json_t *cls = json_array_get(json_object_get(c, "cls"), 1);
    const json_t *sep = json_array_get(json_object_get(c, "sep"), 1);
    struct postprocess_list *const lists[] = {&p->single, &p->pair};
    enum status s = reader_keys(r, c, "type sep cls trim_offsets add_prefix_space");
    for (int i = 0; i < 2; i++) {
        s = s ? s : add_id(r, lists[i], cls, 0);
        s = s ? s : add(r, lists[i], POSTPROCESS_TEXT, 0);
        s = s ? s : add_id(r, lists[i], sep, 0);
    }
    if (!s && !bert)
        s = add_id(r, &p->pair, sep, 0);
    s = s ? s : add(r, &p->pair, POSTPROCESS_SECOND, bert);
    return s ? s : add_id(r, &p->pair, sep, bert);
}

struct reading {
    struct postprocessor *p;
    bool adds; /* one that adds tokens has come */
};

static enum status read_one(struct reader *r, const json_t *c, const char *type, void *to)
{
    struct reading *reading = to;
    if (!strcmp(type, "ByteLevel"))
        return reader_keys(r, c, "type add_prefix_space trim_offsets use_regex");
    bool template = !strcmp(type, "TemplateProcessing");
    if (!template && strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return reader_refuse(r, "this post-processor is not supported");
    if (reading->adds)
        return reader_refuse(r, "a second post-processor that adds tokens");
    reading->adds = true;
    return template ? read_template(r, c, reading->p)
                    : read_fixed(r, c, type[0] == 'B', reading->p);
}

enum status postprocess_read(struct reader *r, const json_t *component, struct postprocessor *out)
{
    struct reading reading = {.p = out};
    *out = (struct postprocessor){0};
    out->single.items = arena_alloc(r->arena, ITEMS_MAX * sizeof *out->single.items);
    out->pair.items = arena_alloc(r->arena, ITEMS_MAX * sizeof *out->pair.items);
    if (!out->single.items || !out->pair.items)
        return reader_memory(r);
    enum status s = reader_each(r, "post_processor", "processors", component, read_one, &reading);
    if (s || reading.adds)
        return s;
    s = add(r, &out->single, POSTPROCESS_TEXT, 0);
    return s ? s : add_plain_pair(r, out);
}

static bool push(struct token_ids *out, struct token_ids *types, int32_t id, int32_t type)
{
    return token_ids_push(out, id) && (!types || token_ids_push(types, type));
}

bool postprocess_run(const struct postprocessor *p, const struct token_ids *first,
                     const struct token_ids *second, bool add_special, struct token_ids *out,
                     struct token_ids *types)
{
    const struct postprocess_list *l = second ? &p->pair : &p->single;
    for (size_t i = 0; i < l->n; i++) {
        int32_t id = l->items[i].id, type = l->items[i].type;
        const struct token_ids *text = id == POSTPROCESS_TEXT     ? first
                                       : id == POSTPROCESS_SECOND ? second
                                                                  : NULL;
        if (!text && add_special && !push(out, types, id, type))
            return false;
        for (size_t k = 0; text && k < text->n; k++) {
            if (!push(out, types, text->v[k], type))
                return false;
        }
    }
    return true;
}
