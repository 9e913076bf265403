/* How long work tells how far it is, and learns that it shall stop. */
#ifndef OFTD_CORE_PROGRESS_H
#define OFTD_CORE_PROGRESS_H

#include <stdbool.h>

/* done: 0 to 1. false: stop; the work then ends with CANCELLED and leaves nothing behind. Called
 * often and on any thread, one call at a time. */
typedef bool progress_report(void *ctx, double done);

#endif
