/*
 * How every token of a vocabulary is spelled, as a trie in preorder: a walk over all tokens that a
 * grammar might take is one pass over arrays that leaps what is dead. Immutable, one a tokenizer.
 */
#ifndef OFTD_CORE_GRAMMAR_SPELLINGS_H
#define OFTD_CORE_GRAMMAR_SPELLINGS_H

#include <stdint.h>

#include "core/status.h"
#include "core/tokenizer/tokenizer.h"

struct spelling_node {
    uint8_t byte;   /* that leads here */
    uint16_t depth; /* bytes from the root */
    int32_t leap;   /* the node behind this one's subtree */
    int32_t tokens; /* those that end here: ids[tokens .. next node's tokens) */
    uint32_t next;  /* spelling_bit of each byte that leads on */
};

/* Bytes in 32 classes, letters in few of them: what mostly follows letters is not what ends words.
 */
static inline uint32_t spelling_bit(uint8_t byte)
{
    if (byte >= 'a' && byte <= 'z')
        return 1u << (byte & 7);
    if (byte >= 'A' && byte <= 'Z')
        return 1u << (8 + (byte & 1));
    if (byte >= 0x80)
        return 1u << (10 + (byte >> 6 & 1));
    return 1u << (12 + byte % 20);
}

/* The tokens of a node's subtree are ids[nodes[u].tokens .. nodes[nodes[u].leap].tokens). */
struct spellings {
    struct spelling_node *nodes; /* [n_nodes + 1]: [0] is the root, the last one ends the last */
    int32_t n_nodes;
    int32_t *ids; /* ordered by spelling */
    int32_t n_ids;
    int32_t vocab;   /* ids are below it */
    int32_t deepest; /* depth */
    uint8_t *bytes;  /* spelling of an id: bytes[offsets[id] .. offsets[id + 1]) */
    int32_t *offsets;
};

/* Special tokens are spelled with SPECIAL_BYTE before them, which no text of JSON, a regex or GBNF
 * has; tokens without bytes, those of 64 KiB or more and others with this byte, which is of no
 * UTF-8, have no place. vocab: what the
 * model has logits for. NOT_SUPPORTED: tokenizer_bytes. */
enum status spellings_open(const struct tokenizer *t, int32_t vocab, struct spellings **out,
                           struct error *err);
void spellings_close(struct spellings *s);

#endif
