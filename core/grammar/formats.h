/* The formats of JSON Schema that strings can be generated in. */
#ifndef OFTD_CORE_GRAMMAR_FORMATS_H
#define OFTD_CORE_GRAMMAR_FORMATS_H

#define FORMATS "date-time, date, time, duration, email, hostname, ipv4, ipv6, uri or uuid"

/* A regex of texts that have the format (not of all that do), or NULL. name may be NULL. */
const char *format_regex(const char *name);

#endif
