/*
 * How many prompt rows a step may read beside sequences that generate: so many that the step lasts
 * about `stretch` steps that only generate. Both times are learned from the steps themselves, so
 * that the bound holds for every model, machine, length of context and number of sequences; no time
 * is a constant here.
 *
 *     |gen|gen|gen|gen + 18 prompt rows|gen + 18 prompt rows|gen|gen|
 *              p50 ^    at most stretch x p50
 *
 *   generate   the time of a step that only generates, one for each number of sequences that do.
 *              Where it is not known, or was not seen for long, the next step reads no prompt and
 *              shows it.
 *   row        what a prompt row adds to such a step; until it is known a step reads FIRST_ROWS.
 *
 * Where many read, one waits for the other, so that what they wait in all grows with the square of
 * their number: where twice that is more than the number of those who generate, the prompts' part
 * of the time grows by the ratio, and a crowd that comes at once is read as fast as it can be.
 * Nobody starves: a step that generates is asked for at most once in so many, and every other reads
 * a row at least. With nobody generating a step reads all it can.
 *
 * A step that the system held up is no measure: an estimate falls as fast as what is seen, and
 * rises by a part of itself at most.
 */
#ifndef OFTD_CORE_RUN_PACE_H
#define OFTD_CORE_RUN_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    double stretch; /* 0: steps take as long as they take */
    int32_t most;   /* sequences */
    double row;     /* ns; 0: not known */
    struct pace_step {
        double ns;   /* 0: not known */
        int32_t age; /* steps of so many that were measured otherwise since */
    } * generate;    /* [most + 1] */
};

/* Of at most so many sequences; false: no memory. To be closed, also after a failure. */
bool pace_open(struct pace *p, double stretch, int32_t most_sequences);
void pace_close(struct pace *p);

/* Prompt rows of the next step, 0 to `most`, where so many sequences generate and read. */
int32_t pace_rows(const struct pace *p, int32_t generating, int32_t reading, int32_t most);
/* A step of so many generating sequences and prompt rows took ns. */
void pace_note(struct pace *p, int32_t generating, int32_t rows, int64_t ns);

#endif
