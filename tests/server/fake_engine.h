/*
 * A stand-in for core/engine.h, so that the server's tests need no model: one thread gives every
 * generating ticket a token a step. Programs that include fake_engine.c are linked with it instead
 * of the engine's objects.
 */
#ifndef OFTD_TESTS_SERVER_FAKE_ENGINE_H
#define OFTD_TESTS_SERVER_FAKE_ENGINE_H

#include <pthread.h>

#include "core/engine.h"

/*
 * Ready at once; the base is "base", adapters "alpha" and "beta" are loaded, "late" can be loaded.
 * "beta" brings a classification head of one label along.
 * Generation: token i is "tI " with id i; with the prompt text
 *   "fail"   the ticket ends with INTERNAL before a token
 *   "broken" the same after two tokens
 *   "nan"    (forward) the result holds a NaN
 * A conversation says its last message again, three bytes a token, "fail" and "broken" apart;
 * rendered it is its variables as JSON. The template of tools is that of Hermes.
 */
struct engine *fake_engine_new(int step_us);
void fake_engine_free(struct engine *e);
void fake_engine_set_state(struct engine *e, enum engine_state state);

struct fake_counts {
    int live;      /* tickets that have not been freed */
    int cancelled; /* tickets that ended by a cancel */
    int ended;
};
void fake_engine_counts(struct engine *e, struct fake_counts *out);
/* What the last generate request asked for. */
const char *fake_engine_last_adapters(struct engine *e); /* "a,b" */
/* The thread that submitted the last raw pass. */
pthread_t fake_engine_submitter(struct engine *e);

#endif
