/*
 * An Origin is foreign when its host and port are not those of the Host header: then it must be
 * named by --allowed-origin. Origins are compared as browsers send them: scheme://host[:port].
 */
#include "server/origin.h"

#include <string.h>
#include <strings.h>

/* localhost, 127.x.y.z, [::1]; with or without a port. */
static bool loopback_name(const char *host)
{
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (strncasecmp(host, "[::1]", len) == 0 && len == 5)
        return true;
    if (len == 9 && strncasecmp(host, "localhost", len) == 0)
        return true;
    return len >= 9 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len;
}

static bool same_origin(const char *origin, const char *host)
{
    const char *at = strstr(origin, "://");
    return at && host && strcasecmp(at + 3, host) == 0;
}

enum status origin_check(const struct origin_policy *p, const char *origin, const char *host,
                         bool *cors, struct error *err)
{
    *cors = false;
    if (p->loopback_hosts_only && (!host || !loopback_name(host)))
        return error_set(err, ST_ORIGIN_NOT_ALLOWED,
                         "Host %.100s is not a loopback name; set keys to serve other names",
                         host ? host : "(none)");
    if (!origin || same_origin(origin, host))
        return ST_OK;
    for (size_t i = 0; i < p->n_allowed; i++)
        if (!strcmp(p->allowed[i], "*") || !strcasecmp(p->allowed[i], origin)) {
            *cors = true;
            return ST_OK;
        }
    return error_set(err, ST_ORIGIN_NOT_ALLOWED,
                     "Origin %.200s is not allowed: name it with --allowed-origin", origin);
}
