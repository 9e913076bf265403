/*
 * traceparent, as the W3C's recommendation writes it:
 *
 *     00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *     version, trace id, id of the caller's span, flags; lower case, no id all zeros
 *
 * A later version may go on behind the flags; its first four parts are read as ours.
 */
#include "server/trace.h"

#include <string.h>

static const char hex[] = "0123456789abcdef";

/* `digits` hexadecimal digits, then a '-' or the end of the text. */
static bool part(const char *s, size_t digits)
{
    return strspn(s, hex) == digits && (s[digits] == '-' || !s[digits]);
}

static bool zeros(const char *s, size_t digits)
{
    return strspn(s, "0") >= digits;
}

bool trace_parent(const char *header, char *id)
{
    size_t len = header ? strlen(header) : 0;
    if (len < 55 || !part(header, 2) || !part(header + 3, TRACE_ID_DIGITS) ||
        !part(header + 36, 16) || !part(header + 53, 2))
        return false;
    bool first = !strncmp(header, "00", 2);
    if (!strncmp(header, "ff", 2) || (first && len != 55) || zeros(header + 3, TRACE_ID_DIGITS) ||
        zeros(header + 36, 16))
        return false;
    memcpy(id, header + 3, TRACE_ID_DIGITS);
    id[TRACE_ID_DIGITS] = 0;
    return true;
}
