/*
 * Owns names: patterns of the family table with their layer filled in, and the list of everything
 * else that named_modules of the reference would yield, because a regular expression of
 * target_modules is matched against all of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/build.h"

const char *names_make(struct model *m, const char *pattern, int32_t layer, int32_t expert)
{
    char buf[FAMILY_NAME_MAX];
    return arena_strdup(&m->config->arena, family_name(pattern, layer, expert, buf, sizeof buf));
}

/* ---- in the file ---- */

/* The pattern with the older files' word for the layers, in buf, if this is one of them. */
static const char *dated(const struct model *m, const char *pattern, char buf[FAMILY_NAME_MAX])
{
    const struct family *f = m->config->family;
    size_t n = strlen(f->layers);
    if (!m->config->old_layers || strncmp(pattern, f->layers, n) != 0)
        return pattern;
    snprintf(buf, FAMILY_NAME_MAX, "%s%s", f->other_layers, pattern + n);
    return buf;
}

/* Past the family's prefix if the file leaves it out. */
static const char *bare(const struct model *m, const char *pattern)
{
    const char *prefix = m->config->family->prefix;
    size_t n = strlen(prefix);
    return m->config->bare && !strncmp(pattern, prefix, n) ? pattern + n : pattern;
}

/* Past the family's prefix, if the pattern has it. */
static const char *unprefixed(const struct family *f, const char *pattern)
{
    size_t n = strlen(f->prefix);
    return strncmp(pattern, f->prefix, n) ? pattern : pattern + n;
}

/* The backbone by itself has no prefix where it is a class of its own; its classifiers have. */
static bool bare_class(const struct model *m)
{
    return m->config->family->bare_names && !m->config->classifier_kind;
}

const char *names_canonical(const struct model *m, const char *pattern)
{
    return bare_class(m) ? unprefixed(m->config->family, pattern) : pattern;
}

const char *names_alias(const struct model *m, const struct family_module *row)
{
    const struct family *f = m->config->family;
    const char *other = bare_class(m) ? row->name : unprefixed(f, row->name);
    return row->alias || !f->bare_names || unprefixed(f, row->name) == row->name ? row->alias
                                                                                 : other;
}

char *names_norm(const struct model *m, const char *pattern, int32_t layer, char *buf, size_t size)
{
    char old[FAMILY_NAME_MAX];
    return family_name(bare(m, dated(m, pattern, old)), layer, -1, buf, size);
}

char *names_beside(const char *name, const char *last, char buf[FAMILY_NAME_MAX])
{
    const char *dot = strrchr(name, '.');
    snprintf(buf, FAMILY_NAME_MAX, "%.*s%s", dot ? (int)(dot + 1 - name) : 0, name, last);
    return buf;
}

static bool in_file(const struct model *m, const struct checkpoint *cp, const char *pattern,
                    int32_t layer, int32_t expert, char *buf, size_t size)
{
    size_t n;
    return pattern &&
           checkpoint_below(cp, family_name(bare(m, pattern), layer, expert, buf, size), &n);
}

char *names_file(const struct model *m, const struct checkpoint *cp,
                 const struct family_module *row, int32_t layer, int32_t expert, char *buf,
                 size_t size)
{
    if (in_file(m, cp, row->file, layer, expert, buf, size) ||
        in_file(m, cp, row->alias, layer, expert, buf, size))
        return buf;
    return family_name(bare(m, row->name), layer, expert, buf, size);
}

bool names_bare(const struct model *m, const struct checkpoint *cp)
{
    const char *prefix = m->config->family->prefix;
    char name[FAMILY_NAME_MAX];
    size_t n;
    snprintf(name, sizeof name, "%.*s", (int)strlen(prefix) - 1, prefix);
    return !checkpoint_below(cp, name, &n);
}

bool names_old_layers(const struct model *m, const struct checkpoint *cp)
{
    const struct family *f = m->config->family;
    size_t n;
    return f->other_layers && !checkpoint_below(cp, bare(m, f->layers), &n) &&
           checkpoint_below(cp, bare(m, f->other_layers), &n);
}

/* ---- of modules ---- */

