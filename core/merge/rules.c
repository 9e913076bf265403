/*
 * THE merge rules, in the order in which they answer. Each predicate says whether the case breaks
 * its rule and, if so, puts the particulars into what: names of modules and back ends, figures.
 */
#include "core/merge/rules.h"

#include <stdio.h>
#include <string.h>

bool rules_targeted(struct adapter *const *adapters, size_t n, size_t i)
{
    for (size_t a = 0; a < n; a++)
        if (adapters[a]->host.rotation[i])
            return true;
    return false;
}

typedef bool module_predicate(const struct rule_case *c, const struct module *mod);

/* The first targeted module that is so, with how many there are: "NAME (BACKEND) and 3 more". */
static bool name_modules(const struct rule_case *c, module_predicate *is, char *what, size_t size)
{
    size_t found = 0, at = 0;
    for (size_t i = 0; i < c->m->n_modules; i++) {
        const struct module *mod = &c->m->modules[i];
        if (!rules_targeted(c->adapters, c->n, i) || !is(c, mod))
            continue;
        if (!found++)
            at = (size_t)snprintf(what, size, "%s (%s)", mod->name, mod->backend->name);
    }
    if (found > 1 && at < size)
        snprintf(what + at, size - at, " and %zu more", found - 1);
    return found > 0;
}

static bool base_is_gptq(const struct rule_case *c, char *what, size_t size)
{
    snprintf(what, size, "the base's quant_method is gptq");
    return !strcmp(c->m->quant_method, "gptq");
}

static bool base_is_replicated(const struct rule_case *c, char *what, size_t size)
{
    snprintf(what, size, "the daemon runs with --layer-replication");
    return c->m->replicated;
}

static bool is_gptq(const struct rule_case *c, const struct module *mod)
{
    (void)c;
    return !strcmp(mod->backend->name, "gptq");
}

static bool targets_gptq(const struct rule_case *c, char *what, size_t size)
{
    return name_modules(c, is_gptq, what, size);
}

static bool cannot_requantize(const struct rule_case *c, const struct module *mod)
{
    return !c->options->dense && !mod->backend->requantize;
}

static bool targets_unmergeable(const struct rule_case *c, char *what, size_t size)
{
    return name_modules(c, cannot_requantize, what, size);
}

/* A 1x1 kernel's merged form is PEFT's forward too. */
static bool is_peft_convolution(const struct rule_case *c, const struct module *mod)
{
    return c->m->conv2d_peft && module_has_windows(mod);
}

static bool targets_peft_convolution(const struct rule_case *c, char *what, size_t size)
{
    return name_modules(c, is_peft_convolution, what, size);
}

static bool biases_collide(const struct rule_case *c, char *what, size_t size)
{
    const struct adapter *first, *second;
    if (!adapter_biases_collide(c->adapters, c->n, &first, &second))
        return false;
    snprintf(what, size, "%s and %s both replace biases", first->name, second->name);
    return true;
}

static bool heads_collide(const struct rule_case *c, char *what, size_t size)
{
    const struct adapter *first, *second;
    if (!adapter_heads_collide(c->adapters, c->n, &first, &second))
        return false;
    snprintf(what, size, "%s and %s both bring one along", first->name, second->name);
    return true;
}

static bool is_non_finite(const struct rule_case *c, char *what, size_t size)
{
    if (!c->non_finite || !c->options->safe)
        return false;
    snprintf(what, size, "%s", c->m->modules[c->module].name);
    return true;
}

static bool is_above_bound(const struct rule_case *c, char *what, size_t size)
{
    if (c->options->max_rel_fro < 0 || c->report->rel_fro_max <= c->options->max_rel_fro)
        return false;
    snprintf(what, size, "rel_fro is %.6g, the bound is %.6g", c->report->rel_fro_max,
             c->options->max_rel_fro);
    return true;
}

static const struct merge_rule {
    enum rule_stage stage;
    enum status code;
    bool (*broken)(const struct rule_case *c, char *what, size_t size);
    const char *sentence;
} rules[] = {
    {RULES_BASE, ST_MERGE_FORBIDDEN_GPTQ, base_is_gptq,
     "adapters cannot be merged into a GPTQ model"},
    {RULES_BASE, ST_MERGE_FORBIDDEN_LAYER_REPLICATION, base_is_replicated,
     "adapters cannot be merged when layers are replicated: one stored weight would need two "
     "values"},
    {RULES_ADAPTERS, ST_MERGE_FORBIDDEN_GPTQ, targets_gptq,
     "adapters cannot be merged into GPTQ modules"},
    {RULES_ADAPTERS, ST_MERGE_UNSUPPORTED_BACKEND, targets_unmergeable,
     "the back end cannot requantize; merge into float16, bfloat16 or float32 instead"},
    {RULES_ADAPTERS, ST_MERGE_UNSUPPORTED_BACKEND, targets_peft_convolution,
     "with --conv2d peft a merged convolution would differ from the unmerged one"},
    {RULES_ADAPTERS, ST_BIAS_CONFLICT, biases_collide,
     "at most one of the adapters may replace biases"},
    {RULES_ADAPTERS, ST_MODULES_TO_SAVE_UNSUPPORTED, heads_collide,
     "at most one of the adapters may bring a classification head along (modules_to_save)"},
    {RULES_MODULE, ST_MERGE_NON_FINITE, is_non_finite, "the merged weight holds NaN or Inf"},
    {RULES_REPORT, ST_MERGE_ERROR_ABOVE_BOUND, is_above_bound,
     "the merge error is above the bound"},
};

enum status rules_check(enum rule_stage stage, const struct rule_case *c, struct error *err)
{
    char what[400];
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].stage == stage && rules[i].broken(c, what, sizeof what))
            return error_set(err, rules[i].code, "%s: %s", rules[i].sentence, what);
    return ST_OK;
}
