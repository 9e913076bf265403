/* Owns the spelling of digests; the arithmetic is nettle's. */
#include "core/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>

#include "core/turns.h"

#define UNIT ((size_t)128 << 10)

void digest_bytes(const void *data, size_t size, uint8_t out[DIGEST_SIZE])
{
    struct sha256_ctx s;
    sha256_init(&s);
    const uint8_t *at = data;
    for (size_t n; size; size -= n, at += n) {
        turns_pause();
        n = size < UNIT ? size : UNIT;
        sha256_update(&s, n, at);
    }
    sha256_digest(&s, DIGEST_SIZE, out);
}

void digest_text(const uint8_t digest[DIGEST_SIZE], char out[DIGEST_TEXT])
{
    int at = snprintf(out, DIGEST_TEXT, "sha256:");
    for (int i = 0; i < DIGEST_SIZE; i++)
        at += snprintf(out + at, (size_t)(DIGEST_TEXT - at), "%02x", digest[i]);
}
