/*
 * Owns the charsmap of a Precompiled normalizer:
 *
 *   u32 n | n bytes: double array of u32 (all little-endian) | strings, each ended by NUL
 *
 * A unit u holds a label (low byte and bit 31), a leaf bit (8) and an offset
 * (u >> 10) << ((u & 0x200) >> 6). A key is walked from offset(unit 0): pos ^= byte, the unit at
 * pos must carry the byte as its label, pos ^= its offset; if it had the leaf bit, the unit at pos
 * is the place of the replacement among the strings. The first hit, the shortest key, counts.
 *
 * Text goes by extended grapheme clusters: one of less than six bytes that has a hit is replaced
 * whole, in any other each character is looked up by itself. The file is distrusted: a walk or a
 * string that leaves its array is no hit.
 */
#include "core/tokenizer/charsmap.h"

#include <nettle/base64.h>
#include <string.h>
#include <utf8proc.h>

#include "core/utf8.h"

#define REPLACEMENT_MAX 128 /* bytes; the longest in use is 33 */

struct charsmap {
    const uint32_t *units;
    const char *strings;
    size_t n_units, n_strings;
};

static uint32_t little(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

enum status charsmap_read(struct reader *r, const char *base64, size_t n,
                          const struct charsmap **out)
{
    struct base64_decode_ctx decoder;
    size_t len = BASE64_DECODE_LENGTH(n);
    unsigned char *data = arena_alloc(r->arena, len + 1);
    struct charsmap *m = arena_alloc(r->arena, sizeof *m);
    if (!data || !m)
        return reader_memory(r);
    base64_decode_init(&decoder);
    if (!base64_decode_update(&decoder, &len, data, n, base64) || !base64_decode_final(&decoder))
        return reader_refuse(r, "the charsmap is not base64");
    uint32_t bytes = len >= 4 ? little(data) : 0;
    if (len < 4 || !bytes || bytes % 4 || bytes > len - 4)
        return reader_refuse(r, "the charsmap of %zu bytes has no valid double array", len);
    uint32_t *units = arena_alloc(r->arena, bytes);
    if (!units)
        return reader_memory(r);
    for (uint32_t i = 0; i < bytes / 4; i++)
        units[i] = little(data + 4 + 4 * (size_t)i);
    *m = (struct charsmap){units, (const char *)data + 4 + bytes, bytes / 4, len - 4 - bytes};
    for (size_t i = 0, run = 0; i < m->n_strings; i++) {
        run = m->strings[i] ? run + 1 : 0;
        if (run > REPLACEMENT_MAX)
            return reader_refuse(r, "a replacement of the charsmap has more than %d bytes",
                                 REPLACEMENT_MAX);
    }
    *out = m;
    return ST_OK;
}

static uint32_t offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 0x200) >> 6);
}

/* The replacement of the shortest key that text begins with, or NULL. */
static const char *look_up(const struct charsmap *m, const char *text, size_t n, size_t *len)
{
    uint32_t pos = offset(m->units[0]);
    for (size_t i = 0; i < n && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        pos ^= c;
        if (pos >= m->n_units || (m->units[pos] & 0x800000FFu) != c)
            return NULL;
        bool leaf = m->units[pos] & 0x100;
        pos ^= offset(m->units[pos]);
        if (!leaf)
            continue;
        uint32_t at = pos < m->n_units ? m->units[pos] & 0x7FFFFFFFu : UINT32_MAX;
        if (at >= m->n_strings)
            return NULL;
        const char *s = m->strings + at, *end = memchr(s, 0, m->n_strings - at);
        *len = end ? (size_t)(end - s) : m->n_strings - at;
        return utf8_valid(s, *len) ? s : NULL;
    }
    return NULL;
}

/* Bytes of the grapheme cluster that text begins with. */
static size_t cluster(const char *text, size_t n)
{
    size_t len, end;
    uint32_t before = utf8_read(text, &end);
    utf8proc_int32_t state = 0;
    while (end < n) {
        uint32_t c = utf8_read(text + end, &len);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, &state))
            break;
        before = c;
        end += len;
    }
    return end;
}

bool charsmap_apply(const struct charsmap *m, const char *text, size_t n, struct bytes *out)
{
    bool ok = true;
    for (size_t i = 0, whole; ok && i < n; i += whole) {
        const char *to;
        size_t len, to_len;
        whole = cluster(text + i, n - i);
        if (whole < 6 && (to = look_up(m, text + i, whole, &to_len))) {
            ok = bytes_append(out, to, to_len);
            continue;
        }
        for (size_t j = i; ok && j < i + whole; j += len) {
            len = utf8_length((unsigned char)text[j]);
            to = look_up(m, text + j, len, &to_len);
            ok = to ? bytes_append(out, to, to_len) : bytes_append(out, text + j, len);
        }
    }
    return ok;
}
