/*
 * UTF-8 as bytes that arrive one after another: what stands at the front of a buffer, and how a
 * code point is written.
 */
#ifndef OFTD_CORE_UTF8_H
#define OFTD_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum utf8 {
    UTF8_GOOD,   /* a whole character of *len bytes */
    UTF8_BAD,    /* *len bytes that no character begins with (a maximal bad part, 1 to 3) */
    UTF8_PARTIAL /* all n bytes are the start of a character that more bytes could finish */
};

/* What p[0..n) begins with; n >= 1. */
enum utf8 utf8_scan(const char *p, size_t n, size_t *len);
/* Are all n bytes whole characters? */
bool utf8_valid(const char *p, size_t n);
/* Writes c as 1 to 4 bytes; returns how many. */
size_t utf8_write(uint32_t c, char to[4]);

/* Length of the character that begins with this byte, in valid text. */
static inline size_t utf8_length(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* The character at p, in valid text; its length in *len. */
static inline uint32_t utf8_read(const char *p, size_t *len)
{
    const unsigned char *u = (const unsigned char *)p;
    *len = utf8_length(u[0]);
    switch (*len) {
    case 1:
        return u[0];
    case 2:
        return (uint32_t)(u[0] & 0x1F) << 6 | (u[1] & 0x3F);
    case 3:
        return (uint32_t)(u[0] & 0x0F) << 12 | (uint32_t)(u[1] & 0x3F) << 6 | (u[2] & 0x3F);
    default:
        return (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3F) << 12 |
               (uint32_t)(u[2] & 0x3F) << 6 | (u[3] & 0x3F);
    }
}

/* Bytes of valid text at its start, and at its end, that are characters which `is` says yes to. */
size_t utf8_run_at_start(const char *p, size_t n, bool (*is)(uint32_t c));
size_t utf8_run_at_end(const char *p, size_t n, bool (*is)(uint32_t c));

/* U+FFFD, what a bad part is shown as. */
#define UTF8_REPLACEMENT "\xEF\xBF\xBD"

#endif
