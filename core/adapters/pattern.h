/*
 * Patterns of adapter configs: Python's `re`, run by PCRE2. A pattern comes from outside, so it is
 * compiled and matched under limits, and whatever the two engines understand differently is
 * translated or refused.
 */
#ifndef OFTD_CORE_ADAPTERS_PATTERN_H
#define OFTD_CORE_ADAPTERS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

struct pattern;

/* Compiles text, between the literal pieces before and after if these are not NULL. `why` (of size
 * PATTERN_WHY) says what is wrong. Returns ST_OK, CONFIG_INVALID_VALUE or OUT_OF_MEMORY. */
#define PATTERN_WHY 192
enum status pattern_open(const char *before, const char *text, const char *after,
                         struct pattern **out, char why[PATTERN_WHY]);
void pattern_close(struct pattern *p); /* NULL is fine */

/* re.fullmatch; *yes tells. CONFIG_INVALID_VALUE when a limit is hit. */
enum status pattern_full(struct pattern *p, const char *name, bool *yes, char why[PATTERN_WHY]);
/* re.match, then int(group 1) to *index; *yes false where it does not match or is no number. */
enum status pattern_index(struct pattern *p, const char *name, bool *yes, int64_t *index,
                          char why[PATTERN_WHY]);

#endif
