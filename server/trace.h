/* W3C trace context: which trace a request belongs to. */
#ifndef OFTD_SERVER_TRACE_H
#define OFTD_SERVER_TRACE_H

#include <stdbool.h>

#define TRACE_ID_DIGITS 32

/* Is header (NULL: no) a traceparent? Then id (TRACE_ID_DIGITS and a NUL) is its trace's. */
bool trace_parent(const char *header, char *id);

#endif
