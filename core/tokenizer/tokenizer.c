/*
 * Owns the tokenizer as a whole: reading tokenizer.json into its parts, and the way of a text
 * through them.
 *
 *   text --added tokens (not normalized)--> stretches --normalizer--> --added tokens
 * (normalized)-->
 *   --pre-tokenizer--> pieces --model--> ids --post-processor (add_special)--> ids
 *
 * Loaded once, then immutable: any number of threads may encode and decode at once, each call with
 * buffers of its own. The file's truncation and padding are settings of a caller of the reference,
 * which its callers reset on every call; they do not apply here.
 */
#include "core/tokenizer/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/grow.h"
#include "core/json.h"
#include "core/tokenizer/added.h"
#include "core/tokenizer/parts.h"
#include "core/utf8.h"

#define FILE_BYTES_MAX ((size_t)256 << 20)
#define TEXT_BYTES_MAX ((size_t)1 << 30)

/* Adds one entry of the vocabulary after checking it. */
static enum status add_entry(struct reader *r, struct vocabulary *v, const char *text, size_t len,
                             long long id)
{
    if (id < 0 || id >= v->ids)
        return reader_refuse(r, "\"%.64s\" has id %lld, at most %d is supported", text, id,
                             VOCABULARY_IDS_MAX - 1);
    if (v->rows[id].text)
        return reader_refuse(r, "\"%.64s\" and \"%.64s\" have the same id %lld", v->rows[id].text,
                             text, id);
    return vocabulary_add(v, r->arena, text, len, (int32_t)id) ? ST_OK : reader_memory(r);
}

/* {"text": id, ...} */
static enum status read_object(struct reader *r, json_t *vocab, struct vocabulary *v)
{
    const char *text;
    json_t *id;
    json_int_t largest = -1;
    json_object_foreach(vocab, text, id)
    {
        if (!json_is_integer(id))
            return reader_refuse(r, "the id of \"%.64s\" is no integer", text);
        if (json_integer_value(id) > largest)
            largest = json_integer_value(id);
    }
    int32_t ids = largest < VOCABULARY_IDS_MAX ? (int32_t)largest + 1 : VOCABULARY_IDS_MAX;
    if (!vocabulary_open(v, r->arena, ids, json_object_size(vocab)))
        return reader_memory(r);
    json_object_foreach(vocab, text, id)
    {
        enum status s = add_entry(r, v, text, strlen(text), json_integer_value(id));
        if (s)
            return s;
    }
    return ST_OK;
}

/* [["text", score], ...]: ids are places */
static enum status read_list(struct reader *r, const json_t *vocab, struct vocabulary *v)
{
    size_t n = json_array_size(vocab);
    if (n > VOCABULARY_IDS_MAX)
        return reader_refuse(r, "more than %d entries", VOCABULARY_IDS_MAX);
    if (!vocabulary_open(v, r->arena, (int32_t)n, n))
        return reader_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(vocab, i), *text = json_array_get(entry, 0);
        if (!json_is_string(text) || json_array_size(entry) != 2)
            return reader_refuse(r, "entry %zu is not [text, score]", i);
        enum status s =
            add_entry(r, v, json_string_value(text), json_string_length(text), (long long)i);
        if (s)
            return s;
    }
    return ST_OK;
}

static enum status read_model(struct reader *r, const json_t *model, struct tokenizer *t)
{
    const char *type;
    json_t *vocab = json_object_get(model, "vocab");
    enum status s = reader_type(r, "model", model, &type);
    if (s)
        return s;
    bool list = !strcmp(type, "Unigram");
    if (!list && strcmp(type, "BPE") && strcmp(type, "WordPiece"))
        return reader_refuse(r, "this model is not supported");
    if (!(list ? json_is_array(vocab) : json_is_object(vocab)))
        return reader_refuse(r, "\"vocab\" must be %s", list ? "an array" : "an object");
    s = list ? read_list(r, vocab, &t->vocabulary) : read_object(r, vocab, &t->vocabulary);
    if (s)
        return s;
    if (list)
        return unigram_read(r, model, &t->vocabulary, &t->unigram);
    return type[0] == 'B' ? bpe_read(r, model, &t->vocabulary, &t->bpe)
                          : wordpiece_read(r, model, &t->vocabulary, &t->wordpiece);
}

