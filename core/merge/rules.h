/* THE merge rules (design: a merge that the rules forbid is refused before anything is allocated).
 * A rule is a row; its stage says when it can be asked. */
#ifndef OFTD_CORE_MERGE_RULES_H
#define OFTD_CORE_MERGE_RULES_H

#include "core/merge/merge.h"

enum rule_stage {
    RULES_BASE,     /* of the whole base, before any adapter is looked up */
    RULES_ADAPTERS, /* of these adapters on this base */
    RULES_MODULE,   /* of one merged module's numbers */
    RULES_REPORT    /* of the whole result */
};

/* What a rule may look at; members beyond a stage are unset before it. */
struct rule_case {
    const struct model *m;
    struct adapter *const *adapters; /* RULES_ADAPTERS on */
    size_t n;
    const struct merge_options *options;
    int32_t module;                    /* RULES_MODULE */
    bool non_finite;                   /* its merged weight holds NaN or Inf */
    const struct merge_report *report; /* RULES_REPORT */
};

/* The first rule of the stage that the case breaks: its code, with the sentence in err. */
enum status rules_check(enum rule_stage stage, const struct rule_case *c, struct error *err);

/* Does one of the adapters rotate module i? */
bool rules_targeted(struct adapter *const *adapters, size_t n, size_t i);

#endif
