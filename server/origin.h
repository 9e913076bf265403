/*
 * Browsers: which Origin may call us, and which Host names a keyless loopback listener answers to
 * (no cross-site forgery, no DNS rebinding). Pure functions over header values.
 */
#ifndef OFTD_SERVER_ORIGIN_H
#define OFTD_SERVER_ORIGIN_H

#include "core/status.h"

struct origin_policy {
    const char *const *allowed; /* --allowed-origin, "*" allows all */
    size_t n_allowed;
    bool loopback_hosts_only;
};

/* origin and host are header values or NULL. *cors tells whether the reply needs CORS headers (an
 * allowed foreign origin). ORIGIN_NOT_ALLOWED. */
enum status origin_check(const struct origin_policy *p, const char *origin, const char *host,
                         bool *cors, struct error *err);

#endif
