/* JSON texts as they nearly always are, read at once. */
#ifndef OFTD_CORE_JSON_QUICK_H
#define OFTD_CORE_JSON_QUICK_H

#include <jansson.h>

/* What json_loadb makes of the text with JSON_REJECT_DUPLICATES, JSON_ALLOW_NUL and
 * JSON_DECODE_ANY; NULL: it is not plain, wrong or deeper, and json_loadb decides. A new reference.
 */
json_t *json_quick(const char *text, size_t len, int max_depth);

#endif
