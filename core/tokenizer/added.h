/*
 * Added tokens: texts that become their id before anything else looks at them.
 */
#ifndef OFTD_CORE_TOKENIZER_ADDED_H
#define OFTD_CORE_TOKENIZER_ADDED_H

#include "core/tokenizer/normalize.h"
#include "core/tokenizer/trie.h"
#include "core/tokenizer/vocabulary.h"

struct added_token {
    const char *content, *form; /* form: normalized, if the token is; what decoding sees */
    size_t len, form_len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool skipped; /* by skip_special */
};

struct added {
    struct added_token *v;
    size_t n;
    int32_t ids;                /* largest id + 1, 0: none */
    int32_t *by_id;             /* [ids] index into v, -1 */
    struct vocabulary contents; /* content -> id */
    struct trie raw, normalized;
    const struct pattern *word; /* one word character, if a token needs it */
};

/* list: the file's added_tokens, or null. model and z are complete. */
enum status added_read(struct reader *r, const json_t *list, const struct vocabulary *model,
                       const struct normalizer *z, struct added *out);
/* The token of this id, or NULL. */
static inline const struct added_token *added_of(const struct added *a, int32_t id)
{
    return id >= 0 && id < a->ids && a->by_id[id] >= 0 ? &a->v[a->by_id[id]] : NULL;
}

struct added_cut {
    size_t start, end;
    int32_t id; /* -1: text between tokens */
};
struct added_cuts {
    struct added_cut *v;
    size_t n, cap;
};
void added_cuts_free(struct added_cuts *c);
/* Cuts text into the tokens of one kind (normalized or not) and what lies between; sets out. */
enum status added_find(const struct added *a, bool normalized, struct matcher *m, const char *text,
                       size_t n, struct added_cuts *out);

#endif
