/*
 * Keys and planes: may this caller use this route, and who is it? Keys come from files (one a line,
 * a name behind it if the log shall tell; # comments), are compared in constant time and replaced
 * as a whole on SIGHUP.
 */
#ifndef OFTD_SERVER_AUTH_H
#define OFTD_SERVER_AUTH_H

#include "core/status.h"

enum plane { PLANE_PUBLIC, PLANE_INFER, PLANE_ADMIN };

#define AUTH_NAME_MAX 64

struct auth;
/* Either path may be NULL. A file that cannot be read or holds no key, or a key with a name of
 * more than 64 printable ASCII characters, is FILE_UNREADABLE: a typing error must not open the
 * door.
 */
enum status auth_open(const char *api_key_file, const char *admin_key_file, struct auth **out,
                      struct error *err);
/* Re-reads both files; on failure the old keys stay. */
enum status auth_reload(struct auth *a, struct error *err);
void auth_close(struct auth *a);

/* No key of either kind is configured. */
bool auth_keyless(const struct auth *a);
/*
 * authorization: the header's value or NULL. exposed: the listener is bound beyond loopback and no
 * admin listener exists.
 *   infer: needs a key when API keys are configured; an admin key is one, too
 *   admin: needs an admin key when any key is configured; open without keys unless exposed
 * name: of the key that was shown, "" if it has none or is none.
 * INVALID_API_KEY, ADMIN_KEY_REQUIRED (an API key was shown), ADMIN_DISABLED.
 */
enum status auth_check(const struct auth *a, enum plane plane, const char *authorization,
                       bool exposed, char name[AUTH_NAME_MAX + 1], struct error *err);

#endif
