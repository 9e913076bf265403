/*
 * Owns one regex a format: RFC 3339 for dates and times (days up to 28 where the month does not
 * matter, so that every date exists), RFC 4122, 1123, 5321 and 4291 in their plain forms.
 */
#include "core/grammar/formats.h"

#include <stddef.h>
#include <string.h>

#define DATE  "[12][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
#define TIME  "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?" ZONE
#define ZONE  "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
#define HOST  LABEL "(?:\\." LABEL "){1,4}"
#define HEX16 "[0-9a-fA-F]{1,4}"

static const struct {
    const char *name, *regex;
} formats[] = {
    {"date-time", DATE "T" TIME},
    {"date", DATE},
    {"time", TIME},
    {"duration", "P(?:[0-9]{1,4}W|[0-9]{1,4}D|(?:[0-9]{1,4}D)?T[0-9]{1,4}[HMS])"},
    {"email", "[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30}){0,2}@" HOST},
    {"hostname", HOST},
    {"ipv4", "(?:" OCTET "\\.){3}" OCTET},
    {"ipv6", "(?:" HEX16 ":){7}" HEX16},
    {"uri", "https?://" HOST "(?::[1-9][0-9]{1,3})?(?:/[A-Za-z0-9._~-]{1,60}){0,8}/?"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
};

const char *format_regex(const char *name)
{
    for (size_t i = 0; name && i < sizeof formats / sizeof formats[0]; i++)
        if (!strcmp(name, formats[i].name))
            return formats[i].regex;
    return NULL;
}
