/*
 * tokenizer.ggml.* -> tokenizer.json. Byte-level BPE ("gpt2") only:
 *
 *     tokens[i], merges[r]     model.vocab and model.merges as they are (both are byte-level text)
 *     token_type[i]            3 control: a special added token; 4 user-defined: an added token
 *     pre                      THE table below: llama.cpp's name for a pre-tokenizer
 *     add_bos_token, add_eos_token      a TemplateProcessing post-processor
 *     *_token_id               generation_config.json, and by their texts tokenizer_config.json
 *
 * A pre-tokenizer is a regular expression in llama.cpp's source and only a name in the file, so a
 * name that is not in the table is refused: a guess would cut some texts otherwise than the model's
 * own tokenizer does. Texts must be UTF-8 without NUL, every token a text of its own.
 */
#include "core/files/gguf_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/utf8.h"

#define KEY_PREFIX "tokenizer.ggml."

enum token_type { TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER_DEFINED = 4 };

#define LLAMA3                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                                                               \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct pre {
    const char *name;
    bool digits;             /* each by itself, before the rest is cut */
    const char *regex;       /* that cuts, or NULL: GPT-2's, which ByteLevel brings along */
    bool ignore_merges, bos; /* bos: is one added where the file does not say? */
} pres[] = {
    {"gpt-2", false, NULL, false, false},
    {"smollm", true, NULL, false, false},
    {"starcoder", true, NULL, false, false},
    {"llama-bpe", false, LLAMA3, true, true},
};
#define N_PRES (sizeof pres / sizeof pres[0])

static const struct {
    const char *key, *name;
} specials[] = {
    {"bos_token_id", "bos_token"},
    {"eos_token_id", "eos_token"},
    {"unknown_token_id", "unk_token"},
    {"padding_token_id", "pad_token"},
};
enum special { BOS, EOS, UNK, PAD, N_SPECIALS };

struct reading {
    const struct gguf *g;
    struct error *err;
    const struct pre *pre;
    int64_t n;               /* tokens */
    struct gguf_text *texts; /* [n] */
    int64_t ids[N_SPECIALS]; /* -1: none */
    int64_t turn_end;        /* eot_token_id, or -1 */
};

static const struct gguf_value *find(const struct reading *r, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, KEY_PREFIX "%s", name);
    return gguf_find(r->g, key);
}

static enum status memory(const struct reading *r)
{
    return error_memory(r->err, "reading a GGUF file's tokenizer");
}

static enum status invalid(const struct reading *r, const char *name, const char *expected)
{
    error_set(r->err, ST_CHECKPOINT_INVALID, "%s: key " KEY_PREFIX "%s is missing or is not %s",
              gguf_path(r->g), name, expected);
    return ST_CHECKPOINT_INVALID;
}

static bool is_text(struct gguf_text text, const char *word)
{
    return text.n == strlen(word) && !memcmp(text.v, word, text.n);
}

static bool is_utf8(struct gguf_text text)
{
    return !memchr(text.v, 0, text.n) && utf8_valid(text.v, text.n);
}

/* A bool of the file, or what holds without. */
static bool flag(const struct reading *r, const char *name, bool fallback)
{
    bool v;
    return gguf_bool(find(r, name), &v) ? v : fallback;
}

/* ---- what the file says ---- */

static enum status read_pre(struct reading *r)
{
    char names[128] = "";
    struct gguf_text text = {"", 0};
    if (!gguf_string(find(r, "pre"), &text))
        return error_set(r->err, ST_TOKENIZER_UNSUPPORTED,
                         "%s: key " KEY_PREFIX "pre is missing: nothing says how text is cut",
                         gguf_path(r->g));
    for (size_t i = 0; i < N_PRES; i++) {
        if (is_text(text, pres[i].name))
            r->pre = &pres[i];
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", pres[i].name);
    }
    if (r->pre)
        return ST_OK;
    return error_set(r->err, ST_TOKENIZER_UNSUPPORTED,
                     "%s: the pre-tokenizer \"%.*s\" is not supported, expected one of %s",
                     gguf_path(r->g), (int)(text.n < 64 ? text.n : 64), text.v, names);
}

static enum status read_tokens(struct reading *r, int64_t vocab)
{
    const struct gguf_value *v = find(r, "tokens");
    if (!gguf_is_array(v, true))
        return invalid(r, "tokens", "an array of texts");
    if (v->n != (uint64_t)vocab)
        return error_set(r->err, ST_CHECKPOINT_INVALID,
                         "%s: %llu tokens, expected %lld as the embedding has rows",
                         gguf_path(r->g), (unsigned long long)v->n, (long long)vocab);
    struct gguf_value rest = *v;
    r->texts = calloc((size_t)vocab, sizeof *r->texts);
    if (!r->texts)
        return memory(r);
    for (; gguf_next_string(&rest, &r->texts[r->n]); r->n++)
        if (!is_utf8(r->texts[r->n]))
            return error_set(r->err, ST_CHECKPOINT_INVALID,
                             "%s: token %lld is not UTF-8 without NUL", gguf_path(r->g),
                             (long long)r->n);
    return ST_OK;
}

