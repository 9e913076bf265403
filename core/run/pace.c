#include "core/run/pace.h"

#include <stdlib.h>

/* Of a step whose rows nobody has timed yet. */
#define FIRST_ROWS 16
/* Steps with prompt rows after which one without them shows again what it takes. */
#define LONG 64
/* How much more the square of those who read weighs than those who generate. */
#define CROWD 2
/* A new time counts one part in so many, and as at most RISE times the old one. */
#define PARTS 4
#define RISE  2

bool pace_open(struct pace *p, double stretch, int32_t most_sequences)
{
    *p = (struct pace){.stretch = stretch, .most = most_sequences};
    p->generate = calloc((size_t)most_sequences + 1, sizeof *p->generate);
    return p->generate != NULL;
}

void pace_close(struct pace *p)
{
    free(p->generate);
    *p = (struct pace){0};
}

int32_t pace_rows(const struct pace *p, int32_t generating, int32_t reading, int32_t most)
{
    if (!generating || p->stretch <= 0 || most < 1)
        return most;
    const struct pace_step *g = &p->generate[generating];
    if (g->ns <= 0 || g->age >= LONG)
        return 0;
    if (p->row <= 0)
        return most < FIRST_ROWS ? most : FIRST_ROWS;
    double share = reading > 1 ? (double)CROWD * reading * reading / generating : 1;
    double rows = (p->stretch - 1) * (share > 1 ? share : 1) * g->ns / p->row;
    if (rows < 1)
        return 1;
    return rows < most ? (int32_t)rows : most;
}

static void learn(double *known, double seen)
{
    if (*known <= 0)
        *known = seen;
    else
        *known += ((seen < RISE * *known ? seen : RISE * *known) - *known) / PARTS;
}

void pace_note(struct pace *p, int32_t generating, int32_t rows, int64_t ns)
{
    if (!generating)
        return;
    struct pace_step *g = &p->generate[generating];
    double took = ns > 0 ? (double)ns : 1;
    if (!rows) {
        learn(&g->ns, took);
        g->age = 0;
        return;
    }
    g->age++;
    if (g->ns > 0 && took > g->ns)
        learn(&p->row, (took - g->ns) / rows);
}
