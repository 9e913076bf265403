/*
 * adapter_config.json of a PEFT OFT adapter: text in, plain values and findings out. Stricter than
 * PEFT: a duplicate key, a value of another type or out of range is an error, an unknown key a
 * warning (an error where it would change the math).
 */
#ifndef OFTD_CORE_ADAPTERS_OFTCONFIG_H
#define OFTD_CORE_ADAPTERS_OFTCONFIG_H

#include "core/model/model.h"
#include "core/status.h"

enum oft_bias { OFT_BIAS_NONE, OFT_BIAS_ALL, OFT_BIAS_ONLY };

struct oftconfig {
    const char *path; /* for messages; borrowed */
    json_t *json;     /* the object; what follows is borrowed from it */
    int64_t blocks;   /* r, or 0 */
    int64_t block;    /* oft_block_size, or 0 */
    bool neumann, old_series;
    int32_t terms;
    bool coft, block_share;
    double eps;
    enum oft_bias bias;
    enum classifier_kind task; /* of SEQ_CLS and TOKEN_CLS */
    bool saves_head;           /* modules_to_save names score or classifier, */
    bool saves_modules;        /* ... or something else, which is refused */
    /* string, list of strings or NULL */
    const json_t *target_modules, *exclude_modules, *layers_pattern;
    const json_t *layers_to_transform; /* integer, list of integers or NULL */
};

/* Parses text; permissive makes BASE_MODEL_MISMATCH a warning. What is wrong goes to findings;
 * returns OUT_OF_MEMORY or ST_OK. *out can be cleared in every case, and holds usable values only
 * when no error was found. */
enum status oftconfig_parse(const char *text, size_t len, const char *path, const struct model *m,
                            bool permissive, struct oftconfig *out, struct findings *findings,
                            struct error *err);
void oftconfig_clear(struct oftconfig *c);

/* Is a peft_version ("0.17.1", "0.18.0.dev0@abc", NULL: absent) older than 0.18.0? False in *ok if
 * it is no version. */
bool oftconfig_version_old(const char *version, bool *ok);

#endif