static enum status read_id(const struct reading *r, const char *name, int64_t *id)
{
    const struct gguf_value *v = find(r, name);
    *id = -1;
    if (v && (!gguf_integer(v, id) || *id < 0 || *id >= r->n))
        return invalid(r, name, "the id of a token");
    return ST_OK;
}

static enum status read_ids(struct reading *r)
{
    enum status s = read_id(r, "eot_token_id", &r->turn_end);
    for (size_t i = 0; !s && i < N_SPECIALS; i++)
        s = read_id(r, specials[i].key, &r->ids[i]);
    return s;
}

/* ---- tokenizer.json ---- */

static json_t *text_json(struct gguf_text text)
{
    return json_stringn(text.v, text.n);
}

/* {"<s>": 1, ...} */
static enum status make_vocab(const struct reading *r, json_t *vocab)
{
    for (int64_t i = 0; i < r->n; i++) {
        const struct gguf_text t = r->texts[i];
        const json_t *other = json_object_getn(vocab, t.v, t.n);
        if (other)
            return error_set(r->err, ST_CHECKPOINT_INVALID, "%s: tokens %lld and %lld are one text",
                             gguf_path(r->g), (long long)json_integer_value(other), (long long)i);
        if (json_object_setn_new(vocab, t.v, t.n, json_integer(i)))
            return memory(r);
    }
    return ST_OK;
}

static enum status make_merges(const struct reading *r, json_t *merges)
{
    struct gguf_text text;
    const struct gguf_value *v = find(r, "merges");
    if (!gguf_is_array(v, true))
        return invalid(r, "merges", "an array of texts");
    struct gguf_value rest = *v;
    while (gguf_next_string(&rest, &text)) {
        if (!is_utf8(text))
            return invalid(r, "merges", "of UTF-8 without NUL");
        if (json_array_append_new(merges, text_json(text)))
            return memory(r);
    }
    return ST_OK;
}

static enum status make_added(const struct reading *r, json_t *added)
{
    int64_t type;
    const struct gguf_value *v = find(r, "token_type");
    if (!v)
        return ST_OK;
    if (!gguf_is_array(v, false) || v->n != (uint64_t)r->n)
        return invalid(r, "token_type", "an integer for each token");
    struct gguf_value rest = *v;
    for (int64_t i = 0; gguf_next_integer(&rest, &type); i++) {
        bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if (!special && type != TOKEN_USER_DEFINED)
            continue;
        if (json_array_append_new(added, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id",
                                                   (json_int_t)i, "content", text_json(r->texts[i]),
                                                   "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                   "normalized", 0, "special", special)))
            return memory(r);
    }
    return ST_OK;
}

/* Adds token id to a template's piece, and to its tokens. */
static bool add_special(const struct reading *r, int64_t id, int type_id, json_t *piece,
                        json_t *tokens)
{
    const struct gguf_text t = r->texts[id];
    return !json_array_append_new(piece, json_pack("{s:{s:o, s:i}}", "SpecialToken", "id",
                                                   text_json(t), "type_id", type_id)) &&
           !json_object_setn_new(tokens, t.v, t.n,
                                 json_pack("{s:o, s:[I], s:[o]}", "id", text_json(t), "ids",
                                           (json_int_t)id, "tokens", text_json(t)));
}

/* <s> A </s>, into piece; false when memory ran out. */
static bool add_sequence(const struct reading *r, int64_t bos, int64_t eos, int type_id,
                         json_t *piece, json_t *tokens)
{
    const char *name = type_id ? "B" : "A";
    return (bos < 0 || add_special(r, bos, type_id, piece, tokens)) &&
           !json_array_append_new(
               piece, json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", type_id)) &&
           (eos < 0 || add_special(r, eos, type_id, piece, tokens));
}

static enum status make_postprocessor(const struct reading *r, json_t **out)
{
    bool begin = flag(r, "add_bos_token", r->pre->bos), end = flag(r, "add_eos_token", false);
    int64_t bos = begin ? r->ids[BOS] : -1, eos = end ? r->ids[EOS] : -1;
    *out = NULL;
    if ((begin && bos < 0) || (end && eos < 0))
        return invalid(r, specials[begin && bos < 0 ? BOS : EOS].key, "there though it is added");
    if (bos < 0 && eos < 0) {
        *out = json_null();
        return ST_OK;
    }
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    if (single && pair && tokens && add_sequence(r, bos, eos, 0, single, tokens) &&
        add_sequence(r, bos, eos, 0, pair, tokens) && add_sequence(r, bos, eos, 1, pair, tokens))
        *out = json_pack("{s:s, s:O, s:O, s:O}", "type", "TemplateProcessing", "single", single,
                         "pair", pair, "special_tokens", tokens);
    json_decref(single);
    json_decref(pair);
    json_decref(tokens);
    return *out ? ST_OK : memory(r);
}

/* Digits or Split, then ByteLevel; NULL when memory runs out. (Not parsed from text: jansson's
 * parser loses a character of a string, and says nothing, where memory runs out.) */
static json_t *make_pre(const struct pre *pre)
{
    json_t *level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 1, "use_regex", !pre->regex);
    json_t *first = NULL;
    if (!pre->digits && !pre->regex)
        return level;
    if (pre->digits)
        first = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    else
        first = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                          pre->regex, "behavior", "Isolated", "invert", 0);
    json_t *both = first && level ? json_pack("{s:s, s:[O, O]}", "type", "Sequence",
                                              "pretokenizers", first, level)
                                  : NULL;
    json_decref(first);
    json_decref(level);
    return both;
}

static enum status make_tokenizer(const struct reading *r, json_t **out)
{
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array(), *post = NULL;
    json_t *pre = make_pre(r->pre);
    enum status s = vocab && merges && added && pre ? ST_OK : memory(r);
    s = s ? s : make_vocab(r, vocab);
    s = s ? s : make_merges(r, merges);
    s = s ? s : make_added(r, added);
    s = s ? s : make_postprocessor(r, &post);
    if (!s)
        *out =
            json_pack("{s:s, s:n, s:n, s:O, s:n, s:O, s:O, s:{s:s, s:b, s:b, s:b},"
                      " s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
                      "version", "1.0", "truncation", "padding", "added_tokens", added,
                      "normalizer", "pre_tokenizer", pre, "post_processor", post, "decoder", "type",
                      "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1,
                      "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                      "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                      r->pre->ignore_merges, "vocab", vocab, "merges", merges);
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    json_decref(pre);
    json_decref(post);
    if (!s && !*out)
        s = memory(r);
    return s;
}

/* ---- the files beside it ---- */

static enum status make_config(const struct reading *r, json_t **out)
{
    struct gguf_text text;
    const struct gguf_value *template = gguf_find(r->g, "tokenizer.chat_template");
    if (template && (!gguf_string(template, &text) || !is_utf8(text)))
        return error_set(r->err, ST_CHECKPOINT_INVALID,
                         "%s: key tokenizer.chat_template is not a text in UTF-8", gguf_path(r->g));
    json_t *config = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "clean_up_tokenization_spaces", 0);
    bool whole = config;
    for (size_t i = 0; whole && i < N_SPECIALS; i++)
        whole = r->ids[i] < 0 ||
                !json_object_set_new(config, specials[i].name, text_json(r->texts[r->ids[i]]));
    if (whole && template)
        whole = !json_object_set_new(config, "chat_template", text_json(text));
    if (whole) {
        *out = config;
        return ST_OK;
    }
    json_decref(config);
    return memory(r);
}

