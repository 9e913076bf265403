/* Owns the copying: nothing in a snapshot is borrowed. */
#include "core/adapters/listing.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/grow.h"

void adapter_info_clear(struct adapter_info *info)
{
    free(info->name);
    free(info->path);
    free(info->block_sizes);
    free(info->error);
    findings_clear(&info->warnings);
    memset(info, 0, sizeof *info);
}

static void copy_findings(struct findings *to, const struct findings *from)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct finding *x = &from->v[i];
        findings_add(to, x->severity, x->code, x->module, x->field, x->expected, x->got, "%s",
                     x->message ? x->message : status_text(x->code));
    }
    to->lost |= from->lost;
}

static int64_t real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool copy_adapter(struct adapter_info *out, const struct adapter *a)
{
    memcpy(out->digest, a->digest_text, DIGEST_TEXT);
    out->generation = a->generation;
    out->packed_bytes = a->packed_bytes;
    out->rotation_bytes = a->rotation_bytes;
    out->in_flight = atomic_load(&a->in_flight);
    out->matched = a->n_matched;
    out->total = a->n_total;
    out->neumann = a->neumann;
    out->terms = a->terms;
    out->orthogonality_defect = a->orthogonality_defect;
    int64_t used = atomic_load(&a->last_used);
    if (used)
        out->last_used = (double)(real_now() - slots_now() + used) / 1e3;
    out->n_block_sizes = a->n_block_sizes;
    out->block_sizes = malloc((a->n_block_sizes + 1) * sizeof *out->block_sizes);
    if (out->block_sizes)
        memcpy(out->block_sizes, a->block_sizes, a->n_block_sizes * sizeof *out->block_sizes);
    out->path = strdup(a->path);
    copy_findings(&out->warnings, &a->warnings);
    return out->block_sizes && out->path;
}

bool listing_describe(const struct table *t, const struct slot *s, struct adapter_info *out)
{
    memset(out, 0, sizeof *out);
    out->state = s->a ? ADAPTER_READY : s->mark;
    out->pinned = s->pinned;
    out->name = strdup(s->name);
    out->error = s->error ? strdup(s->error) : NULL;
    bool whole = out->name && (!s->error || out->error) && (!s->a || copy_adapter(out, s->a));
    if (whole && t && s->a)
        out->rotation_bytes += slots_derived_bytes(t, s->a);
    if (!whole)
        adapter_info_clear(out);
    return whole;
}

static struct adapter_info *listing_slot(struct listing *l)
{
    if (!GROW(l->v, l->cap, l->n + 1, 16))
        return NULL;
    return memset(&l->v[l->n], 0, sizeof l->v[0]);
}

void listing_clear(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        adapter_info_clear(&l->v[i]);
    free(l->v);
}

/* A folder in a root that is not loaded; the same name may come again from a later root. */
static bool add_available(void *ctx, const char *name, const char *path)
{
    struct listing *l = ctx;
    struct adapter_info *info = listing_slot(l);
    if (!info || !(info->name = strdup(name)) || !(info->path = strdup(path))) {
        if (info)
            adapter_info_clear(info);
        l->failed = true;
        return false;
    }
    info->state = ADAPTER_AVAILABLE;
    l->n++;
    return true;
}

static int compare_infos(const void *a, const void *b)
{
    const struct adapter_info *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : (int)x->state - (int)y->state; // AVAILABLE comes last
}

void listing_sort(struct listing *l)
{
    size_t n = 0;
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, compare_infos);
    for (size_t i = 0; i < l->n; i++)
        if (n && !strcmp(l->v[n - 1].name, l->v[i].name))
            adapter_info_clear(&l->v[i]);
        else
            l->v[n++] = l->v[i];
    l->n = n;
}

void listing_add(struct listing *l, const struct table *t)
{
    for (size_t i = 0; i < t->named.n && !l->failed; i++) {
        struct adapter_info *info = listing_slot(l);
        l->failed = !info || !listing_describe(t, &t->named.v[i], info);
        l->n += !l->failed;
    }
}

void listing_add_available(struct listing *l, const struct roots *roots)
{
    if (!l->failed)
        roots_each(roots, registry_name_valid, add_available, l);
}
