/*
 * What Split and Replace look for: a literal or a regex. Immutable after opening; a matcher holds
 * what one encoding or decoding needs besides.
 */
#ifndef OFTD_CORE_TOKENIZER_PATTERN_H
#define OFTD_CORE_TOKENIZER_PATTERN_H

#include "core/tokenizer/bytes.h"
#include "core/tokenizer/reader.h"

struct pattern;

/* {"String": s} or {"Regex": r}. Owned by the reader's list. */
enum status pattern_read(struct reader *r, const json_t *pattern, const struct pattern **out);
/* A regex of ours, in the same language. */
enum status pattern_own(struct reader *r, const char *regex, const struct pattern **out);
/* Frees what a reader's list holds (the patterns themselves are in the arena). */
void pattern_free_all(struct pattern *list);

struct matcher {
    void *data, *context; /* PCRE2's, made when first needed */
    uint64_t steps;       /* what regexes may still cost, see pattern.c */
    struct error *err;
};
/* For a text of len bytes. */
void matcher_open(struct matcher *m, size_t len, struct error *err);
void matcher_close(struct matcher *m);

/* Cuts text[0..n) into matches (flag true) and the stretches between them, in order and without
 * gaps; empty matches are among them. Appends to out, offsets from `base` on. */
enum status pattern_find(const struct pattern *p, struct matcher *m, const char *text, size_t n,
                         size_t base, struct spans *out);

#endif
