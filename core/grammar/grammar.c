/*
 * Owns the shelf of compiled grammars, newest first; what was not asked for longest goes when there
 * are too many. A request keeps its grammar by reference, so nothing that leaves the shelf is taken
 * from anybody. The tokens' spellings are read when the first grammar is asked for: who never asks
 * pays nothing.
 */
#include "core/grammar/grammar.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "core/grammar/calls.h"
#include "core/grammar/gbnf.h"
#include "core/grammar/regex.h"
#include "core/grammar/schema.h"
#include "core/json.h"

#define SHELF_MAX    32
#define TABLES_BYTES ((size_t)64 << 20)
#define CHOICES_MAX  10000

struct grammar {
    atomic_int refs;
    uint8_t digest[DIGEST_SIZE];
    struct automaton automaton;
    struct tables *tables;
    int32_t words;
    struct grammar *next; /* on the shelf */
};

struct grammars {
    const struct tokenizer *tokenizer;
    int32_t vocab;
    pthread_mutex_t lock; /* of what follows */
    struct spellings *spellings;
    struct grammar *first;
};

/* ---- compiling ---- */

static enum status choice(struct builder *b, const char *text, size_t len, struct error *err)
{
    json_t *list = NULL, *one;
    size_t i;
    struct fragment all = fragment_never(b);
    enum status s = json_parse(text, len, 2, "choice", &list, err);
    size_t n = json_array_size(list);
    if (!s && (!json_is_array(list) || !n || n > CHOICES_MAX))
        s = error_set(err, ST_INVALID_VALUE, "choice: expected a list of 1 to %d strings",
                      CHOICES_MAX);
    json_array_foreach(list, i, one)
    {
        if (!s && !json_string_length(one))
            s = error_set(err, ST_INVALID_VALUE, "choice: entry %zu is no string, or an empty one",
                          i);
        if (!s)
            all = fragment_or(b, all,
                              fragment_text(b, json_string_value(one), json_string_length(one)));
    }
    json_decref(list);
    builder_define(b, 0, all);
    return s;
}

/* What is written in JSON: a schema, or calls. */
static enum status from_json(struct builder *b, const char *what, const char *text, size_t len,
                             enum status (*read)(struct builder *b, const json_t *v,
                                                 struct error *err),
                             struct error *err)
{
    json_t *v = NULL;
    enum status s = json_parse(text, len, JSON_DEPTH_MAX, what, &v, err);
    s = s ? s : read(b, v, err);
    json_decref(v);
    return s;
}

static enum status regex(struct builder *b, const char *text, size_t len, struct error *err)
{
    struct fragment f;
    enum status s = regex_read(b, text, len, REGEX_WHOLE, &f, err);
    builder_define(b, 0, f);
    return s;
}

enum status grammar_compile(enum grammar_kind kind, const char *text, size_t len,
                            struct automaton *out, struct error *err)
{
    struct builder b;
    enum status s = ST_OK;
    *out = (struct automaton){0};
    builder_open(&b);
    switch (kind) {
    case GRAMMAR_NONE:
        s = error_set(err, ST_INTERNAL, "no grammar");
        break;
    case GRAMMAR_JSON_OBJECT:
        s = schema_any_object(&b, err);
        break;
    case GRAMMAR_JSON_SCHEMA:
        s = from_json(&b, "schema", text, len, schema_read, err);
        break;
    case GRAMMAR_REGEX:
        s = regex(&b, text, len, err);
        break;
    case GRAMMAR_CHOICE:
        s = choice(&b, text, len, err);
        break;
    case GRAMMAR_GBNF:
        s = gbnf_read(&b, text, len, err);
        break;
    case GRAMMAR_CALLS:
        s = from_json(&b, "calls", text, len, calls_read, err);
        break;
    }
    s = s ? s : automaton_build(&b, out, err);
    builder_close(&b);
    return s;
}

/* ---- one grammar ---- */

