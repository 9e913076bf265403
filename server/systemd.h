/*
 * The service manager: sockets that it has opened for us, and what it wants to hear. Without one
 * nothing happens here.
 */
#ifndef OFTD_SERVER_SYSTEMD_H
#define OFTD_SERVER_SYSTEMD_H

#include "core/status.h"

struct systemd_sockets {
    int http, admin; /* descriptors, 0: none was passed */
};
/* What the environment (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES) says that this process was given:
 * at most one socket called `admin`, and one of any other name. INVALID_VALUE. */
enum status systemd_sockets(struct systemd_sockets *out, struct error *err);
/* "READY=1" and the like to NOTIFY_SOCKET. */
void systemd_notify(const char *state);

#endif
