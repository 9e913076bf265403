/*
 * A grammar under construction: rules over bytes, each a fragment of a non-deterministic automaton
 * (Thompson, Regular Expression Search Algorithm, 1968) that may call other rules. What the readers
 * (regex.c, gbnf.c, schema.c) build with; automaton.h makes the rules deterministic.
 *
 * A fragment has one way in and one way out and is used up by the function that it is given to;
 * fragment_copy makes another. Once memory or the limit of nodes runs out, every call returns a
 * fragment that is nothing and `failed` says why: readers check once, at their end.
 */
#ifndef OFTD_CORE_GRAMMAR_BUILDER_H
#define OFTD_CORE_GRAMMAR_BUILDER_H

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"

#define BUILDER_NODES_MAX 400000
#define BUILDER_RULES_MAX 10000
#define BUILDER_WORK_MAX  60000000 /* things looked at: some tenths of a second */
#define REPEAT_MANY       (-1)
#define SPECIAL_BYTE      0xFF /* before a special token's text in its spelling: no text has it */

struct fragment {
    int32_t in, out; /* nodes; in < 0: there is none (yet) */
};
static const struct fragment no_fragment = {-1, -1};

enum edge_kind { EDGE_EMPTY, EDGE_BYTES, EDGE_CALL };
struct builder_edge {
    enum edge_kind kind;
    uint8_t first, last; /* EDGE_BYTES: first <= byte <= last */
    int32_t rule;        /* EDGE_CALL */
    int32_t to;
    int32_t next; /* of the same node, -1: none */
};

struct chars;
struct builder {
    struct arena arena; /* for readers: what lives as long as the build */
    uint64_t work;
    const struct chars *wide[3]; /* regex.c: classes that it has made */
    uint32_t barred;             /* a character that is in no set (chars.h); 0: none is */
    int32_t *nodes;              /* first edge, -1: none */
    size_t n_nodes, cap_nodes;
    struct builder_edge *edges;
    size_t n_edges, cap_edges;
    struct fragment *rules; /* in < 0: not defined */
    size_t n_rules, cap_rules;
    int32_t *copies, *met; /* while copying: the copy of each node, -1: none; those that have one */
    size_t n_met, cap_copies;
    enum status failed; /* OUT_OF_MEMORY or INVALID_VALUE: larger than the limits */
};

void builder_open(struct builder *b); /* rule 0, the start, is there and not defined */
void builder_close(struct builder *b);
enum status builder_failed(const struct builder *b, struct error *err);

/* Counts what is looked at n more times; false: it is more than a grammar may take. For whatever
 * repeats over what a text says, and makes no node each time. */
bool builder_spend(struct builder *b, size_t n);

int32_t builder_rule(struct builder *b);
void builder_define(struct builder *b, int32_t rule, struct fragment body);

struct fragment fragment_empty(struct builder *b);
struct fragment fragment_range(struct builder *b, uint8_t first, uint8_t last);
struct fragment fragment_text(struct builder *b, const char *text, size_t len);
struct fragment fragment_call(struct builder *b, int32_t rule);
struct fragment fragment_then(struct builder *b, struct fragment first, struct fragment second);
/* Where `one` is none: the other. */
struct fragment fragment_or(struct builder *b, struct fragment one, struct fragment other);
/* from..to times; to REPEAT_MANY: without end. */
struct fragment fragment_repeat(struct builder *b, struct fragment f, int64_t from, int64_t to);
struct fragment fragment_copy(struct builder *b, struct fragment f);
/* Any bytes up to `last` that do not hold text [len > 0], which begins with no white space, special
 * tokens by their texts; not_first: none of these is the first one behind white space. */
struct fragment fragment_without(struct builder *b, const char *text, size_t len,
                                 const char *not_first, uint8_t last);
/* What nothing matches. */
struct fragment fragment_never(struct builder *b);

#endif