void grammar_unref(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    tables_close(g->tables);
    automaton_clear(&g->automaton);
    free(g);
}

struct tables *grammar_tables(struct grammar *g)
{
    return g->tables;
}

int32_t grammar_words(const struct grammar *g)
{
    return g->words;
}

static enum status make(const struct spellings *spellings, enum grammar_kind kind, const char *text,
                        size_t len, const uint8_t *digest, struct grammar **out, struct error *err)
{
    struct grammar *g = calloc(1, sizeof *g);
    if (!g)
        return error_memory(err, "compiling a grammar");
    atomic_init(&g->refs, 1);
    memcpy(g->digest, digest, sizeof g->digest);
    g->words = (spellings->vocab + 63) / 64;
    enum status s = grammar_compile(kind, text, len, &g->automaton, err);
    s = s ? s : tables_open(&g->automaton, spellings, TABLES_BYTES, &g->tables, err);
    s = s ? s : tables_warm(g->tables, err);
    if (s)
        grammar_unref(g);
    else
        *out = g;
    return s;
}

/* ---- the shelf ---- */

enum status grammars_open(const struct tokenizer *t, int32_t vocab, struct grammars **out,
                          struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return error_memory(err, "the grammars");
    (*out)->tokenizer = t;
    (*out)->vocab = vocab;
    pthread_mutex_init(&(*out)->lock, NULL);
    return ST_OK;
}

void grammars_close(struct grammars *g)
{
    if (!g)
        return;
    while (g->first) {
        struct grammar *next = g->first->next;
        grammar_unref(g->first);
        g->first = next;
    }
    spellings_close(g->spellings);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* Under the lock: by reference, and now the newest. */
static struct grammar *take(struct grammars *g, const uint8_t *digest)
{
    for (struct grammar **at = &g->first; *at; at = &(*at)->next) {
        struct grammar *x = *at;
        if (memcmp(x->digest, digest, DIGEST_SIZE) != 0)
            continue;
        *at = x->next;
        x->next = g->first;
        g->first = x;
        atomic_fetch_add(&x->refs, 1);
        return x;
    }
    return NULL;
}

/* Under the lock: the shelf's own reference. The last one goes when there are too many. */
static void put(struct grammars *g, struct grammar *x)
{
    int n = 1;
    atomic_fetch_add(&x->refs, 1);
    x->next = g->first;
    g->first = x;
    struct grammar **at = &x->next;
    while (*at && ++n <= SHELF_MAX)
        at = &(*at)->next;
    grammar_unref(*at);
    *at = NULL;
}

static enum status digest_of(enum grammar_kind kind, const char *text, size_t len, uint8_t *digest,
                             struct error *err)
{
    char *whole = malloc(len + 1);
    if (!whole)
        return error_memory(err, "compiling a grammar");
    whole[0] = (char)kind;
    if (len)
        memcpy(whole + 1, text, len);
    digest_bytes(whole, len + 1, digest);
    free(whole);
    return ST_OK;
}

enum status grammars_get(struct grammars *g, enum grammar_kind kind, const char *text, size_t len,
                         struct grammar **out, struct error *err)
{
    uint8_t digest[DIGEST_SIZE];
    *out = NULL;
    enum status s = digest_of(kind, text, len, digest, err);
    if (s)
        return s;
    pthread_mutex_lock(&g->lock);
    if (!g->spellings)
        s = spellings_open(g->tokenizer, g->vocab, &g->spellings, err);
    *out = s ? NULL : take(g, digest);
    pthread_mutex_unlock(&g->lock);
    if (s || *out)
        return s;
    struct grammar *made = NULL;
    s = make(g->spellings, kind, text, len, digest, &made, err);
    if (s)
        return s;
    pthread_mutex_lock(&g->lock);
    *out = take(g, digest); // somebody was faster
    if (!*out) {
        put(g, made);
        *out = made;
        made = NULL;
    }
    pthread_mutex_unlock(&g->lock);
    grammar_unref(made);
    return ST_OK;
}
