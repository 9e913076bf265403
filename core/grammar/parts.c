/*
 * Owns the answer to "which tokens may come?". It is asked of the top of a stack first:
 * part(state, -1) is what the spellings hold for a text that is in `state` of some rule: the tokens
 * that stay within this rule, and the exits, nodes of the spellings where the rule may have ended.
 * The stack below goes on from all these exits at once, part(below, p), and so on down. What all
 * strings of a JSON text may hold is found once, wherever a string stands.
 *
 *   allowed(stack) = tokens of p + tokens of q + ...   p = part(top, -1), q = part(below, p), ...
 *
 * A part costs a walk over the spellings. States of a counted repetition are many, and would cost
 * one each; they are a family (shift.h): one walk from the root notes of every token how many
 * shifts it survives, and the part of the n-th shift is the tokens that survive n. Where a walk
 * comes to what the shift does not know, it is a break: there the n-th shift walks by itself.
 * In a repetition of repetitions the states differ in two counts; the longer one makes the
 * families.
 */
#include <stdlib.h>
#include <string.h>

#include "core/grammar/tables.h"

#define WHOLE      (-1)
#define NO_FAMILY  (-1)
#define BETWEEN    (-2)    /* members of one */
#define FAMILY_MIN 3       /* states, to be one */
#define BREAKS_MAX 20000   /* nodes below those of one shift; with more it is walked by itself */
#define BREAK_WORK 1000000 /* of one family */
#define FIND_WORK  64      /* edges looked at, a state */
#define WARM_NODES 6000000 /* of the spellings, when a grammar is compiled */
#define WARM_STATE 200     /* what a state costs anyway, in nodes */

struct part {
    int32_t state, source; /* WHOLE, or the part whose exits it goes on from */
    int32_t same;          /* the part that holds what this one does */
    int32_t n_tokens;
    int32_t *tokens; /* or bits */
    uint64_t *bits;
    int32_t n_exits, *exits; /* that tokens go on from; none if no rule calls this one */
};

struct family {
    int32_t seed, image, root, length; /* image below 0: the shift is turned */
    int32_t *found;                    /* what follows lies there; NULL: not walked yet */
    int32_t *tokens,
        *exits; /* the longest lived first; how many survive i shifts is [length - 1 - i] of */
    int32_t *tokens_to, *exits_to;
    int32_t *breaks, *breaks_to; /* pairs of node and state; those of shift i end at [i] */
    int32_t *n_breaks;           /* [length] nodes below them; above BREAKS_MAX: do not use them */
};

static struct part *part_at(const struct tables *t, int32_t i)
{
    return (struct part *)t->parts.v + i;
}

static struct family *family_at(const struct tables *t, int32_t i)
{
    return (struct family *)t->families.v + i;
}

/* ---- walking ---- */

static bool add_exit(struct tables *t, int32_t node)
{
    return t->s->nodes[node].leap == node + 1 || tables_push(t, &t->exits, node);
}

static inline void add_token(uint64_t *bits, int32_t id)
{
    bits[id / 64] |= (uint64_t)1 << id % 64;
}

