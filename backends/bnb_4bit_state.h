/* The quant state of a bitsandbytes 4-bit module: the JSON text in its own tensor. */
#ifndef OFTD_BACKENDS_BNB_4BIT_STATE_H
#define OFTD_BACKENDS_BNB_4BIT_STATE_H

#include "core/backend.h"

enum bnb_4bit_type { BNB_4BIT_NF4, BNB_4BIT_FP4, BNB_4BIT_TYPES };

struct bnb_4bit_state {
    enum bnb_4bit_type type;
    int64_t block; /* elements of the flattened matrix that share an absmax */
    enum dtype dtype;
    int64_t n, k;
    bool nested;
    int64_t nested_block; /* absmax values that share a nested absmax */
    float nested_offset;
};

#define BNB_4BIT_STATE_PREFIX "weight.quant_state."
#define BNB_4BIT_STATE_MAX    512 /* bytes of text that bnb_4bit_state_print may write */

extern const char *const bnb_4bit_type_names[BNB_4BIT_TYPES]; /* "nf4", "fp4" */
/* Suffixes of the tensor: "weight.quant_state.bitsandbytes__nf4". */
extern const char *const bnb_4bit_state_suffixes[BNB_4BIT_TYPES];
/* The tables of formats.md 5.4, where the file has no quant_map. */
extern const float bnb_4bit_tables[BNB_4BIT_TYPES][16];

/* Reads the text of t (U8), which must be strict: known keys only, none missing, all of their type
 * and legal. type: what the tensor's name says. false: findings tell. */
bool bnb_4bit_state_parse(const struct module_spec *spec, const struct tensor *t,
                          enum bnb_4bit_type type, struct bnb_4bit_state *out,
                          struct findings *findings);
/* The text as Python's json.dumps writes it; returns its length. buf: BNB_4BIT_STATE_MAX bytes. */
size_t bnb_4bit_state_print(const struct bnb_4bit_state *s, char *buf);

#endif
