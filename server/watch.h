/*
 * Watches sockets that the HTTP library does not look at: those of suspended connections (has the
 * client hung up?) and those that take too long to send a request. One thread for all.
 */
#ifndef OFTD_SERVER_WATCH_H
#define OFTD_SERVER_WATCH_H

#include "core/status.h"

struct watch;
struct watched;

struct watch_calls {
    void (*hold)(void *arg);   /* takes a reference; called under the watch's lock */
    void (*hangup)(void *arg); /* the client is gone; called without it; gives the reference back */
};

enum status watch_open(const struct watch_calls *calls, struct watch **out, struct error *err);
void watch_close(struct watch *w); /* NULL is fine; nothing may be watched any more */

/* A connection was opened; NULL when memory runs out (it is then not watched). */
struct watched *watch_add(struct watch *w, int fd);
/* Before fd is closed. */
void watch_remove(struct watch *w, struct watched *c);
/* Shuts the socket down when `seconds` have passed; 0: never. */
void watch_deadline(struct watch *w, struct watched *c, int seconds);
/* From now on a hang-up calls hangup(arg), once. Cheap when armed already. */
void watch_arm(struct watch *w, struct watched *c, void *arg);
void watch_disarm(struct watch *w, struct watched *c);

#endif