/* Adds the tokens below a node to `found`. */
static bool walk(struct tables *t, int32_t config, int32_t node, bool exits)
{
    const struct spelling_node *nodes = t->s->nodes;
    int32_t base = nodes[node].depth, end = nodes[node].leap;
    if (exits && tables_config_at(t, config)->ends && !add_exit(t, node))
        return false;
    t->way[0].config = config;
    for (int32_t u = node + 1; u < end; t->walked++) {
        const struct spelling_node *x = &nodes[u];
        int32_t next = tables_step(t, t->way[x->depth - base - 1].config, x->byte);
        if (next <= DEAD) {
            if (next != DEAD)
                return false;
            u = x->leap;
            continue;
        }
        t->way[x->depth - base].config = next;
        for (int32_t i = x->tokens; i < x[1].tokens; i++)
            add_token(t->found, t->s->ids[i]);
        if (exits && tables_config_at(t, next)->ends && !add_exit(t, u))
            return false;
        u++;
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Two ways may have led to one exit. */
static void sort_exits(struct tables *t)
{
    int32_t *v = t->exits.v;
    size_t n = 0;
    if (t->exits.n)
        qsort(v, t->exits.n, sizeof *v, by_number);
    for (size_t i = 0; i < t->exits.n; i++)
        if (!n || v[n - 1] != v[i])
            v[n++] = v[i];
    t->exits.n = n;
}

static void begin(struct tables *t)
{
    memset(t->found, 0, tables_words(t) * sizeof *t->found);
    t->exits.n = 0;
}

/* spelling_bit of each byte that leads on from a config; 0: failed, or none does. */
static uint32_t live_bits(struct tables *t, int32_t config)
{
    uint32_t bits = 0;
    for (int byte = 0; byte < 256; byte++) {
        int32_t next = tables_step(t, config, (uint8_t)byte);
        if (next < 0)
            return 0;
        bits |= next != DEAD ? spelling_bit((uint8_t)byte) : 0;
    }
    return bits;
}

static bool walk_exits(struct tables *t, const struct part *from, int32_t config, bool exits)
{
    uint32_t live = live_bits(t, config);
    bool ends = exits && tables_config_at(t, config)->ends;
    for (int32_t i = 0; i < from->n_exits && !t->status; i++)
        if ((ends || t->s->nodes[from->exits[i]].next & live) &&
            !walk(t, config, from->exits[i], exits))
            return false;
    sort_exits(t);
    return !t->status;
}

static bool walk_part(struct tables *t, const struct part *p)
{
    int32_t config = tables_config(t, p->state);
    bool exits = p->state >= t->exits_from;
    begin(t);
    if (config < 0)
        return false;
    if (p->source == WHOLE)
        return walk(t, config, 0, exits);
    return walk_exits(t, part_at(t, p->source), config, exits);
}

/* ---- families ---- */

/* Where the text of the way down to depth leads from the shift-th of the chain; -1: nowhere. */
static int32_t shifted(const struct tables *t, int32_t shift, int32_t depth)
{
    int32_t state = t->shift.chain[shift];
    for (int32_t i = 1; i <= depth && state >= 0; i++)
        state = automaton_step(t->a, state, t->s->nodes[t->way[i].node].byte);
    return state;
}

/* The text down to depth survives `from` to `to` shifts as far as the shift knows. */
static bool add_breaks(struct tables *t, int32_t *n_breaks, int32_t from, int32_t to, int32_t depth,
                       size_t *work)
{
    int32_t node = t->way[depth].node, below = t->s->nodes[node].leap - node;
    for (int32_t i = from; i < to && *work < BREAK_WORK; i++, ++*work) {
        int32_t state = n_breaks[i] <= BREAKS_MAX ? shifted(t, i, depth) : -1;
        if (state < 0)
            continue;
        n_breaks[i] += below;
        if (n_breaks[i] <= BREAKS_MAX &&
            (!tables_push(t, &t->break_keys, i) || !tables_push(t, &t->breaks, node) ||
             !tables_push(t, &t->breaks, state)))
            return false;
    }
    return true;
}

/* Shortens the life of the way to depth by what the state there says. */
static bool live(struct tables *t, int32_t *n_breaks, int32_t depth, size_t *work)
{
    struct way *w = &t->way[depth];
    bool broken;
    if (w->fixed)
        return true;
    int32_t state = tables_state(t, w->config);
    w->fixed = shift_fixed(&t->shift, state);
    int32_t life = shift_life(&t->shift, state, &broken), before = w->life;
    if (w->fixed || life >= before)
        return true;
    w->life = life;
    return !broken || add_breaks(t, n_breaks, life, before, depth, work);
}

/* Collects tokens and exits with what they lack of the whole life, and breaks with their shifts. */
static bool walk_family(struct tables *t, const struct family *f, int32_t *n_breaks)
{
    const struct spellings *s = t->s;
    int32_t config = tables_config(t, f->root);
    bool exits = f->root >= t->exits_from;
    size_t work = 0;
    t->tokens.n = t->token_keys.n = t->exits.n = t->exit_keys.n = 0;
    t->breaks.n = t->break_keys.n = 0;
    if (config < 0)
        return false;
    t->way[0] = (struct way){config, 0, f->length, false};
    if (exits && tables_config_at(t, config)->ends &&
        (!tables_push(t, &t->exits, 0) || !tables_push(t, &t->exit_keys, 0)))
        return false;
    for (int32_t u = 1; u < s->n_nodes; t->walked++) {
        const struct spelling_node *x = &s->nodes[u];
        struct way *w = &t->way[x->depth];
        int32_t next = tables_step(t, w[-1].config, x->byte);
        if (next == DEAD) {
            u = x->leap;
            continue;
        }
        *w = (struct way){next, u, w[-1].life, w[-1].fixed};
        if (next < 0 || !live(t, n_breaks, x->depth, &work))
            return false;
        for (int32_t i = x->tokens; i < x[1].tokens; i++)
            if (!tables_push(t, &t->tokens, s->ids[i]) ||
                !tables_push(t, &t->token_keys, f->length - w->life))
                return false;
        if (exits && tables_config_at(t, next)->ends && x->leap > u + 1 &&
            (!tables_push(t, &t->exits, u) || !tables_push(t, &t->exit_keys, f->length - w->life)))
            return false;
        u++;
    }
    for (int32_t i = 1; i < f->length && work >= BREAK_WORK; i++)
        n_breaks[i] = BREAKS_MAX + 1;
    return true;
}

/* Sorts entries of `each` numbers by keys below n_keys. to_key [n_keys]: where each key's end. */
static void sort_by(const struct array *keys, int32_t n_keys, const struct array *entries,
                    size_t each, int32_t *to, int32_t *to_key)
{
    const int32_t *key = keys->v, *from = entries->v;
    memset(to_key, 0, (size_t)n_keys * sizeof *to_key);
    for (size_t i = 0; i < keys->n; i++)
        to_key[key[i]]++;
    for (int32_t k = 1; k < n_keys; k++)
        to_key[k] += to_key[k - 1];
    for (size_t i = keys->n; i-- > 0;)
        memcpy(to + (size_t)--to_key[key[i]] * each, from + i * each, each * sizeof *to);
    memmove(to_key, to_key + 1, (size_t)(n_keys - 1) * sizeof *to_key); // where each begins, by now
    to_key[n_keys - 1] = (int32_t)keys->n;
}

static bool make_family(struct tables *t, struct family *f)
{
    size_t length = (size_t)f->length;
    int32_t *n_breaks = calloc(length, sizeof *n_breaks);
    if (!n_breaks)
        return tables_fail(t, ST_OUT_OF_MEMORY);
    shift_find(&t->shift, f->seed, f->image);
    if (f->image < 0)
        shift_turn(&t->shift);
    else
        shift_root(&t->shift, f->root);
    bool ok = walk_family(t, f, n_breaks);
    size_t n = t->tokens.n + t->exits.n + t->breaks.n + 4 * length;
    int32_t *v = ok ? malloc(n * sizeof *v) : NULL;
    if (v) {
        t->used += n * sizeof *v;
        f->found = f->n_breaks = memcpy(v, n_breaks, length * sizeof *v);
        f->tokens_to = f->n_breaks + length;
        f->exits_to = f->tokens_to + length;
        f->breaks_to = f->exits_to + length;
        f->tokens = f->breaks_to + length;
        f->exits = f->tokens + t->tokens.n;
        f->breaks = f->exits + t->exits.n;
        sort_by(&t->token_keys, f->length, &t->tokens, 1, f->tokens, f->tokens_to);
        sort_by(&t->exit_keys, f->length, &t->exits, 1, f->exits, f->exits_to);
        sort_by(&t->break_keys, f->length, &t->breaks, 2, f->breaks, f->breaks_to);
    }
    free(n_breaks);
    return v || (ok ? tables_fail(t, ST_OUT_OF_MEMORY) : false);
}

static int32_t part_of(struct tables *t, int32_t state, int32_t source);

/* The tokens of the family that survive i shifts, from none or from all, whatever is nearer. */
static bool add_living(struct tables *t, const struct family *f, int32_t i)
{
    int32_t n = f->tokens_to[f->length - 1 - i], all = f->tokens_to[f->length - 1];
    begin(t);
    if (i && 2 * n > all) {
        int32_t at = part_of(t, f->root, WHOLE);
        if (at < 0)
            return false;
        begin(t);
        const struct part *root = part_at(t, at);
        if (root->bits) {
            memcpy(t->found, root->bits, tables_words(t) * sizeof *t->found);
            for (int32_t k = n; k < all; k++)
                t->found[f->tokens[k] / 64] &= ~((uint64_t)1 << f->tokens[k] % 64);
            return true;
        }
    }
    for (int32_t k = 0; k < n; k++)
        add_token(t->found, f->tokens[k]);
    return true;
}

static bool part_of_family(struct tables *t, const struct family *f, int32_t i, struct part *p)
{
    int32_t last = f->length - 1, n = f->exits_to[last - i];
    int32_t from = i ? f->breaks_to[i - 1] : 0, to = f->breaks_to[i];
    bool exits = p->state >= t->exits_from;
    if (i && f->tokens_to[last - i] == f->tokens_to[last] && n == f->exits_to[last] && from == to) {
        p->same = part_of(t, f->root, WHOLE);
        return p->same >= 0;
    }
    if (!add_living(t, f, i))
        return false;
    for (int32_t k = 0; k < n; k++)
        if (!tables_push(t, &t->exits, f->exits[k]))
            return false;
    for (int32_t k = from; k < to; k++) {
        int32_t node = f->breaks[2 * k], config = tables_config(t, f->breaks[2 * k + 1]);
        for (int32_t x = t->s->nodes[node].tokens; x < t->s->nodes[node + 1].tokens; x++)
            add_token(t->found, t->s->ids[x]);
        if (config < 0 || !walk(t, config, node, exits))
            return false;
    }
    return true;
}

/* ---- parts ---- */

static uint64_t hash(int32_t state, int32_t source)
{
    return tables_mix(tables_mix(1, (uint64_t)state), (uint64_t)source);
}

static uint64_t part_hash(const struct tables *t, int32_t i)
{
    return hash(part_at(t, i - 1)->state, part_at(t, i - 1)->source);
}

/* Where the index has the part, or would have it. */
static size_t slot(const struct tables *t, int32_t state, int32_t source)
{
    size_t mask = t->part_index.size - 1, at = hash(state, source) & mask;
    for (; t->part_index.v[at]; at = (at + 1) & mask) {
        const struct part *p = part_at(t, t->part_index.v[at] - 1);
        if (p->state == state && p->source == source)
            break;
    }
    return at;
}

/* What the walk found, in as little room as it takes. */
static bool fill(struct tables *t, struct part *p)
{
    size_t words = tables_words(t), n = 0;
    for (size_t i = 0; i < words; i++)
        n += (size_t)__builtin_popcountll(t->found[i]);
    bool many = n > 2 * words;
    p->n_exits = (int32_t)t->exits.n;
    p->exits = malloc((t->exits.n + 1) * sizeof *p->exits);
    if (many)
        p->bits = malloc(words * sizeof *p->bits);
    else
        p->tokens = malloc((n + 1) * sizeof *p->tokens);
    if (!p->exits || (!p->bits && !p->tokens))
        return tables_fail(t, ST_OUT_OF_MEMORY);
    if (t->exits.n)
        memcpy(p->exits, t->exits.v, t->exits.n * sizeof *p->exits);
    if (many)
        memcpy(p->bits, t->found, words * sizeof *p->bits);
    for (size_t i = 0; i < words && !many; i++)
        for (uint64_t left = t->found[i]; left; left &= left - 1)
            p->tokens[p->n_tokens++] = (int32_t)(64 * i) + __builtin_ctzll(left);
    t->used +=
        t->exits.n * sizeof *p->exits + (many ? words * sizeof *p->bits : n * sizeof *p->tokens);
    return true;
}

static void part_free(struct part *p)
{
    free(p->tokens);
    free(p->bits);
    free(p->exits);
}

static bool make(struct tables *t, struct part *p)
{
    int32_t family = p->source == WHOLE ? t->family_of[p->state] : -1;
    if (family >= 0) {
        struct family *f = family_at(t, family);
        int32_t place = t->place_of[p->state];
        if (!f->found && !make_family(t, f))
            return false;
        if (f->n_breaks[place] <= BREAKS_MAX)
            return part_of_family(t, f, place, p) && (p->same >= 0 || fill(t, p));
    }
    return walk_part(t, p) && fill(t, p);
}

/* -1: failed */
static int32_t part_of(struct tables *t, int32_t state, int32_t source)
{
    struct part made = {.state = state, .source = source, .same = -1};
    if (t->part_index.size) {
        int32_t at = t->part_index.v[slot(t, state, source)] - 1;
        if (at >= 0)
            return part_at(t, at)->same;
    }
    bool ok = make(t, &made) && tables_index_grow(t, &t->part_index, part_hash);
    struct part *p = ok ? tables_extend(t, &t->parts, 1, sizeof *p) : NULL;
    if (!p) {
        part_free(&made);
        return -1;
    }
    int32_t at = (int32_t)t->parts.n - 1;
    made.same = made.same < 0 ? at : made.same;
    *p = made;
    t->part_index.v[slot(t, state, source)] = at + 1;
    t->part_index.n++;
    return made.same;
}

bool parts_allow(struct tables *t, int32_t stack, uint64_t *allowed)
{
    for (int32_t source = WHOLE; stack; stack = tables_stack_at(t, stack)->below) {
        source = part_of(t, tables_stack_at(t, stack)->state, source);
        if (source < 0)
            return false;
        const struct part *p = part_at(t, source);
        for (size_t i = 0; p->bits && i < tables_words(t); i++)
            allowed[i] |= p->bits[i];
        for (int32_t i = 0; i < p->n_tokens; i++)
            add_token(allowed, p->tokens[i]);
        if (!p->n_exits)
            break;
    }
    return true;
}

/* ---- opening, emptying ---- */

/* The chain of the shift at hand becomes a family; its members from `first` on, as far as they have
 * none. */
static bool add_chain(struct tables *t, int32_t seed, int32_t image, int32_t first)
{
    const struct shift *x = &t->shift;
    struct family *f = tables_extend(t, &t->families, 1, sizeof *f);
    if (!f)
        return false;
    *f = (struct family){.seed = seed, .image = image, .root = x->chain[0], .length = x->length};
    for (int32_t i = first; i < f->length; i++)
        if (t->family_of[x->chain[i]] < 0) {
            t->family_of[x->chain[i]] = (int32_t)t->families.n - 1;
            t->place_of[x->chain[i]] = i;
        }
    return true;
}

/* Where a repetition begins anew, its states differ by how often it may: all of them, for whatever
 * it repeats, become families by one shift. */
static bool add_rounds(struct tables *t, int32_t seed, int32_t image)
{
    struct shift *x = &t->shift;
    bool ok = true;
    for (size_t i = 0; i < x->n_met && ok; i++) {
        int32_t state = x->met[i];
        if (!shift_first(x, state) || !shift_moves(x, state) || t->family_of[state] >= 0)
            continue;
        shift_root(x, state);
        if (x->length >= FAMILY_MIN)
            ok = add_chain(t, seed, image, 0);
    }
    return ok;
}

/* Do texts from the root live about as long as it does, for a few bytes? */
static bool lives(const struct shift *x)
{
    int32_t root = x->chain[0];
    bool broken, good = x->length >= FAMILY_MIN;
    const struct automaton_state *s = &x->a->states[root];
    for (int32_t e = 0; e < s->n_bytes && good; e++)
        good = shift_life(x, x->a->byte_edges[s->bytes + e].to, &broken) >= x->length - 1;
    return good;
}

/* The shift of a state becomes a family, if it is long enough, the longer one of two guesses. What
 * its texts meet on the way from one member to the next is not looked at again. */
static bool add_family(struct tables *t, int32_t seed)
{
    struct shift *x = &t->shift;
    int32_t image = shift_round(x, seed, t->family_of), length;
    shift_find(x, seed, -1);
    length = x->length;
    if (image >= 0) {
        shift_find(x, seed, image);
        if (x->length > length && lives(x))
            return add_rounds(t, seed, image);
        shift_find(x, seed, -1);
    }
    if (length < FAMILY_MIN)
        return true;
    for (size_t i = 0; i < x->n_met; i++)
        if (t->family_of[x->met[i]] == NO_FAMILY && shift_moves(x, x->met[i]))
            t->family_of[x->met[i]] = BETWEEN;
    shift_turn(x);
    return add_chain(t, seed, -1, x->chain[0] != seed); // a root behind has a family of its own
}

static bool find_families(struct tables *t)
{
    size_t most = FIND_WORK * (size_t)t->a->n_states + WARM_NODES;
    for (int32_t i = 0; i < t->a->n_states; i++)
        t->family_of[i] = NO_FAMILY;
    for (int32_t i = 0; i < t->a->n_states && t->shift.work < most; i++) {
        if (t->family_of[i] == NO_FAMILY && !add_family(t, i))
            return false;
    }
    return true;
}

static bool calls_first(const struct automaton *a)
{
    for (int32_t i = 0; i < a->n_states; i++)
        for (int32_t e = 0; e < a->states[i].n_calls; e++)
            if (!a->call_edges[a->states[i].calls + e].rule)
                return true;
    return false;
}

bool parts_open(struct tables *t)
{
    size_t n = (size_t)t->a->n_states + 1;
    t->family_of = malloc(n * sizeof *t->family_of);
    t->place_of = calloc(n, sizeof *t->place_of);
    t->way = malloc(((size_t)t->s->deepest + 1) * sizeof *t->way);
    t->found = malloc((tables_words(t) + 1) * sizeof *t->found);
    if (!calls_first(t->a)) // rules lie one behind the other
        t->exits_from = t->a->n_rules > 1 ? t->a->starts[1] : t->a->n_states;
    return t->family_of && t->place_of && t->way && t->found &&
           !shift_open(t->a, &t->shift, NULL) && find_families(t);
}

void parts_empty(struct tables *t)
{
    struct array *arrays[] = {&t->parts,     &t->exits,  &t->tokens,    &t->token_keys,
                              &t->exit_keys, &t->breaks, &t->break_keys};
    for (size_t i = 0; i < t->parts.n; i++)
        part_free(part_at(t, (int32_t)i));
    for (size_t i = 0; i < t->families.n; i++) {
        free(family_at(t, (int32_t)i)->found);
        family_at(t, (int32_t)i)->found = NULL;
    }
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]->v);
        *arrays[i] = (struct array){0};
    }
    free(t->part_index.v);
    t->part_index = (struct index){0};
}

void parts_close(struct tables *t)
{
    shift_close(&t->shift);
    free(t->families.v);
    free(t->family_of);
    free(t->place_of);
    free(t->way);
    free(t->found);
}

/* Is it worth a part before a text comes there? Not the second time, when families are known. */
static bool likely(const struct tables *t, int32_t state, bool again)
{
    int32_t family = t->family_of[state], place = t->place_of[state];
    if (family < 0 || !place)
        return family != BETWEEN && !again;
    const struct family *f = family_at(t, family);
    return again && (!f->found || f->n_breaks[place] > BREAKS_MAX);
}

bool parts_warm(struct tables *t)
{
    size_t most = t->walked + WARM_NODES;
    for (int again = 0; again < 2; again++)
        for (int32_t i = 0; i < t->a->n_states && t->walked < most; i++) {
            if (!likely(t, i, again))
                continue;
            t->walked += WARM_STATE;
            if (part_of(t, i, WHOLE) < 0)
                return false;
        }
    return true;
}
