/*
 * Threads that turn text and conversations into ids, so that neither a connection's thread nor the
 * worker does. Each takes one ticket at a time; text requests end here, the others go on to `ready`
 * (on this thread).
 */
#ifndef OFTD_CORE_RUN_INTAKE_H
#define OFTD_CORE_RUN_INTAKE_H

#include "core/run/ticket.h"

struct intake;

/* ready gets a ticket whose ids are known and checked; it is the callee's from then on. */
enum status intake_open(int32_t threads, void (*ready)(void *ctx, struct ticket *t), void *ctx,
                        struct intake **out, struct error *err);
void intake_submit(struct intake *s, struct ticket *t);
/* Ends the threads; tickets that wait end with CANCELLED. */
void intake_stop(struct intake *s);
void intake_close(struct intake *s);

#endif
