#include "core/run/batch.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/run/forward.h"

enum status step_open(struct step *s, int32_t vocab, int32_t max_rows, int32_t max_sequences,
                      bool can_draw, struct error *err)
{
    size_t rows = (size_t)max_rows, sequences = (size_t)max_sequences;
    *s = (struct step){.max_rows = max_rows,
                       .max_sequences = max_sequences,
                       .slots = max_sequences + ECHO_ROWS,
                       .can_draw = can_draw,
                       .vocab = vocab};
    s->items = calloc(sequences, sizeof *s->items);
    s->logits = memory_alloc((size_t)s->slots * (size_t)(vocab + 1) * sizeof *s->logits);
    s->draws = calloc((size_t)s->slots, sizeof *s->draws);
    for (int32_t i = 0; s->draws && i < s->slots; i++)
        s->draws[i].token = DRAW_NOT_YET;
    s->tokens = calloc(rows, sizeof *s->tokens);
    s->types = calloc(rows, sizeof *s->types);
    s->positions = calloc(rows, sizeof *s->positions);
    s->pages = calloc(rows, sizeof *s->pages);
    s->lengths = calloc(rows, sizeof *s->lengths);
    s->ends = calloc(rows, sizeof *s->ends);
    s->outputs = calloc(rows, sizeof *s->outputs);
    s->groups = calloc(sequences, sizeof *s->groups);
    if (s->items && s->logits && s->draws && s->tokens && s->types && s->positions && s->pages &&
        s->lengths && s->ends && s->outputs && s->groups)
        return ST_OK;
    step_close(s);
    return error_memory(err, "the rows of a step");
}

void step_close(struct step *s)
{
    free(s->items);
    memory_free(s->logits);
    free(s->draws);
    free(s->tokens);
    free(s->types);
    free(s->positions);
    free(s->pages);
    free(s->lengths);
    free(s->ends);
    free(s->outputs);
    free(s->groups);
    *s = (struct step){0};
}

static bool same_pass(const struct sequence *a, const struct sequence *b)
{
    return a->route->view == b->route->view && a->route->compute == b->route->compute;
}

static bool same_group(const struct sequence *a, const struct sequence *b)
{
    return !memcmp(a->route->key, b->route->key, PREFIX_KEY);
}

static int compare(const void *pa, const void *pb)
{
    const struct sequence *a = *(struct sequence *const *)pa, *b = *(struct sequence *const *)pb;
    const struct route *ra = a->route, *rb = b->route;
    if (ra->view->id != rb->view->id)
        return ra->view->id < rb->view->id ? -1 : 1;
    if (ra->compute != rb->compute)
        return ra->compute < rb->compute ? -1 : 1;
    int key = memcmp(ra->key, rb->key, PREFIX_KEY);
    if (key)
        return key;
    return a->order < b->order ? -1 : a->order > b->order;
}

void step_collect(struct step *s, struct sequence *const *running, int32_t n)
{
    s->n_items = 0;
    s->used = 0;
    for (int32_t i = 0; i < n; i++)
        if (running[i]->rows > 0)
            s->items[s->n_items++] = running[i];
    if (s->n_items > 1)
        qsort(s->items, (size_t)s->n_items, sizeof *s->items, compare);
}

void step_prompt_rows(const struct sequence *q, int32_t *from, int32_t *end)
{
    *from = *end = q->computed;
    if (q->request->kind != REQUEST_GENERATE || !q->per_position)
        return;
    int32_t last = q->computed + q->rows;
    *end = last < q->prompt_len - 1 ? last : q->prompt_len - 1;
    *from = q->computed > q->wanted ? q->computed : q->wanted;
    if (*end < *from)
        *end = *from;
}

/* Where position pos (row `row` of the pass) of q delivers. */
static bool output(struct step *s, const struct sequence *q, int32_t pos, struct row_output *out)
{
    *out = (struct row_output){0};
    if (q->request->kind == REQUEST_FORWARD)
        return pos >= q->wanted && forward_output(q, pos, out);
    int32_t from, end;
    step_prompt_rows(q, &from, &end);
    if ((pos < from || pos >= end) && pos < q->len - 1)
        return false;
    struct draw *draw = &s->draws[s->used];
    if (s->can_draw && sequence_draws(q, draw) && pos == q->len - 1)
        out->draw = draw;
    out->logits = step_logits(s, s->used++);
    return true;
}

int32_t step_pass(struct step *s, int32_t first, const struct kv *kv, struct batch *b)
{
    int32_t i = first, rows = 0, n_outputs = 0, n_groups = 0;
    bool typed = false;
    for (; i < s->n_items && same_pass(s->items[i], s->items[first]); i++) {
        struct sequence *q = s->items[i];
        struct row_group *g = &s->groups[n_groups - 1];
        if (i == first || !same_group(q, s->items[i - 1])) {
            g = &s->groups[n_groups++];
            *g = (struct row_group){
                .first = rows, .n = q->route->n_adapted, .adapted = q->route->adapted};
        }
        g->count += q->rows;
        q->slot = s->used;
        typed |= q->types != NULL;
        for (int32_t pos = q->computed; pos < q->computed + q->rows; pos++, rows++) {
            s->tokens[rows] = q->tokens[pos];
            s->types[rows] = q->types ? q->types[pos] : 0;
            s->positions[rows] = pos;
            s->pages[rows] = q->pages;
            s->lengths[rows] = sequence_turns_by(q, pos);
            s->ends[rows] = q->len;
            if (output(s, q, pos, &s->outputs[n_outputs]))
                s->outputs[n_outputs++].row = rows;
        }
    }
    *b = (struct batch){
        .view = s->items[first]->route->view,
        .rows = rows,
        .tokens = s->tokens,
        .types = typed ? s->types : NULL,
        .at = {rows, s->positions, s->pages, s->items[first]->whole ? s->ends : NULL},
        .lengths = s->lengths,
        .kv = kv,
        .groups = s->groups,
        .n_groups = n_groups,
        .outputs = s->outputs,
        .n_outputs = n_outputs};
    return i;
}