static enum status read_file(struct reader *r, const json_t *file, struct tokenizer *t)
{
    reader_enter(r, "the file", NULL);
    enum status s = reader_keys(r, file,
                                "version truncation padding added_tokens normalizer "
                                "pre_tokenizer post_processor decoder model");
    const json_t *version = json_object_get(file, "version");
    if (!s && version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0")))
        s = reader_refuse(r, "version must be \"1.0\"");
    s = s ? s : read_model(r, json_object_get(file, "model"), t);
    s = s ? s : normalize_read(r, json_object_get(file, "normalizer"), &t->normalizer);
    s = s ? s : pretokenize_read(r, json_object_get(file, "pre_tokenizer"), &t->pretokenizer);
    s = s ? s : postprocess_read(r, json_object_get(file, "post_processor"), &t->postprocessor);
    s = s ? s : decode_read(r, json_object_get(file, "decoder"), &t->decoder);
    return s ? s
             : added_read(r, json_object_get(file, "added_tokens"), &t->vocabulary, &t->normalizer,
                          &t->added);
}

static enum status build(const json_t *file, const char *path, struct tokenizer **out,
                         struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "loading the tokenizer");
    struct reader r = {.path = path, .arena = &t->arena, .patterns = &t->patterns, .err = err};
    enum status s = read_file(&r, file, t);
    if (s) {
        tokenizer_free(t);
        return s;
    }
    *out = t;
    return ST_OK;
}

enum status tokenizer_parse(const char *json, size_t size, const char *path, struct tokenizer **out,
                            struct error *err)
{
    json_t *file;
    *out = NULL;
    enum status s = json_parse(json, size, JSON_DEPTH_MAX, path, &file, err);
    if (s)
        return s;
    s = build(file, path, out, err);
    json_decref(file);
    return s;
}

enum status tokenizer_load(const char *dir, struct tokenizer **out, struct error *err)
{
    json_t *file;
    char path[4096];
    struct stat st;
    *out = NULL;
    if (snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= (int)sizeof path)
        return error_set(err, ST_FILE_UNREADABLE, "%.200s...: the path is too long", dir);
    if (stat(path, &st) && errno == ENOENT)
        return ST_OK;
    enum status s = json_read(path, FILE_BYTES_MAX, &file, err);
    if (s)
        return s;
    s = build(file, path, out, err);
    json_decref(file);
    return s;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    pattern_free_all(t->patterns);
    arena_free(&t->arena);
    free(t);
}

int32_t tokenizer_size(const struct tokenizer *t)
{
    return t->added.ids > t->vocabulary.ids ? t->added.ids : t->vocabulary.ids;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len)
{
    const struct added_token *token = added_of(&t->added, id);
    const struct vocabulary_row *row = vocabulary_row(&t->vocabulary, id);
    if (!token && !row)
        return NULL;
    *len = token ? token->len : row->len;
    return token ? token->content : row->text;
}

enum status tokenizer_bytes(const struct tokenizer *t, int32_t id, struct bytes *out,
                            struct error *err)
{
    size_t n;
    const char *piece = tokenizer_piece(t, id, &n);
    return piece ? decode_bytes(&t->decoder, piece, n, out, err) : ST_OK;
}

int32_t tokenizer_id(const struct tokenizer *t, const char *piece)
{
    int32_t id = vocabulary_find(&t->added.contents, piece, strlen(piece));
    return id >= 0 ? id : vocabulary_find(&t->vocabulary, piece, strlen(piece));
}

bool tokenizer_special(const struct tokenizer *t, int32_t id)
{
    const struct added_token *token = added_of(&t->added, id);
    return token && token->special;
}

void token_ids_free(struct token_ids *ids)
{
    free(ids->v);
    *ids = (struct token_ids){0};
}

bool token_ids_push(struct token_ids *ids, int32_t id)
{
    if (!GROW(ids->v, ids->cap, ids->n + 1, 64))
        return false;
    ids->v[ids->n++] = id;
    return true;
}

/* What one encoding needs. */
struct buffers {
    struct matcher matcher;
    struct added_cuts raw, normalized;
    struct normalize_buffers normal;
    struct pieces pieces;
    struct bpe_buffers bpe;
    struct unigram_buffers unigram;
};

