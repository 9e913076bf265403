/* Streams that run at once in `oftd bench`, and when each of their tokens came. */
#ifndef OFTD_SERVER_BENCH_CROWD_H
#define OFTD_SERVER_BENCH_CROWD_H

#include <pthread.h>

#include "server/bench_run.h"

struct bench_stream {
    struct ticket *ticket;
    double sent;   /* when the request was submitted */
    double *times; /* [cap] when each token came */
    size_t n, cap;
    bool ended;
};

struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t rings, seen;
    struct bench_stream *streams; /* [n] */
    size_t n;
    double *waits; /* [n * cap] for what is told of them */
};

/* n streams of at most `tokens` tokens, none submitted. To be closed, also after a failure. */
enum status crowd_open(struct crowd *c, size_t n, size_t tokens, struct error *err);
/* Cancels what still runs. */
void crowd_close(struct crowd *c);
/* Submits a request of case c as stream s, whose earlier one has ended or never was. adapter: its
 * name, NULL: the base. */
enum status crowd_submit(struct crowd *crowd, struct bench_host *host, const struct bench_case *c,
                         const char *adapter, size_t s, struct error *err);
/* Reads what is there; false when no stream runs any more. */
bool crowd_look(struct crowd *c);
/* Sleeps until there is something new to read; after a crowd_look that was true. */
void crowd_rest(struct crowd *c);
/* The first error of a stream that has ended, else ST_OK. */
enum status crowd_status(struct crowd *c, struct error *err);

/* Waits between two tokens of one stream, both within [from, until], of the streams below `most`,
 * into c->waits; their number. */
size_t crowd_waits(struct crowd *c, size_t most, double from, double until);
/* The value of which share p (0..1) are at most as large; sorts v; 0 when there is none. */
double bench_percentile(double *v, size_t n, double p);

#endif