static enum status make_generation(const struct reading *r, json_t **out)
{
    json_t *config = json_object(), *ends = json_array();
    bool whole = config && ends;
    int64_t eos = r->ids[EOS], turn_end = r->turn_end == eos ? -1 : r->turn_end;
    if (whole && eos >= 0)
        whole = !json_array_append_new(ends, json_integer(eos));
    if (whole && turn_end >= 0)
        whole = !json_array_append_new(ends, json_integer(turn_end));
    if (whole && json_array_size(ends))
        whole = !json_object_set(config, "eos_token_id", ends);
    if (whole && r->ids[BOS] >= 0)
        whole = !json_object_set_new(config, "bos_token_id", json_integer(r->ids[BOS]));
    if (whole && r->ids[PAD] >= 0)
        whole = !json_object_set_new(config, "pad_token_id", json_integer(r->ids[PAD]));
    json_decref(ends);
    if (whole) {
        *out = config;
        return ST_OK;
    }
    json_decref(config);
    return memory(r);
}

enum status gguf_tokenizer_read(const struct gguf *g, int64_t vocab, struct gguf_tokenizer *out,
                                struct error *err)
{
    struct reading r = {.g = g, .err = err};
    struct gguf_text model = {"", 0};
    *out = (struct gguf_tokenizer){0};
    if (!find(&r, "model"))
        return ST_OK;
    if (!gguf_string(find(&r, "model"), &model) || !is_text(model, "gpt2"))
        return error_set(err, ST_TOKENIZER_UNSUPPORTED,
                         "%s: the tokenizer is of kind \"%.*s\", expected \"gpt2\" (byte-level "
                         "BPE)",
                         gguf_path(g), (int)(model.n < 64 ? model.n : 64), model.v);
    enum status s = read_pre(&r);
    s = s ? s : read_tokens(&r, vocab);
    s = s ? s : read_ids(&r);
    s = s ? s : make_tokenizer(&r, &out->tokenizer);
    s = s ? s : make_config(&r, &out->config);
    s = s ? s : make_generation(&r, &out->generation);
    free(r.texts);
    if (s)
        gguf_tokenizer_clear(out);
    return s;
}

void gguf_tokenizer_clear(struct gguf_tokenizer *t)
{
    json_decref(t->tokenizer);
    json_decref(t->config);
    json_decref(t->generation);
    *t = (struct gguf_tokenizer){0};
}