static void buffers_free(struct buffers *b)
{
    matcher_close(&b->matcher);
    added_cuts_free(&b->raw);
    added_cuts_free(&b->normalized);
    normalize_buffers_free(&b->normal);
    pieces_free(&b->pieces);
    bpe_buffers_free(&b->bpe);
    unigram_buffers_free(&b->unigram);
}

/* Normalized text without added tokens. */
static enum status encode_plain(const struct tokenizer *t, struct buffers *b, const char *text,
                                size_t n, bool begins, struct token_ids *out, struct error *err)
{
    enum status s = pretokenize_run(&t->pretokenizer, &b->matcher, text, n, begins, &b->pieces);
    for (size_t i = 0; !s && i < b->pieces.v.n; i++) {
        const struct span *p = &b->pieces.v.v[i];
        const char *piece = b->pieces.text.v + p->start;
        size_t len = p->end - p->start;
        if (t->bpe)
            s = bpe_encode(t->bpe, piece, len, &b->bpe, out, err);
        else if (t->unigram)
            s = unigram_encode(t->unigram, piece, len, &b->unigram, out, err);
        else
            s = wordpiece_encode(t->wordpiece, piece, len, out, err);
    }
    return s;
}

/* Raw text between added tokens. */
static enum status encode_stretch(const struct tokenizer *t, struct buffers *b, const char *text,
                                  size_t n, bool begins, struct token_ids *out, struct error *err)
{
    struct normalize_buffers *z = &b->normal;
    enum status s = normalize_run(&t->normalizer, &b->matcher, text, n, z);
    s = s ? s : added_find(&t->added, true, &b->matcher, z->text.v, z->text.n, &b->normalized);
    for (size_t i = 0; !s && i < b->normalized.n; i++) {
        const struct added_cut *c = &b->normalized.v[i];
        if (c->id >= 0)
            s = token_ids_push(out, c->id) ? ST_OK : error_memory(err, "encoding text");
        else
            s = encode_plain(t, b, z->text.v + c->start, c->end - c->start,
                             begins && !c->start && !z->moved, out, err);
    }
    return s;
}

static enum status encode_text(const struct tokenizer *t, struct buffers *b, const char *text,
                               size_t len, struct token_ids *out, struct error *err)
{
    enum status s = added_find(&t->added, false, &b->matcher, text, len, &b->raw);
    for (size_t i = 0; !s && i < b->raw.n; i++) {
        const struct added_cut *c = &b->raw.v[i];
        if (c->id >= 0)
            s = token_ids_push(out, c->id) ? ST_OK : error_memory(err, "encoding text");
        else
            s = encode_stretch(t, b, text + c->start, c->end - c->start, !c->start, out, err);
    }
    return s;
}

/* The ids of a text alone. */
static enum status encode_body(const struct tokenizer *t, const char *text, size_t len,
                               struct token_ids *body, struct error *err)
{
    struct buffers b = {0};
    if (len > TEXT_BYTES_MAX)
        return error_set(err, ST_INVALID_VALUE, "the text has more than %zu bytes", TEXT_BYTES_MAX);
    if (!utf8_valid(text, len))
        return error_set(err, ST_INVALID_VALUE, "the text is not valid UTF-8");
    matcher_open(&b.matcher, len, err);
    enum status s = encode_text(t, &b, text, len, body, err);
    buffers_free(&b);
    return s;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                             bool add_special, struct token_ids *out, struct error *err)
{
    struct token_ids body = {0};
    size_t before = out->n;
    enum status s = encode_body(t, text, len, &body, err);
    if (!s && !postprocess_run(&t->postprocessor, &body, NULL, add_special, out, NULL))
        s = error_memory(err, "encoding text");
    if (s)
        out->n = before;
    token_ids_free(&body);
    return s;
}

enum status tokenizer_encode_pair(const struct tokenizer *t, const struct text_pair *texts,
                                  bool add_special, struct token_ids *out, struct token_ids *types,
                                  struct error *err)
{
    struct token_ids first = {0}, second = {0};
    size_t before = out->n, types_before = types->n;
    enum status s = encode_body(t, texts->first, texts->first_len, &first, err);
    s = s ? s : encode_body(t, texts->second, texts->second_len, &second, err);
    if (!s && !postprocess_run(&t->postprocessor, &first, &second, add_special, out, types))
        s = error_memory(err, "encoding texts");
    if (s) {
        out->n = before;
        types->n = types_before;
    }
    token_ids_free(&first);
    token_ids_free(&second);
    return s;
}