static int by_module_name(const void *a, const void *b)
{
    const struct module_name *x = a, *y = b;
    return strcmp(x->name, y->name);
}

enum status names_sort(struct model *m)
{
    struct model_config *c = m->config;
    c->by_name = arena_alloc(&c->arena, 2 * m->n_modules * sizeof *c->by_name);
    if (!c->by_name)
        return ST_OUT_OF_MEMORY;
    for (size_t i = 0; i < m->n_modules; i++) {
        c->by_name[c->n_names++] = (struct module_name){m->modules[i].name, (int32_t)i};
        if (m->modules[i].alias)
            c->by_name[c->n_names++] = (struct module_name){m->modules[i].alias, (int32_t)i};
    }
    qsort(c->by_name, c->n_names, sizeof *c->by_name, by_module_name);
    return ST_OK;
}

int32_t model_module(const struct model *m, const char *name)
{
    const struct model_config *c = m->config;
    const struct module_name key = {name, -1};
    const struct module_name *found =
        bsearch(&key, c->by_name, c->n_names, sizeof key, by_module_name);
    return found ? found->module : -1;
}

/* ---- of other modules ---- */

/* Calls each with every name that is no module of ours, once or several times; stops at false. */
typedef bool name_visitor(void *ctx, const char *name, size_t len);

static bool visit_ancestors(const char *name, name_visitor *each, void *ctx)
{
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.'))
        if (!each(ctx, name, (size_t)(dot - name)))
            return false;
    return true;
}

static bool visit_pattern(const struct model *m, const char *pattern, name_visitor *each, void *ctx)
{
    int32_t copies = family_per_layer(pattern) ? m->layers : 1;
    char buf[FAMILY_NAME_MAX];
    for (int32_t l = 0; l < copies; l++) {
        int32_t most = family_per_expert(pattern) ? build_repeats(m, m->config->layers[l].base) : 1;
        for (int32_t e = 0; e < most; e++) {
            family_name(pattern, l, e, buf, sizeof buf);
            if (!visit_ancestors(buf, each, ctx) || !each(ctx, buf, strlen(buf)))
                return false;
        }
    }
    return true;
}

static bool visit_all(const struct model *m, name_visitor *each, void *ctx)
{
    const struct family *f = m->config->family;
    char buf[FAMILY_NAME_MAX], prefixed[FAMILY_NAME_MAX];
    for (size_t i = 0; i < m->n_modules; i++) {
        const char *norm = m->config->rows[i]->norm;
        if (!visit_ancestors(m->modules[i].name, each, ctx))
            return false;
        if (norm && !visit_pattern(m, names_beside(m->modules[i].name, norm, buf), each, ctx))
            return false;
    }
    for (const struct family_norm *n = f->norms; n->name; n++)
        if (build_holds(m, n->when, -1) &&
            !visit_pattern(m, names_canonical(m, n->name), each, ctx))
            return false;
    for (const char *const *name = f->other_names; *name; name++) {
        bool bare_list = f->bare_names && !bare_class(m);
        snprintf(prefixed, sizeof prefixed, "%s%s", bare_list ? f->prefix : "", *name);
        if (!visit_pattern(m, prefixed, each, ctx))
            return false;
    }
    return true;
}

struct list {
    struct arena *arena;
    const char **v; /* NULL: only count */
    size_t n;
};

static bool add(void *ctx, const char *name, size_t len)
{
    struct list *l = ctx;
    if (l->v && !(l->v[l->n] = arena_strndup(l->arena, name, len)))
        return false;
    l->n++;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum status names_others(struct model *m)
{
    struct list l = {.arena = &m->config->arena};
    size_t n = 0;
    visit_all(m, add, &l);
    l.v = arena_alloc(l.arena, (l.n + 1) * sizeof *l.v);
    l.n = 0;
    if (!l.v || !visit_all(m, add, &l))
        return ST_OUT_OF_MEMORY;
    qsort(l.v, l.n, sizeof *l.v, by_name);
    for (size_t i = 0; i < l.n; i++)
        if (i == 0 || strcmp(l.v[i], l.v[i - 1]))
            l.v[n++] = l.v[i];
    m->other_names = l.v;
    m->n_other_names = n;
    return ST_OK;
}
