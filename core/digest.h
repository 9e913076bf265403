/* SHA-256 (nettle's) as lower-case hex: digests of adapters (api.md 1), identity of a base and of
 * KV blocks. */
#ifndef OFTD_CORE_DIGEST_H
#define OFTD_CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32
#define DIGEST_TEXT 72 /* "sha256:" + 64 hex digits + NUL */

void digest_bytes(const void *data, size_t size, uint8_t out[DIGEST_SIZE]);
/* "sha256:<hex>" */
void digest_text(const uint8_t digest[DIGEST_SIZE], char out[DIGEST_TEXT]);

#endif
